"""The entries of COCO's JSON files, checked one by one, as columns of our records."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eval.coco_records import Doubles
from structures.boxes import Boxes, as_boxes
from structures.errors import InputError
from structures.json_reader import JsonError, read_json

Entry = dict[str, Any]

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
    """Read a JSON file."""
    try:
        return read_json(path)
    except JsonError as error:
        raise CocoError(str(error)) from None


def read_entries(content: Any, part: str, path: Path) -> list[Entry]:
    """Return one list of an instances.json; its entries have all that is needed and ids that are whole numbers."""
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
    """Say whether all entries surely have all that is needed, and ids that are written as whole numbers."""
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
    """Refuse an entry that lacks something or has an id that is no whole number; 3.0 becomes 3."""
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
    """Return a number that is whole, as some tools write 3.0 for 3; None if it is none, or beyond 64 bits.

    >>> whole_number(3.0), whole_number(3.5), whole_number(True), whole_number("3"), whole_number(1e300)
    (3, None, None, None, None)
    """
    whole = value.is_integer() if isinstance(value, float) else type(value) is int
    return int(value) if whole and abs(value) <= LARGEST_WHOLE else None


def is_crowd(entry: Entry, place: str) -> bool:
    """Say whether an annotation is of a crowd."""
    value = entry.get("iscrowd", 0)
    if value not in (0, 1):
        raise CocoError(f"{place} has iscrowd {value!r:.60}, expected 0 or 1")
    return bool(value)


def read_results(path: Path) -> list[Entry]:
    """Return the entries of a results file; some tools wrap them as the annotations of an object."""
    content = load(path)
    entries = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise CocoError(f"{path}: expected a JSON list of results")
    check_entries(entries, ("image_id", "category_id", "bbox", "score"), lambda position: f"{path}: entry {position}")
    scores = [entry["score"] for entry in entries]
    if not (set(map(type, scores)) <= {float} and (np.abs(np.array(scores)) <= LARGEST).all()):
        for position, score in enumerate(scores):
            if not _is_finite(score):
                raise CocoError(f"{path}: entry {position} has score {score!r:.60}")
    return entries


def distinct(values: Sequence[Any], what: str, path: Path) -> tuple[Any, ...]:
    """Return the values as a tuple; none may be there twice."""
    seen = set()
    for value in values:
        if value in seen:
            raise CocoError(f"{path}: {what} {value} is there twice")
        seen.add(value)
    return tuple(values)


def to_labels(rows: Sequence[Entry], category_ids: Sequence[int], path: Path) -> npt.NDArray[np.int64]:
    """Return the label of every entry: the place of its category id."""
    known = {number: label for label, number in enumerate(category_ids)}
    for row in rows:
        if row["category_id"] not in known:
            raise CocoError(f"{path}: category_id {row['category_id']} is not among the categories")
    return np.array([known[row["category_id"]] for row in rows], np.int64)


def to_areas(rows: Sequence[Entry], sides: Doubles, path: Path) -> Doubles:
    """Return the annotated areas (COCO's are of the mask), or the boxes' where there are none."""
    stated = [row.get("area") for row in rows]
    for value in stated:
        if value is not None and not _is_finite(value):
            raise CocoError(f"{path}: area {value!r:.60} is not a number")
    boxes = np.maximum(sides[:, 2:], 0).prod(axis=1)
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
    """Return the (N, 4) x, y, width, height of entries, as they are stated."""
    try:
        return np.array(boxes, np.float64).reshape(len(boxes), 4)
    except (TypeError, ValueError):
        raise CocoError(f"{place}: every bbox must be four numbers x, y, width, height") from None
    except OverflowError:
        raise CocoError(f"{place}: a bbox holds values that are not finite") from None


def to_corners(sides: Doubles, place: str) -> Boxes:
    """Return x, y, width, height as our x1, y1, x2, y2."""
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 becomes infinite, which is refused below
        corners = as_boxes(np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], axis=1))
    if not np.isfinite(corners).all():
        raise CocoError(f"{place}: a bbox holds values that are not finite")
    return corners


def _is_finite(value: Any) -> bool:
    """Say whether a value is a number that float32 can hold."""
    return isinstance(value, int | float) and -LARGEST <= value <= LARGEST
