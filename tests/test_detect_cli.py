"""The command line as a whole: version, help, examples, completion, misspelled words; tests name every option."""

import importlib
import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from detect.cli import build
from detect.commands.groups import RENAMED
from detect.runs.machine import versions
from tests.given_options import leaves
from tests.layouts import photo

ROOT = Path(__file__).resolve().parent.parent
COMMAND_LINE: Any = typer.main.get_command(build())


LEAVES = {tuple(words.split()): command for words, command in leaves(COMMAND_LINE)}
NAMES = [" ".join(path) for path in LEAVES]


def options_of(command: Any) -> Iterator[str]:
    for parameter in command.params:
        yield from (name for name in [*parameter.opts, *parameter.secondary_opts] if name.startswith("--"))


def entry_point() -> Callable[[], None]:
    """Return what the script `rcnn` calls, by pyproject.toml."""
    scripts = re.search(r'^\[project\.scripts\]\nrcnn = "([\w.]+):(\w+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert scripts is not None
    run: Callable[[], None] = getattr(importlib.import_module(scripts[1]), scripts[2])
    return run


def test_the_script_shows_its_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["rcnn", "--version"])
    with pytest.raises(SystemExit) as stop:
        entry_point()()
    assert stop.value.code == 0
    assert re.fullmatch(r"rcnn (\d+\.\d+\.\d+\S*|\(not installed\))\n", capsys.readouterr().out)


