"""Configs: every key is known, typed, bounded and documented, and errors say where."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import all_cells, cell_keys

from rnnlm.assembly import TABLES, make_config, whole_config
from rnnlm.cells import LSTM
from rnnlm.config import tree
from rnnlm.config.kinds import Chosen, Interval, Kind, Option, options
from rnnlm.config.parse import load_config, parse_config
from rnnlm.config.schema import SECTIONS, Config, TrainConfig, differences
from rnnlm.errors import ConfigError


def parse(text: str, *overrides: str) -> Config:
    return parse_config(text, "c.yaml", overrides, TABLES)


def message(text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, *overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_resolve_and_round_trip() -> None:
    """The resolved YAML reads back as an equal config, options of the optimizer filled in."""
    config = make_config()
    assert config.train.optimizer == {
        "name": "adam",
        "learning_rate": 0.002,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
    }
    assert parse(config.to_yaml()) == config


@pytest.mark.parametrize(
    "override",
    [
        *(" ".join(reversed(cell_keys(cell))) for cell in all_cells() if cell != LSTM()),
        "model.embedding_size=16",
        "train.seq_length=full",
        "train.optimizer=sgd",
        "train.optimizer={name: sgd, momentum: 0.9, nesterov: true}",
        "train.schedule.name=cosine train.schedule.warmup_steps=10",
        "train.grad_clip=null",
        "train.grad_clip={value: 1e-1}",
        "train.eval_every=500",
        "train.checkpoint_every=10 minutes",
        "train.sample_every=2 epochs",
        "data.path=text with = and : in its name.txt",
        "data.path=no",
    ],
)
def test_overrides_are_typed_and_round_trip(override: str) -> None:
    """Each --set takes effect, with the key's own type, and survives config.yaml."""
    parts = override.replace(" model.", "\nmodel.").replace(" train.s", "\ntrain.s").split("\n")
    config = make_config(None, *parts)
    assert config != make_config()
    assert parse(config.to_yaml()) == config


