"""Reads a JSON list of like objects of numbers as columns, a piece at a time, where that certainly gives the same.

Programs write long lists with the same text between the numbers of every object. Where a file does, that text is
checked as a whole and taken out, and what is left is one flat list of numbers: several times as fast as
an object each, and without their memory. Any other file is left to the careful reader (structures/json_reader.py).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from structures.files import regular_file
from structures.json_reader import JsonError, parse_json
from structures.quick_json import orjson

PIECE = 2**22  # bytes that are read at a time
FIRST = re.compile(rb"[ \t\r\n]*\[[ \t\r\n]*(\{[^{}]*\})([ \t\r\n]*,[ \t\r\n]*)?")
END = re.compile(rb"[ \t\r\n]*\][ \t\r\n]*")
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*')  # a string or a number of sound JSON
SIGNS = b"0123456789+-.eE"  # of numbers
MARK = 0x80  # the first byte that stands for a text between numbers; ASCII has none of them
_COMMAS = bytes(sign if sign < MARK else ord(",") for sign in range(256))  # commas for marks

Column = npt.NDArray[np.float64] | npt.NDArray[np.int64]


def read_columns(path: str | Path) -> dict[str, Column] | None:
    """Return the columns of a file that is a list of objects with the same keys, each a number or a list of them.

    Args:
        path: the file.

    Returns:
        By key an array (N,), or (N, K) of lists of K numbers: int64 where all are written as whole numbers, else
        float64. None where the careful reader has to decide: the file is something else, is damaged, or has a key
        twice, other texts between its numbers, or whole numbers beyond 64 bits.

    Raises:
        OSError: it cannot be read.
    """
    if orjson is None:
        return None
    with regular_file(path).open("rb") as file:
        begin = file.read(PIECE)
        first = FIRST.match(begin)
        form = _form(first[1], first[2] or b"") if first else None
        if first is None or form is None:
            return None
        parts = []
        for piece in _pieces(begin[first.start(1) :], form.joint, file):
            columns = None if piece is None else form.columns(piece)
            if columns is None:
                return None
            parts.append(columns)
    return {key: np.concatenate([part[key] for part in parts]) for key in form.widths}


@dataclass(frozen=True)
class _Form:
    """How a file writes its objects.

    Attributes:
        widths: how many numbers each key has; 0 for a number outside a list.
        head: before the first number of an object.
        between: after each number of an object but the last.
        tail: after the last.
        joint: between two objects.
    """

    widths: dict[str, int]
    head: bytes
    between: list[bytes]
    tail: bytes
    joint: bytes

    def columns(self, piece: bytes) -> dict[str, Column] | None:
        """Return the columns of some whole objects; None if they are written in any other way."""
        if not (piece.isascii() and piece.startswith(self.head) and piece.endswith(self.tail)):
            return None
        text, pattern = piece[len(self.head) : len(piece) - len(self.tail)], b""
        for place, separator in enumerate([*self.between, self.tail + self.joint + self.head]):
            if b'"' in separator:  # else it is between the numbers of a list
                mark = bytes([MARK + place])
                text, separator = text.replace(separator, mark), mark
            pattern += separator
        count = piece.count(b"}")
        if text.translate(None, SIGNS) != (pattern * count)[:-1]:
            return None
        try:  # which refuses what is not a number, or two of them
            return self._split(orjson.loads(b"[%b]" % text.translate(_COMMAS)))
        except (orjson.JSONDecodeError, OverflowError):
            return None

    def _split(self, numbers: list[Any]) -> dict[str, Column]:
        step, at, columns = len(self.between) + 1, 0, dict[str, Column]()
        rows = np.array(numbers, np.float64).reshape(-1, step)
        for key, width in self.widths.items():
            end = at + max(width, 1)
            lists = [numbers[place::step] for place in range(at, end) if type(numbers[place]) is int]
            if len(lists) == end - at and all(set(map(type, each)) == {int} for each in lists):
                values: Column = np.array(lists, np.int64).T  # which doubles would round above 2**53
            else:
                values = rows[:, at:end]
            columns[key] = values.copy() if width else values[:, 0].copy()
            at = end
        return columns


def _form(text: bytes, joint: bytes) -> _Form | None:
    """Return how the first object of a file is written, and what follows it; None if it is not an object of numbers."""
    try:
        first = parse_json(text, "")
    except JsonError:
        return None
    values = [inner for value in first.values() for inner in (value if isinstance(value, list) else [value])]
    if not first or [] in first.values() or not {int, float} >= set(map(type, values)):
        return None
    tokens = [match for match in TOKEN.finditer(text) if match[0][:1] != b'"']
    edges = [(before.end(), after.start()) for before, after in pairwise(tokens)]
    if len(tokens) != len(values) or len(tokens) > MARK:
        return None
    return _Form(
        {key: len(value) if isinstance(value, list) else 0 for key, value in first.items()},
        text[: tokens[0].start()],
        [text[start:end] for start, end in edges],
        text[tokens[-1].end() :],
        joint,
    )


def _pieces(text: bytes, joint: bytes, file: BinaryIO) -> Iterator[bytes | None]:
    """Yield the objects of a file, many at a time; None where it does not go on with one, or end.

    Args:
        text: what was read, from the first object on.
        joint: between two objects.
        file: where the rest is.
    """
    while True:
        end = text.rfind(b"}") + 1
        yield text[:end] or None
        rest = text[end:] + file.read(PIECE)  # which holds the end of an object, unless one is as long as a piece
        if END.fullmatch(rest):
            return
        yield from () if joint and rest.startswith(joint) else (None,)
        text = rest[len(joint) :]
