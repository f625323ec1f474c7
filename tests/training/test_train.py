"""The training loop: what a run folder holds, that runs repeat, resume exactly, and stop cleanly."""

from __future__ import annotations

import inspect
import json
import math
import os
import sys
import threading
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import every_cell
from conftest import ROOT, TEXT, TINY, tiny_config
from oracles import all_cells, cell_keys
from resumed import arrays, assert_same_run, interrupted, metrics

from rnnlm import load
from rnnlm.api.evaluation import evaluate_split
from rnnlm.arrays import Shape
from rnnlm.assembly import build_model, make_config
from rnnlm.backend import blas
from rnnlm.backend.params import Parameters
from rnnlm.backend.workspace import LONGEST_TAPE
from rnnlm.cells import Cell
from rnnlm.config.schema import Config
from rnnlm.errors import CheckpointError, ConfigError, DataError, TrainingError
from rnnlm.inference.evaluation import Evaluation, evaluate
from rnnlm.inference.sampling import generate
from rnnlm.models.base import TrainableModel
from rnnlm.models.recurrent import TAPE_BYTES
from rnnlm.optim.optimizers import OPTIMIZERS
from rnnlm.runs.checkpoint import Checkpoint
from rnnlm.runs.finding import find_checkpoint
from rnnlm.runs.folder import Run
from rnnlm.runs.history import read_metrics
from rnnlm.runs.run_data import recorded_data
from rnnlm.text.batches import Batch, Streams
from rnnlm.text.corpus import Corpus
from rnnlm.text.prepare import prepare
from rnnlm.training.engine import Engine, training_bytes
from rnnlm.training.loop import Event, Training
from rnnlm.training.plan import preview
from rnnlm.training.result import resume, train, train_events

BY_LINES = "data.unit=line"
SGD = "train.optimizer={name: sgd, momentum: 0.9}"
PLATEAU = "train.schedule={name: plateau, patience: 1, warmup_steps: 3}"
EMA = "train.average={name: ema, decay: 0.7}"


def run(config: Config, **kwargs: Any) -> list[Event]:
    return list(train_events(config, **kwargs))


def test_a_training_returns_what_it_left(text_file: Path, tmp_path: Path) -> None:
    """The log, the paths of the checkpoints, the best loss and its step, and why it ended."""
    folder = tmp_path / "run"
    events: list[Event] = []
    result = train(tiny_config(text_file, folder), callback=events.append)
    assert (result.folder, result.last, result.best) == (
        folder,
        folder / "last.npz",
        folder / "best.npz",
    )
    assert result.history == list(read_metrics(folder / "metrics.jsonl"))
    assert result.history == [e.record for e in events if e.kind != "step"]
    losses = {r["step"]: r["loss"] for r in result.history if r.get("split") == "val"}
    assert result.best_loss == min(losses.values()) == losses[result.best_step or 0]
    assert result.reason == "finished"
    assert result.checkpoint().progress.step == result.best_step
    steps = [e.record["step"] for e in events if e.kind == "step"]
    assert steps == list(range(1, result.history[-1]["step"] + 1))


def test_a_stopped_training_and_its_resume_return_results(text_file: Path, tmp_path: Path) -> None:
    """The history is that of the whole run; the bits are those of one that was never stopped."""
    whole = train(tiny_config(text_file, tmp_path / "whole"))
    steps = iter(range(1, 1000))
    config = tiny_config(text_file, tmp_path / "parts")
    stopped = train(config, stop=lambda: next(steps) == 30)
    assert (stopped.reason, stopped.best, stopped.best_loss) == ("interrupted", None, None)
    assert stopped.checkpoint().progress.step == 30
    events: list[Event] = []
    result = resume(str(tmp_path / "parts"), callback=events.append)
    assert result.reason == "finished"
    assert result.best_loss == whole.best_loss
    assert events[0].record["step"] == 31
    assert result.history[0]["step"] == 10
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    longer = resume(tmp_path / "parts", "train.epochs=3", stop=lambda: True)
    assert longer.reason == "interrupted"
    assert longer.history[-1]["step"] <= result.history[-1]["step"] + 1


def test_a_training_without_validation_text_has_no_best(text_file: Path, tmp_path: Path) -> None:
    """Its checkpoint is the last one."""
    keys = ("data.val_fraction=0", "train.epochs=1")
    result = train(tiny_config(text_file, tmp_path / "run", *keys))
    assert (result.best, result.best_loss, result.best_step) == (None, None, None)
    assert result.checkpoint().progress.step == result.history[-1]["step"]


def test_an_exception_in_a_callback_ends_the_training(text_file: Path, tmp_path: Path) -> None:
    """It reaches the caller, and the run folder can be resumed."""

    def fail(event: Event) -> None:
        raise ZeroDivisionError(event.kind)

    with pytest.raises(ZeroDivisionError, match="step"):
        train(tiny_config(text_file, tmp_path / "run", "train.epochs=1"), callback=fail)
    assert resume(tmp_path / "run").reason == "finished"


