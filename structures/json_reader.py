"""Reads JSON, with limits: the only place that does. Any error becomes one line that names the file.

Most texts are read by structures/quick_json.py; this is for those that it is not sure of, and for what is wrong with
them. Python's own reader follows any nesting until the stack overflows, silently keeps the last of two equal keys, and
reports its own settings if a number is too long.
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from structures.errors import InputError
from structures.files import regular_file
from structures.quick_json import NESTED, UNSURE, read_quickly

MAX_DEPTH = 64  # lists and objects inside each other; COCO's polygons are 5 deep
MAX_BYTES = 2**31  # COCO's largest file has 0.5 GB, that of LVIS 1.1 GB; in memory it takes about ten times as much
MAX_RECORD_BYTES = 2**26  # of what runs write about themselves: a few kB per run
DIGITS = "integer string conversion"  # in Python's own words, where a whole number has more than 4300 digits


class JsonError(InputError):
    """JSON that cannot be used; the message names the file, or the line of it."""


def read_json(path: str | Path, *, max_bytes: int = MAX_BYTES) -> Any:
    """Read a JSON file; see `parse_json`.

    Raises:
        JsonError: not JSON, or larger than max_bytes.
        OSError: the file cannot be opened.
    """
    with regular_file(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise JsonError(f"{path}: not readable as JSON: {size} bytes, expected at most {max_bytes}")
        return parse_json(file.read(), path)


def parse_json(text: bytes | str, place: str | Path) -> Any:
    r"""Return the value of a JSON text; NaN, Infinity and numbers beyond a double's range come out as floats.

    Args:
        text: UTF-8 (a byte order mark may come before it), UTF-16 or UTF-32.
        place: the file, and the line or field of it, for messages.

    Raises:
        JsonError: not JSON, not Unicode, nested deeper than MAX_DEPTH, with the same key twice in an object, or with a
            whole number of more digits than Python reads.

    >>> parse_json('{"a": [1, 2.5]}', "a.json")
    {'a': [1, 2.5]}
    >>> parse_json('{"a": 1, "a": 2}', "a.json")
    Traceback (most recent call last):
    structures.json_reader.JsonError: a.json: not readable as JSON: the key 'a' appears twice in one object
    """
    if isinstance(text, bytes) and (quick := read_quickly(text, max_depth=MAX_DEPTH)) is not UNSURE:
        return quick
    try:
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text), "surrogatepass")
        value = READER.decode(text)
    except RecursionError:
        raise JsonError(_too_deep(place)) from None
    except UnicodeDecodeError as error:
        raise JsonError(f"{place}: not readable as JSON: byte {error.start} is not {error.encoding}") from None
    except ValueError as error:
        reason = "a whole number has too many digits" if DIGITS in str(error) else error
        raise JsonError(f"{place}: not readable as JSON: {reason}") from None
    _check_depth(value, place)
    return value


def require_finite(value: Any, place: str | Path) -> None:
    """Refuse NaN and infinite numbers, which could not be written as JSON again.

    Raises:
        JsonError: there is one.
    """
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        raise JsonError(f"{place}: not readable: it holds a number that is not finite") from None


def through_json(value: Any) -> Any:
    """Return a value as it would be read back from JSON: tuples as lists, keys as strings."""
    return json.loads(json.dumps(value))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise InputError(f"the key {twice!r:.60} appears twice in one object")
    return found


READER = json.JSONDecoder(object_pairs_hook=_object)  # made once: files of results have a text for each photo


def _check_depth(value: Any, place: str | Path) -> None:
    """Refuse what is nested too deep to be shown or written again."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise JsonError(_too_deep(place))


def _inside(value: Any) -> Sequence[Any]:
    """Return the lists and objects in a list or an object."""
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if NESTED.isdisjoint(map(type, values)):  # as for nearly all values: quick
        return ()
    return [inner for inner in values if type(inner) in NESTED]


def _too_deep(place: str | Path) -> str:
    return f"{place}: not readable as JSON: lists and objects are nested deeper than {MAX_DEPTH} levels"
