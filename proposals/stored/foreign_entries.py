"""One photo's boxes in a file of another program, checked: its name or number, boxes (N, 4) xyxy and scores (N,)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from structures.boxes import Boxes, Doubles, Floats, as_boxes
from structures.errors import InputError
from structures.photo_names import forward
from structures.text import number_of

Entries = dict[str | int, tuple[Boxes, Floats]]

KINDS = "biufO"  # of arrays that may hold numbers; objects are turned into numbers one by one
LARGEST_NUMBER = 2**63 - 1  # of a photo


class ForeignError(InputError):
    """A proposal file that cannot be used; the message names the file and the entry."""


def as_they_are(rows: Doubles) -> Doubles:
    """Return x1, y1, x2, y2 as they are."""
    return rows


def from_sides(rows: Doubles) -> Doubles:
    """Turn x, y, width, height into corners."""
    return np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:]], axis=1)


def add_entry(
    entries: Entries,
    name: Any,
    boxes: npt.ArrayLike,
    scores: npt.ArrayLike,
    place: str,
    corners: Callable[[Doubles], Doubles] = as_they_are,
) -> None:
    """Check the boxes of a photo and put them among the entries.

    Args:
        entries: added to.
        name: of the photo, or its number; see `key_of`.
        boxes: (N, 4) in any order of columns; empty ones may have any shape.
        scores: N numbers.
        place: file and entry, for messages.
        corners: turns the columns into x1, y1, x2, y2.

    Raises:
        ForeignError: not numbers, not finite as float32, of other shapes, or the photo appears twice.
    """
    key = key_of(name, place)
    if key in entries:
        raise ForeignError(f"{place}: photo {key} appears twice")
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 becomes infinite, which is refused below
            rows = as_boxes(corners(_rows(boxes)))
            column = _doubles(scores).reshape(-1).astype(np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise ForeignError(f"{place}: {error}") from None
    if len(rows) != len(column):
        raise ForeignError(f"{place}: {number_of(len(rows), 'box')} but {number_of(len(column), 'score')}")
    if not (np.isfinite(rows).all() and np.isfinite(column).all()):
        raise ForeignError(f"{place}: boxes or scores are not finite")
    entries[key] = rows, column


def key_of(name: Any, place: str) -> str | int:
    """Return the name of a photo, with forward slashes, or its number; 139.0 is a number, too."""
    if isinstance(name, str):
        return forward(str(name))
    whole = isinstance(name, float | np.floating) and float(name).is_integer()
    if whole or (isinstance(name, int | np.integer) and not isinstance(name, bool)):
        number = int(name)
        if abs(number) <= LARGEST_NUMBER:
            return number
    raise ForeignError(f"{place}: {brief(name)} is neither the name nor the number of a photo")


def brief(value: Any) -> str:
    """Show a value of a file in a message; of lists and the like, which may be endless, only what they are."""
    if value is None or isinstance(value, str | bool | float | np.number):
        return f"{value!r:.60}"
    if isinstance(value, int):
        return str(value) if abs(value) <= LARGEST_NUMBER else "a number of many digits"
    return f"a value of type {type(value).__name__}"


def _rows(values: npt.ArrayLike) -> Doubles:
    rows = _doubles(values)
    if rows.size == 0:
        return np.zeros((0, 4))
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise InputError(f"boxes must have shape (N, 4), got {rows.shape}")
    return rows


def _doubles(values: npt.ArrayLike) -> Doubles:
    array = np.asarray(values)
    if array.dtype.kind not in KINDS:
        raise InputError(f"boxes and scores must be numbers, got {array.dtype!s:.60}")
    return array.astype(np.float64)
