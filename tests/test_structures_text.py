"""Names from outside steer neither the terminal nor rich, and stay readable."""

import io
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from detect.cli import one_line
from detect.runs.progress import Bar, table
from eval.report import Sheet
from structures.text import printable

STEERS = "evil\x1b]0;owned\x07\x9b2J\u202e[bold]\udcfc"
SHOWN = r"evil\x1b]0;owned\x07\x9b2J\u202e[bold]\udcfc"


@given(st.text())
def test_nothing_that_steers_is_left(text: str) -> None:
    shown = printable(text)
    shown.encode("utf-8")  # no half of a surrogate pair
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in shown)
    assert printable(shown) == shown


def test_names_in_any_script_stay_as_they_are() -> None:
    for name in ("Käse 猫 кот", "می‌خواهم", "\N{FAMILY}\u200d\N{BOY}", r"C:\photos\x1b.jpg"):
        assert printable(name) == name


def test_errors_tables_and_progress_show_control_characters() -> None:
    assert one_line(ValueError(STEERS)) == SHOWN
    assert one_line(FileNotFoundError(2, "No such file", STEERS)) == f"{SHOWN}: No such file"
    for draw in (
        lambda console: Bar(1, console).skip(STEERS),
        lambda console: console.print(table({"results": STEERS})),
        lambda console: console.print(Sheet(STEERS, ["class"], [[STEERS]]).for_terminal()),
    ):
        console = Console(file=io.StringIO(), width=200)
        draw(console)
        assert SHOWN in console.file.getvalue()  # type: ignore[attr-defined]
        assert not {"\x1b", "\x9b", "\x07"} & set(console.file.getvalue())  # type: ignore[attr-defined]


def test_a_skipped_photo_is_named_with_its_control_characters_shown(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    PIL.Image.new("RGB", (40, 30)).save(tmp_path / "photos" / "good.png")
    PIL.Image.new("RGB", (40, 31)).save(tmp_path / "photos" / "large.png")
    (tmp_path / "photos" / "bad\x1b[2J.png").write_bytes(b"no picture")
    limit = ("--max-pixels", 40 * 30)
    assert rcnn("propose", tmp_path / "photos", "--out", tmp_path / "o", "--proposals", "grid", *limit) == 1
    told = capsys.readouterr().err
    assert "\x1b" not in told
    assert told.count(r"bad\x1b[2J.png: not a picture") == 2  # when it is passed over, and at the end
    assert told.count("large.png: more than 1200 pixels, the limit (a higher --max-pixels") == 2
