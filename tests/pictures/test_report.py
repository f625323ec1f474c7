"""The report shows what the model computes, escapes what is in the text, and is written safely."""

from __future__ import annotations

import base64
import json
import math
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import pytest
from pictured import SCRIPT, TEXT, pictured

import rnnlm
from rnnlm.analysis.memory import connectivity, places
from rnnlm.analysis.predictions import predictions
from rnnlm.analysis.stretch import Stretch, of_file, of_split
from rnnlm.analysis.units import TRACKED, correlation, units
from rnnlm.api.scoring import next_probabilities, surprisal
from rnnlm.backend.params import Parameters
from rnnlm.backend.workspace import Workspace
from rnnlm.cli.main import cli
from rnnlm.models import NGram
from rnnlm.pictures.charts import Series, chart
from rnnlm.pictures.labels import label, shown
from rnnlm.pictures.page import in_script
from rnnlm.pictures.report import report
from rnnlm.runs.checkpoint import Checkpoint
from rnnlm.text.batches import IGNORED, Batch


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return pictured(tmp_path_factory.mktemp("pictured"), "model.embedding_size=5")


def command(*args: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli, ["report", *map(str, args)])


def data_of(page: bytes) -> dict[str, Any]:
    """The numbers in a page."""
    (found,) = re.findall(rb'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    data: dict[str, Any] = json.loads(found)
    return data


def test_predictions_are_those_of_scoring_and_of_the_whole_distribution(run: Checkpoint) -> None:
    """Surprisal of every symbol; rank, entropy and the top five of one, from its probabilities."""
    stretch = of_split(run, 150)
    found = predictions(run, stretch)
    text = "".join(stretch.pieces)
    np.testing.assert_allclose(found.nats[:140], surprisal(run, text)[:140], rtol=1e-4)
    p = next_probabilities(run, text[:60])
    assert found.entropy[60] == pytest.approx(-sum(q * math.log(q) for q in p.values()), rel=1e-5)
    assert found.rank[60] == 1 + list(p).index(text[60])
    symbols = run.vocabulary.to_json()["symbols"]
    assert [symbols[i] for i in found.top[60]] == list(p)[:5]
    np.testing.assert_allclose(found.p[60], list(p.values())[:5], rtol=1e-4)


@pytest.mark.parametrize("embedded", [False, True])
def test_influence_is_the_gradient_of_each_input(
    run: Checkpoint, tmp_path: Path, embedded: bool
) -> None:
    """In a text in which no symbol comes twice, the gradient of an input is that of its parameter."""
    at = run if embedded else pictured(tmp_path)
    first = np.unique(at.ids(TEXT), return_index=True)[1]
    ids = at.ids(TEXT)[np.sort(first)][:12]
    ids = ids[ids != at.format.newline]
    found = connectivity(at, Stretch(at.format, ids, ""), 9, 20)
    fed = np.append(at.format.newline, ids)[:9, None]
    targets = np.full_like(fed, IGNORED)
    targets[-1] = ids[8]
    model, d = at.model, at.params.like()
    state = model.zero_state(1)
    model.loss_and_grad(
        model.weights(at.params, 1), Batch(fed, targets), state, d, Workspace(), 1.0
    )
    if embedded:
        each = d["embedding"][fed[:, 0]]
    else:
        dz, W = d["layers.0.Wx"][:, fed[:, 0]], at.params["layers.0.Wx"]
        each = np.einsum("gth,gvh->tv", dz, W)
    assert found is not None
    np.testing.assert_allclose(found.inputs[8, :9], np.linalg.norm(each, axis=1)[::-1], rtol=1e-3)
    assert not found.inputs[8, 9:].any()


def test_outputs_beyond_one_are_shown_as_they_are(run: Checkpoint, tmp_path: Path) -> None:
    """Those of an SRU with large parameters, by a scale for each unit; it is 1 in an LSTM."""
    sru = pictured(tmp_path, "model.cell=sru")
    params = Parameters(sru.params.shapes, flat=20 * sru.params.flat)
    sru = replace(sru, params=params)
    found = units(sru, of_split(sru, 200))
    assert found is not None
    h = np.concatenate([layer["h"] for layer in found.layers], axis=1).T
    cells = data_of(report(sru, of_split(sru, 200)))["cells"]
    scales, shares = np.array(cells["scales"]), np.frombuffer(base64.b64decode(cells["h"][1]), "i1")
    assert scales.max() > 2
    at = scales[:, None] * shares.reshape(h.shape) / 127
    assert (np.abs(at - h) <= 0.005 * scales[:, None]).all()
    assert set(data_of(report(run, of_split(run, 200)))["cells"]["scales"]) == {1}


def test_what_is_tracked_is_counted_in_the_text() -> None:
    """By hand; and the correlation is NumPy's."""
    text = 'He: "a (b)"\nIt'
    assert TRACKED["position in the line"](text)[-3:].tolist() == [0, 1, 2]
    assert TRACKED["inside quotes"](text).tolist() == [0] * 4 + [1] * 6 + [0] * 4
    assert TRACKED["inside brackets"](text).tolist() == [0] * 7 + [1, 1] + [0] * 5
    assert TRACKED["letters of the word so far"](text)[:3].tolist() == [1, 2, 0]
    assert TRACKED["length of the line before"](text).tolist() == [0] * 12 + [12] * 2
    h = np.random.default_rng(0).normal(size=(50, 3))
    h[:, 2] = 1
    values = np.arange(50.0)
    wanted = [np.corrcoef(h[:, 0], values)[0, 1], np.corrcoef(h[:, 1], values)[0, 1], 0]
    np.testing.assert_allclose(correlation(h, values), wanted, atol=1e-12)


def test_every_symbol_shows_something_and_marks_stay_with_their_base() -> None:
    """Control characters, directions of writing, marks, and bytes that are no text by themselves."""
    assert [label(c) for c in "\x00 \n\u202e\u0301"] == ["␀", "␣", "⏎", "U+202E", "◌\u0301"]
    assert [label(65), label(0xE4), label("")] == ["A", "E4", "∅"]
    text = ["e", "\u0301", "\n", "\u0301", "", "\x1b"]
    found = shown(text, [label(c) for c in text])
    assert found.pieces == ["e", "\u0301", "\n", "◌\u0301", "∅", "␛"]
    assert (found.joined, found.marked) == ([1], [4, 5])


def test_a_chart_of_a_constant_is_read_at_its_value() -> None:
    """A learning rate that never changes is between numbers that are near to it."""
    shown = chart([Series("", np.arange(3), np.full(3, 0.002))], "steps", "learning rate")
    ticks = [float(tick) for tick in re.findall(r'tick end"[^>]*>([^<]*)<', shown)]
    assert len(ticks) > 1 and 0.0015 < min(ticks) <= 0.002 <= max(ticks) < 0.0025


def test_a_chart_of_one_point_is_left_out() -> None:
    """An n-gram has one evaluation; two curves of a point each can be compared."""
    point = Series("", np.ones(1), np.ones(1))
    assert chart([point], "steps", "loss") == ""
    assert chart([point, point], "steps", "loss").count("<circle") == 2


def test_nothing_from_the_text_can_leave_its_place(run: Checkpoint) -> None:
    """Payloads are in the numbers alone, with `<` written as an escape."""
    page = report(run, of_split(run, 400))
    assert SCRIPT in "".join(data_of(page)["pieces"])
    assert page.count(b"<script") == page.count(b"</script>") == 2
    assert b"<img" not in page
    assert (
        b"window.ran" not in page.replace(b"\\u003cscript>window.ran", b"").split(b'id="data">')[0]
    )
    assert json.loads(in_script({"a": "</script><!--"}))["a"] == "</script><!--"


def test_against_another_model_both_read_the_same_text(run: Checkpoint, tmp_path: Path) -> None:
    """An n-gram with a vocabulary of its own; where it lacks a symbol, one line says so."""
    wider = tmp_path / "wider.txt"
    wider.write_text("Ω" + TEXT, "utf-8")
    config = rnnlm.make_config(
        None, f"data.path={wider}", f"run.dir={tmp_path / 'n'}", "model.kind=ngram"
    )
    other = rnnlm.train(config).checkpoint()
    assert isinstance(other.model, NGram)
    stretch = of_split(run, 100)
    data = data_of(report(run, stretch, other))["surprisal"]
    bits = np.frombuffer(base64.b64decode(data["other"][1]), "<u2") / 1000
    wanted = surprisal(other, "".join(stretch.pieces)) / math.log(2)
    np.testing.assert_allclose(bits[: len(wanted)], wanted, atol=1e-3)
    file = tmp_path / "greek.txt"
    file.write_text("Ωab", "utf-8")
    folder = other.path and other.path.parent
    done = command(folder, "--text", file, "--against", run.path, "--out", tmp_path / "a.html")
    assert done.exit_code == 1
    assert done.output.count("\n") == 1
    assert "'Ω' U+03A9" in done.output
    assert done.output.endswith("name a run that knows them\n")


def test_of_a_long_text_the_beginning_is_read(run: Checkpoint, tmp_path: Path) -> None:
    """And the source says so. The loss by column is the mean over its lines."""
    file = tmp_path / "long.txt"
    file.write_text(TEXT * 200, "utf-8")
    stretch = of_file(run, file, 900)
    assert len(stretch.ids) == 900
    assert stretch.source == f"the first 900 characters of {file}"
    file.write_text("Ω" + TEXT, "utf-8")
    assert of_file(run, file, 900, "skip").source.endswith(", without those outside the vocabulary")
    file.write_text(TEXT * 200, "utf-8")
    predicted = predictions(run, stretch)
    found = places(run, stretch, predicted, 10)
    begins = [True, *(c == "\n" for c in stretch.pieces[:-1])]
    assert sum(begins) > 20
    assert found.column[0] == pytest.approx(predicted.nats[begins].mean())
    assert np.isfinite(found.window).all()


def test_a_report_replaces_a_report_and_nothing_else(run: Checkpoint, tmp_path: Path) -> None:
    """A file that somebody else wrote stays as it is."""
    out = tmp_path / "report.html"
    for _ in range(2):
        assert command(run.path, "--out", out, "--length", 50).exit_code == 0
    other = tmp_path / "notes.html"
    other.write_text("mine", "utf-8")
    done = command(run.path, "--out", other, "--length", 50)
    assert (done.exit_code, other.read_text("utf-8")) == (1, "mine")
    assert "not overwritten" in done.output


def test_a_run_whose_log_is_empty_or_torn_has_a_report(run: Checkpoint, tmp_path: Path) -> None:
    """The page says that nothing was evaluated; a last line that is not whole is left out."""
    folder = tmp_path / "bare"
    folder.mkdir()
    assert run.path is not None
    (folder / "best.npz").write_bytes(run.path.read_bytes())
    (folder / "metrics.jsonl").write_text('{"event": "train", "st', "utf-8")
    (folder / "data").symlink_to(run.path.parent / "data")
    assert command(folder, "--length", 50).exit_code == 0
    assert "logged no evaluation" in (folder / "report.html").read_text("utf-8")


def test_training_keeps_a_report(tmp_path: Path) -> None:
    """It loads itself again until the end."""
    from conftest import tiny_config

    from rnnlm.pictures.live import LiveReport
    from rnnlm.training import start

    text = tmp_path / "text.txt"
    text.write_text(TEXT, "utf-8")
    config = tiny_config(text, tmp_path / "run", "train.max_steps=1", "train.eval_every=1")
    with start.start(config, "run", None, "error") as training:
        write, pages = LiveReport(training), []
        for event in training.events():
            write(event)
            if (page := tmp_path / "run" / "report.html").exists():
                pages.append(page.read_text("utf-8"))
    assert 'http-equiv="refresh"' in pages[0]
    assert 'http-equiv="refresh"' not in pages[-1]
    assert "test perplexity" in pages[-1]


def test_the_page_of_an_interrupted_run_says_so_and_does_not_load_again(tmp_path: Path) -> None:
    """Also where the last evaluation was too near to the one before for a page."""
    from conftest import tiny_config

    from rnnlm.pictures.live import LiveReport
    from rnnlm.training import start

    text, file = tmp_path / "text.txt", tmp_path / "run" / "report.html"
    text.write_text(TEXT, "utf-8")
    config = tiny_config(text, tmp_path / "run", "train.max_steps=9", "train.eval_every=1")
    with start.start(config, "run", None, "error") as training:
        write = LiveReport(training)
        for event in training.events(lambda: training.progress.step == 2):
            write(event)
            if event.kind == "eval" and event.record["step"] == 1:
                assert "is being trained" in file.read_text("utf-8")
    page = file.read_text("utf-8")
    assert event.kind == "interrupted"
    assert "This run is stopped" in page and "<dd>stopped</dd>" in page
    assert 'http-equiv="refresh"' not in page and "being trained" not in page


def test_at_the_end_of_training_the_report_is_whole(tmp_path: Path) -> None:
    """As `rnnlm report` writes it."""
    from conftest import tiny_config

    text, config = tmp_path / "text.txt", tmp_path / "config.yaml"
    text.write_text(TEXT, "utf-8")
    config.write_text(tiny_config(text, tmp_path / "run", "train.max_steps=1").to_yaml(), "utf-8")
    train = ["train", str(config), "--report"]
    done = click.testing.CliRunner().invoke(cli, train)
    assert done.exit_code == 0, done.output
    assert "writing the report" in done.output.split("open it in a browser: file://")[0]
    assert "open it in a browser: file://" in done.output
    assert "surprisal" in data_of((tmp_path / "run" / "report.html").read_bytes())


def test_a_signal_while_the_last_report_is_written_says_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line says that the run is finished and how its page is made; the page is that of before."""
    from conftest import tiny_config

    from rnnlm.interrupts import stop

    text, config = tmp_path / "text.txt", tmp_path / "config.yaml"
    text.write_text(TEXT, "utf-8")
    config.write_text(tiny_config(text, tmp_path / "run", "train.max_steps=1").to_yaml(), "utf-8")
    monkeypatch.setattr(stop, "at_first", stop.at_first)  # as it is now again afterwards
    monkeypatch.setattr("rnnlm.pictures.report.report", lambda *_: stop.at_first(signal.SIGTERM))
    done = click.testing.CliRunner().invoke(cli, ["train", str(config), "--report"])
    assert done.exit_code == 128 + signal.SIGTERM
    said = [line for line in capfd.readouterr().err.splitlines() if "rnnlm report" in line]
    assert said == [f"the run is finished; for its report: rnnlm report {tmp_path / 'run'}"]
    assert "surprisal" not in data_of((tmp_path / "run" / "report.html").read_bytes())