def test_numbers_need_no_dot() -> None:
    """2e-3, which YAML 1.1 takes for text, is a number here."""
    assert (
        parse("train: {optimizer: {learning_rate: 2e-3}}").train.optimizer["learning_rate"] == 0.002
    )


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("train:\n  learning_rat: 3", "c.yaml:2:3", "did you mean train.optimizer.learning_rate?"),
        ("model:\n  hidden: 3", "c.yaml:2:3", "model.hidden"),
        ("tran: {}", "c.yaml:1:1", "did you mean train?"),
        ("train:\n  epochs: many", "c.yaml:2:3", "an integer, not 'many'"),
        ("train:\n  epochs: 1.5", "c.yaml:2:3", "an integer"),
        ("train:\n  seed: '3'", "c.yaml:2:3", "not quoted text"),
        ("train:\n  epochs:", "c.yaml:2:3", "an integer"),
        ("model: {cell: lsmt}", "c.yaml:1:9", "did you mean lstm?"),
        ("model:\n  hidden_size: -5", "c.yaml:2:3", "at least 1"),
        ("model:\n  dropout: 1", "c.yaml:2:3", "below 1"),
        ("model:\n  dropout: nan", "c.yaml:2:3", "a number"),
        ("model: {cell: [a]}", "c.yaml:1:15", "a list"),
        ("model: {cell: {a: b}}", "c.yaml:1:16", "not an option of lstm"),
        ("train: {optimizer: {name: {a: b}}}", "c.yaml:1:21", "must be a word"),
        ("model: {hidden_size: {a: b}}", "c.yaml:1:9", "not a mapping"),
        ("model: {kind: lstm}", "c.yaml:1:9", "one of recurrent"),
        ("model: {cell: {name: gru, reset_aftr: 1}}", "c.yaml:1:27", "model.cell.reset_after?"),
        ("train: {optimizer: {name: sgd, beta1: 0.3}}", "c.yaml:1:32", "not an option of sgd"),
        (
            "train: {optimizer: {name: sgd, momentun: 0.3}}",
            "c.yaml:1:32",
            "train.optimizer.momentum?",
        ),
        ("train: {grad_clip: {norm: 1, value: 1}}", "c.yaml:1:9", "one of norm and value"),
        ("train: {grad_clip: {nrm: 1}}", "c.yaml:1:21", "train.grad_clip.norm?"),
        ("train: {eval_every: 10 minutes}", "c.yaml:1:9", "an interval"),
        ("train: {eval_every: 0}", "c.yaml:1:9", "an interval"),
        ("train: 3", "c.yaml:1:1", "must be a mapping"),
        ("train: {seq_length: {0:32}}", "c.yaml:1:22", "no space after the colon: write 0: 32"),
        ("train:\n  epochs:3", "c.yaml:1:1", "a space belongs after each colon"),
        ("- a\n- b", "c.yaml:1:1", "a list"),
        ("just words", "c.yaml:1:1", "a mapping with sections"),
        ("train:\n  epochs: 1\n  epochs: 2", "c.yaml:3:3", "is given twice"),
        ("train: {", "c.yaml:1:9", "bad YAML"),
        ("a: &a [*a]", "c.yaml:1:4", "anchors and aliases"),
        ("train: &t {optimizer: *t}", "c.yaml:1:8", "anchors and aliases"),
        ("data: {path: *.txt}", "c.yaml:1:15", "bad YAML"),
        ("data: {path: *txt}", "c.yaml:1:14", "or quote it"),
        ('data: {path: "\\UFFFFFFFF"}', "c.yaml:1:17", "does not exist"),
        ('data: {path: "a\\U00110000"}', "c.yaml:1:18", "does not exist"),
        ("%YAML 1." + "9" * 5000, "c.yaml:1:9", "does not exist"),
        ("%YAML " + "9" * 5000 + ".1", "c.yaml:1:7", "does not exist"),
        ('data: {path: "\\ud800"}', "c.yaml:1:8", "must be text or null"),
        ('data: {path: "a\\0b"}', "c.yaml:1:8", "must be text or null"),
        ('data: {path: ""}', "c.yaml:1:8", "must be text or null"),
        ("data: {encoding: }", "c.yaml:1:8", "must be text, not ''"),
        ("data.path: x", "c.yaml:1:1", "write data.path as data: {path: ...}"),
        (
            "train: {optimizer.learning_rate: 1}",
            "c.yaml:1:9",
            "write train.optimizer.learning_rate as train: {optimizer: {learning_rate: ...}}",
        ),
        ("train: {average: {decay: 0.5}}", "c.yaml:1:19", "it takes no options"),
        ("train: {average: {name: none, x: 0.5}}", "c.yaml:1:31", "it takes no options"),
        ("k" * 60_000, "c.yaml:1:1", "a mapping with sections"),
        (f"? {'k' * 60_000}\n: 1", "c.yaml:1:3", "unknown key kkk"),
        ("train: \x07", "c.yaml:1:8", "bad YAML"),
        ("? [1]\n: 2", "c.yaml:1:3", "a key must be a word"),
        ("x: 1\n---\ny: 2", "c.yaml:2:1", "bad YAML"),
        ("[" * 5000, "c.yaml:1:1", "a list"),
        ("a: " + "{a: " * 5000, "c.yaml:1:36", "nested too deeply"),
        ("data: {val_fraction: 0.6, test_fraction: 0.4}", "", "leave no text"),
        ("train: {epochs: 99999999999999999999}", "c.yaml:1:9", "at most"),
        ("train: {optimizer: {beta1: 1}}", "c.yaml:1:21", "beta1 must be below 1"),
        ("train: {optimizer: {beta2: 1.0}}", "c.yaml:1:21", "beta2 must be below 1"),
        ("train: {optimizer: {epsilon: 0}}", "c.yaml:1:21", "epsilon must be at least 1e-30"),
        ("train: {optimizer: {epsilon: 1e-50}}", "c.yaml:1:21", "at least 1e-30"),
        ("train: {optimizer: {learning_rate: -1}}", "c.yaml:1:21", "at least 0"),
        ("train: {schedule: {name: cosine, warmup_steps: 1.5}}", "c.yaml:1:34", "an integer"),
    ],
)
def test_mistakes_are_named_with_their_line_and_the_nearest_key(
    text: str, where: str, words: str
) -> None:
    """One line: where it stands, what is wrong, what would be right."""
    said = message(text)
    assert said.startswith(where), said
    assert words in said


