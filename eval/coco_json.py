"""The entries of COCO's JSON files, checked one by one, as columns of our records."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from structures.boxes import Boxes, Doubles, Indices, Mask, as_boxes
from structures.errors import InputError
from structures.json_reader import JsonError, read_json

Entry = dict[str, Any]
Numbers = npt.NDArray[np.int64]

NEEDED = {
    "images": ("id", "file_name"),
    "categories": ("id", "name"),
    "annotations": ("image_id", "category_id", "bbox"),
}
WHOLE_NUMBERS = ("id", "image_id", "category_id")
LARGEST = float(np.finfo(np.float32).max)
LARGEST_WHOLE = 2**63 - 1  # of ids and sides


class CocoError(InputError):
    """A COCO file that cannot be used; the message names the file and the entry."""


def load(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        CocoError: it cannot be used; names it.
        OSError: it cannot be opened.
    """
    try:
        return read_json(path)
    except JsonError as error:
        raise CocoError(str(error)) from None


def read_entries(content: Any, part: str, path: Path) -> list[Entry]:
    """Return one list of an instances.json; its entries have the needed keys, and ids that are whole numbers.

    Args:
        content: of the file.
        part: a key of NEEDED.
        path: the file, for messages.

    Raises:
        CocoError: there is no such list, or an entry that cannot be used; names it.
    """
    entries = content.get(part) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise CocoError(f"{path}: no list {part!r}; expected COCO's instances.json")
    check_entries(entries, NEEDED[part], lambda position: f"{path}: {part}[{position}]")
    return entries


def check_entries(entries: list[Any], needed: Sequence[str], place: Callable[[int], str]) -> None:
    """Check all entries as `check_entry` does: quickly, and one by one only where that finds something.

    Args:
        entries: of a list of the file.
        needed: keys that each must have.
        place: returns the file and position of an entry.

    Raises:
        CocoError: names the first that cannot be used.
    """
    if not _are_plain(entries, needed):
        for position, entry in enumerate(entries):
            check_entry(entry, needed, place(position))


def _are_plain(entries: list[Any], needed: Sequence[str]) -> bool:
    """Say whether all entries certainly have the needed keys, and ids that are written as whole numbers."""
    if not set(map(type, entries)) <= {dict}:
        return False
    try:
        columns = {key: [entry[key] for entry in entries] for key in needed}
    except KeyError:
        return False
    others = [[entry[key] for entry in entries if key in entry] for key in WHOLE_NUMBERS if key not in needed]
    numbers = [*(columns[key] for key in WHOLE_NUMBERS if key in needed), *others]
    return all(
        set(map(type, values)) <= {int} and max(map(abs, values), default=0) <= LARGEST_WHOLE for values in numbers
    )


def check_entry(entry: Any, needed: Sequence[str], place: str) -> None:
    """Refuse an entry that lacks a key or has an id that is not a whole number; 3.0 becomes 3.

    Raises:
        CocoError: names the place.
    """
    missing = [key for key in needed if not isinstance(entry, dict) or key not in entry]
    if missing:
        raise CocoError(f"{place} has no {', '.join(missing)}")
    for key in WHOLE_NUMBERS:
        if key in entry:
            number = whole_number(entry[key])
            if number is None:
                raise CocoError(f"{place} has {key} {entry[key]!r:.60}, expected a whole number")
            entry[key] = number


def whole_number(value: Any) -> int | None:
    """Return a whole number, which some tools write as 3.0; None for anything else, and beyond 64 bits.

    >>> whole_number(3.0), whole_number(3.5), whole_number(True), whole_number("3"), whole_number(1e300)
    (3, None, None, None, None)
    """
    whole = value.is_integer() if isinstance(value, float) else type(value) is int
    return int(value) if whole and abs(value) <= LARGEST_WHOLE else None


def are_crowds(rows: Sequence[Entry], path: Path) -> Mask:
    """Say which (N,) annotations are of crowds.

    Raises:
        CocoError: `iscrowd` is not 0 or 1; names the annotation.
    """
    stated = [row.get("iscrowd", 0) for row in rows]
    for row, value in zip(rows, stated, strict=True):
        if value not in (0, 1):
            raise CocoError(f"{path}: annotation {row.get('id')} has iscrowd {value!r:.60}, expected 0 or 1")
    return np.array(stated, np.bool_)


