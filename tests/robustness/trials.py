"""Trials of soak.py: folders that several processes want, that are a user's, or that a death left.

A trial has a folder of its own. It counts what was done, and collects what was not as it must be.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from faults import differences, finish, start

FAULTS_A_FOLDER = 6
FILES = ("train.npy", "val.npy", "test.npy", "corpus.json")  # of a prepared folder
# a user's, though they look like what rnnlm makes for itself
FOREIGN = (
    *(".my.notes.tmp", "notes.txt", ".train.npy.old", ".train.npy.mine.tmp", "step-best.npz"),
    *("step-000000100-good.npz", "step-1.npz.bak", ".last.npz.backup.tmp", ".config.yaml.tmp"),
    *("train.npy.old", "best.npz.old", "metrics.jsonl.1", ".corpus.json", "lock.txt", ".a.b.c"),
)
QUICK = ("model.hidden_size=4", "model.num_layers=1", "train.epochs=1", "train.batch_size=8")


class Trial:
    """Something that is tried; `faults` counts what was done to it, `wrong` says what went wrong."""

    def __init__(self, folder: Path, text: str, seed: int, deadline: float) -> None:
        self.rng = random.Random(seed)
        self.folder, self.deadline = folder, deadline
        self.faults: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.keys: list[str] = []  # of the config, where there is one
        self.foreign: dict[Path, bytes] = {}
        size = self.rng.randint(6_000, 16_000)
        at = self.rng.randrange(len(text) - size)
        (folder / "text.txt").write_text(text[at : at + size], encoding="utf-8")

    def __call__(self) -> None:
        """Do it all."""
        raise NotImplementedError

    def _expect(self, what: str, ok: object, said: object) -> None:
        if not ok:
            self.wrong.append(f"{what}: {said}")

    def _train(self, run: Path | None) -> list[object]:
        command: list[object] = ["train", *(p for key in self.keys for p in ("--set", key))]
        return command if run is None else [*command, "--run-dir", run]

    def _put_foreign_files(self, folder: Path) -> None:
        for name in self.rng.sample(FOREIGN, self.rng.randint(1, 4)):
            self.foreign[folder / name] = content = self.rng.randbytes(20)
            (folder / name).write_bytes(content)
        self.faults["foreign files"] += 1

    def _take_foreign_files(self) -> None:
        """Away again, after a look at them."""
        for path, content in self.foreign.items():
            same = path.is_file() and path.read_bytes() == content
            self._expect("a foreign file is gone or changed", same, path)
            path.unlink(missing_ok=True)
        self.foreign.clear()


class Prepares(Trial):
    """One folder, prepared into again and again, by several at once and by what is killed.

    It holds at any time what one of those that ended well put there, whole.
    """

    def __init__(self, folder: Path, text: str, seed: int, deadline: float) -> None:
        super().__init__(folder, text, seed, deadline)
        (folder / "mara.txt").write_text((folder / "text.txt").read_text("utf-8")[::-1], "utf-8")
        (folder / "text.txt").rename(folder / "ib.txt")
        self.out = folder / "out"
        self.whole: dict[str, dict[str, bytes]] = {}  # what each text gives, in peace

    def __call__(self) -> None:
        """Each text in peace, then one fault after another, and a sound end."""
        began = time.monotonic()
        for name in ("ib", "mara"):
            code, _, err = finish(start(*self._prepare(name, self.folder / name)))
            self._expect("in peace", code == 0, err)
            self.whole[name] = {f: (self.folder / name / f).read_bytes() for f in FILES}
        self.seconds = (time.monotonic() - began) / 2
        for _ in range(FAULTS_A_FOLDER):
            if time.monotonic() > self.deadline or self.wrong:
                break
            self.rng.choice(PREPARES)(self)
        code, _, err = finish(start(*self._prepare("ib", self.out, "--force")))
        self._expect("a last prepare", (code, self._held()) == (0, "ib"), (code, err))
        self._take_foreign_files()
        left = {path.name for path in self.out.iterdir()} - set(FILES)
        self._expect("left behind", not left, sorted(left))

    def _prepare(self, name: str, out: Path, *options: str) -> list[object]:
        return ["prepare", self.folder / f"{name}.txt", "--out", out, *options]

    def _held(self, out: Path | None = None) -> str | None:
        """Whose text the folder holds; None where it holds none."""
        out = out or self.out
        found = {f: (out / f).read_bytes() for f in FILES if (out / f).exists()}
        if not found:
            return None
        return next((name for name, files in self.whole.items() if files == found), "ruins")

    def _force(self) -> list[str]:
        return ["--force"] if self.out.exists() and self.rng.random() < 0.8 else []

    def _two(self, out: Path, *options: str) -> tuple[list[str], list[tuple[int, str, str]]]:
        """Prepare both texts into a folder at once; the texts of those that ended well, and all."""
        names, meet = ("ib", "mara"), ("meet", time.time() + 2 * self.seconds)
        running = [start(*self._prepare(name, out, *options), handicap=meet) for name in names]
        ended = [finish(process) for process in running]
        self.faults["two prepare at once"] += 1
        refused = all(code == 0 or err.startswith("Error: ") for code, _, err in ended)
        self._expect("two prepare at once, and one is not refused in a line", refused, ended)
        return [name for name, (code, _, _) in zip(names, ended, strict=True) if code == 0], ended

    def two_at_once(self) -> None:
        """Where something is already: only what ended well is there, and it is there whole."""
        before, force = self._held(), self._force()
        well, ended = self._two(self.out, *force)
        ok = self._held() in (well or [before])
        self._expect("two prepare at once", ok, (before, force, self._held(), ended))

    def two_into_a_new_folder(self) -> None:
        """New or empty: one of them prepares it, and the other is told."""
        out = self.folder / "both"
        if self.rng.random() < 0.5:
            out.mkdir()
        well, ended = self._two(out)
        ok = well == [self._held(out)] and {path.name for path in out.iterdir()} == set(FILES)
        self._expect("two prepare a new folder", ok, (self._held(out), ended))
        shutil.rmtree(out)

    def _broken_off(self, what: str, name: str, process: subprocess.Popen[str]) -> None:
        """After an end at any moment, a further start finds the old text or the new one, or none."""
        before = self._held()
        code, _, err = finish(process)
        self.faults[what if code else "too late: prepare had ended"] += 1
        further, _, said = finish(start(*self._prepare(name, self.out)))
        held = self._held()
        ok = held in ((name,) if further == 0 or code == 0 else (before, name))
        self._expect(what, ok, (before, name, (code, err), (further, said), held))

    def killed(self) -> None:
        """At some operation on files."""
        name, operation = self.rng.choice(("ib", "mara")), self.rng.randint(1, 40)
        args = self._prepare(name, self.out, *self._force())
        self._broken_off("prepare killed", name, start(*args, handicap=("die", operation)))

    def signalled(self) -> None:
        """At some moment."""
        name = self.rng.choice(("ib", "mara"))
        process = start(*self._prepare(name, self.out, *self._force()), handicap=("slow", 0.05))
        time.sleep(self.rng.uniform(0.1, self.seconds + 0.3))
        sent = self.rng.choice((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        process.send_signal(sent)
        self._broken_off(f"prepare and {sent.name}", name, process)

    def no_room(self) -> None:
        """No file may become longer than so much."""
        name, size = self.rng.choice(("ib", "mara")), self.rng.randint(100, 5_000)
        args = self._prepare(name, self.out, *self._force())
        self._broken_off("no room to prepare", name, start(*args, handicap=("small-files", size)))

    def foreign_files(self) -> None:
        """A user's, beside what is prepared."""
        self.out.mkdir(exist_ok=True)
        self._put_foreign_files(self.out)

    def not_prepared(self) -> None:
        """A user's in the place of what is prepared: `--force` is not meant for them."""
        mine = self.folder / "mine"
        mine.mkdir(exist_ok=True)
        path = mine / self.rng.choice(FILES)
        content = self.rng.choice((b"[1, 2]", b"\x93NUMPY\x01\x00 ", b"{}", b"mine"))
        path.write_bytes(content)
        code, _, err = finish(start(*self._prepare("ib", mine, "--force")))
        ok = code == 1 and str(path) in err and path.read_bytes() == content
        self._expect("a user's file under --force", ok, (code, err, path))
        path.unlink()
        self.faults["a user's file under --force"] += 1


