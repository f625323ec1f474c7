"""Ranks under mpiexec compute what a process alone computes, and end together."""

from __future__ import annotations

import pickle
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TEXT
from ranks import train_on, under_mpiexec

from rnnlm.assembly import build_model, make_config
from rnnlm.backend import ranks
from rnnlm.backend.launchers import LAUNCHERS, started_as
from rnnlm.backend.ranks import Ranks
from rnnlm.cli.main import cli
from rnnlm.config.schema import TrainConfig
from rnnlm.errors import ConfigError, DataError
from rnnlm.optim.optimizers import adam
from rnnlm.runs.checkpoint import Checkpoint
from rnnlm.runs.history import read_metrics
from rnnlm.runs.run_data import facing
from rnnlm.text.prepare import prepare
from rnnlm.training import plan
from rnnlm.training.engine import ID_BYTES, Engine, training_bytes
from rnnlm.training.plan import training_course
from rnnlm.training.reading import is_named, of_a_rank, read
from rnnlm.training.reduction import REDUCTIONS
from rnnlm.training.result import train

KEYS = (
    "model.hidden_size=88",  # the parameters are two chunks: the third rank has none, and no lane
    "model.num_layers=1",
    "model.dropout=0.2",
    "train.batch_size=24",  # two lanes
    "train.seq_length=16",
    "train.grad_clip.norm=0.05",
    "train.eval_every=5",
    "train.log_every=1",
    "train.sample_every=5",
)


def content(run: Path) -> dict[str, Any]:
    """The bits of a run's checkpoints and its metrics, without times and places."""
    found: dict[str, Any] = {}
    for name in ("last", "best"):
        at = Checkpoint.load(run / f"{name}.npz")
        assert at.state is not None
        arrays = {"params": at.params.flat, "state": at.state, **at.optimizer_state}
        found |= {f"{name} {key}": array.tobytes() for key, array in arrays.items()}
        p = at.progress
        found[f"{name} progress"] = (p.step, p.loss_sum, p.val_loss, p.best_step, p.sampled_step)
    timings = {"seconds", "symbols_per_second"}
    records = read_metrics(run / "metrics.jsonl")
    found["metrics"] = [{k: v for k, v in r.items() if k not in timings} for r in records]
    return found


