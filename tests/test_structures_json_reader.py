"""JSON is read with limits, and whatever is wrong becomes one line that names the file."""

import gc
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from structures.json_reader import MAX_DEPTH, JsonError, parse_json, read_json, require_finite
from structures.quick_json import UNSURE, read_quickly

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(VALUES)
def test_it_reads_what_python_writes(value):
    assert parse_json(json.dumps(value), "a.json") == value


@given(VALUES)
def test_the_quick_reader_reads_the_same_or_leaves_it_to_the_careful_one(value):
    text = json.dumps(value, ensure_ascii=False)
    quick = read_quickly(text.encode("utf-8", "surrogatepass"), max_depth=MAX_DEPTH)
    assert quick is UNSURE or repr(quick) == repr(json.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 1, "a": 2}',
        rb'{"a": "b:c", "b\u003a": 1}',
        rb'{"a": "\u003a", "a": ""}',  # the colon of a key that went, made up for by one of a string
        b'[{"a": 1}, {"a": ":", "b": 2, "a": 1}]',
        b"[9223372036854775808]",
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        b"[NaN]",
        b"[1e999]",
        b"\xef\xbb\xbf[]",
        b"[",
    ],
)
def test_what_the_quick_reader_leaves_to_the_careful_one(text):
    assert read_quickly(text, max_depth=MAX_DEPTH) is UNSURE


def test_what_is_common_is_read_quickly():
    text = json.dumps({"url": "http://a.b/c:d", "score": 0.1234567890123456, "bbox": [1, -2.5], "id": 10**17})
    assert read_quickly(text.encode(), max_depth=MAX_DEPTH) == json.loads(text)
    assert gc.isenabled()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_the_encodings_of_json(tmp_path, encoding):
    (tmp_path / "a.json").write_text('{"é": 1}', encoding=encoding)
    assert read_json(tmp_path / "a.json") == {"é": 1}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"\xff\xfe\xfd", "is not utf"),
        (b'"\xe9"', "byte 1 is not utf-8"),
        (b"[" * 100_000, "nested deeper than 64"),
        (b'{"a":' * 100_000, "nested deeper than 64"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested deeper than 64"),
        (b"1" * 10_000, "a whole number has too many digits"),
        (b'[{"boxes": [], "labels": [], "boxes": [1]}]', "the key 'boxes' appears twice"),
    ],
)
def test_what_is_wrong_is_one_short_line_that_names_the_file(tmp_path, content, reason):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(JsonError, match=rf"a\.json: not readable as JSON: .*{reason}") as caught:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 150


def test_the_deepest_nesting_that_is_read():
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH, "a.json") != []


def test_large_files_are_refused_before_they_are_read(tmp_path):
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(2**40)  # a hole: it takes no room
    with pytest.raises(JsonError, match=r"a\.json: .*1099511627776 bytes, expected at most"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("text", ["NaN", "[1, -Infinity]", '{"a": 1e999}'])
def test_numbers_that_could_not_be_written_again(text):
    with pytest.raises(JsonError, match=r"a\.json: .*not finite"):
        require_finite(parse_json(text, "a.json"), "a.json")


def test_missing_files_raise_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")
