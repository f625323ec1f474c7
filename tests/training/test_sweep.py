"""The file of a sweep, and the folder in which its runs stand."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path

import pytest
from conftest import ROOT, TEXT
from sweeps import Here, here

from rnnlm.errors import ConfigError, RnnlmError
from rnnlm.training import sweep as sweeps
from rnnlm.training.grid import read_sweep
from rnnlm.training.loop import never
from rnnlm.training.sweep import OpenSweep, Outcome

BASE = """\
base:
  data: {path: text.txt}
  model: {hidden_size: 3, num_layers: 1}
  train: {epochs: 1, batch_size: 32, seq_length: 32, threads: 1}
"""
GRID = "grid:\n  model.cell: [rnn, gru]\nseeds: [0, 1]\n"


def written(text: str) -> Path:
    """The file of a sweep, beside its text."""
    Path("text.txt").write_text(TEXT[:4000])
    Path("sweep.yaml").write_text(text)
    return Path("sweep.yaml")


def ended(text: str, out: str = "out") -> dict[str, Outcome]:
    """How each run of a sweep ends that has to be trained."""
    with OpenSweep(read_sweep(written(text)), Path(out), 1) as opened:
        return {outcome.name: outcome for outcome in opened.events(here, never) if outcome}


def test_a_grid_is_every_combination_and_a_list_is_one_grid_after_another(in_tmp: Path) -> None:
    """The names say what a setting sets, and stay when others are added; counting has one run."""
    text = f"{BASE}{GRID}"
    sweep = read_sweep(written(text))
    names = [f"cell={cell}-seed={seed}" for cell in ("rnn", "gru") for seed in (0, 1)]
    assert list(sweep.runs) == names
    assert [s.differs for s in sweep.settings] == [
        {"model.cell.name": "rnn"},
        {"model.cell.name": "gru"},
    ]
    assert [config.train.seed for config in sweep.runs.values()] == [0, 1, 0, 1]
    more = text.replace(
        "grid:\n  model.cell: [rnn, gru]",
        "grid:\n- model: {kind: ngram, order: 3}\n- model.cell: [rnn, gru]\n"
        "- {model.cell: gru, train.optimizer: {name: sgd, learning_rate: 1}}",
    )
    added = ["ngram-order=3", *names, *(f"cell=gru-sgd-learning_rate=1-seed={s}" for s in (0, 1))]
    runs = read_sweep(written(more)).runs
    assert list(runs) == added
    assert runs[added[-1]].train.optimizer["learning_rate"] == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BASE + "grid:\n  model.hiden_size: 3", "setting hiden_size=3: sweep.yaml:6:3: unknown"),
        (BASE + "grid: {model.cell: [rnn, tree]}", "setting cell=tree: "),
        (BASE + "grid: {model.cell: [rnn, rnn]}", "twice"),
        (BASE + "grid: {model.cell: []}", "an empty list"),
        (BASE + "grid: {train.seed: [0, 1]}", "write seeds: "),
        (BASE + "grid: {model: {kind: ngram}, train.epochs: 2}", "counts"),
        (BASE + "sedes: [1]", "unknown key sedes"),
        (BASE + "seeds: 3", "seeds is a list"),
        (BASE.replace("3,", "[3, 4],"), "a list where a value"),
        ("base: {run: {dir: here}}", "run.dir"),
        ("base: nowhere.yaml", "nowhere.yaml"),
        ("[1]", "a sweep is a mapping"),
    ],
)
def test_what_no_config_can_be_is_refused(in_tmp: Path, text: str, said: str) -> None:
    """Before anything is trained, in a line that names the setting or the place."""
    with pytest.raises(ConfigError) as error:
        read_sweep(written(text))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_the_text_does_not_allow_is_refused_before_the_first_run(in_tmp: Path) -> None:
    """Naming the setting; no run has been made then."""
    text = f"{BASE}grid:\n  train.eval_streams: [1, 60000]\n"
    with pytest.raises(ConfigError, match=r"setting eval_streams=60000: train\.eval_streams"):
        ended(text)
    assert {path.name for path in Path("out").iterdir()} == {"lock", "base.yaml", "data"}


def test_a_sweep_goes_on_with_its_base_alone(in_tmp: Path) -> None:
    """New settings are added, finished ones are left; a base that changes results is refused, as are a
    folder of something else and a second process.
    """
    text = f"{BASE}grid:\n  model.cell: [rnn]\n"
    assert list(ended(text)) == ["cell=rnn-seed=0"]
    assert list(ended(text.replace("[rnn]", "[rnn, gru]"))) == ["cell=gru-seed=0"]
    assert ended(text.replace("threads: 1", "threads: 2")) == {}
    assert len(list(Path("out/data").iterdir())) == 1  # prepared once
    assert not list(Path("out").glob("cell*/data"))
    with pytest.raises(ConfigError, match=r"train\.epochs of the base changed from 1 to 2"):
        ended(text.replace("epochs: 1", "epochs: 2"))
    with pytest.raises(RnnlmError, match="no sweep"):
        ended(text, "out/cell=rnn-seed=0")
    with (
        OpenSweep(read_sweep(written(text)), Path("out")),
        pytest.raises(RnnlmError, match="another process runs this sweep"),
    ):
        ended(text)


def test_a_sweep_without_a_run_takes_another_base(in_tmp: Path) -> None:
    """One that failed before its first run, for a wrong path, goes on once the file is corrected."""
    text = f"{BASE}grid:\n  model.cell: [rnn]\n"
    with pytest.raises(RnnlmError, match=r"tex\.txt"):
        ended(text.replace("text.txt", "tex.txt"))
    assert list(ended(text)) == ["cell=rnn-seed=0"]


def test_runs_whose_process_is_killed_go_on_alone_once(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose process died is not known where several ran; the one that dies alone has failed."""
    killed = "cell=gru-seed=0"

    def dying(job: sweeps.Job) -> str:
        if job.name == killed:
            sweeps._tell(job.now / f"{killed}.json", {"name": killed})
            raise sweeps.BrokenExecutor
        return train_one(job)

    train_one = sweeps.train_one
    monkeypatch.setattr(sweeps, "train_one", dying)
    sizes: list[int] = []

    def pool(size: int) -> Executor:
        sizes.append(size)
        return Here()

    text = f"{BASE}grid:\n  model.cell: [rnn, gru, lstm]\n"
    with OpenSweep(read_sweep(written(text)), Path("out"), 2) as opened:
        outcomes = [outcome for outcome in opened.events(pool, never) if outcome]
    assert sizes == [2, 1]
    assert {o.name: o.state for o in outcomes} == {
        "cell=rnn-seed=0": "finished",
        killed: "failed",
        "cell=lstm-seed=0": "finished",
    }


def test_mpiexec_starts_workers_not_sweeps(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes that would all lead are refused, with what to write."""
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "3")
    with pytest.raises(ConfigError, match=r"mpiexec -n 3 python -m mpi4py\.futures -m rnnlm"):
        ended(BASE + GRID)


def test_the_sweeps_that_ship_can_be_read() -> None:
    """Every setting is a config, and is there with three seeds, or counts."""
    paths = list((ROOT / "configs" / "sweeps").glob("*.yaml"))
    assert len(paths) == 3
    for path in paths:
        assert {len(setting.runs) for setting in read_sweep(path).settings} <= {1, 3}
