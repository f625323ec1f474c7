"""Soak: train, break, resume, compare, until the time is up: `python tests/soak.py --seconds 540`.

Each cycle trains a small random model on real text twice: once in peace, and once with everything
against it. The two runs must be equal to the bit. `make soak` is this at full length.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from faults import TESTS, damage, differences, finish, same_content, start

TEXTS = (
    TESTS.parent.parent / "shared" / "corpora" / "tinyshakespeare.txt",
    TESTS.parent / "data" / "ferry.txt",
)
MAX_SECONDS = 540  # what a cycle that has begun may still take is beside that
FAULTS_A_RUN = 6


def random_keys(rng: random.Random) -> list[str]:
    """A config of 40 to 120 quick steps."""
    optimizer = rng.choice(
        ("adam", "rmsprop", "adagrad", "{name: sgd, momentum: 0.9, nesterov: true}", "sgd")
    )
    schedule = rng.choice(
        ("constant", "cosine", "{name: exponential, decay: 0.9}", "{name: cosine, warmup_steps: 5}")
    )
    cell = rng.choice(("lstm", "gru", "rnn", "gru\nmodel.reset_after=true"))
    checkpoint_every = rng.choice(("7", "19", "1 epoch", "0.3 epochs", "0.001 minutes"))
    return [
        *f"model.cell={cell}".split("\n"),
        f"model.hidden_size={rng.randint(4, 24)}",
        f"model.num_layers={rng.randint(1, 2)}",
        f"model.embedding_size={rng.choice(('null', '6'))}",
        f"model.dropout={rng.choice((0, 0.3))}",
        f"train.optimizer={optimizer}",
        f"train.schedule={schedule}",
        f"train.epochs={rng.randint(1, 3)}",
        f"train.batch_size={rng.choice((4, 16, 40))}",
        f"train.seq_length={rng.randint(12, 30)}",
        f"train.checkpoint_every={checkpoint_every}",
        f"train.eval_every={rng.choice(('11', '1 epoch', '0.4 epochs'))}",
        f"train.sample_every={rng.choice(('null', '10', '1 epoch'))}",
        f"train.patience={rng.choice(('null', '2'))}",
        f"train.log_every={rng.randint(1, 9)}",
        f"train.seed={rng.randrange(10**6)}",
        f"data.level={rng.choice(('char', 'byte'))}",
    ]


class Cycle:
    """One random run, in peace and under fire; `faults` counts what was done to it."""

    def __init__(self, folder: Path, text: Path, seed: int, deadline: float) -> None:
        self.rng = random.Random(seed)
        self.folder, self.deadline = folder, deadline
        self.faults: Counter[str] = Counter()
        self.wrong: list[str] = []
        content = text.read_text(encoding="utf-8")
        size = self.rng.randint(6_000, 16_000)
        at = self.rng.randrange(len(content) - size)
        (folder / "text.txt").write_text(content[at : at + size], encoding="utf-8")
        self.keys = [f"data.path={folder / 'text.txt'}", *random_keys(self.rng)]
        self.run, self.whole = folder / "run", folder / "whole"
        self.seconds = 0.0  # that the run takes in peace

    def __call__(self) -> None:
        """Both runs, and the comparison."""
        began = time.monotonic()
        code, _, err = finish(start(*self._train(self.whole)))
        if code:
            self.wrong.append(f"in peace: {err}")
            return
        self.seconds = time.monotonic() - began
        for _ in range(FAULTS_A_RUN):
            if time.monotonic() > self.deadline:
                break
            self.rng.choice(SESSIONS)(self)
            if (self.run / "last.npz").exists():
                self.rng.choice(DAMAGES)(self)
        self._end()
        if not self.wrong and (differs := differences(self.whole, self.run)):
            self.wrong.append(f"differs in {differs}")

    def _train(self, run: Path) -> list[object]:
        return ["train", *(part for key in self.keys for part in ("--set", key)), "--run-dir", run]

    def _go_on(self) -> list[object]:
        """The command that starts the run, or goes on with it, perhaps on other threads."""
        if not (self.run / "last.npz").exists():
            return self._train(self.run)
        threads: list[object] = []
        if self.rng.random() < 0.3:
            threads = ["--set", f"train.threads={self.rng.randint(1, 4)}"]
            self.faults["another number of threads"] += 1
        return ["train", "--resume", self.run, *threads]

    def _moment(self) -> float:
        """Some time within a session, its start included."""
        return self.rng.uniform(0.1, max(0.3, 0.7 * self.seconds))

    def _expect(self, what: str, ok: object, said: object) -> None:
        if not ok:
            self.wrong.append(f"{what}: {said}")

    # Sessions: each goes on with the run, and is stopped or not

    def _end(self) -> None:
        """Go on to the end."""
        code, _, err = finish(start(*self._go_on()))
        self._expect("a session", code == 0, err)

    def _signalled(self, *signals: signal.Signals) -> None:
        process = start(*self._go_on())
        time.sleep(self._moment())
        for sent in signals:
            process.send_signal(sent)
            time.sleep(self.rng.uniform(0, 0.02))
        code, out, err = finish(process)
        if code == 0:
            self.faults["too late: the run had ended"] += 1
            return
        self.faults[" and ".join(sent.name for sent in signals)] += 1
        stopped = code in (130, 143) and f"rnnlm train --resume {self.run}" in err
        # before rnnlm is loaded it is Python that takes signals
        early = code in (-signals[0], 1, 128 + signals[0]) and "to go on" not in err
        twice = len(signals) == 2 and code in (-signals[1], 1, 128 + signals[1])
        self._expect("a signal", stopped or early or twice, (code, out, err))

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        self._signalled(signal.SIGINT)

    def terminate(self) -> None:
        """As a shutdown does."""
        self._signalled(signal.SIGTERM)

    def interrupt_twice(self) -> None:
        """As an impatient Ctrl-C does."""
        self._signalled(signal.SIGINT, self.rng.choice((signal.SIGINT, signal.SIGTERM)))

    def kill(self) -> None:
        """At some moment."""
        self._signalled(signal.SIGKILL)

    def kill_in_a_save(self) -> None:
        """At some operation on files, half-done where that can be."""
        args = self._go_on()
        code, _, err = finish(start(*args, handicap=("die", self.rng.randint(1, 80))))
        self.faults["SIGKILL inside a save" if code else "too late: the run had ended"] += 1
        self._expect("a death", code in (-signal.SIGKILL, 0), (code, err))

    def no_room(self) -> None:
        """No file may become longer than so much."""
        args = self._go_on()
        code, _, err = finish(start(*args, handicap=("small-files", self.rng.randint(400, 40_000))))
        self.faults["no room for a file" if code else "too late: the run had ended"] += 1
        self._expect("no room", code == 0 or (code == 1 and "File too large" in err), (code, err))

    def two_at_once(self) -> None:
        """One trains, the other is refused; then the one is killed."""
        args = self._go_on()
        processes = [start(*args), start(*args)]
        time.sleep(self._moment())
        for process in processes:
            process.kill()
        ended = [finish(process) for process in processes]
        refused = [err for code, _, err in ended if code == 1]
        good = all("another process" in e or "already holds" in e for e in refused)
        self._expect("two at once", good, ended)
        self.faults["two processes at once"] += 1

    # Damage between sessions: to what may be lost, or refused and then restored

    def nothing(self) -> None:
        """Leave it as it is."""

    def torn_log(self) -> None:
        """The log ends in whole lines and a torn one that no checkpoint knows of."""
        with (self.run / "metrics.jsonl").open("a") as file:
            for _ in range(self.rng.randint(0, 3)):
                file.write(json.dumps({"event": "train", "step": 1, "loss": 0.5}) + "\n")
            file.write('{"event": "train", "st'[: self.rng.randint(0, 20)])
        self.faults["torn metrics.jsonl"] += 1

    def leftovers(self) -> None:
        """Temporary files of the dead."""
        for name in ("last.npz", "best.npz", "config.yaml"):
            (self.run / f".{name}.{self.rng.randint(2, 99_999)}.tmp").write_bytes(b"PK\3\4 half")
        self.faults["leftover temporary files"] += 1

    def _damaged(self, name: str) -> None:
        """Damage a file, which a session must refuse, naming it, or have no need of; put it back.

        A bit of a zip's dates and attributes is nobody's loss.
        """
        path, copy = self.run / name, self.folder / "copy"
        if not path.exists():
            return
        shutil.copyfile(path, copy)
        damage(path, self.rng)
        damaged = path.read_bytes()
        code, _, err = finish(start(*self._go_on()))
        self.faults[f"damaged {name}"] += 1
        last = err.splitlines()[-1] if err else ""
        refused = code == 1 and last.startswith("Error: ") and str(path) in last
        rewritten = path.read_bytes() != damaged  # before it was needed
        harmless = path.suffix == ".npz" and same_content(path, copy)
        self._expect(f"damaged {name}", refused or (code == 0 and (rewritten or harmless)), err)
        if not rewritten:
            shutil.copyfile(copy, path)

    def damaged_last(self) -> None:
        """The checkpoint that a run goes on from."""
        self._damaged("last.npz")

    def damaged_best(self) -> None:
        """The checkpoint that the test is made with."""
        self._damaged("best.npz")

    def damaged_data(self) -> None:
        """The ids that it trains on."""
        self._damaged(f"data/{self.rng.choice(('train', 'val', 'test'))}.npy")


SESSIONS = (
    Cycle.interrupt,
    Cycle.terminate,
    Cycle.interrupt_twice,
    Cycle.kill,
    Cycle.kill,
    Cycle.kill_in_a_save,
    Cycle.kill_in_a_save,
    Cycle.kill_in_a_save,
    Cycle.no_room,
    Cycle.two_at_once,
)
DAMAGES = (
    Cycle.nothing,
    Cycle.nothing,
    Cycle.torn_log,
    Cycle.leftovers,
    Cycle.damaged_last,
    Cycle.damaged_best,
    Cycle.damaged_data,
)


def soak(seconds: float, seed: int, jobs: int) -> int:
    """Cycles until the time is up; prints what was done and what came of it; 1 unless all is well."""
    deadline = time.monotonic() + min(seconds, MAX_SECONDS)
    text = next(path for path in TEXTS if path.is_file())
    seeds = random.Random(seed)
    faults: Counter[str] = Counter()
    compared, wrong, longest = 0, [], 0.0

    def cycle(number: int) -> Cycle:
        with tempfile.TemporaryDirectory() as folder:
            done = Cycle(Path(folder), text, number, deadline)
            try:
                done()
            except Exception as error:
                done.wrong.append(f"{type(error).__name__}: {error}")
            return done

    def cycles() -> None:
        nonlocal compared, longest
        while time.monotonic() + longest < deadline or not compared:
            began = time.monotonic()
            number = seeds.randrange(10**9)
            done = cycle(number)
            longest = max(longest, time.monotonic() - began)
            faults.update(done.faults)
            compared += 1
            if done.wrong:
                wrong.append((number, done.keys, done.wrong))
                print(f"cycle {number}: {done.keys}\n  " + "\n  ".join(done.wrong), flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(cycles) for _ in range(jobs)]:
            future.result()
    print(f"{'fault':<32} injected")
    for name, count in sorted(faults.items()):
        print(f"{name:<32} {count:>8}")
    print(f"{'runs compared':<32} {compared:>8}")
    print(f"{'runs equal to the bit':<32} {compared - len(wrong):>8}")
    return 1 if wrong else 0


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=MAX_SECONDS)
    parser.add_argument("--seed", type=int, default=None, help="of faults and configs")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    print(f"soak: seed {seed}", flush=True)
    sys.exit(soak(options.seconds, seed, options.jobs))


if __name__ == "__main__":
    main()
