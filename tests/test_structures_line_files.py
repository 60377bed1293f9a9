"""Files of lines: what was added is there again, a torn end is cut off, and the lines of others stay as they are."""

import json
from pathlib import Path
from typing import Any

import pytest

from structures.errors import InputError
from structures.files import FileRefused
from structures.line_files import LineFile

KEYS = ("name", "size")
FIRST, SECOND = '{"name": "a", "size": 1}\n', '{"name": "b \\" \\u00e4", "size": 2, "more": [3]}\n'


def opened(path: Path, **options: Any) -> tuple[LineFile, list[Any]]:
    read: list[Any] = []
    return LineFile(path, KEYS, lambda entry, place: read.append(entry["name"]), **options), read


def test_lines_are_on_disk_when_add_returns_and_there_again_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    file, read = opened(path)
    assert read == []
    for text in (FIRST, SECOND):
        file.add(json.loads(text))
    assert path.read_text() == FIRST + SECOND
    file.close()
    file, read = opened(path)
    assert read == ["a", 'b " ä']
    file.replace([{"name": "c", "size": 0}])
    file.close()
    assert path.read_text() == '{"name": "c", "size": 0}\n'


def test_a_line_must_begin_with_its_keys(tmp_path: Path) -> None:
    """They tell the beginning of a torn line of ours from another program's."""
    file, _ = opened(tmp_path / "lines.jsonl")
    with pytest.raises(AssertionError, match="a line begins with"):
        file.add({"size": 1, "name": "a"})
    file.close()


@pytest.mark.parametrize("length", range(len(SECOND) - 2))
@pytest.mark.parametrize("zeros", [0, 5])
def test_every_beginning_of_a_line_is_cut_off_also_where_a_power_cut_left_zeros(
    tmp_path: Path, length: int, zeros: int
) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes((FIRST + SECOND[:length]).encode() + bytes(zeros))
    file, read = opened(path)
    file.close()
    assert read == ["a"]
    assert path.read_text() == FIRST


def test_a_whole_last_line_without_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text(FIRST + SECOND[:-1])
    file, read = opened(path)
    file.add({"name": "c", "size": 3})
    file.close()
    assert read == ["a", 'b " ä']
    assert path.read_text() == FIRST + SECOND + '{"name": "c", "size": 3}\n'


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (FIRST + "1,2\n", "line 2: .* is damaged, or was written by another program"),
        (FIRST + "1,2", "line 2: .* is damaged, or was written by another program"),
        (FIRST + '{"nam": "b', "line 2: .* is damaged, or was written by another program"),
        (FIRST + '{"name": "b", "siz_', "line 2: .* is damaged, or was written by another program"),
        (FIRST + SECOND[:9] + "\n" + SECOND, "line 2: .* is damaged, or was written by another program"),
        ("[1]\n" + FIRST, "line 1: not an object of JSON; nothing was changed"),
        ("\n" + FIRST + '{"name": 7}\n', "line 3: no name; nothing was changed"),
    ],
)
def test_lines_of_others_are_named_and_stay(tmp_path: Path, content: str, complaint: str) -> None:
    def read(entry: Any, place: str) -> None:
        if not isinstance(entry["name"], str):
            raise InputError(f"{place}: no name")

    path = tmp_path / "lines.jsonl"
    path.write_text(content)
    with pytest.raises(FileRefused, match=rf"lines\.jsonl: {complaint}"):
        LineFile(path, KEYS, read)
    assert path.read_text() == content


def test_what_is_to_be_thrown_away_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"name": no line')
    file, read = opened(path, overwrite=True)
    file.close()
    assert read == []
    assert path.read_text() == ""


@pytest.mark.parametrize("keep", [False, True])
def test_an_empty_file_is_removed_where_nobody_keeps_it(tmp_path: Path, keep: bool) -> None:
    path = tmp_path / "lines.jsonl"
    opened(path)[0].close(keep_empty=keep)
    assert path.exists() == keep


@pytest.mark.parametrize(
    "content", [b"", b'{"ima', b'{"image": "a", "wi\xff\n', b"\0\0\0", b'{"image": 7}\n[', b"hello\n", b"[1]\n"]
)
def test_only_what_begins_as_ours_is_discarded(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(content)
    if content in (b"hello\n", b"[1]\n"):
        with pytest.raises(FileRefused, match=r"lines\.jsonl: line 1: written by another program; nothing was changed"):
            LineFile(path, ("image", "width"), lambda entry, place: None, overwrite=True)
        assert path.read_bytes() == content
        return
    LineFile(path, ("image", "width"), lambda entry, place: None, overwrite=True).close()
    assert path.read_bytes() == b""