def losses(run: Path) -> list[float]:
    """Of every step."""
    return [r["loss"] for r in read_metrics(run / "metrics.jsonl") if r["event"] == "train"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ten steps in one process; its text is beside it."""
    folder = tmp_path_factory.mktemp("alone")
    text = folder / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    steps = "train.max_steps=10"
    train(make_config(None, f"data.path={text}", f"run.dir={folder / 'run'}", *KEYS, steps))
    return folder / "run"


def settings(*keys: str) -> list[str]:
    """As words of the command line."""
    return [word for key in keys for word in ("--set", key)]


@under_mpiexec
def test_ranks_have_the_bits_of_a_process_alone(alone: Path, tmp_path: Path) -> None:
    """Started on three ranks, of which one has nothing to compute, and resumed on two with two workers
    each, which read the prepared text themselves: parameters, optimizer, state, metrics and samples of
    a run alone.
    """
    run, text = tmp_path / "run", alone.parent / "text.txt"
    keys = settings(*KEYS, "train.max_steps=5", "train.threads=1")
    first = train_on(3, text, "--run-dir", run, *keys)
    assert (first.returncode, first.stderr) == (0, first.stderr), first
    assert first.stdout.count("run folder:") == 1, "rank 0 alone says what happens"
    shutil.move(run / "data", tmp_path / "moved")
    more = settings("train.max_steps=10", "train.threads=2", f"data.path={tmp_path / 'moved'}")
    second = train_on(2, "--resume", run, *more)
    assert second.returncode == 0, second
    assert content(run) == content(alone)


@under_mpiexec
def test_an_error_on_another_rank_ends_all_in_one_line(alone: Path, tmp_path: Path) -> None:
    """The run keeps its checkpoint; until then, `fast` is equal but for rounding."""
    run, text = tmp_path / "run", alone.parent / "text.txt"
    keys = settings(*KEYS, "train.max_steps=10", "train.threads=1", "train.reduce=fast")
    ended = train_on(2, text, "--run-dir", run, *keys, fault="1 9")
    assert ended.returncode == 1, ended
    # After it Open MPI's launcher has words of its own
    said = [line for line in ended.stderr.splitlines() if line.startswith("Error: rank 1 on ")]
    assert len(said) == 1 and said[0].endswith(": not enough memory")
    assert "Traceback" not in ended.stderr
    assert Checkpoint.load(run / "last.npz").progress.step == 0
    np.testing.assert_allclose(losses(run), losses(alone)[:8], rtol=1e-5)


@pytest.mark.parametrize(
    ("unit", "keys"),
    [("stream", ("train.reset=0.5", "train.offset=random")), ("line", ())],
)
def test_another_rank_reads_its_streams_of_a_prepared_folder(
    unit: str, keys: tuple[str, ...], alone: Path, tmp_path: Path
) -> None:
    """Those of rank 0, as its message asks for; where another text is there, it says what to do."""
    folder, text = tmp_path / "data", alone.parent / "text.txt"
    corpus = facing(prepare(text, folder, unit=unit), reverse=unit == "stream")
    config = make_config(None, f"data.path={folder}", *KEYS[3:5], *keys)
    assert is_named(config, corpus) and not is_named(config.with_values("data", path="x"), corpus)
    opened = pickle.loads(pickle.dumps(of_a_rank(config, corpus)))
    whole, rows = read(corpus, training_course(config, corpus), 3), np.array([2, 5, 23])
    for name, part in vars(opened(rows)(3)).items():
        np.testing.assert_array_equal(part, getattr(whole, name)[:, rows], name)
    assert opened(rows[:0])(3).ids.shape == (16, 0), "a rank without a lane"
    other = tmp_path / "other.txt"
    other.write_text(TEXT.upper(), encoding="utf-8")
    prepare(other, folder, unit=unit, force=True)
    with pytest.raises(DataError, match=r"not the text that rank 0 reads.*copy it there"):
        opened(rows)
    shutil.rmtree(folder)
    with pytest.raises(DataError, match=r"not a prepared folder.*copy it there"):
        opened(rows)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_memory_of_a_rank_is_its_share(size: int) -> None:
    """The estimate against the vectors and activations of each rank, which has some of 8 lanes."""
    model = build_model(make_config(None, "model.hidden_size=160", "model.num_layers=1"), 65)
    for rank in range(size):
        world = Ranks()
        world.number, world.size = rank, size
        params = model.init(np.random.default_rng(0))
        engine = Engine(model, params, adam, {}, batch_size=256, threads=1, ranks=world)
        P, k, own = params.flat.nbytes, len(engine.lanes), slice(*engine._borders[rank : rank + 2])
        vectors = sum(v.nbytes for v in engine.optimizer_state.values()) + k * P
        received = (8 - k) * params.flat[own].nbytes
        assert len(engine._reduction.parts) == 8
        saved = 2 * P if size > 1 and rank == 0 else 0  # the whole optimizer's vectors
        held = 3 * P + vectors + received + saved + k * model.window_bytes(64, 32, False)
        need = training_bytes(model, 256, 64, 2, rank=rank, ranks=size)
        assert 0.95 < (need - 256 * 64 * ID_BYTES) / held < 1.05, rank


def test_ranks_of_one_machine_must_fit_together(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dry run says the memory of rank 0 and of another; those that share memory are added up."""
    world = Ranks()
    world.size, world.here = 3, (0, 2)
    monkeypatch.setattr(plan, "world", lambda: world)
    config = make_config(None, f"data.path={alone / 'data'}", *KEYS)
    (line,) = (line for line in plan.preview(config) if line.startswith("memory:"))
    assert re.fullmatch(r"memory: about .* on rank 0, at most .* on each other rank", line)
    monkeypatch.setattr(plan, "available_memory", lambda: 1_000_000)
    with pytest.raises(ConfigError, match=r"2 ranks need about .* and 1\.0 MB are free"):
        list(plan.preview(config))


def test_a_process_of_no_launcher_is_alone(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of MPI is loaded then; and a job of Slurm is no launcher of MPI."""
    assert alone.is_dir() and "mpi4py" not in sys.modules
    for name in (name for pair in LAUNCHERS for name in pair):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    assert started_as() == (0, 1)
    monkeypatch.setenv("PMIX_RANK", "1")
    assert started_as() == (1, 2)


def test_without_mpi4py_a_launched_process_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one line, before anything is made."""
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ConfigError, match=r"started 2 processes.*pip install 'rnnlm\[mpi\]'"):
        ranks.join()


def test_the_config_offers_every_reduction() -> None:
    """By the names in their table."""
    for name in REDUCTIONS:
        assert make_config(None, f"train.reduce={name}").train.reduce == name
    assert TrainConfig().reduce == next(iter(REDUCTIONS))
    with pytest.raises(ConfigError, match="reduce"):
        make_config(None, "train.reduce=other")


def test_what_ranks_do_not_do_together_is_done_by_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The others say nothing, and succeed."""
    for rank, lines in (("0", 1), ("1", 0)):
        monkeypatch.setenv("PMI_RANK", rank)
        monkeypatch.setenv("PMI_SIZE", "2")
        done = CliRunner().invoke(cli, ["runs", "nowhere"])
        assert done.exit_code == lines
        assert len(done.output.splitlines()) == lines
