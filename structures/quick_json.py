"""Reads JSON quickly, with orjson, where the outcome is certainly the same as with Python's own reader and its limits.

orjson silently keeps the last of two equal keys, turns whole numbers beyond 64 bits into floats, and follows 1,024
levels. All of this is noticed here; then, and wherever orjson refuses a text, the answer is UNSURE and the careful
reader decides, and says what is wrong (structures/json_reader.py).
"""

import gc
import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

UNSURE = object()
LARGE = 2**20  # bytes of a text whose many objects would make Python look for garbage again and again
LONGEST_DIGITS = 18  # of a whole number that certainly fits 64 bits
_ONLY_DIGITS = bytes(48 if 48 <= sign <= 57 else 32 for sign in range(256))  # 0 for each digit, blanks for all else
NESTED = frozenset({list, dict})
try:
    orjson: Any = importlib.import_module("orjson")
except ModuleNotFoundError:  # the careful reader alone gives the same
    orjson = None


def read_quickly(text: bytes, *, max_depth: int) -> Any:
    """Return the value of a JSON text, or UNSURE.

    Args:
        text: any bytes; without orjson the answer is always UNSURE.
        max_depth: lists and objects inside each other.

    >>> read_quickly(b'{"a": [1, 2.5]}', max_depth=2)
    {'a': [1, 2.5]}
    >>> odd = b'{"a": 1, "a": 2}', b'[NaN]', b'[[[]]]', b'12345678901234567890'
    >>> [read_quickly(text, max_depth=2) is UNSURE for text in odd]
    [True, True, True, True]
    """
    if orjson is None:
        return UNSURE
    if text.translate(_ONLY_DIGITS).find(b"0" * (LONGEST_DIGITS + 1)) >= 0 or rb"\u003" in text:
        return UNSURE  # perhaps a long number; perhaps a colon in disguise
    with _without_collection(len(text)):
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return UNSURE
        return value if _is_plain(value, text, max_depth) or _all_there(value, text.count(b":"), max_depth) else UNSURE


def _is_plain(value: Any, text: bytes, max_depth: int) -> bool:
    """Say, at a glance, whether a text is one object without others in it, with a key for each colon: as most lines."""
    alone = type(value) is dict and text.count(b"{") == 1
    return alone and len(value) == text.count(b":") and text.count(b"[") < max_depth


def _all_there(value: Any, colons: int, max_depth: int) -> bool:
    """Say whether a value has a key for each colon of its text outside of strings, and is not nested too deep.

    A key that was there twice has left a colon behind.
    """
    keys, objects, lists = 0, list[dict[str, Any]](), list[list[Any]]()
    level, depth = [value], 0
    while level := [each for each in level if type(each) in NESTED]:
        if depth == max_depth:
            return False
        here = [each for each in level if type(each) is dict]
        others = [each for each in level if type(each) is list]
        objects, lists, keys, depth = objects + here, lists + others, keys + sum(map(len, here)), depth + 1
        level = list(_inside(others, here))
    return keys == colons or keys + _colons(chain([value], _inside(lists, objects), *objects)) == colons


def _inside(lists: Iterable[Any], objects: Iterable[dict[str, Any]]) -> Iterator[Any]:
    return chain(chain.from_iterable(map(dict.values, objects)), chain.from_iterable(lists))


def _colons(values: Iterable[Any]) -> int:
    """Return the colons in those of some values that are strings."""
    return sum(text.count(":") for text in values if type(text) is str)


@contextmanager
def _without_collection(size: int) -> Iterator[None]:
    """Make many objects with garbage collection off: none of them can be garbage yet."""
    if size < LARGE or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
