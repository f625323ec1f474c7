"""Soak: train, break, resume, compare, until the time is up.

`python tests/robustness/soak.py --seconds 540`; `make soak` is this at full length. Most trials train a
small random model on real text twice: once in peace, and once with everything against it. The two runs
must be equal to the bit. Others are in trials.py.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from faults import ROOT, damage, differences, finish, same_content, saved_step, start
from trials import Prepares, Starts, Trial

from rnnlm.cells import CELLS
from rnnlm.config.kinds import Flag, options

TEXTS = (
    ROOT.parent / "shared" / "corpora" / "tinyshakespeare.txt",
    ROOT / "data" / "ferry.txt",
)
MAX_SECONDS = 540  # what a trial that has begun may still take is beside that
FAULTS_A_RUN = 6


def random_keys(rng: random.Random) -> list[str]:
    """A config of 40 to 120 quick steps."""
    optimizer = rng.choice(
        ("adam", "rmsprop", "adagrad", "{name: sgd, momentum: 0.9, nesterov: true}", "sgd")
    )
    schedule = rng.choice(
        ("constant", "cosine", "{name: exponential, decay: 0.9}", "{name: cosine, warmup_steps: 5}")
    )
    cell = rng.choice(list(CELLS))
    switches = [
        name for name, option in options(CELLS[cell]).items() if isinstance(option.kind, Flag)
    ]
    checkpoint_every = rng.choice(("7", "19", "1 epoch", "0.3 epochs", "0.001 minutes"))
    return [
        f"model.cell={cell}",
        *(f"model.{name}={rng.choice(('true', 'false'))}" for name in switches),
        f"model.hidden_size={rng.choice((*range(4, 25), 64))}",
        f"model.num_layers={rng.randint(1, 2)}",
        f"model.embedding_size={rng.choice(('null', '6'))}",
        f"model.dropout={rng.choice((0, 0.3))}",
        f"train.optimizer={optimizer}",
        f"train.schedule={schedule}",
        f"train.epochs={rng.randint(1, 3)}",
        f"train.batch_size={rng.choice((4, 16, 40))}",
        f"train.seq_length={rng.randint(12, 30)}",
        f"train.checkpoint_every={checkpoint_every}",
        f"train.keep={rng.choice((0, 0, 3))}",
        f"train.eval_every={rng.choice(('11', '1 epoch', '0.4 epochs'))}",
        f"train.sample_every={rng.choice(('null', '10', '1 epoch'))}",
        f"train.patience={rng.choice(('null', '2'))}",
        f"train.log_every={rng.randint(1, 9)}",
        f"train.seed={rng.randrange(10**6)}",
        f"data.level={rng.choice(('char', 'byte'))}",
    ]


class Cycle(Trial):
    """One random run, in peace and under fire."""

    def __init__(self, folder: Path, text: str, seed: int, deadline: float) -> None:
        super().__init__(folder, text, seed, deadline)
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
        self._take_foreign_files()
        if not self.wrong and (differs := differences(self.whole, self.run)):
            self.wrong.append(f"differs in {differs}")

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
        self.faults[signals[0].name if len(signals) == 1 else "several signals"] += 1
        told = f"rnnlm train --resume {self.run}" in err
        # what comes early, or again, ends the process as Python or the system has it
        ends = {1, *(-sent for sent in signals), *(128 + sent for sent in signals)}
        ok = code in ends and ("to go on" not in err or (told and (code > 128 or len(signals) > 1)))
        self._expect("a signal", ok, (code, out, err))

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        self._signalled(signal.SIGINT)

    def terminate(self) -> None:
        """As a shutdown does."""
        self._signalled(signal.SIGTERM)

    def hang_up(self) -> None:
        """As a terminal does that is closed."""
        self._signalled(signal.SIGHUP)

    def burst(self) -> None:
        """As an impatient Ctrl-C does, or a supervisor, or all of them."""
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        self._signalled(*self.rng.choices(signals, k=self.rng.randint(2, 5)))

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

    def among_threads(self) -> None:
        """In a program whose other threads compute as well."""
        handicap = ("host-threads", self.folder / "host")
        code, _, err = finish(start(*self._go_on(), handicap=handicap))
        self._expect("among threads", code == 0, (code, err))
        self.faults["among other threads"] += 1

    def _unseen(self, what: str, reader: int, writer: int, hang_up: bool = False) -> None:
        """What is shown cannot be: the run goes on or stops, and is saved in any case.

        It writes to one descriptor; of the other, if there is one, so much is read before it is closed.
        """
        streams = self.rng.choice((("stdout",), ("stderr",), ("stdout", "stderr")))
        process = start(*self._go_on(), **dict.fromkeys(streams, writer))
        os.close(writer)
        unread = self.rng.randint(0, 1500)
        while reader >= 0 and unread > 0 and process.poll() is None:
            if select.select([reader], [], [], 0.01)[0]:
                # OSError is how Linux says that the other side of a terminal has closed
                with suppress(OSError):
                    unread -= len(os.read(reader, unread))
        if reader >= 0:
            os.close(reader)
        if hang_up:
            process.send_signal(signal.SIGHUP)
        code, out, err = finish(process)
        self.faults[what] += 1
        allowed = {0, 1, 128 + signal.SIGPIPE, *((129, -signal.SIGHUP) if hang_up else ())}
        self._expect(what, code in allowed, (streams, code, out, err))
        if code >= 0 and (self.run / "last.npz").exists():
            records = (self.run / "metrics.jsonl").read_text().splitlines()
            last = json.loads(records[-1]) if records else {"step": 0, "event": "none"}
            saved = last["step"] <= saved_step(self.run)
            self._expect(f"{what}, and what was done is not saved", saved, (streams, code, last))
            ended = code != 0 or last["event"] == "end"
            self._expect(f"{what}, and it ends as if all was done", ended, (streams, last))

    def full_device(self) -> None:
        """Nothing can be shown from the start."""
        self._unseen("a full device for output", -1, os.open("/dev/full", os.O_WRONLY))

    def closed_pipe(self) -> None:
        """Whoever reads goes away."""
        self._unseen("a closed pipe for output", *os.pipe())

    def closed_terminal(self) -> None:
        """With its hang-up or, as after nohup, without."""
        hang_up = self.rng.random() < 0.5
        self._unseen("a closed terminal for output", *os.openpty(), hang_up=hang_up)

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
            number = self.rng.randint(2, 99_999)
            for end in ("rnnlm-tmp", "tmp"):  # as this version names them, and as 0.1.0 did
                (self.run / f".{name}.{number}.{end}").write_bytes(b"PK\3\4 half")
        self.faults["leftover temporary files"] += 1

    def foreign_files(self) -> None:
        """A user's, that look like rnnlm's own."""
        self._put_foreign_files(self.rng.choice((self.run, self.run, self.run / "data")))

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
    Cycle.hang_up,
    Cycle.burst,
    Cycle.burst,
    Cycle.kill,
    Cycle.kill,
    Cycle.kill_in_a_save,
    Cycle.kill_in_a_save,
    Cycle.kill_in_a_save,
    Cycle.no_room,
    Cycle.two_at_once,
    Cycle.among_threads,
    Cycle.full_device,
    Cycle.closed_pipe,
    Cycle.closed_terminal,
)
DAMAGES = (
    Cycle.nothing,
    Cycle.nothing,
    Cycle.torn_log,
    Cycle.leftovers,
    Cycle.foreign_files,
    Cycle.foreign_files,
    Cycle.damaged_last,
    Cycle.damaged_best,
    Cycle.damaged_data,
)

TRIALS: tuple[type[Trial], ...] = (Cycle, Cycle, Cycle, Prepares, Starts)


def run_trial(kind: type[Trial], number: int, text: str, deadline: float) -> Trial:
    """The trial of a number: all that is random in it follows from that."""
    with tempfile.TemporaryDirectory() as folder:
        trial = kind(Path(folder), text, number, deadline)
        try:
            trial()
        except Exception as error:
            trial.wrong.append(f"{type(error).__name__}: {error}")
    if trial.wrong:
        said = "\n  ".join(trial.wrong)
        print(f"--trial {number} ({kind.__name__}): {trial.keys}\n  {said}", flush=True)
    return trial


def soak(
    seconds: float,
    seed: int,
    jobs: int,
    only: int | None = None,
    kinds: Sequence[type[Trial]] = TRIALS,
) -> int:
    """Trials until the time is up; prints what was done and what came of it; 1 unless all is well."""
    deadline = time.monotonic() + min(seconds, MAX_SECONDS)
    text = next(path for path in TEXTS if path.is_file()).read_text(encoding="utf-8")
    seeds = random.Random(seed)
    faults: Counter[str] = Counter()
    results: Counter[str] = Counter()
    longest = 0.0

    def trials() -> None:
        nonlocal longest
        while time.monotonic() + longest < deadline or not results:
            began = time.monotonic()
            number = seeds.randrange(10**9) if only is None else only
            trial = run_trial(random.Random(number).choice(kinds), number, text, deadline)
            longest = max(longest, time.monotonic() - began)
            faults.update(trial.faults)
            results["with a difference" if trial.wrong else "as it must be"] += 1
            if only is not None:
                break

    with ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(trials) for _ in range(jobs)]:
            future.result()
    print(f"{'fault':<32} injected")
    for name, count in sorted(faults.items()):
        print(f"{name:<32} {count:>8}")
    print(f"{'trials':<32} {results.total():>8}")
    print(f"{'  all as it must be':<32} {results['as it must be']:>8}")
    return 1 if results["with a difference"] else 0


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=MAX_SECONDS)
    parser.add_argument("--seed", type=int, default=None, help="of faults and configs")
    parser.add_argument("--jobs", type=int, default=2, help="trials at a time")
    parser.add_argument("--trial", type=int, default=None, help="only the one of this number")
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    print(f"soak: seed {seed}", flush=True)
    jobs = options.jobs if options.trial is None else 1
    sys.exit(soak(options.seconds, seed, jobs, options.trial))


if __name__ == "__main__":
    main()
