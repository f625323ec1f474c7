"""The command line: every command, in process and once as a real one; errors in one line."""

from __future__ import annotations

import gzip
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import SETS, rnnlm
from conftest import TEXT, environment

from rnnlm import __version__, load, make_config
from rnnlm.cli.arguments import argument
from rnnlm.cli.main import COMMANDS
from rnnlm.wording import counted, quoted


def process(*args: object, **kwargs: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "rnnlm", *map(str, args)]
    return subprocess.run(command, env=environment(), capture_output=True, timeout=60, **kwargs)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT)
    rnnlm("train", *SETS, "--set", f"data.path={folder / 'text.txt'}", "--run-dir", folder / "run")
    return folder / "run"


def test_the_chain_of_commands_in_processes_of_their_own(tmp_path: Path) -> None:
    """prepare, train, sample, eval, info, as a user types them."""
    (tmp_path / "text.txt").write_text(TEXT)
    run = {"cwd": tmp_path}
    prepared = process("prepare", "text.txt", "--out", "data", **run)
    assert b"10," in prepared.stdout
    trained = process("train", *SETS, "--set", "data.path=data", **run)
    assert trained.returncode == 0, trained.stderr
    assert b"test, checkpoint of step" in trained.stdout
    assert trained.stdout.endswith(b"\n      rnnlm eval " + trained.stdout.split()[-1] + b"\n")
    assert b"characters/s" in trained.stderr
    assert b"\r" not in trained.stderr  # no bar where there is no terminal
    sampled = process("sample", "--prime", "The ", "--length", "50", **run)
    assert sampled.stdout.startswith(b"The ")
    assert len(sampled.stdout.decode().rstrip("\n")) <= 54
    evaluated = process("eval", "--json", **run)
    assert json.loads(evaluated.stdout)["symbols"] > 100
    assert b"parameters" in process("info", **run).stdout
    process("prepare", "text.txt", "--out", "whole", "--test-fraction", "0", **run)
    trained = process("train", *SETS, "--set", "data.path=whole", **run)
    assert trained.stdout.endswith(
        b" --text FILE\n"
    )  # there is no split that `eval` can take by itself


def test_version_and_help() -> None:
    """Every command has its line in the group's help, whole, and an example at the end of its own."""
    assert __version__ in rnnlm("--version").output
    listed = rnnlm("--help").output.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in listed] == list(COMMANDS)
    assert all(line.endswith(".") and "..." not in line for line in listed)
    for name in COMMANDS:
        last = rnnlm(name, "--help").output.rstrip().split("\n\n")[-1]
        assert last.split()[:3] == ["Example:", "rnnlm", name]


LOADED = """
import os, sys
from rnnlm.cli.main import COMMANDS, main

commands = {f"rnnlm.cli.{name}" for name in COMMANDS}
for words in ([], *([name] for name in COMMANDS)):
    if os.fork() == 0:
        sys.argv = ["rnnlm", *words, "--help"]
        try:
            main()
        except SystemExit:
            pass
        loaded = {"numpy", "yaml", "tqdm", *commands} & set(sys.modules)
        print(*words, *loaded, file=sys.stderr, sep=",")
        sys.stdout.flush()
        os._exit(0)
    os.wait()
"""


def test_help_loads_no_more_than_it_shows() -> None:
    """No YAML, of the commands only the one that is asked about, and NumPy only for `sample`, whose
    options are those of the filters.
    """
    done = subprocess.run(
        [sys.executable, "-c", LOADED], env=environment(), capture_output=True, check=True
    )
    said = [line.split(",") for line in done.stderr.decode().splitlines()]
    assert said[0] == [""]
    assert [name for name, *_ in said[1:]] == list(COMMANDS)
    for name, *loaded in said[1:]:
        assert set(loaded) - ({"numpy"} if name == "sample" else set()) == {f"rnnlm.cli.{name}"}


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("rnnlm tr", "train"), ("rnnlm train --dry", "--dry-run"), ("rnnlm nothing --res", "")],
)
def test_shell_completion_answers(typed: str, offered: str) -> None:
    """With commands, and with the options of a command."""
    number = str(len(typed.split()) - 1)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv=['rnnlm']; import rnnlm.cli.main; rnnlm.cli.main.main()",
        ],
        env=environment(_RNNLM_COMPLETE="bash_complete", COMP_WORDS=typed, COMP_CWORD=number),
        capture_output=True,
        check=False,
    )
    assert done.stdout.decode().split() == ([f"plain,{offered}"] if offered else [])
    assert not done.stderr


