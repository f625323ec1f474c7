"""Every checkpoint says what computed it; two runs are compared by one hash."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TEXT, tiny_config

import rnnlm
from rnnlm.api import facts as told
from rnnlm.errors import CheckpointError
from rnnlm.runs import provenance
from rnnlm.runs.checkpoint import Checkpoint

QUICK = ("train.epochs=1", "train.threads=1")
NAMES = {"rnnlm", "numpy", "python", "blas", "platform", "cores", "time"}


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """A text of 2,000 characters."""
    path = tmp_path / "text.txt"
    path.write_text(TEXT[:2000], encoding="utf-8")
    return path


def test_a_run_records_what_computed_it(text_file: Path, tmp_path: Path) -> None:
    """Each checkpoint, of a model that counts too; `describe` shows it, and JSON can hold the facts."""
    keys = [f"data.path={text_file}", f"run.dir={tmp_path / 'counted'}"]
    counted = rnnlm.train(rnnlm.make_config(None, *keys, "model.kind=ngram", "model.order=3"))
    result = rnnlm.train(tiny_config(text_file, tmp_path / "trained", *QUICK))
    for path in (counted.last, result.last, result.best):
        assert path is not None
        at = Checkpoint.load(path)
        (entries,) = at.environments
        assert set(entries) - {"kernel"} == NAMES
        assert entries["rnnlm"] == rnnlm.__version__
        assert entries["numpy"] == np.__version__
        assert entries["python"].endswith(platform.python_version())
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", entries["time"])
        assert f"numpy {np.__version__}" in "\n".join(told.describe(at))
        facts = json.loads(json.dumps(told.facts(at), allow_nan=False))
        assert facts["environments"] == [dict(entries)]
        assert facts["params_sha256"] in "\n".join(told.describe(at))


def test_a_run_that_goes_on_elsewhere_tells_of_both(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same environment only the time is new; the parameters are those of a whole run."""
    rnnlm.train(tiny_config(text_file, tmp_path / "a", *QUICK))
    monkeypatch.setattr(provenance, "_machine", lambda: {"rnnlm": "9", "blas": "another"})
    rnnlm.resume(tmp_path / "a", "train.epochs=2")
    rnnlm.resume(tmp_path / "a", *QUICK, "train.epochs=3")
    last = Checkpoint.load(tmp_path / "a" / "last.npz")
    assert [entries["rnnlm"] for entries in last.environments] == [rnnlm.__version__, "9"]
    rnnlm.train(tiny_config(text_file, tmp_path / "b", *QUICK, "train.epochs=3"))
    assert last.params_sha256 == Checkpoint.load(tmp_path / "b" / "last.npz").params_sha256


def test_the_hash_is_of_the_parameters_alone(text_file: Path, tmp_path: Path) -> None:
    """As its recipe says, in plain NumPy; one bit changes it."""
    rnnlm.train(tiny_config(text_file, tmp_path / "a", *QUICK))
    at = Checkpoint.load(tmp_path / "a" / "last.npz")
    digest = hashlib.sha256()
    with np.load(at.path or "") as file:
        for name in sorted(set(file.files) & set(at.params)):
            array = file[name]
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(array.tobytes())
    assert at.params_sha256 == digest.hexdigest()
    assert replace(at, counts=at.counts + 1).params_sha256 == digest.hexdigest()
    at.params.flat[0] = np.nextafter(at.params.flat[0], np.float32(9))
    assert at.params_sha256 != digest.hexdigest()


def test_older_checkpoints_tell_nothing_and_load(tmp_path: Path) -> None:
    """Those of 0.1.0; a record that cannot be one is refused."""
    at = Checkpoint.load(ROOT / "tests" / "fixtures" / "run-0.1.0-gru" / "last.npz")
    assert at.environments == ()
    assert "computed by" not in "\n".join(told.describe(at))
    for bad in ([{"numpy": 2}], [{"numpy": "2" * 101}], [{}] * 101, ["numpy"]):
        with pytest.raises((CheckpointError), match="environments"):
            replace(at, environments=bad).save(tmp_path / "c.npz")
    assert not (tmp_path / "c.npz").exists()


def test_the_environments_are_bounded() -> None:
    """However often a run goes on elsewhere."""
    many = [{"rnnlm": str(n), "time": "then"} for n in range(provenance.MOST)]
    kept = provenance.recorded(many)
    assert len(kept) == provenance.MOST
    assert kept[0] == many[1]