@pytest.mark.parametrize(
    "override",
    [
        "train.epochs",
        "epochs=3",
        "train.epocs=3",
        "train.epochs=x",
        "=",
        "train=3",
        "train.epochs = 3",
    ],
)
def test_a_bad_override_is_quoted_in_its_error(override: str) -> None:
    """An error says which one."""
    assert f'"{override}"' in message("", override)


@pytest.mark.parametrize(
    ("key", "cell"),
    [
        (key, cell)
        for other in all_cells()
        for key in cell_keys(other)[1:]
        for cell, make in TABLES["cell"].items()
        if key.rsplit(".")[-1].split("=")[0] not in options(make)
    ],
)
def test_an_option_of_another_cell_is_refused(key: str, cell: str) -> None:
    """No key is silently without effect, not even with its default value."""
    assert f"is not an option of {cell}" in message("", f"model.cell={cell}", key)


def test_anchors_that_blow_up_cost_nothing() -> None:
    """A billion laughs, and known keys below each other, are refused at the first anchor."""
    keys = [", ".join(f"k{i}: {value}" for i in range(400)) for value in ("1", "*a", "*b")]
    began = time.process_time()
    assert "c.yaml:1:4: anchors" in message(
        "a: &a {{{}}}\nb: &b {{{}}}\ntrain: {{{}}}".format(*keys)
    )
    assert time.process_time() - began < 1
    lines = ["a0: &a0 [x, x]"] + [
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)
    ]
    assert "anchors" in message("\n".join(lines))


def test_a_python_tag_runs_nothing(tmp_path: Path) -> None:
    """Tags are not constructed."""
    target = tmp_path / "made"
    message(f"data: !!python/object/apply:os.mkdir ['{target}']")
    assert not target.exists()


def test_unreadable_files_are_one_line(tmp_path: Path) -> None:
    """Missing, binary and huge files each say what they are."""
    (tmp_path / "latin.yaml").write_bytes(b"train:\n  \xe9: 1\n")
    (tmp_path / "huge.yaml").write_bytes(b"#" * 2_000_000)
    for name, words in (
        ("none.yaml", "cannot read"),
        ("latin.yaml", ":2:3: not UTF-8"),
        ("huge.yaml", "not a config"),
        (".", "cannot read"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_config(tmp_path / name, (), TABLES)


VALUES = {
    "train.epochs": [
        "1_0",
        "٣",
        " 3",
        "3 ",
        "010",
        "0x10",
        "3.",
        "1e1",
        "+ 3",
        "--3",
        "3\u00a0",
        "½",
    ],
    "data.val_fraction": [
        "0_1.5",
        "٠",
        " 0",
        "infinity",
        "00.5",
        "010e-3",
        "inf",
        "nan",
        "0x1p-3",
        ".",
        "1e",
        "1e400",
    ],
    "train.checkpoint_every": [
        *("10 s", "1 epochsss", "1 e", "10s", " 10", "10 ", "1\tepoch", "1_0 steps", "nan epochs"),
        *(
            "infinity minutes",
            "٣ epochs",
            "1.5",
            "1.5 steps",
            "-1 epoch",
            "0 minutes",
            "1 Epoch",
            "ss",
        ),
    ],
    "model.cell": [" gru", "gru ", "GRU", ""],
    "model.reset_after": ["yes", "on", "1", " true", "tRuE", "ｔrue"],
}


@pytest.mark.parametrize(
    ("key", "value"), [(k, value) for k, some in VALUES.items() for value in some]
)
def test_a_value_is_read_in_one_way_or_refused(key: str, value: str) -> None:
    """Not what int, float and lower() make of it besides, and no misspelt unit."""
    assert f'"{key}=' in message("", f"{key}={value}")


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.epochs=+3", 3),
        ("data.val_fraction=.5", 0.5),
        ("data.val_fraction=5.E-1", 0.5),
        ("train.optimizer.nesterov=TRUE", True),
        ("train.checkpoint_every=10  minutes", Interval(10, "minutes")),
        ("train.checkpoint_every=3 steps", 3),
        ("train.checkpoint_every=1 epochs", Interval(1, "epochs")),
        ("data.path= my file ", " my file "),
        ("data.path={a}.txt", "{a}.txt"),
        ("data.path=&a", "&a"),
        ("data.path='~'", "'~'"),
        ("data.path=~", None),
    ],
)
def test_what_is_meant_is_taken_as_it_stands(override: str, value: object) -> None:
    """Signs, points and exponents of numbers; every character of a name, spaces at its ends too."""
    found: Any = make_config(None, "train.optimizer=sgd", override).to_dict()
    for part in override.partition("=")[0].split("."):
        found = found[part]
    assert found == (str(value) if isinstance(value, Interval) and value.unit != "steps" else value)