def test_prepare_reports_and_refuses(tmp_path: Path) -> None:
    """The summary; an existing folder is not overwritten; standard input and archives are read."""
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\r\n" * 50)
    with gzip.open(tmp_path / "b.txt.gz", "wb") as file:
        file.write("drei ß\n".encode() * 50)
    out = tmp_path / "data"
    said = rnnlm("prepare", tmp_path / "a.txt", tmp_path / "b.txt.gz", "--out", out).output
    assert "750 characters" in said
    assert "entropy" in said
    assert "100 line ends" in said
    before = (out / "corpus.json").read_bytes()
    rnnlm("prepare", tmp_path / "a.txt", "--out", out, code=1)
    assert (out / "corpus.json").read_bytes() == before
    rnnlm("prepare", "-", "--out", out, "--force", stdin=b"from a pipe " * 30)
    assert (out / "corpus.json").read_bytes() != before


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"", (), "no text"),
        (b"caf\xe9", (), "byte 3"),
        (b"abc", ("--encoding", "nonsense"), "nonsense"),
        (b"abc", ("--level", "byte", "--encoding", "utf-8"), "byte"),
        (b"abcabc", ("--val-fraction", "0.7", "--test-fraction", "0.3"), "training text"),
        (b"abcabc", ("--val-fraction", "-0.1"), "0 or more"),
        (None, (), "cannot read"),
    ],
)
def test_what_cannot_be_prepared_is_one_line(
    tmp_path: Path, content: bytes | None, options: tuple[str, ...], words: str
) -> None:
    """Exit code 1, what is wrong, nothing left behind."""
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    result = rnnlm("prepare", tmp_path / "a.txt", "--out", tmp_path / "out", *options, code=1)
    assert words in result.stderr
    assert not (tmp_path / "out").exists()


def test_prepare_reuses_a_vocabulary(tmp_path: Path, trained: Path) -> None:
    """Of a run; a character it lacks is named."""
    (tmp_path / "a.txt").write_text(TEXT[:2000])
    rnnlm("prepare", tmp_path / "a.txt", "--out", tmp_path / "out", "--vocab", trained)
    (tmp_path / "b.txt").write_text(TEXT[:2000] + "Ω")
    said = rnnlm(
        "prepare", tmp_path / "b.txt", "--out", tmp_path / "b", "--vocab", tmp_path / "out", code=1
    )
    assert "Ω" in said.stderr


def test_dry_run_shows_and_leaves_nothing(in_tmp: Path) -> None:
    """The resolved config, parameter count, memory and steps."""
    Path("text.txt").write_text(TEXT)
    said = rnnlm("train", "--dry-run", *SETS, "--set", "data.path=text.txt").output
    for words in ("hidden_size: 12", "parameters", "memory: about", "windows", "beta2: 0.999"):
        assert words in said
    assert [p.name for p in in_tmp.iterdir()] == ["text.txt"]


def test_training_says_what_it_did_and_what_to_type_next(trained: Path, tmp_path: Path) -> None:
    """And a finished run that is resumed ends at once with the same words."""
    said = rnnlm("train", "--resume", trained).output
    assert "test, checkpoint of step" in said
    assert f"rnnlm sample {trained}" in said


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--set", "train.epocs=3"), "train.epochs"),
        (("no-such.yaml",), "cannot read the config"),
        ((), "data.path is not set"),
        (("--set", "data.path=missing.txt"), "missing.txt"),
        (("--resume", "nowhere"), "not a run folder"),
        (("--init-from", "nowhere.npz"), "no such file"),
        (("--set", "data.path=text.txt", "--set", "train.batch_size=9999"), "batch_size at most"),
    ],
)
def test_training_that_cannot_start_is_one_line(
    in_tmp: Path, args: tuple[str, ...], words: str
) -> None:
    """Exit code 1, and no run folder is left."""
    Path("text.txt").write_text(TEXT)
    assert words in rnnlm("train", *args, code=1).stderr
    assert not list(Path("runs").glob("*"))