def distinct(values: Sequence[Any], what: str, path: Path) -> tuple[Any, ...]:
    """Return the values as a tuple.

    Raises:
        CocoError: one appears twice; names it.
    """
    seen = set()
    for value in values:
        if value in seen:
            raise CocoError(f"{path}: {what} {value} appears twice")
        seen.add(value)
    return tuple(values)


def positions_of(numbers: Numbers, known: Sequence[int]) -> Indices:
    """Return the position of each number among those known, which ascend; -1 where it is not known.

    >>> positions_of(np.array([9, 4, 2]), [2, 9]).tolist()
    [1, -1, 0]
    """
    if not known:
        return np.full(len(numbers), -1, np.int64)
    ascending = np.array(known, np.int64)
    places = np.minimum(np.searchsorted(ascending, numbers), len(known) - 1)
    return np.where(ascending[places] == numbers, places, -1).astype(np.int64)


def to_labels(numbers: Numbers, category_ids: Sequence[int], path: Path) -> Indices:
    """Return the (N,) labels of (N,) category ids: their places among all ids, which ascend.

    Raises:
        CocoError: an id is not among them; names it.
    """
    labels = positions_of(numbers, category_ids)
    if len(unknown := numbers[labels < 0]):
        raise CocoError(f"{path}: category_id {unknown[0]} is not among the categories")
    return labels


def to_areas(rows: Sequence[Entry], sides: Doubles, path: Path) -> Doubles:
    """Return the (N,) annotated areas in square pixels (COCO's are of the mask), or the boxes' where there are none.

    Raises:
        CocoError: an area is not a number; names it.
    """
    stated = [row.get("area") for row in rows]
    wrong = first_odd([0 if value is None else value for value in stated])
    if wrong is not None:
        raise CocoError(f"{path}: area {stated[wrong]!r:.60} is not a number")
    boxes = (np.maximum(sides[:, 2], 0) * np.maximum(sides[:, 3], 0)).tolist()
    return np.array([s if a is None else a for a, s in zip(stated, boxes, strict=True)], np.float64)


def to_boxes(stated: Sequence[Any], place: Callable[[int], str]) -> tuple[Doubles, Boxes]:
    """Return boxes of entries as `to_sides` and as `to_corners` do, all at once.

    Args:
        stated: N boxes.
        place: returns the file and image of a box.

    Raises:
        CocoError: names the place of the first that cannot be used.
    """
    try:
        sides = to_sides(stated, "")
        return sides, to_corners(sides, "")
    except CocoError:
        for position, box in enumerate(stated):
            to_corners(to_sides([box], place(position)), place(position))
        raise


def to_sides(boxes: Sequence[Any], place: str) -> Doubles:
    """Return the (N, 4) x, y, width, height of entries, as they are stated.

    Raises:
        CocoError: a box is not four numbers; names the place.
    """
    try:
        return np.array(boxes, np.float64).reshape(len(boxes), 4)
    except (TypeError, ValueError):
        raise CocoError(f"{place}: every bbox must be four numbers x, y, width, height") from None
    except OverflowError:
        raise CocoError(f"{place}: a bbox holds values that are not finite") from None


def to_corners(sides: Doubles, place: str) -> Boxes:
    """Return (N, 4) x, y, width, height as our x1, y1, x2, y2.

    Raises:
        CocoError: a value is not finite as float32; names the place.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 becomes infinite, which is refused below
        corners = as_boxes(np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], axis=1))
    if not np.isfinite(corners).all():
        raise CocoError(f"{place}: a bbox holds values that are not finite")
    return corners


def first_odd(values: Sequence[Any]) -> int | None:
    """Return the position of the first value that is not a number within float32's range; None if there is none."""
    if {int, float} >= set(map(type, values)) and (not values or -LARGEST <= min(values) <= max(values) <= LARGEST):
        if not any(map(math.isnan, values)):
            return None
    usable = (isinstance(value, int | float) and -LARGEST <= value <= LARGEST for value in values)
    return next((place for place, good in enumerate(usable) if not good), None)
