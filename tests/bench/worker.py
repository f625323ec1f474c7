"""The inside of a worker process: `python -m tests.bench.worker CONTENDER`.

Requests are JSON objects, a line each, on standard input; so are the answers on standard output,
which nothing else can reach: what libraries print goes to standard error. End of input ends it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import traceback
from types import ModuleType
from typing import Any

from .resident import peak_resident

OWN = ("ours", "machine")  # contenders in rnnlm's kind of process


def load(name: str) -> ModuleType:
    """A contender's module; rnnlm's own hold BLAS before NumPy is loaded, as the command line does."""
    if name in OWN:
        from rnnlm.backend import blas

        blas.hold_from_start()
    return importlib.import_module(f".contenders.{name}", __package__)


def handle(request: dict[str, Any], module: ModuleType, tasks: dict[int, Any]) -> dict[str, Any]:
    """Do what a request asks; the answer."""
    if request["do"] == "start":
        tasks[request["key"]] = module.TASKS[request["task"]](**request["values"])
    elif request["do"] == "turn":
        answer: dict[str, Any] = tasks[request["key"]].turn(**request["values"])
        return answer
    else:
        while tasks:
            _, task = tasks.popitem()
            if hasattr(task, "close"):
                task.close()
        gc.collect()
    return {}


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the benchmark ends its workers itself
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(values: dict[str, Any]) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    try:
        module = load(sys.argv[1])
    except ModuleNotFoundError as error:
        answer({"missing": error.name})
        return
    answer({**module.about(), "resident": peak_resident()})
    tasks: dict[int, Any] = {}
    for line in sys.stdin:
        try:
            answer(handle(json.loads(line), module, tasks))
        except Exception:
            answer({"error": traceback.format_exc()})


if __name__ == "__main__":
    main()