def test_a_run_folder_deeper_than_the_system_can_name_is_one_line(in_tmp: Path) -> None:
    """In every command that takes a run; nothing is made of it."""
    Path("text.txt").write_text(TEXT)
    keys = [*SETS, "--set", "data.path=text.txt"]
    run = "d/" * 2100 + "run"
    rnnlm("train", *keys, "--run-dir", run, code=1)
    rnnlm("train", "--resume", run, code=1)
    rnnlm("train", *keys, "--dry-run", "--init-from", run, code=1)
    rnnlm("sample", run, "--length", 3, code=1)
    rnnlm("eval", run, code=1)
    rnnlm("info", run, code=1)
    rnnlm("prepare", "text.txt", "--out", "o", "--vocab", run, code=1)
    assert [path.name for path in in_tmp.iterdir()] == ["text.txt"]


def test_usage_errors_are_2(trained: Path) -> None:
    """Click's own messages and exit code."""
    rnnlm("sample", trained, "--temperature", "-1", code=2)
    rnnlm("sample", trained, "--top-k", "0", code=2)
    rnnlm("sample", trained, "--prime", "a", "--prime-file", "-", code=2)
    rnnlm("train", "--resume", trained, "--dry-run", code=2)
    rnnlm("eval", trained, "--text", "-", "--split", "val", code=2)
    rnnlm("prepare", code=2)


@pytest.mark.parametrize("name", ["null", "~", " a b ", "{x: y}", "*a", "n\x85l\n", "é"])
def test_a_run_folder_has_the_name_that_was_typed(name: str, in_tmp: Path) -> None:
    """An option's value is not YAML; the run goes on under that name, and its config says the same."""
    Path("text.txt").write_text(TEXT[:4000])
    data = ("--set", "data.path=text.txt", "--set", "train.max_steps=2")
    rnnlm("train", *SETS, *data, "--run-dir", name)
    assert {path.name for path in in_tmp.iterdir()} == {"text.txt", name}
    assert make_config(Path(name) / "config.yaml").run.dir == name
    assert load(name).config.run.dir == name
    rnnlm("train", "--resume", name, "--set", "train.log_every=7")


@pytest.mark.parametrize("name", [" text ", "{a}.txt", "'~'", "&a"])
def test_a_text_has_the_name_that_was_set(name: str, in_tmp: Path) -> None:
    """What --set gives to data.path is taken to the last character."""
    Path(name).write_text(TEXT)
    assert "windows" in rnnlm("train", "--dry-run", *SETS, "--set", f"data.path={name}").output


def test_an_empty_name_is_not_the_current_folder(in_tmp: Path) -> None:
    """In no place for a path."""
    Path("text.txt").write_text(TEXT)
    for args in (
        ("train", ""),
        ("train", "--run-dir", ""),
        ("train", "--resume", ""),
        ("train", "--init-from", ""),
        ("prepare", "text.txt", "--out", ""),
        ("prepare", "text.txt", "--out", "out", "--vocab", ""),
        ("info", ""),
        ("sample", ""),
        ("sample", "--output", ""),
        ("eval", "--data", ""),
    ):
        assert "empty" in rnnlm(*args, code=2).stderr
    rnnlm("prepare", "", "--out", "out", code=1)
    rnnlm(
        "train", "--set", "data.path=text.txt", "--set", 'run.dir=""', "--set", "data.path=", code=1
    )
    assert [path.name for path in in_tmp.iterdir()] == ["text.txt"]


def test_numbers_of_any_size_are_taken_or_refused_in_one_line(trained: Path) -> None:
    """Beyond what a computer counts to; what cannot be held is refused before memory is taken."""
    for option, words in (("--length", "1,000,000,000,000"), ("--num-samples", "65,536")):
        for value in (1 << 63, 10**30):
            assert words in rnnlm("sample", trained, option, value, code=1).stderr
    for option in ("--top-k", "--seed"):
        sample(trained, "--length", 5, option, 1 << 63)
    rnnlm("sample", trained, "--length", "9" * 5000, code=2)