PREPARES = (
    Prepares.two_at_once,
    Prepares.two_into_a_new_folder,
    Prepares.killed,
    Prepares.killed,
    Prepares.signalled,
    Prepares.no_room,
    Prepares.foreign_files,
    Prepares.not_prepared,
)


class Starts(Trial):
    """Runs that are started: several in the same second, and some that cannot be."""

    def __call__(self) -> None:
        """All of them."""
        self.keys = [f"data.path={self.folder / 'text.txt'}", *QUICK]
        began = time.monotonic()
        self.in_a_users_folder()
        self.same_second(time.monotonic() - began)

    def same_second(self, seconds: float) -> None:
        """Without --run-dir: each makes a folder of its own at the same moment, and they are equal."""
        several = self.rng.randint(2, 5)
        moment = time.time() + several * seconds  # when all are there
        running = [
            start(*self._train(None), handicap=("meet", moment), cwd=self.folder)
            for _ in range(several)
        ]
        ended = [finish(process) for process in running]
        runs = sorted((self.folder / "runs").iterdir())
        ok = [code for code, _, _ in ended] == [0] * several and len(runs) == several
        self._expect("started in the same second", ok, (ended, runs))
        if ok:
            differ = [found for run in runs[1:] if (found := differences(runs[0], run))]
            self._expect("started in the same second, and differ", not differ, differ)
        self.faults["several started in a second"] += 1

    def in_a_users_folder(self) -> None:
        """A start that fails leaves a folder that was there, and what was in it."""
        mine = self.folder / "mine"
        mine.mkdir()
        if self.rng.random() < 0.5:
            self._put_foreign_files(mine)
        there = sorted(mine.iterdir())
        wrong: Sequence[str] = self.rng.choice(
            (
                ("data.path=/nowhere",),
                ("train.batch_size=100000",),
                ("data.encoding=utf-16",),
                ("train.patience=1", "data.val_fraction=0"),
            )
        )
        sets = [part for key in wrong for part in ("--set", key)]
        code, _, err = finish(start(*self._train(mine), *sets))
        ok = code == 1 and mine.is_dir() and sorted(mine.iterdir()) == there
        self._expect("a start that failed", ok, (wrong, code, err, mine.exists()))
        self._take_foreign_files()
        self.faults["a start that fails"] += 1