def test_a_run_folder_holds_what_the_readme_says(text_file: Path, tmp_path: Path) -> None:
    """config.yaml as resolved, metrics, last and best checkpoints, its own copy of the data."""
    folder = tmp_path / "run"
    events = run(tiny_config(text_file, folder, "train.sample_every=1 epoch"))
    assert {p.name for p in folder.iterdir()} == {
        "config.yaml",
        "metrics.jsonl",
        "last.npz",
        "best.npz",
        "data",
        "lock",
    }
    assert make_config(folder / "config.yaml").model["hidden_size"] == 12
    records = list(read_metrics(folder / "metrics.jsonl"))
    assert [e.record for e in events if e.kind != "step"] == records
    for record in records:
        if record["event"] in ("train", "eval"):
            assert {"step", "epoch", "loss", "seconds"} <= set(record)
            assert record["perplexity"] == pytest.approx(math.exp(record["loss"]))
            assert record["bits_per_symbol"] == pytest.approx(record["loss"] / math.log(2))
        if record["event"] == "train":
            assert {"learning_rate", "grad_norm", "symbols_per_second"} <= set(record)
    assert [r["split"] for r in records if r["event"] == "eval"] == ["val", "val", "test"]
    assert [r["event"] for r in records][-1] == "end"
    assert sum(r["event"] == "sample" for r in records) == 2


def test_the_metrics_of_an_old_run_are_read_as_they_are() -> None:
    """Version 0.1.0 had other names for figures per symbol."""
    old = ROOT / "tests" / "fixtures" / "run-0.1.0-gru" / "metrics.jsonl"
    records = list(read_metrics(old))
    assert records == [json.loads(line) for line in old.read_text().splitlines()]
    assert records[0]["bits_per_char"] == pytest.approx(records[0]["loss"] / math.log(2))


def test_validation_in_training_is_the_exact_figure(text_file: Path, tmp_path: Path) -> None:
    """The best loss in the log is what evaluating best.npz gives, to the bit."""
    folder = tmp_path / "run"
    run(tiny_config(text_file, folder))
    best, corpus = load(folder), Corpus.open(folder / "data")
    figure = evaluate(best.model, best.params, corpus["val"]).nats_per_symbol
    losses = [r["loss"] for r in metrics(folder) if r["event"] == "eval" and r["split"] == "val"]
    assert min(losses) == figure == best.progress.best_loss


def test_several_streams_are_labelled_an_approximation(text_file: Path, tmp_path: Path) -> None:
    """eval_streams above 1 says so in the log."""
    folder = tmp_path / "run"
    run(tiny_config(text_file, folder, "train.eval_streams=8"))
    evals = [r for r in metrics(folder) if r["event"] == "eval"]
    assert [r.get("approximate", False) for r in evals] == [True, True, False]


@pytest.mark.parametrize("extra", [(), ("train.patience=2",)])
def test_more_streams_than_the_validation_text_allows_are_refused(
    extra: tuple[str, ...], text_file: Path, tmp_path: Path
) -> None:
    """At the start and in a dry run, with the largest number that works, and that one does."""
    size = len(prepare([text_file], tmp_path / "data")["val"])

    def config(streams: int) -> Config:
        keys = (f"train.eval_streams={streams}", "train.epochs=1", *extra)
        return tiny_config(tmp_path / "data", tmp_path / "run", *keys)

    for start in (run, lambda config: list(preview(config))):
        with pytest.raises(ConfigError, match=rf"^train\.eval_streams: .* {size - 1} works$"):
            start(config(size))
        assert not (tmp_path / "run").exists()
    events = run(config(size - 1))
    assert [e.record["split"] for e in events if e.kind == "eval"] == ["val", "test"]


@pytest.mark.parametrize("streams", [1, 8])
def test_a_run_without_validation_text_is_not_evaluated(
    streams: int, text_file: Path, tmp_path: Path
) -> None:
    """Unless it is to end by its validation loss."""
    keys = ("data.val_fraction=0", f"train.eval_streams={streams}", "train.epochs=1")
    events = run(tiny_config(text_file, tmp_path / "a", *keys))
    assert [e.record["split"] for e in events if e.kind == "eval"] == ["test"]
    with pytest.raises(ConfigError, match=r"train\.patience needs a validation text"):
        run(tiny_config(text_file, tmp_path / "b", *keys, "train.patience=2"))
    with pytest.raises(ConfigError, match=r"train\.patience needs a validation text"):
        Training.resume(tmp_path / "a", ["train.patience=2"])


