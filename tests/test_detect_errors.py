"""What the caller did wrong is one class of errors and one line; all else is a bug. Rooms speak of parameters."""

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import typer.main

from detect.cli import build, guarded
from detect.flow import PATIENCE, Passing, flow
from detect.option_names import MENTION, OPTIONS, with_options
from detect.runs.photos import Photo
from detect.runs.propose import proposing_stages
from detect.runs.reading import PhotoReader
from proposals.baselines import Random
from proposals.stored.reader import StoreError
from structures.errors import InputError
from structures.records import Image, Proposals

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("structures", "proposals", "classifier", "eval", "detect")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
COMMAND_LINE = ("detect/cli.py", "detect/commands/", "detect/demo.py", "detect/option_names.py")
OF_OTHERS = {"--show-toplevel", "--porcelain", "--untracked-files=no", "--format"}  # git's and fc-list's
BELOW = [path for path in FILES if not path.relative_to(ROOT).as_posix().startswith(COMMAND_LINE)]


def said_in(path: Path) -> Iterator[str]:
    """Yield the texts in a file, docstrings left out; what is put into an f-string becomes x."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def options_of(command: Any) -> Iterator[str]:
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for each in getattr(command, "commands", {}).values():
        yield from options_of(each)


@pytest.mark.parametrize("path", BELOW, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_below_the_command_line_name_no_options(path: Path) -> None:
    assert [text for text in said_in(path) if re.search("--[a-z]", text) and text not in OF_OTHERS] == []


def test_every_parameter_that_a_message_names_has_an_option() -> None:
    named = {name for path in BELOW for text in said_in(path) for name, _ in MENTION.findall(text)}
    assert named - OPTIONS.keys() - {"x", "photos", "score"} == set()  # x: `{option}` and the like; photos and the
    # score of `Found.where` have no option
    assert len(named) > 20
    there = set(options_of(typer.main.get_command(build())))
    assert set(OPTIONS.values()) - there == set()


# Between parts of the server, which answers each with a status; of a file that is there already.
ANSWERED = {("serving", "Lost"), ("serving", "Full"), ("structures", "_Same")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_errors_that_speak_to_the_caller_are_of_one_class(path: Path) -> None:
    assert "raise ValueError" not in path.read_text(encoding="utf-8")
    if path.stem == "__main__":
        return
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    own = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__]
    errors = [kind for kind in own if issubclass(kind, Exception) and not issubclass(kind, InputError)]
    assert [kind.__name__ for kind in errors if (path.parent.name, kind.__name__) not in ANSWERED] == []


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("name another `out`, or start from scratch with `overwrite=True`", "--out, or .* with --overwrite"),
        ("take a smaller `batch_size`", "a smaller --batch$"),
        ('try `dtype="float32"`', "try --dtype float32$"),
        ("`proposals` x: no such file", "^--proposals x"),
        ("`my photo`.jpg: not a picture", "^`my photo`.jpg: not"),
    ],
)
def test_the_command_line_puts_its_options_where_parameters_stand(message: str, shown: str) -> None:
    assert re.search(shown, with_options(message))


def outcome(error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    def fails() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["rcnn", "detect", "my\tphotos"])
    with pytest.raises(SystemExit) as stop:
        guarded(fails)
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    "error", [InputError("`engine` x:\n no"), StoreError("`engine` x: no"), FileNotFoundError(2, "no", "--engine x")]
)
def test_mistakes_of_the_caller_are_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(error, monkeypatch, capsys) == ["rcnn: --engine x: no"]


@pytest.mark.parametrize("error", [ValueError("shapes"), KeyError("a"), OSError("broken data stream")])
def test_errors_of_libraries_are_bugs_with_a_traceback_and_how_to_report_it(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *_, last = outcome(error, monkeypatch, capsys)
    assert first.startswith("Traceback")
    assert last.startswith("rcnn: this is a bug; please report it on the issue tracker")
    assert last.endswith(r"rcnn detect my\tphotos")


def test_where_a_mistake_was_noticed_can_be_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RCNN_TRACEBACK", "1")
    first, *_, last = outcome(InputError("no such list"), monkeypatch, capsys)
    assert (first.startswith("Traceback"), last) == (True, "rcnn: no such list")


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    for number in range(6):
        PIL.Image.fromarray(np.full((20, 30, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    return [Photo(str(number), tmp_path / f"{number}.png") for number in range(6)]


class Failing(Random):
    """Fails on the photos of some brightness."""

    def __init__(self, error: Exception, *levels: int) -> None:
        super().__init__(count=3)
        self._error, self._levels = error, levels

    def __call__(self, image: Image) -> Proposals:
        if image[0, 0, 0] in self._levels:
            raise self._error
        return super().__call__(image)


def proposed(photos: list[Photo], generator: Random) -> Iterator[Passing[Photo]]:
    return flow(photos, proposing_stages(generator, PhotoReader()))


def test_a_generator_that_fails_on_photos_in_a_row_stops_the_run(photos: list[Photo]) -> None:
    stream = proposed(photos, Failing(RuntimeError("odd"), 0, 2, 3, 4))
    assert [next(stream).error is not None for _ in range(4)] == [True, False, True, True]
    with pytest.raises(RuntimeError, match="odd"):
        next(stream)
    assert len(list(proposed(photos, Failing(RuntimeError("odd"), 0, 1, 3, 4)))) == 6


def test_photos_that_cannot_be_read_or_have_no_stored_boxes_stop_nothing(photos: list[Photo]) -> None:
    for photo in photos[1:5]:
        photo.path.write_bytes(b"")
    assert sum(each.error is not None for each in proposed(photos, Random())) == PATIENCE + 1
    unknown = Failing(StoreError("holds no boxes of this photo"), *range(6))
    assert sum(each.error is not None for each in proposed(photos[:1] * 5, unknown)) == 5


class OutOfMemoryError(RuntimeError):
    """Called as torch's is."""