def test_the_package_shows_its_version_too() -> None:
    asked = subprocess.run([sys.executable, "-m", "detect", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert (asked.returncode, asked.stdout) == (0, f"rcnn {versions().get('googlenet-rcnn', '(not installed)')}\n")


def test_there_are_the_commands_that_the_documents_speak_of() -> None:
    assert (
        " ".join(sorted({path[0] for path in LEAVES}))
        == "bench classify convert detect draw eval export propose scale serve train weights"
    )
    assert len(LEAVES) == 22


@pytest.mark.parametrize("words", ["", *NAMES, "eval", "train", "weights", "bench", "scale"])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_and_group_has_help_that_is_not_cut_at_80_columns(
    rcnn: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    option: str,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert rcnn(*words.split(), option) == 0
    told = capsys.readouterr()
    assert "Usage: rcnn" in told.out
    assert "…" not in told.out
    assert told.err == ""


@pytest.mark.parametrize("words", ["", "eval", "train", "weights", "bench", "scale"])
def test_a_group_alone_shows_its_help(rcnn: Callable[..., int], capsys: pytest.CaptureFixture[str], words: str) -> None:
    assert rcnn(*words.split()) == 2
    told = capsys.readouterr()
    assert f"Usage: {' '.join(['rcnn', words]).strip()} [OPTIONS] COMMAND" in told.out + told.err
    assert "rcnn: " not in told.err


@pytest.mark.parametrize("name", NAMES)
def test_examples_of_every_command_can_be_parsed(name: str) -> None:
    title, *lines = str(LEAVES[tuple(name.split())].epilog).split("\n\n")
    assert title == "Examples:"
    assert any(line.startswith(f"rcnn {name} ") for line in lines)
    with COMMAND_LINE.make_context("rcnn", name.split()) as root:
        for line in lines:
            assert len(line) < 100
            _, *words = shlex.split(line)
            path = tuple(words[:1]) if tuple(words[:1]) in LEAVES else tuple(words[:2])
            LEAVES[path].make_context(path[-1], words[len(path) :], parent=root)


def test_the_check_of_examples_can_fail() -> None:
    with pytest.raises(Exception, match="No such option: --inn"):
        LEAVES["detect",].make_context("detect", ["photos", "--inn", "x"])


def test_options_stand_in_titled_panels(rcnn: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    rcnn("detect", "--help")
    told = capsys.readouterr().out
    titles = [told.index(f"─ {title} ─") for title in ("Photos", "Detector", "Where the networks run", "Results")]
    assert titles == sorted(titles)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("detct", "rcnn: No such command 'detct'. Did you mean 'detect'? (rcnn --help)"),
        ("eval detection x", "rcnn: No such command 'detection'. Did you mean 'detections'? (rcnn eval --help)"),
        ("detect photos --oout x", "rcnn: No such option: --oout; did you mean '--out'? (rcnn detect --help)"),
        ("train regions --presett quick", "'--preset'? (rcnn train regions --help)"),
        ("detect photos", "rcnn: Missing option '--out' (rcnn detect --help)"),
        ("draw x --score 7", "rcnn: Invalid value for '--score': "),
        ("propose . --out OUT --generator selectiv-search", "file:PATH; did you mean 'selective-search'?"),
        (
            "train regions --out n.safetensors --preset quik",
            "'quik' is not one of quick, shipped, shared, few; did you mean 'quick'?",
        ),
        ("weights show defalt", "did you mean 'default'?"),
        ("classify x.png --engine openvno", "did you mean 'openvino'?"),
    ],
)
def test_wrong_words_are_one_line_and_what_was_meant_is_named(
    rcnn: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.png").write_bytes(b"")
    assert rcnn(*words.split()) == 2
    told = capsys.readouterr()
    assert complaint in told.err
    assert (told.out, told.err.count("\n")) == ("", 1)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["detect", "photos", "--out", ""], "rcnn: Invalid value for '--out': it is empty (rcnn detect --help)"),
        (["detect", "photos", "--out="], "'--out': it is empty"),
        (["detect", "photos", "", "--out", "o"], "'photos': it is empty"),
        (["eval", "detections", "", "--ground-truth", "g"], "it is empty"),
        (["eval", "detections", "r", "--ground-truth", "g", "--classes", ""], "'--classes': it is empty"),
    ],
)
def test_words_that_would_be_lost_or_mean_another_place_are_refused(
    rcnn: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert rcnn(*words) == 2
    told = capsys.readouterr()
    assert complaint in told.err.replace("[PHOTOS]...", "photos")  # as older Click names it
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", ["--generator", "--proposals"])
def test_of_an_option_given_twice_the_last_counts_and_it_is_said(
    rcnn: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path, other: str
) -> None:
    photo(tmp_path / "x.png")
    assert rcnn("propose", tmp_path / "x.png", "--out", tmp_path / "o", other, "random", "--proposals", "grid") == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert said == ["warning: --proposals is given 2 times, and the last one counts"]
    assert json.loads((tmp_path / "o" / "manifest.json").read_text())["generator"] == "grid"


def test_flags_and_options_that_take_several_values_may_be_repeated() -> None:
    words = ["photos", "--out", "o", "--draw", "--draw", "--weights", "a", "--weights", "b"]
    taken = LEAVES["detect",].make_context("detect", words).params
    assert (taken["draw"], list(taken["weights"])) == (True, ["a", "b"])


@pytest.mark.parametrize("name", RENAMED)
def test_options_of_earlier_versions_are_understood_and_not_shown(name: str) -> None:
    holders = [path for path, command in LEAVES.items() if f"--{RENAMED[name]}" in options_of(command)]
    assert holders
    for path in holders:
        assert f"--{name}" not in options_of(LEAVES[path])
        with COMMAND_LINE.make_context("rcnn", list(path)) as root:
            words = ["--out", "o", "--folder", "f", "--ground-truth", "g"]
            known = [
                *("x" for each in LEAVES[path].params if each.param_type_name == "argument" and each.required),
                *(f"--{name}", "1"),
                *(w for k in (0, 2, 4) if words[k] in options_of(LEAVES[path]) for w in words[k : k + 2]),
            ]
            context = LEAVES[path].make_context(path[-1], known, parent=root)
        assert str(context.params[RENAMED[name].replace("-", "_")]).strip("[(']").startswith("1")


def test_completion_is_shown_and_installed_and_completes(
    rcnn: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda *limit: ("bash", "/bin/bash"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert rcnn("--show-completion") == 0
    assert "_RCNN_COMPLETE=complete_bash" in capsys.readouterr().out
    assert rcnn("--install-completion") == 0
    assert ".bash_completions/rcnn.sh" in (tmp_path / ".bashrc").read_text()
    capsys.readouterr()
    for name, value in {"_RCNN_COMPLETE": "complete_bash", "COMP_WORDS": "rcnn cl", "COMP_CWORD": "1"}.items():
        monkeypatch.setenv(name, value)
    assert rcnn() == 0
    assert capsys.readouterr().out.split() == ["classify"]


def test_every_command_can_be_stopped(
    rcnn: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is about to do: the signal comes while its options are read."""

    def stop(*arguments: Any, **options: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    resumed = {"detect", "draw", "propose", "train", "bench", "scale"}
    for path, command in LEAVES.items():
        monkeypatch.setattr(type(command), "parse_args", stop)
        assert rcnn(*path, "x", "--out", "y") == 143
        what = "resumes the run" if path[0] in resumed else "starts from scratch"
        said = "stopped" if path == ("serve",) else f"stopped; the same command {what}"
        assert capsys.readouterr().err == f"rcnn: {said}\n"
        monkeypatch.undo()


QUOTED = re.compile(r"""["'](?:--)?([a-z][a-z_-]*)["'= ]""")  # "--max-boxes", "max_boxes" of a dict, f"--{name}" aside
TESTS = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").glob("test_*.py"))}


@pytest.mark.parametrize("name", NAMES)
def test_some_test_names_every_option(name: str) -> None:
    """A weak test: the option, or its opposite, stands in a file of tests that speaks of its command."""
    last = name.split()[-1]
    about = [text for path, text in TESTS.items() if last in text and path != Path(__file__).resolve()]
    words = {f"--{word.replace('_', '-')}" for text in about for word in QUOTED.findall(text)}
    params = LEAVES[tuple(name.split())].params
    options = [{*each.opts, *each.secondary_opts} for each in params if each.opts[0].startswith("-")]
    assert len(options) > 0
    assert [names for names in options if not names & words] == []


def test_the_check_of_options_can_fail() -> None:
    assert QUOTED.findall("""run("--max-boxes", 3); {'trunk_rate': 3}; run(f"x --score=3")""") == [
        "max-boxes",
        "trunk_rate",
        "x",
    ]


def test_no_garbage_is_searched_for_when_the_program_ends() -> None:
    code = "import atexit, gc, sys; atexit.register(lambda: print(gc.get_freeze_count() > 1000))"
    code += "; sys.argv = ['rcnn', '--version']; from detect.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[1:]) == (0, ["True"])