@settings(max_examples=30)
@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
    | st.sampled_from(["a\x85b ", "~", "null", "\udcff", "*a", "a\n", "{a}", "k " * 200])
)
def test_any_name_survives_being_written(name: str) -> None:
    """Line ends, quotes, marks, what YAML takes for null: config.yaml names the same file."""
    config = make_config().with_values("data", path=name).with_values("run", dir=name)
    assert parse(config.to_yaml()) == config


@settings(max_examples=30)  # `make fuzz` has many more
@given(st.text(max_size=60))
def test_no_text_makes_anything_but_a_config_or_a_config_error(text: str) -> None:
    """Whatever stands in the file."""
    try:
        parse(text)
    except ConfigError as error:
        assert str(error)


@pytest.mark.skipif(not hasattr(yaml, "CSafeLoader"), reason="PyYAML is here without libyaml")
@settings(max_examples=60)
@given(st.text("ab1 :-./+\n", max_size=16).map("a:".__add__))
def test_the_quick_parser_makes_what_the_slow_one_makes(text: str) -> None:
    """Trees with their places, or the same error, of texts that both may read."""
    assert tree.PLAIN.fullmatch(text)
    made: list[Any] = []
    for quick in (yaml.CSafeLoader, yaml.SafeLoader):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tree, "_Quick", quick)
            try:
                made.append(tree.from_yaml(text, "c.yaml"))
            except ConfigError as error:
                made.append(str(error))
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("text", "steps"), [("500", 500), ("1 epoch", 40), ("0.5 epochs", 20), ("3 epochs", 120)]
)
def test_intervals_are_steps_or_epochs(text: str, steps: int) -> None:
    """An epoch is as many steps as it has windows."""
    assert parse(f"train: {{eval_every: {text}}}").train.eval_every.steps(40) == steps


def test_minutes_are_no_number_of_steps() -> None:
    """A time interval is left to the clock."""
    assert Interval(10, "minutes").steps(40) is None


def test_differences_name_dotted_keys() -> None:
    """What resume compares."""
    changed = make_config(None, "train.epochs=3", "model.hidden_size=7")
    assert {key for key, _, _ in differences(make_config(), changed)} == {
        "train.epochs",
        "model.hidden_size",
    }