def test_an_old_run_without_validation_goes_on(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 0.1.0 let more streams than its text allows turn validation off."""
    with monkeypatch.context() as patched:
        patched.setattr("rnnlm.training.loop.check_validation", lambda *_: None)
        run(tiny_config(text_file, tmp_path / "a", "train.eval_streams=5000", "train.epochs=1"))
    with Training.resume(tmp_path / "a", ["train.epochs=2"]) as training:
        assert [e.record.get("split") for e in training.events() if e.kind == "eval"] == ["test"]


def test_train_lines_are_means_since_the_last_line(text_file: Path, tmp_path: Path) -> None:
    """Every character of the training windows is in exactly one line's mean."""
    events = run(tiny_config(text_file, tmp_path / "run", "train.log_every=3"))
    steps = [e.record["loss"] for e in events if e.kind == "step"]
    lines = [e.record for e in events if e.kind == "train"]
    assert lines[0]["step"] == 3
    assert lines[0]["loss"] == pytest.approx(np.mean(steps[:3]), rel=1e-9)
    assert lines[1]["loss"] == pytest.approx(np.mean(steps[3:6]), rel=1e-9)


@every_cell
def test_training_lowers_the_loss(cell: Cell, text_file: Path, tmp_path: Path) -> None:
    """Half a nat below the first line's loss within a second."""
    keys = (*cell_keys(cell), "train.optimizer.learning_rate=0.02")
    events = run(tiny_config(text_file, tmp_path / "run", *keys))
    lines = [e.record["loss"] for e in events if e.kind == "train"]
    assert lines[-1] < lines[0] - 0.5, lines


def test_the_same_seed_gives_the_same_bits_and_samples_change_nothing(
    text_file: Path, tmp_path: Path
) -> None:
    """Threads, samples and log lines leave parameters alone; another seed does not."""
    base = ("model.dropout=0.2", "train.batch_size=16", "train.seq_length=16", "train.epochs=1")
    variants = {
        "a": (),
        "b": ("train.threads=1", "train.sample_every=5", "train.eval_every=5"),
        "c": ("train.threads=4", "train.log_every=1"),
    }
    for name, extra in variants.items():
        run(tiny_config(text_file, tmp_path / name, *base, *extra))
    run(tiny_config(text_file, tmp_path / "other", *base, "train.seed=1"))
    bits = {n: arrays(tmp_path / n / "last.npz")["params"] for n in (*variants, "other")}
    assert bits["a"] == bits["b"] == bits["c"] != bits["other"]


REGULARISED = (
    "model.dropout=0.3",
    "model.locked=true",
    "model.embedding_dropout=0.1",
    "model.weight_dropout=0.2",
    "model.change_penalty=1",
)


@pytest.mark.parametrize(
    ("steps", "extra"),
    [
        (1, ("model.cell=lstm", *REGULARISED, "train.sample_every=10")),
        (2, ("model.cell=gru", "train.optimizer=rmsprop", "train.schedule=cosine", BY_LINES, EMA)),
        (2, ("train.vary_length=0.5", "train.offset=random", "train.reset=0.3")),
        (2, ("model.cell=rnn", SGD, "train.patience=2", PLATEAU)),
        (1, ("train.optimizer=adagrad", "train.seq_length=full", "train.epochs=5")),
    ],
    ids=["dropout", "cosine and lines", "varied", "patience", "full"],
)
def test_resume_equals_uninterrupted(
    text_file: Path, tmp_path: Path, steps: int, extra: tuple[str, ...]
) -> None:
    """Parameters, optimizer, counters and metrics, after interruptions at every (second) step."""
    common = ("train.epochs=1", "train.seq_length=128", "train.eval_every=4", "train.log_every=3")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(tiny_config(text_file, whole, *common, *extra))
    interrupted(tiny_config(text_file, parts, *common, *extra), steps)
    assert_same_run(whole, parts)


def test_a_run_made_longer_equals_a_long_run(text_file: Path, tmp_path: Path) -> None:
    """Two epochs and then a third are three epochs; the end of the short run leaves the log."""
    run(tiny_config(text_file, tmp_path / "long", "train.epochs=3"))
    run(tiny_config(text_file, tmp_path / "short", "train.epochs=2"))
    with Training.resume(tmp_path / "short", ["train.epochs=3"]) as training:
        list(training.events())
    assert_same_run(tmp_path / "long", tmp_path / "short")


def test_what_was_written_after_the_checkpoint_is_dropped(text_file: Path, tmp_path: Path) -> None:
    """Lines beyond the recorded length, a torn one included, do not appear twice."""
    config = tiny_config(text_file, tmp_path / "a")
    run(tiny_config(text_file, tmp_path / "b"))
    steps = iter(range(1, 1000))
    train(config, stop=lambda: next(steps) == 30)
    with (tmp_path / "a" / "metrics.jsonl").open("a") as file:
        file.write('{"event": "train", "step": 31}\n{"event": "tra')
    with Training.resume(tmp_path / "a") as training:
        list(training.events())
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_a_best_that_came_after_the_checkpoint_is_not_that_of_a_run_that_ends_before(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that died after step 4 and ends at step 3 is tested with the best of its three steps."""
    losses = {2: 2.0, 3: 3.0, 4: 1.0}
    at: list[Training] = []

    def scripted(
        model: Any, params: Any, _: Any, ids: Any, *streams: int, workers: int | None = None
    ) -> Evaluation:
        """The loss that the step is to have on the validation text; on the test text the true one."""
        if streams:
            return Evaluation(1, losses[at[-1].progress.step])
        return evaluate(model, params, ids)

    monkeypatch.setattr("rnnlm.training.loop.evaluate_text", scripted)
    extra = ("train.seq_length=full", "train.eval_every=2", "train.checkpoint_every=3")
    for name, epochs in (("whole", 3), ("killed", 10)):
        config = tiny_config(text_file, tmp_path / name, *extra, f"train.epochs={epochs}")
        with Training.start(config, name) as training:
            at.append(training)
            for event in training.events():
                if event.kind == "eval" and event.record["step"] == 4:
                    break
    with Training.resume(tmp_path / "killed", ["train.epochs=3"]) as training:
        at.append(training)
        list(training.events())
    assert [r.get("checkpoint_step") for r in metrics(tmp_path / "whole")][-2] == 2
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def overwrite(path: Path) -> None:
    """Put the largest id there is in the place of each."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(128)
        file.write(b"\xff" * (size - 128))


def test_prepared_text_that_changes_while_a_run_reads_it_changes_nothing(
    text_file: Path, tmp_path: Path
) -> None:
    """Overwritten and cut off: the run has a copy."""
    data = prepare([text_file], tmp_path / "data").folder
    run(tiny_config(data, tmp_path / "a"))
    for event in train_events(tiny_config(data, tmp_path / "b")):
        if event.kind == "step" and event.record["step"] == 3:
            overwrite(data / "train.npy")
            os.truncate(data / "val.npy", 0)
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_a_large_text_that_changes_while_a_run_reads_it_is_one_line(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is mapped; symbols that do not exist are found before they do harm."""
    monkeypatch.setattr("rnnlm.storage.npy.IN_MEMORY", 100)
    data = prepare([text_file], tmp_path / "data").folder
    events = train_events(tiny_config(data, tmp_path / "a", "train.checkpoint_every=2"))
    with pytest.raises(DataError, match=r"train\.npy has changed since"):
        for event in events:
            if event.kind == "step" and event.record["step"] == 3:
                overwrite(data / "train.npy")
    assert Checkpoint.load(tmp_path / "a" / "last.npz").progress.step == 2


def test_a_shortened_log_is_refused(text_file: Path, tmp_path: Path) -> None:
    """A log that lacks what the checkpoint has seen is not silently continued."""
    run(tiny_config(text_file, tmp_path / "a"))
    (tmp_path / "a" / "metrics.jsonl").write_text("")
    with pytest.raises(CheckpointError, match=r"but last\.npz recorded"):
        Training.resume(tmp_path / "a")


def test_a_log_whose_lines_end_elsewhere_is_refused(text_file: Path, tmp_path: Path) -> None:
    """Another file in its place is not cut to the log's length."""
    run(tiny_config(text_file, tmp_path / "a"))
    (tmp_path / "a" / "metrics.jsonl").write_text("Dear Mara " * 1000)
    with pytest.raises(CheckpointError, match=r"not the log that last\.npz recorded"):
        Training.resume(tmp_path / "a")
    assert (tmp_path / "a" / "metrics.jsonl").read_text() == "Dear Mara " * 1000


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("model.hidden_size=13", "model.hidden_size changed from 12 to 13"),
        ("train.seed=5", "train.seed"),
        ("train.optimizer.learning_rate=0.1", "train.optimizer"),
        ("train.batch_size=5", "train.batch_size"),
        ("train.reset=0.5", "train.reset changed from 0.0 to 0.5"),
    ],
)
def test_resume_refuses_what_changes_the_result(
    text_file: Path, tmp_path: Path, override: str, named: str
) -> None:
    """The key and both values are named, whether --set or config.yaml changed it."""
    run(tiny_config(text_file, tmp_path / "a"))
    with pytest.raises(ConfigError, match=named):
        Training.resume(tmp_path / "a", [override])


def test_resume_refuses_longer_runs_whose_schedule_depends_on_the_length(
    text_file: Path, tmp_path: Path
) -> None:
    """A cosine that was aimed at two epochs cannot become one of three."""
    run(tiny_config(text_file, tmp_path / "a", "train.schedule=cosine"))
    with pytest.raises(ConfigError, match="the cosine schedule depends on it"):
        Training.resume(tmp_path / "a", ["train.epochs=3"])


def test_resume_refuses_another_text(text_file: Path, tmp_path: Path) -> None:
    """The data is compared by its content, and looked for where it was."""
    prepare([text_file], tmp_path / "data")
    run(tiny_config(tmp_path / "data", tmp_path / "a"))
    text_file.write_text(TEXT.replace("crow", "cow?"))
    prepare([text_file], tmp_path / "data", force=True)
    with pytest.raises(DataError, match="not the text that this run was trained on"):
        Training.resume(tmp_path / "a", ["train.epochs=3"])


def test_resume_takes_another_place_for_the_same_text_only(text_file: Path, tmp_path: Path) -> None:
    """A path or folder that would have no effect is refused, and not recorded."""
    corpus = prepare([text_file], tmp_path / "data")
    run(tiny_config(tmp_path / "data", tmp_path / "a"))
    before = (tmp_path / "a" / "config.yaml").read_bytes()
    (tmp_path / "loop").symlink_to("loop")
    text_file.write_text(TEXT[:-9])
    prepare([text_file], tmp_path / "other")
    for override, error in [
        (f"data.path={tmp_path / 'other'}", "not the text that this run was trained on"),
        (f"data.path={text_file}", "not a prepared folder"),
        ("data.path=/nonexistent", "not a prepared folder"),
        (f"run.dir={tmp_path / 'b'}", "its own folder"),
        (f"run.dir={tmp_path / 'loop'}", "its own folder"),
    ]:
        with pytest.raises((ConfigError, DataError), match=error):
            Training.resume(tmp_path / "a", [override])
        assert (tmp_path / "a" / "config.yaml").read_bytes() == before
    (tmp_path / "data").rename(tmp_path / "moved")
    with Training.resume(tmp_path / "a", [f"data.path={tmp_path / 'moved'}"]) as training:
        assert training.corpus.fingerprint == corpus.fingerprint
        assert training.corpus.folder == tmp_path / "moved"


def test_a_run_does_not_change_when_its_source_is_edited(text_file: Path, tmp_path: Path) -> None:
    """Raw text is prepared into the run folder, and found there again."""
    run(tiny_config(text_file, tmp_path / "a"))
    text_file.unlink()
    with Training.resume(tmp_path / "a", ["train.epochs=3"]) as training:
        assert [e.kind for e in training.events()][-1] == "end"


def test_a_moved_run_folder_finds_its_data(text_file: Path, tmp_path: Path) -> None:
    """Its own data goes with it."""
    run(tiny_config(text_file, tmp_path / "a"))
    (tmp_path / "a").rename(tmp_path / "b")
    with Training.resume(tmp_path / "b", ["train.epochs=3"]) as training:
        assert [e.kind for e in training.events()][-1] == "end"


def test_a_run_goes_on_with_its_text_prepared_from_another_encoding(
    text_file: Path, tmp_path: Path
) -> None:
    """The ids are the same; texts are read as they were when the run began."""
    run(tiny_config(text_file, tmp_path / "a"))
    text_file.write_text(TEXT, encoding="utf-16")
    prepare([text_file], tmp_path / "prepared", encoding="utf-16")
    keys = ["train.epochs=3", f"data.path={tmp_path / 'prepared'}"]
    with Training.resume(tmp_path / "a", keys) as training:
        assert [e.kind for e in training.events()][-1] == "end"
    assert load(tmp_path / "a").format.rules.encoding == "utf-8"


@pytest.mark.parametrize("beside", ["another text", "damaged", "not rnnlm's"])
def test_a_folder_beside_a_checkpoint_does_not_hide_the_recorded_one(
    beside: str, text_file: Path, tmp_path: Path
) -> None:
    """Whatever a `data/` is there; where the text is nowhere, what is in each place is said."""
    corpus = prepare([text_file], tmp_path / "prepared")
    run(tiny_config(corpus.folder, tmp_path / "a", "train.epochs=1"))
    text_file.write_text(TEXT.upper())
    if beside == "not rnnlm's":
        (tmp_path / "a" / "data").mkdir()
        (tmp_path / "a" / "data" / "corpus.json").write_text("{}")
    else:
        prepare([text_file], tmp_path / "a" / "data")
    if beside == "damaged":
        (tmp_path / "a" / "data" / "train.npy").write_bytes(b"")
    at = load(tmp_path / "a")
    assert evaluate_split(at).symbols == corpus.length("test") - 1
    with Training.resume(tmp_path / "a") as training:
        assert training.corpus.folder == corpus.folder
    corpus.folder.rename(tmp_path / "moved")
    with pytest.raises(DataError) as caught:
        recorded_data(at)
    said = str(caught.value)
    assert str(tmp_path / "a" / "data") in said
    assert f"{corpus.folder}: no prepared folder" in said


def test_patience_stops_early_and_says_so(text_file: Path, tmp_path: Path) -> None:
    """A run that cannot improve ends after `patience` evaluations."""
    config = tiny_config(
        text_file,
        tmp_path / "a",
        "train.optimizer={name: sgd, learning_rate: 0}",
        "train.patience=2",
        "train.epochs=50",
        "train.eval_every=3",
    )
    end = run(config)[-1].record
    assert (end["event"], end["reason"], end["step"], end["best_step"]) == ("end", "patience", 9, 3)


def test_the_rate_drops_when_validation_brings_nothing_better(
    text_file: Path, tmp_path: Path
) -> None:
    """After each `patience` validations, counted from the best one and from the last drop."""
    schedule = "train.schedule={name: plateau, patience: 2, factor: 0.5}"
    keys = ("train.seq_length=256", "train.eval_every=1", "train.log_every=1", schedule)
    still = ("train.optimizer={name: sgd, learning_rate: 0.3}", "train.grad_clip.norm=1e-20")
    events = run(tiny_config(text_file, tmp_path / "a", *keys, *still))
    rates = [e.record["learning_rate"] for e in events if e.kind == "train"]
    better = [e.record["best"] for e in events if e.kind == "eval" and e.record["split"] == "val"]
    assert better == [True, *[False] * 9]
    assert rates == [0.3 * 0.5**n for n in (0, 0, 0, 1, 1, 2, 2, 3, 3, 4)]


def test_divergence_stops_before_the_update(text_file: Path, tmp_path: Path) -> None:
    """The step, the norm and what to lower are said; the last good checkpoint stays."""
    config = tiny_config(
        text_file,
        tmp_path / "a",
        "model.cell=rnn",
        "model.activation=identity",
        "train.optimizer={name: sgd, learning_rate: 1000}",
        "train.grad_clip=null",
        "train.checkpoint_every=1",
    )
    with pytest.raises(TrainingError, match=r"step \d+: .*lower train.optimizer"):
        run(config)
    assert np.isfinite(Checkpoint.load(tmp_path / "a" / "last.npz").params.flat).all()


@pytest.mark.parametrize("epochs", [4, 5])
def test_parameters_that_are_not_finite_are_not_saved(
    epochs: int, text_file: Path, tmp_path: Path
) -> None:
    """Neither in the middle of a run nor by its last step, whose loss no further step would tell."""
    config = tiny_config(
        text_file,
        tmp_path / "a",
        "train.optimizer={name: adamw, learning_rate: 1e6, weight_decay: 1e6}",  # w is 1e36 in step 3
        f"train.epochs={epochs}",
        "train.seq_length=full",
        "train.checkpoint_every=1",
        "data.val_fraction=0",
        "data.test_fraction=0",
    )
    with pytest.raises(
        TrainingError, match="step 4: the update made parameters that are not finite"
    ):
        run(config)
    assert Checkpoint.load(tmp_path / "a" / "last.npz").progress.step == 3


def test_init_from_starts_from_weights_and_vocabulary(text_file: Path, tmp_path: Path) -> None:
    """The first parameters are the checkpoint's, on a text of its symbols."""
    run(tiny_config(text_file, tmp_path / "a"))
    start = load(tmp_path / "a")
    other = tmp_path / "other.txt"
    other.write_text(TEXT[2000:9000])
    config = make_config(
        None,
        f"data.path={other}",
        f"run.dir={tmp_path / 'b'}",
        "train.batch_size=4",
        "train.seq_length=32",
        "train.optimizer={name: sgd, learning_rate: 0}",
        "train.epochs=1",
        "model.weight_dropout=0.5",  # regularisation may be another
    )
    run(config, init_from=start)
    assert load(tmp_path / "b").config.model["weight_dropout"] == 0.5
    assert (load(tmp_path / "b").params.flat == start.params.flat).all()
    assert load(tmp_path / "b").vocabulary == start.vocabulary
    other.write_text(TEXT[:3000] + "ß")
    with pytest.raises(DataError, match="'ß'"):
        run(config.with_values("run", dir=str(tmp_path / "c")), init_from=start)
    assert not (tmp_path / "c").exists()
    with pytest.raises(ConfigError, match="conflicts with init_from"):
        run(make_config(None, f"data.path={other}", "model.hidden_size=99"), init_from=start)


def test_a_prepared_folder_and_contradicting_keys_are_refused(
    text_file: Path, tmp_path: Path
) -> None:
    """Keys that were given must be what the folder was prepared with."""
    prepare([text_file], tmp_path / "data", level="byte")
    for override in ("data.level=char", "data.val_fraction=0.2"):
        with pytest.raises(ConfigError, match="conflicts with"):
            run(tiny_config(tmp_path / "data", tmp_path / "a", override))
        assert not (tmp_path / "a").exists()
    for path in (tmp_path / "data", text_file):
        config = tiny_config(path, tmp_path / "a", "data.level=byte", "data.newlines=keep")
        with pytest.raises(ConfigError, match="newlines: nothing is decoded at byte level"):
            run(config)
    run(tiny_config(tmp_path / "data", tmp_path / "a"))
    assert load(tmp_path / "a").config.data.level == "byte"


def test_a_run_folder_is_never_overwritten(text_file: Path, tmp_path: Path) -> None:
    """A second run with the same folder is refused, and says how to go on."""
    run(tiny_config(text_file, tmp_path / "a"))
    before = (tmp_path / "a" / "last.npz").read_bytes()
    with pytest.raises(CheckpointError, match="--resume"):
        run(tiny_config(text_file, tmp_path / "a"))
    assert (tmp_path / "a" / "last.npz").read_bytes() == before


def test_a_locked_run_folder_is_refused(text_file: Path, tmp_path: Path) -> None:
    """Two trainings in one folder cannot be."""
    run(tiny_config(text_file, tmp_path / "a"))
    held = Run.open(tmp_path / "a")
    with pytest.raises(CheckpointError, match="another process"):
        Training.resume(tmp_path / "a")
    held.close()
    Training.resume(tmp_path / "a").__exit__()


def test_numbered_checkpoints_are_kept(text_file: Path, tmp_path: Path) -> None:
    """The newest `keep` of them."""
    run(tiny_config(text_file, tmp_path / "a", "train.checkpoint_every=10", "train.keep=2"))
    kept = sorted(p.name for p in (tmp_path / "a").glob("step-*.npz"))
    last = Checkpoint.load(tmp_path / "a" / "last.npz").progress.step
    assert len(kept) == 2
    assert kept[-1] == f"step-{last:09d}.npz"


def test_only_numbered_checkpoints_are_deleted(text_file: Path, tmp_path: Path) -> None:
    """What a user called something like one stays, and is none of those to keep."""
    keys = ("train.epochs=1", "train.checkpoint_every=5", "train.keep=2")
    config = tiny_config(text_file, tmp_path / "a", *keys)
    foreign = ("step-000000001-good.npz", "step-best.npz", "step-0000000001.npz", "step-1.npz")
    events = train_events(config)
    next(events)
    for name in foreign:
        (tmp_path / "a" / name).touch()
    list(events)
    kept = {p.name for p in (tmp_path / "a").glob("step-*")}
    assert len(kept) == len(foreign) + 2
    assert kept >= set(foreign)


def test_too_much_memory_is_refused_with_what_fits(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole stream that does not fit names the largest window that does, and that one does. A run
    that has its memory is not asked for it again.
    """
    config = tiny_config(text_file, tmp_path / "a", "train.seq_length=full")
    monkeypatch.setattr("rnnlm.training.plan.available_memory", lambda: 700_000)
    with pytest.raises(ConfigError, match=r"train.seq_length at most (\d+) fits") as caught:
        run(config)
    largest = int(str(caught.value).split("at most ")[1].split()[0])
    run(config.with_values("train", seq_length=largest, epochs=1))
    with pytest.raises(ConfigError, match="free"):
        run(
            config.with_values("train", seq_length=largest + 1).with_values(
                "run", dir=str(tmp_path / "b")
            )
        )
    fits = config.with_values("train", seq_length=largest).with_values(
        "run", dir=str(tmp_path / "c")
    )
    with Training.start(fits, "c") as training:
        monkeypatch.setattr("rnnlm.training.plan.available_memory", lambda: 0)
        assert any(line.startswith("memory: about") for line in training.summary())


def bytes_of_copies(model: TrainableModel, params: Parameters) -> int:
    """What a model's copies of its weights take, for shards of 32 rows."""
    copies: list[np.ndarray] = []

    def noting(shape: Shape, dtype: np.dtype) -> np.ndarray:
        copies.append(np.empty(shape, dtype))
        return copies[-1]

    model.weights(params, 32, empty=noting)
    return sum(a.nbytes for a in copies)


def test_memory_is_estimated_within_a_quarter(
    text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The estimate against what the engine's buffers really hold."""
    monkeypatch.setattr("rnnlm.backend.workers.may_fork", lambda: False)  # they are to be seen here
    for overrides in (*map(cell_keys, all_cells()), ["model.embedding_size=64"]):
        config = make_config(None, "model.hidden_size=96", *overrides)
        model = build_model(config, 65)
        params = model.init(np.random.default_rng(0))
        engine = Engine(model, params, OPTIMIZERS["adam"], {}, batch_size=64, threads=2)
        ids = np.zeros((64, 64), np.intp)
        engine.step(Batch(ids, ids), model.zero_state(64), 1, 0.001)
        engine.close()
        held = sum(lane.ws.nbytes + lane.total.flat.nbytes for lane in engine.lanes)
        held += bytes_of_copies(model, params)
        held += params.flat.nbytes * 3  # and the optimizer's two vectors
        estimate = training_bytes(model, 64, 64, 2)
        assert 0.75 < estimate / held < 1.33, (overrides, estimate, held)


def test_a_system_that_tells_nothing_of_itself_is_trained_on(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a container without /proc is: no libraries, no threads and no memory are to be seen."""
    lanes = ("train.batch_size=16", "train.threads=2")
    run(tiny_config(text_file, tmp_path / "a", *lanes))
    hidden = []

    def hide(real: Any) -> Any:
        def method(path: Path, *args: Any, **kwargs: Any) -> Any:
            if path.is_relative_to("/proc") or path.is_relative_to("/sys"):
                hidden.append(path)
                raise FileNotFoundError(path)
            return real(path, *args, **kwargs)

        return method

    for name in ("open", "iterdir"):
        monkeypatch.setattr(Path, name, hide(getattr(Path, name)))
    for cached in (blas._control, blas.rows_at_once):
        cached.cache_clear()
    run(tiny_config(text_file, tmp_path / "b", *lanes, "train.sample_every=5"))
    assert {"maps", "task", "meminfo"} <= {path.name for path in hidden}
    assert arrays(tmp_path / "a" / "last.npz") == arrays(tmp_path / "b" / "last.npz")


def test_memory_of_tiny_models_and_long_windows_is_not_understated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There the ids are more than the activations."""
    monkeypatch.setattr("rnnlm.training.engine.shared_zeros", np.zeros)  # where tracemalloc sees it
    B, T = 64, LONGEST_TAPE + 1
    config = make_config(None, "model.hidden_size=1", "model.num_layers=1", "model.cell=rnn")
    model = build_model(config, 65)
    windows = Streams(np.arange(B * T + 1, dtype=np.uint8) % 65, B, None)
    tracemalloc.start()
    try:
        params = model.init(np.random.default_rng(0))
        engine = Engine(model, params, OPTIMIZERS["adam"], {}, batch_size=B, threads=1)
        engine.step(windows(0, 0), model.zero_state(B), 1, 0.001)
        engine.close()
        used = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    tapes = len(engine.lanes) * LONGEST_TAPE * TAPE_BYTES  # which windows this long do without
    assert 0.8 < (training_bytes(model, B, T, 2) - tapes) / used < 1.25


def test_the_newest_run_is_the_one_that_started_last(text_file: Path, in_tmp: Path) -> None:
    """As a checkpoint says, not a file's time; best.npz before last.npz."""
    for name in ("b", "a"):
        run(tiny_config(text_file, Path("runs") / name, "train.epochs=1"))
    os.utime("runs/b/best.npz")
    Path("runs/note.txt").touch()
    assert find_checkpoint(None) == Path("runs/a/best.npz")
    Path("runs/a/best.npz").unlink()
    assert find_checkpoint(None) == Path("runs/a/last.npz")
    Path("runs/a/last.npz").unlink()
    assert find_checkpoint(None) == Path("runs/b/best.npz")


@pytest.mark.parametrize("kept", [0, 30, -1])
def test_a_damaged_newest_run_is_named_and_no_older_one_taken(
    kept: int, text_file: Path, in_tmp: Path
) -> None:
    """Whatever is left of its checkpoints; an old one that is damaged is in nobody's way."""
    for name in ("old", "new"):
        run(tiny_config(text_file, Path("runs") / name, "train.epochs=1"))
    for name in ("best.npz", "last.npz"):
        path = Path("runs/new") / name
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(
            CheckpointError, match=r"runs/new/best\.npz: .*; of the newest run: name"
        ):
            load()
    for name in ("best.npz", "last.npz"):
        os.utime(Path("runs/new") / name, (1, 1))
    assert load().path == Path("runs/old/best.npz")


def test_the_newest_of_many_runs_is_found_without_their_parameters(
    text_file: Path, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 300 runs nothing is read but what says when they started."""
    run(tiny_config(text_file, Path("runs/newest"), "train.epochs=1"))
    at = load("runs/newest")
    old = replace(at, progress=replace(at.progress, started=at.progress.started - 9))
    old.save(Path("old.npz"))
    for number in range(300):
        Path(f"runs/{number}").mkdir()
        for name in ("best.npz", "last.npz"):
            Path(f"runs/{number}/{name}").hardlink_to("old.npz")
    members: list[str] = []
    read = zipfile.ZipFile.read

    def recorded(archive: zipfile.ZipFile, member: Any, pwd: bytes | None = None) -> bytes:
        members.append(getattr(member, "filename", member))
        return read(archive, member, pwd)

    monkeypatch.setattr(zipfile.ZipFile, "read", recorded)
    assert find_checkpoint(None) == Path("runs/newest/best.npz")
    assert members == ["meta.npy"] * 301


def test_runs_that_start_in_the_same_second_have_folders_of_their_own(
    text_file: Path, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight at once: making the folder decides whose it is. A name that is taken is left alone."""
    monkeypatch.setattr("rnnlm.runs.folder.time.strftime", lambda _: "now")
    Path("runs").mkdir()
    Path("runs/run-now").write_text("a file")
    Path("runs/run-now-2").symlink_to("nowhere")
    config = make_config(None, f"data.path={text_file}", *TINY)
    together = threading.Barrier(8)

    def start() -> str:
        together.wait()
        with Training.start(config, "run") as training:
            return training.run.folder.name

    with ThreadPoolExecutor(8) as pool:
        started = [future.result() for future in [pool.submit(start) for _ in range(8)]]
    assert set(started) == {f"run-now-{n}" for n in range(3, 11)}
    assert Path("runs/run-now").read_text() == "a file"


def test_a_failed_start_leaves_a_folder_that_was_there(text_file: Path, tmp_path: Path) -> None:
    """Empty as it was; what a killed start left in it is gone."""
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError):
        run(tiny_config(tmp_path / "none.txt", tmp_path / "a"))
    assert not list((tmp_path / "a").iterdir())
    killed = Run.create(tmp_path / "a")
    killed.write_config(make_config(None))
    killed.close()
    with pytest.raises(DataError):
        run(tiny_config(tmp_path / "none.txt", tmp_path / "a"))
    assert not list((tmp_path / "a").iterdir())


def test_a_run_folder_may_lie_deeper_than_python_may_call(in_tmp: Path) -> None:
    """Folders are made one after another, not one from within the other."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 80)
    try:
        run = Run.create(Path("d/" * 200))
    finally:
        sys.setrecursionlimit(limit)
    assert run.folder.is_dir()
    run.abandon()
    assert not run.folder.exists()


@pytest.mark.parametrize(
    "names",
    [
        (".my.notes.tmp",),
        ("lock", "config.yaml"),
        ("lock", "data/train.npy"),
        ("lock", "data/.my.notes.txt"),
        ("data/corpus.json",),
    ],
)
def test_files_that_only_look_like_a_killed_starts_are_left_alone(
    names: tuple[str, ...], text_file: Path, tmp_path: Path
) -> None:
    """A folder that a start did not mark as its own is somebody's, whatever its files are called."""
    for name in names:
        path = tmp_path / "a" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with pytest.raises(CheckpointError, match=r"already holds something: .* or empty it"):
        run(tiny_config(text_file, tmp_path / "a"))
    assert {path for path in (tmp_path / "a").rglob("*") if path.is_file()} == {
        tmp_path / "a" / name for name in names
    }


def test_only_the_programs_own_temporary_files_are_removed(text_file: Path, tmp_path: Path) -> None:
    """Those of this version and of 0.1.0, when a run goes on."""
    run(tiny_config(text_file, tmp_path / "a"))
    held = {path.name for path in (tmp_path / "a").iterdir()}
    foreign = {
        ".my.notes.tmp",
        ".last.npz.old.tmp",
        ".last.npz.~1.tmp",
        ".my.1.tmp",
        "a.1.rnnlm-tmp",
    }
    own = {".last.npz.17.tmp", ".step-000000100.npz.1.tmp", ".config.yaml.9f00.rnnlm-tmp"}
    for name in foreign | own:
        (tmp_path / "a" / name).touch()
    Training.resume(tmp_path / "a").__exit__()
    assert {path.name for path in (tmp_path / "a").iterdir()} == held | foreign


def test_library_errors_leave_no_folder_behind(tmp_path: Path) -> None:
    """A run that could not start leaves nothing."""
    for path, error in (("", ConfigError), (tmp_path / "none.txt", DataError)):
        with pytest.raises(error):
            run(tiny_config(path, tmp_path / "a"))  # type: ignore[arg-type]
        assert not (tmp_path / "a").exists()


def test_a_sample_in_training_begins_as_one_without_a_prime(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the paragraph that the checkpoint keeps, not from nothing."""
    primes: list[list[int]] = []

    def spy(model: Any, params: Any, prime: list[int], *rest: Any, **options: Any) -> Any:
        primes.append(list(prime))
        return generate(model, params, prime, *rest, **options)

    monkeypatch.setattr("rnnlm.training.loop.generate", spy)
    run(tiny_config(text_file, tmp_path / "run", "train.sample_every=1 epoch", "train.epochs=1"))
    lead = Checkpoint.load(tmp_path / "run" / "last.npz").lead.tolist()
    assert lead
    assert primes == [lead]