def sample(trained: Path, *args: object, **kwargs: Any) -> str:
    return rnnlm("sample", trained, *args, **kwargs).stdout


def test_samples_repeat_and_do_not_depend_on_their_number(trained: Path) -> None:
    """The same seed, the same text; sample i is the same among two and among five."""
    options = ("--prime", "Mara ", "--length", 80)
    two = sample(trained, *options, "--num-samples", 2)
    assert sample(trained, *options, "--num-samples", 5).startswith(two)
    one = sample(trained, *options)
    assert two.startswith(f"=== sample 1 ===\n{one.rstrip(chr(10))}")
    assert one != sample(trained, *options, "--seed", 1)


def test_sample_options_do_what_they_say(trained: Path, tmp_path: Path) -> None:
    """Length, prime, greedy, k of 1, stop, output."""
    greedy = sample(trained, "--prime", "Mara ", "--length", 60, "--temperature", 0)
    assert greedy == sample(trained, "--prime", "Mara ", "--length", 60, "--top-k", 1, "--seed", 9)
    assert greedy == sample(trained, "--prime", "Mara ", "--length", 60, "--top-p", 1e-9)
    bare = sample(trained, "--prime", "Mara ", "--length", 60, "--temperature", 0, "--no-prime")
    assert "Mara " + bare == greedy
    stop = bare[20:23]
    stopped = sample(
        trained,
        "--prime",
        "Mara ",
        "--length",
        60,
        "--temperature",
        0,
        "--no-prime",
        "--stop",
        stop,
    )
    assert stopped.rstrip("\n") == bare[: bare.index(stop)].rstrip("\n")
    assert len(sample(trained, "--length", 33, "--seed", 3).removesuffix("\n")) in (32, 33)
    rnnlm("sample", trained, "--length", 20, "--output", tmp_path / "out.txt")
    assert len((tmp_path / "out.txt").read_text().removesuffix("\n")) in (19, 20)
    rnnlm("sample", trained, "--output", tmp_path / "out.txt", code=1)


def test_primes_come_from_files_and_go_through_the_text_rules(
    trained: Path, tmp_path: Path
) -> None:
    """A CRLF is one line end; `-` is standard input."""
    (tmp_path / "prime.txt").write_bytes(b"Mara\r\n")
    options = ("--length", 40)
    expected = sample(trained, "--prime", "Mara\n", *options)
    assert sample(trained, "--prime-file", tmp_path / "prime.txt", *options) == expected
    assert sample(trained, "--prime-file", "-", *options, stdin=b"Mara\r\n") == expected


def test_unknown_characters_are_named_or_skipped(trained: Path) -> None:
    """In a prime and in a text to score."""
    said = rnnlm("sample", trained, "--prime", "Mära", code=1).stderr
    assert "'ä'" in said
    assert "--unknown skip" in said
    skipped = sample(trained, "--prime", "Mära", "--unknown", "skip", "--length", 10)
    assert skipped.startswith("Mra")
    said = rnnlm("eval", trained, "--text", "-", stdin="Öl, Öl".encode(), code=1).stderr
    assert "'Ö'" in said
    assert "×2, first at 0" in said
    rnnlm("eval", trained, "--text", "-", "--unknown", "skip", stdin="a Öl".encode())


def test_eval_json_is_one_object_and_nothing_else(trained: Path) -> None:
    """The figures agree with each other, for a split, a text and a folder of data."""
    for args in (("--split", "val"), (), ("--data", trained / "data"), ("--split", "train")):
        figures = json.loads(rnnlm("eval", trained, *args, "--json").stdout)
        assert [*figures][-4:] == [
            *("nats_per_character", "nats_per_symbol", "bits_per_symbol", "perplexity")
        ]
        assert figures["characters"] == figures["symbols"]
        assert figures["nats_per_character"] == figures["nats_per_symbol"]
        assert figures["unknown"] == 0
        assert figures["perplexity"] == pytest.approx(math.exp(figures["nats_per_symbol"]))
        assert figures["bits_per_symbol"] == pytest.approx(figures["nats_per_symbol"] / math.log(2))
    said = rnnlm("eval", trained).output
    assert "perplexity: " in said


