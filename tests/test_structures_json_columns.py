"""Columns of like objects are those of the careful reader, or are left to it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from structures import json_columns
from structures.json_columns import read_columns

NUMBERS = (
    st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0, -0.0, 1])
)
KEYS = st.sampled_from(["id", "image_id", "score", "x1", "e", "a b", "Käse", 'q"', ""]) | st.text(max_size=3)
SLOTS = st.integers(0, 3)  # numbers in a list, or one that is in none
SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : ")])


@st.composite
def lists(draw: st.DrawFn) -> list[dict[str, Any]]:
    keys = draw(st.lists(KEYS, min_size=1, max_size=4, unique=True))
    widths = {key: draw(SLOTS) for key in keys}
    values = {key: st.lists(NUMBERS, min_size=n, max_size=n) if n else NUMBERS for key, n in widths.items()}
    return draw(st.lists(st.fixed_dictionaries(values), min_size=1, max_size=6))


def as_columns(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the same from Python's objects, as lists of numbers, whole ones where a column has no other."""
    found = {}
    for key in entries[0]:
        flat = [each for entry in entries for each in (entry[key] if isinstance(entry[key], list) else [entry[key]])]
        kind = int if set(map(type, flat)) == {int} and max(map(abs, flat)) < 2**63 else float
        found[key] = [
            list(map(kind, entry[key])) if isinstance(entry[key], list) else kind(entry[key]) for entry in entries
        ]
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lists(), SEPARATORS, st.sampled_from([7, 60, 2**22]))
def test_columns_are_those_of_the_objects(
    tmp_path: Path, entries: list[dict[str, Any]], separators: tuple[str, str], piece: int
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(entries, separators=separators), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(json_columns, "PIECE", piece)
        columns = read_columns(path)
    if columns is not None:  # else the careful reader decides
        assert {key: column.tolist() for key, column in columns.items()} == as_columns(entries)


ENTRY = {"image_id": 2**53 + 1, "category_id": 3, "bbox": [1.5, 2, 1e-05, 4], "score": 0.25}
USUAL = json.dumps([ENTRY, {**ENTRY, "bbox": [1, 2, 3, 4], "score": 1e-07}, ENTRY])


@pytest.mark.parametrize("piece", [100, 2**22])
def test_usual_results_are_read_quickly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    """Also where a piece ends within an object, and with whole numbers that doubles would round."""
    monkeypatch.setattr(json_columns, "PIECE", piece)
    for separators in ((",", ":"), (", ", ": "), (",\n", ": ")):
        (tmp_path / "a.json").write_text(f" {json.dumps(json.loads(USUAL), separators=separators)}\n")
        columns = read_columns(tmp_path / "a.json")
        assert columns is not None
        assert columns["image_id"].tolist() == [2**53 + 1] * 3
        assert columns["image_id"].dtype == np.int64
        assert columns["bbox"].tolist() == [[1.5, 2, 1e-05, 4], [1, 2, 3, 4], [1.5, 2, 1e-05, 4]]
        assert columns["score"].tolist() == [0.25, 1e-07, 0.25]


ODD: list[Callable[[str], str]] = [
    lambda text: text[:-1],
    lambda text: text + "]",
    lambda text: text[:-1] + ", ]",
    lambda text: "[]",
    lambda text: "",
    lambda text: '{"annotations": ' + text + "}",
    lambda text: text.replace("0.25", "NaN", 1),
    lambda text: text.replace("0.25", "00.25"),
    lambda text: text.replace("0.25", "0.2.5"),
    lambda text: text.replace("0.25", "+1"),
    lambda text: text.replace("0.25", "1 2"),
    lambda text: text.replace("0.25", ""),
    lambda text: text.replace('"score": 0.25', '5"score": ', 1),
    lambda text: text.replace('"score": 0.25', '"score"5: '),
    lambda text: text.replace("0.25}", "}5"),
    lambda text: text.replace("}, {", "}5, {"),
    lambda text: text.replace("0.25", "true"),
    lambda text: text.replace("0.25", '"0.25"'),
    lambda text: text.replace("0.25", "[0.25]", 1),
    lambda text: text.replace("[1, 2, 3, 4]", "[1, 2, 3]"),
    lambda text: text.replace("[1, 2, 3, 4]", "[[1, 2, 3, 4]]"),
    lambda text: text.replace('"score"', '"image_id"'),
    lambda text: text.replace('"score"', '"scores"', 1),
    lambda text: text.replace("}, {", "},{", 1),
    lambda text: text.replace("}, {", "}, \x80{", 1),
    lambda text: f"\x0b{text}",
    lambda text: f"{text}\x0c",
    lambda text: text.replace(", {", ",\x0b{"),
    lambda text: text[: text.index("}") + 1] + " " * 1000,
    lambda text: text.replace(str(2**53 + 1), str(2**63)),
    lambda text: text.replace(str(2**53 + 1), str(2**64)),
]


@pytest.mark.parametrize("change", ODD)
@pytest.mark.parametrize("piece", [100, 2**22])
def test_anything_else_is_left_to_the_careful_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[str], str], piece: int
) -> None:
    monkeypatch.setattr(json_columns, "PIECE", piece)
    text = change(USUAL)
    assert text != USUAL
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    columns = read_columns(tmp_path / "a.json")
    assert columns is None or columns["image_id"].dtype == np.float64  # of ids beyond 64 bits