def test_values_by_section_are_read_as_overrides_are() -> None:
    """Mappings, numbers, flags, None and text; wrong ones are named by their key."""
    config = make_config(
        None,
        "train.epochs=3",
        model={"cell": {"name": "gru", "reset_after": True}, "hidden_size": 7},
        train={
            "optimizer": "sgd",
            "seq_length": "full",
            "patience": None,
            "eval_every": "2 epochs",
        },
        data={"path": Path("a") / "null", "val_fraction": 0.25},
    )
    assert config == make_config(
        None,
        *("train.epochs=3", "model.cell.name=gru", "model.cell.reset_after=true"),
        *("model.hidden_size=7", "train.optimizer=sgd", "train.seq_length=full"),
        *("train.eval_every=2 epochs", "data.path=a/null", "data.val_fraction=0.25"),
    )
    assert "model.cell.reset_after" in config.given
    for section, values, words in (
        ("train", {"epochs": "many"}, "train.epochs: train.epochs must be an integer"),
        ("train", {"epoch": 3}, "did you mean train.epochs?"),
        ("trian", {"epochs": 3}, "did you mean train?"),
        ("train", 3, "a section is a mapping"),
        ("data", {"path": ["a"]}, "must be text"),
        ("foo", {}, "unknown key foo"),
        ("train", {"seed": 10**5000}, "train.seed: must be text, a number"),
    ):
        with pytest.raises(ConfigError, match=re.escape(words)):
            make_config(None, **{section: values})


def test_a_config_is_whole_however_it_is_made() -> None:
    """Sections made by hand get the options of what they choose, and what was set counts as given."""
    made = Config(train=TrainConfig(epochs=3, optimizer={"name": "sgd", "momentum": 0.5}))
    whole = whole_config(made)
    assert whole == make_config(
        None, "train.epochs=3", "train.optimizer={name: sgd, momentum: 0.5}"
    )
    assert {"train.epochs", "train.optimizer.momentum"} <= whole.given
    assert whole_config(Config()) == make_config()
    with pytest.raises(ConfigError, match="epochs must be an integer"):
        whole_config(Config(train=TrainConfig(epochs="x")))  # type: ignore[arg-type]


def test_keys_of_version_0_1_0_are_read() -> None:
    """Options of cells stood beside the cell; null meant none."""
    old = "model:\n  cell: {}\n  activation: {}\n  reset_after: {}\n"
    assert parse(old.format("rnn", "relu", "null")).model["cell"] == {
        "name": "rnn",
        "activation": "relu",
    }
    assert parse(old.format("gru", "null", "true")).model["cell"]["reset_after"] is True
    assert parse(old.format("lstm", "null", "null")).model["cell"] == {"name": "lstm"}


REFERENCE = (ROOT / "rnnlm" / "cli" / "README.md").read_text(encoding="utf-8")


def shown(default: object, kind: Kind) -> str:
    """A default as the reference shows it."""
    plain = kind.default if isinstance(kind, Chosen) else kind.plain(default)
    if isinstance(plain, dict):
        return "{" + ", ".join(f"{k}: {v}" for k, v in plain.items()) + "}"
    if plain is None or isinstance(plain, bool):
        return {True: "true", False: "false", None: "null"}[plain]
    return f"{plain}"


def test_every_key_is_in_the_reference_with_its_default() -> None:
    """The config reference lists each key, its default and its meaning as the code has them.

    Where a key of one kind of model has another default in a later kind, the table of options has it.
    """
    owners = [(s, owner) for s, owner in SECTIONS.items() if not isinstance(owner, Chosen)]
    first: dict[str, Option] = {}
    for kind, make in TABLES["model"].items():
        keys = {name: (first.setdefault(name, key), key) for name, key in options(make).items()}
        own = [f"`{n}: {b.default}`" for n, (a, b) in keys.items() if a.default != b.default]
        assert not own or f"others | `{kind}` | {', '.join(own)} |" in REFERENCE, own
        owners.append(("model", make))
    for section, owner in owners:
        for name, key in options(owner).items():
            if section == "model" and first[name].default != key.default:
                continue
            row = f"| `{section}.{name}` | `{shown(key.default, key.kind)}` | {key.doc} |"
            assert row in REFERENCE, row
    assert "| `model.kind` | `recurrent` |" in REFERENCE


def test_every_option_is_in_the_reference_with_its_default() -> None:
    """The options of each cell, optimizer and schedule, as the registered functions have them."""
    for table in ("cell", "optimizer", "schedule", "truncation", "average"):
        for name, make in TABLES[table].items():
            taken = [f"`{n}: {shown(o.default, o.kind)}`" for n, o in options(make).items()]
            row = f"| {table} | `{name}` | {', '.join(taken) or 'none'} |"
            assert row in REFERENCE, row