def test_eval_of_a_text_is_eval_of_the_same_split(trained: Path) -> None:
    """--text on the test split's text gives the figure of --split test, to the bit."""
    from rnnlm.text.corpus import Corpus

    corpus = Corpus.open(trained / "data")
    text = corpus.vocabulary.text(corpus["test"]).encode()
    by_text = json.loads(rnnlm("eval", trained, "--text", "-", "--json", stdin=text).stdout)
    by_split = json.loads(rnnlm("eval", trained, "--json").stdout)
    assert (by_text.pop("text"), by_split.pop("split")) == ("-", "test")
    assert by_text == by_split


def test_eval_refuses_data_that_changed(trained: Path, tmp_path: Path) -> None:
    """The run's data is checked by its hash; too short a text is an error."""
    (tmp_path / "a.txt").write_text("abc" * 100)
    rnnlm("eval", trained, "--text", "-", stdin=b"M", code=1)
    rnnlm("eval", trained, "--data", tmp_path, code=1)


def test_info_shows_config_sizes_and_losses(trained: Path) -> None:
    """What is inside."""
    said = rnnlm("info", trained).output
    for words in ("LSTM, 1 x 12", "vocabulary: ", "step ", "best loss", "hidden_size: 12"):
        assert words in said


def test_byte_level_from_end_to_end(tmp_path: Path) -> None:
    """What is sampled is valid text, complete characters at a time; what is said is of bytes."""
    text = tmp_path / "text.txt"
    text.write_text("naïve 漢字 😀\n" * 200, encoding="utf-8")
    trained = rnnlm(
        "train", *SETS, "--set", f"data.path={text}", "--set", "data.level=byte",
        "--run-dir", tmp_path / "run",
    )  # fmt: skip
    evaluated, described = rnnlm("eval", tmp_path / "run"), rnnlm("info", tmp_path / "run")
    for done, unit in ((trained, "nats/byte"), (evaluated, "per byte"), (described, "per byte")):
        said = done.output
        assert unit in said
        assert "characters predicted" not in said
        assert "characters/s" not in said
    assert "\nnats per character: " in evaluated.stdout
    assert "bytes predicted\nnats per byte: " in evaluated.stdout
    out = sample(tmp_path / "run", "--prime", "漢", "--length", 60, "--seed", 4)
    assert out.startswith("漢")
    assert json.loads(rnnlm("eval", tmp_path / "run", "--json").stdout)["symbols"] > 50


def test_a_config_file_runs_and_names_the_run(in_tmp: Path) -> None:
    """runs/<config name>-<time>, with the file's values."""
    Path("text.txt").write_text(TEXT)
    Path("small.yaml").write_text(
        "data: {path: text.txt}\nmodel: {cell: gru, hidden_size: 8, num_layers: 1}\n"
        "train: {epochs: 1, batch_size: 4}\n"
    )
    rnnlm("train", "small.yaml")
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("small-")
    assert "GRU" in rnnlm("info").output
    Path("my sweep.yaml").write_text("base: small.yaml\ngrid:\n  train.epochs: [1, 2]\n")
    said = rnnlm("train", "my sweep.yaml", code=2).stderr
    assert said.endswith("my sweep.yaml is a sweep: write rnnlm sweep 'my sweep.yaml'\n")
    assert "is a sweep" in rnnlm("check", "my sweep.yaml", code=2).stderr
    assert "a config: rnnlm train" in rnnlm("sweep", "small.yaml", code=1).stderr


def test_the_run_that_was_taken_is_named_where_nobody_did(trained: Path, in_tmp: Path) -> None:
    """On standard error, so that what is printed stays as it is."""
    shutil.copytree(trained, "runs/a")
    for args in (("sample", "--length", 5), ("eval", "--json"), ("info",)):
        bare = rnnlm(*args)
        named = rnnlm(*args, "runs/a")
        assert bare.stderr == "newest run: runs/a/best.npz\n"
        assert (named.stderr, named.stdout) == ("", bare.stdout)


