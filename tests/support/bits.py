"""The bits that rnnlm computes, as SHA-256: `python tests/support/bits.py` prints them as JSON.

Runs of every cell, several optimizers, dropout, a resume, a prepared folder, evaluation and samples,
all through the command line, in one process with NumPy and OpenBLAS held to kernels for AVX2.
bits.json holds what version 0.1.0 computed; test_bits.py compares. (Texts of `train.sample_every` are
left out: they begin otherwise today.) Other versions of NumPy or OpenBLAS
may compute other bits, so that the comparison is made only where `signature` is the recorded one.
After a change that is meant to change bits: `python tests/support/bits.py > tests/support/bits.json`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

ROOT = Path(__file__).parent.parent.parent
RECORDED = Path(__file__).with_suffix(".json")
AVX512 = (
    "AVX512F",
    "AVX512CD",
    *(f"AVX512_{name}" for name in ("SKX", "CLX", "CNL", "ICL", "SPR")),
)
KERNELS = {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": " ".join(AVX512)}
METRICS = "event step epoch loss perplexity learning_rate grad_norm split best reason best_step"
COMMON = (
    "train.batch_size=40 train.seq_length=25 train.epochs=2 train.log_every=7 train.eval_every=20"
)
RUNS = {
    "lstm": "model.hidden_size=24 model.dropout=0.2 train.sample_every=20",
    "gru": "model.cell=gru model.hidden_size=20 train.optimizer=rmsprop train.threads=1",
    "gru-after": "model.cell=gru model.reset_after=true model.embedding_size=9 model.hidden_size=16 "
    "train.optimizer=adamw train.schedule=cosine",
    "rnn": "model.cell=rnn model.activation=relu model.hidden_size=32 train.grad_clip={value:0.1} "
    "train.optimizer={name:sgd,momentum:0.9,nesterov:true,learning_rate:0.02}",
    "rnn-full": "model.cell=rnn model.hidden_size=10 model.num_layers=1 train.seq_length=full "
    "train.optimizer=adagrad train.eval_streams=3 train.batch_size=12",
}


def rnnlm(*arguments: object) -> str:
    """The output of a command, run in this process."""
    from rnnlm.cli.main import cli

    done = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)
    if done.exit_code:
        raise RuntimeError(done.output)
    return done.stdout


def settings(line: str) -> list[str]:
    """`a=1 b=2` as options of `rnnlm train`."""
    return [word for key in line.split() for word in ("--set", key.replace(":", ": "))]


def digest(*parts: Any) -> str:
    """SHA-256 of arrays and of what JSON can hold."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            sha.update(f"{part.dtype.str}{part.shape}".encode() + part.tobytes())
        else:
            sha.update(json.dumps(part, sort_keys=True).encode())
    return sha.hexdigest()


def of_checkpoint(path: Path) -> str:
    """Parameters, optimizer state and recurrent state."""
    with np.load(path) as arrays:
        kept = ("layers.", "embedding", "Wy", "by", "optimizer.", "state", "counts")
        names = sorted(name for name in arrays.files if name.startswith(kept))
        return digest(*(part for name in names for part in (name, arrays[name])))


def of_run(folder: Path) -> dict[str, str]:
    """Its checkpoints, and its metrics without timings."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [
        {k: v for k, v in json.loads(line).items() if k in METRICS.split()} for line in lines
    ]
    checkpoints = {name: of_checkpoint(folder / name) for name in ("best.npz", "last.npz")}
    return {**checkpoints, "metrics": digest(records)}


def of_prepared(folder: Path) -> str:
    """The ids of a prepared folder."""
    return digest(*(np.load(folder / f"{split}.npy") for split in ("train", "val", "test")))


def compute(folder: Path) -> dict[str, Any]:
    """All bits, computed in an empty folder with the kernels of this process."""
    os.chdir(folder)
    text = (ROOT / "data" / "ferry.txt").read_text(encoding="utf-8")[:30_000]
    (folder / "text.txt").write_text(text, encoding="utf-8")
    rnnlm("prepare", "text.txt", "--out", "data")
    rnnlm("prepare", "text.txt", "--out", "bytes", "--level", "byte")
    found: dict[str, Any] = {name: of_prepared(folder / name) for name in ("data", "bytes")}
    common = settings(COMMON + " data.path=data model.num_layers=2")
    for name, keys in RUNS.items():
        run = ["train", *common, *settings(keys), "--run-dir", name]
        rnnlm(*run)
        found[name] = of_run(folder / name)
        sample = ("sample", name, "--prime", "The ", "--length", 150, "--seed", 3)
        found[name]["greedy"] = digest(rnnlm(*sample, "--temperature", 0))
        filters = ("--temperature", 0.8, "--top-k", 30, "--top-p", 0.95, "--num-samples", 3)
        found[name]["samples"] = digest(rnnlm(*sample, *filters))
        found[name]["eval"] = digest(list(json.loads(rnnlm("eval", name, "--json")).values())[-3:])
    run = ["train", *common, *settings(RUNS["lstm"] + " train.epochs=1"), "--run-dir", "resumed"]
    rnnlm(*run)
    rnnlm("train", "--resume", "resumed", "--set", "train.epochs=2")
    found["resumed"] = of_checkpoint(folder / "resumed" / "last.npz")
    for fixture in sorted((ROOT / "tests" / "fixtures").glob("run-0.1.0-*")):
        found[fixture.name] = of_old_run(fixture, folder / fixture.name)
    return found


def of_old_run(fixture: Path, copy: Path) -> dict[str, str]:
    """A run of version 0.1.0 as it stands, and after an epoch more."""
    shutil.copytree(fixture, copy)
    figures = json.loads(rnnlm("eval", copy, "--json"))
    sample = rnnlm("sample", copy, "--prime", "The ", "--num-samples", 2)
    rnnlm("train", "--resume", copy, "--set", "train.epochs=2")
    return {
        "eval": digest(list(figures.values())[-3:]),
        "sample": digest(sample),
        "resumed": of_checkpoint(copy / "last.npz"),
    }


def signature() -> dict[str, Any]:
    """What else the bits depend on."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "numpy": np.__version__,
        "blas": f"{blas['name']} {blas['version']}",
        "machine": f"{platform.system()} {platform.machine()} {platform.libc_ver()}",
    }


def computed() -> str:
    """What bits.json is to hold, from a process with the fixed kernels."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    return subprocess.run(
        [sys.executable, "-W", "ignore", __file__, "here"],
        env={**environment, **KERNELS, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def main() -> None:
    """Print what bits.json holds."""
    if sys.argv[1:] != ["here"]:
        print(computed(), end="")
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps({"signature": signature(), "bits": compute(Path(folder))}, indent=1))


if __name__ == "__main__":
    main()