@pytest.mark.parametrize("error", [OutOfMemoryError("20 MiB"), RuntimeError("CUDA error: an illegal memory access")])
def test_a_lost_gpu_stops_the_run_at_once(photos: list[Photo], error: Exception) -> None:
    with pytest.raises(type(error)):
        list(proposed(photos, Failing(error, 0)))


# No NUL, which the words of a process cannot hold.
ODD = ["", " ", "nan", "-1", "1e400", "9" * 30, "a\nb", "\udcff", "~", "/", "%s", "[", "`out`", "a" * 300, "é"]
PLACES = [
    ["detect", "{photo}", "--out", "{out}", "--weights", "{odd}"],
    ["detect", "{photo}", "--out", "{out}", "--device", "{odd}"],
    ["propose", "{odd}", "--out", "{out}", "--proposals", "no"],
    ["propose", "--list", "{odd}", "--out", "{out}", "--proposals", "no"],
    ["propose", "{photo}", "--out", "{out}", "--proposals", "file:{odd}"],
    ["propose", "{photo}", "--out", "{out}", "--proposals", "grid", "--seed", "{odd}"],
    ["propose", "{photo}", "--out", "{out}", "--factor", "{odd}", "--strategy", "{odd}"],
    ["propose", "{photo}", "--out", "{out}", "--strategy", "HSV:C:{odd}"],
    ["eval", "detections", "{odd}", "--ground-truth", "{folder}"],
    ["eval", "detections", "{folder}", "--ground-truth", "{odd}"],
    ["eval", "proposals", "{odd}", "--ground-truth", "{folder}"],
    ["classify", "{photo}", "--weights", "{odd}", "--device", "cpu"],
    ["weights", "show", "{odd}"],
    ["weights", "convert", "{odd}", "{out}.safetensors"],
    ["weights", "calibrate", "{odd}", "{out}.safetensors", "--photos", "{photo}"],
    ["export", "{odd}", "--out", "{out}.onnx"],
    ["convert", "{odd}", "--to", "coco", "--out", "{out}"],
    ["draw", "{odd}"],
    ["scale", "collect", "{odd}", "--out", "{out}"],
    ["eval", "compare", "{odd}", "{folder}", "--ground-truth", "{folder}"],
    ["train", "regions", "--voc", "{odd}", "--out", "{out}.safetensors", "--device", "cpu"],
    ["train", "regions", "--voc", "{folder}", "--out", "{out}.safetensors", "--device", "cpu", "--ramp", "{odd}", "1"],
    ["train", "multibox", "--coco", "{odd}", "--images", "{odd}", "--out", "{out}.safetensors", "--device", "cpu"],
    ["train", "classifier", "--folder", "{odd}", "--out", "{out}.safetensors", "--device", "cpu"],
    ["bench", "proposals", "--ground-truth", "{odd}"],
]


@pytest.mark.parametrize("words", PLACES, ids=" ".join)
def test_odd_words_never_end_in_a_traceback(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    photo = tmp_path / "a.png"
    PIL.Image.new("RGB", (20, 20)).save(photo)
    (tmp_path / "empty").mkdir()
    for number, odd in enumerate(ODD):
        if odd == "/" and "{odd}" in words[1:2]:
            continue  # all of the disk
        names = {"photo": photo, "out": tmp_path / f"out{number}", "folder": tmp_path / "empty", "odd": odd}
        rcnn(*(word.format(**names) for word in words))
        error = capsys.readouterr().err
        assert "Traceback" not in error, (odd, error[-300:])


def test_a_nul_in_a_list_of_photos_is_one_line(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.txt").write_text("a\0b.png\n")
    assert rcnn("propose", "--list", tmp_path / "list.txt", "--out", tmp_path / "out", "--proposals", "grid") == 2
    error = capsys.readouterr().err
    assert (error.count("\n"), "a\\x00b.png" in error) == (1, True), error