def test_what_a_user_typed_does_not_drive_the_terminal(trained: Path, in_tmp: Path) -> None:
    """Neither in a path that is shown nor in a message about a wrong one."""
    Path("text.txt").write_text(TEXT)
    odd = "o\x1b[31m \udcff\u202e"
    said = [
        rnnlm("prepare", "text.txt", "--out", odd).output,
        rnnlm("train", *SETS, "--set", f"data.path={odd}", "--run-dir", f"r{odd}").output,
        rnnlm("info", f"r{odd}").output,
        rnnlm("prepare", "text.txt", "--out", odd, code=1).output,
        rnnlm("train", "--run-dir", f"r{odd}", "--set", "data.path=text.txt", code=1).output,
        rnnlm(f"no{odd}", code=2).output,
        rnnlm("train", f"--no{odd}", code=2).output,
    ]
    assert "\\x1b" in said[-1]
    for text in said:
        assert not {"\x1b", "\u202e"} & set(text), text


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("path", ["a b", "it's $HOME", "\x1b[31m\n'\\", "caf\udce9 \u202eß"])
def test_a_command_to_type_next_can_be_typed(path: str, in_tmp: Path) -> None:
    """A shell reads the very path."""
    typed = ["bash", "-c", f'printf "%s" {quoted(path)}']
    assert subprocess.run(typed, capture_output=True, check=True).stdout == os.fsencode(path)
    Path("text.txt").write_text(TEXT)
    said = rnnlm("prepare", "text.txt", "--out", path).output
    assert said.endswith(f"\nnext: rnnlm train {argument(Path(path))}\n")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("name", ["null", "Null", "NULL", "~", "{a}", "-d", " a "])
def test_what_is_to_be_typed_next_takes_the_folder_of_any_name(name: str, in_tmp: Path) -> None:
    """Also where it would be read as null or as an option, for the prepared folder and the run."""
    Path("text.txt").write_text(TEXT[:4000])
    said = rnnlm("prepare", "text.txt", "--out", name).output
    line = said.splitlines()[-1].removeprefix("next: rnnlm ")
    assert "windows" in rnnlm(*shell_words(line), "--dry-run", *SETS).output
    short = ("--set", "train.max_steps=2")
    said = rnnlm(*shell_words(line), *SETS, *short, "--run-dir", f"{name}run").output
    sample_line, eval_line = said.splitlines()[-2:]
    rnnlm(*shell_words(sample_line.removeprefix("next: rnnlm ")), "--unknown", "skip")
    rnnlm(*shell_words(eval_line.strip().removeprefix("rnnlm ")))


def shell_words(line: str) -> list[str]:
    """The words of a command line, as bash takes them apart."""
    typed = ["bash", "-c", f"printf '%s\\0' {line}"]
    done = subprocess.run(typed, capture_output=True, check=True)
    return [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]


def test_memory_that_is_not_enough_is_one_line(
    trained: Path, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which speaks of the model only where one is trained."""

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("rnnlm.api.sampling.samples", fail)
    assert "model" not in rnnlm("sample", trained, code=1).stderr
    monkeypatch.setattr("rnnlm.training.loop.Training.start", fail)
    assert "model, batch and window" in rnnlm("train", code=1).stderr


def test_one_of_a_thing_is_singular(trained: Path, in_tmp: Path) -> None:
    """In what is printed of a run, a text and a figure."""
    assert [counted(n, "step") for n in (0, 1, 2000)] == ["0 steps", "1 step", "2,000 steps"]
    Path("text.txt").write_bytes(b"a" * 49 + b"\r\n")
    keys = ("data.path=data", "train.epochs=1", "train.batch_size=1", "train.seq_length=full")
    said = rnnlm("prepare", "text.txt", "--out", "data").output
    assert "1 line end (CRLF" in said
    said = rnnlm("train", "--dry-run", *(part for key in keys for part in ("--set", key))).output
    assert "1 epoch of 1 window: 1 stream, " in said
    assert "1 character predicted" in rnnlm("eval", trained, "--text", "-", stdin=b"Ma").output
