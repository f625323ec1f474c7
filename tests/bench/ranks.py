"""What ranks cost: `python -m tests.bench.ranks [--ranks 2] [--sizes 128x2] [--gbit G --latency S]`.

Each size is trained by all ranks with one worker each and, in turn with them, by rank 0 alone with as
many workers. Medians of step times are compared within each turn, so that a load from outside falls on
both. With --gbit or --latency, every exchange is made to take what it would on such a network:
--latency seconds for each, and the time of the bytes that the rank sends.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from rnnlm.assembly import build_model, make_config, whole_config
from rnnlm.backend.launchers import started_as
from rnnlm.backend.ranks import Joined, Ranks, join
from rnnlm.backend.seeds import Purpose, generator
from rnnlm.optim.optimizers import adam
from rnnlm.text.batches import Batch
from rnnlm.training.engine import Engine, follow
from tests.support.ranks import launched

SYMBOLS, T = 65, 64


class Slowed(Joined):
    """Ranks on a slower network."""

    latency, bytes_per_second = 0.0, math.inf

    def swap(self, sent: Any, received: Any) -> None:
        super().swap(sent, received)
        self._delay(sum(array.nbytes for _, array in sent), 1)

    def gather(self, *cut: Any) -> None:
        super().gather(*cut)
        sent = sum(v.nbytes for v, _ in cut) * (self.size - 1) // self.size
        self._delay(sent, math.ceil(math.log2(self.size)))

    def _delay(self, sent: int, messages: int) -> None:
        time.sleep(messages * self.latency + sent / self.bytes_per_second)


def engine(size: str, batch: int, ranks: Ranks, threads: int, reduce: str) -> tuple[Any, ...]:
    """An engine, its state, and a window of random symbols."""
    hidden, layers = map(int, size.split("x"))
    config = whole_config(make_config(model={"hidden_size": hidden, "num_layers": layers}))
    model = build_model(config, SYMBOLS)
    params = model.init(generator(0, Purpose.INIT))  # type: ignore[attr-defined]
    made = Engine(
        model,  # type: ignore[arg-type]
        params,
        adam,
        {},
        batch_size=batch,
        clip=("norm", 5.0),
        threads=threads,
        reduce=reduce,
        ranks=ranks,
    )
    ids = np.random.default_rng(0).integers(0, SYMBOLS, (T + 1, batch))
    return made, model.zero_state(batch), Batch(ids[:-1], ids[1:])  # type: ignore[attr-defined]


def timed(made: tuple[Any, ...], first: int, steps: int) -> float:
    """The median of the seconds of some steps, after one that is not measured."""
    seconds = []
    for k in range(first, first + steps + 1):
        began = time.perf_counter()
        made[0].step(made[2], made[1], k, 1e-3)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def resident() -> float:
    """MB of this process, as its share of what is shared."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(x.split()[1]) for x in lines if x.startswith(("Pss:", "SwapPss:"))) / 1000


def measure(world: Ranks, options: argparse.Namespace, size: str) -> None:
    """Print a row of a table."""
    rounds: list[tuple[float, float]] = []
    alone = engine(size, options.batch, Ranks(), world.size, options.reduce)
    together = engine(size, options.batch, world, 1, options.reduce)
    for k in range(options.rounds):
        first = 1 + k * (options.steps + 1)
        rounds.append((timed(alone, first, options.steps), timed(together, first, options.steps)))
    one, several = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratios = sorted(b / a for a, b in rounds)
    print(
        f"| LSTM {size.replace('x', ' x ')}, batch {options.batch} | {1000 * one:.1f} | "
        f"{1000 * several:.1f} | {statistics.median(ratios):.3f} ({ratios[0]:.3f} to "
        f"{ratios[-1]:.3f}) |",
        flush=True,
    )
    alone[0].close()
    together[0].close()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="What ranks cost.")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--sizes", nargs="+", default=["128x2", "512x2"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--reduce", default="ordered")
    parser.add_argument("--gbit", type=float, default=math.inf)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--memory", action="store_true", help="of each rank, in MB")
    options = parser.parse_args()
    if started_as()[1] == 1:
        for size in options.sizes:
            words = sys.argv[1:]
            sys.stdout.flush()
            command = [*launched(options.ranks), "-m", "tests.bench.ranks", *words, "--sizes", size]
            environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # else nothing is forked
            subprocess.run(command, check=True, env=environment)
        return
    world = join()
    if options.latency or options.gbit < math.inf:
        world.__class__ = Slowed
        Slowed.latency, Slowed.bytes_per_second = options.latency, options.gbit * 1e9 / 8
    if world.number:
        code = follow(world)
    else:
        measure(world, options, options.sizes[0])
        code = 0
    if options.memory:
        print(f"rank {world.number}: {resident():.0f} MB", flush=True)
    if not world.number:
        world.lead_out(code)


if __name__ == "__main__":
    main()
