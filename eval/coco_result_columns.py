"""A results file of COCO as columns: read at once where it is written as by most programs, otherwise entry by entry."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.coco_json import (
    LARGEST,
    LARGEST_WHOLE,
    WHOLE_NUMBERS,
    CocoError,
    Entry,
    Numbers,
    check_entries,
    first_odd,
    load,
    to_boxes,
    to_corners,
)
from structures.boxes import Boxes, Doubles
from structures.json_columns import read_columns

RESULT = ("image_id", "category_id", "bbox", "score")  # what each entry of a results file has


@dataclass(frozen=True, eq=False)
class ResultColumns:
    """The entries of a results file, in its order.

    Attributes:
        image: (N,) COCO's image id.
        category: (N,) category id.
        sides: (N, 4) x, y, width, height.
        boxes: (N, 4) the same as corners.
        scores: (N,) float64, within the range of float32.
    """

    image: Numbers
    category: Numbers
    sides: Doubles
    boxes: Boxes
    scores: Doubles


def read_result_columns(path: Path) -> ResultColumns:
    """Read a results file: as columns where it is written as by most programs, otherwise entry by entry.

    Raises:
        CocoError: it is not a list of results, or an entry cannot be used; names it.
        OSError: it cannot be opened.
    """
    quick = _read_quickly(path)
    if quick is not None:
        return quick
    entries = _read_entries_of_results(path)
    image, category = (np.array([entry[key] for entry in entries], np.int64) for key in ("image_id", "category_id"))
    sides, boxes = to_boxes([entry["bbox"] for entry in entries], lambda row: f"{path}: entry {row}")
    scores = np.array([entry["score"] for entry in entries], np.float64)
    return ResultColumns(image, category, sides, boxes, scores)


def _read_quickly(path: Path) -> ResultColumns | None:
    """Return the columns if they are certainly sound; None where the entries must be checked one by one."""
    columns = read_columns(path) or {}
    if not columns.keys() >= set(RESULT):
        return None
    image, category, bbox, score = (columns[key] for key in RESULT)
    numbers = [columns[key] for key in WHOLE_NUMBERS if key in columns]
    whole = all(each.dtype == np.int64 and each.ndim == 1 and each.min() >= -LARGEST_WHOLE for each in numbers)
    if not whole or bbox.shape[1:] != (4,) or score.ndim != 1 or not (np.abs(score) <= LARGEST).all():
        return None
    sides = bbox.astype(np.float64, copy=False)
    try:
        boxes = to_corners(sides, "")
    except CocoError:
        return None
    return ResultColumns(image.astype(np.int64), category.astype(np.int64), sides, boxes, score.astype(np.float64))


def _read_entries_of_results(path: Path) -> list[Entry]:
    """Return the entries of a results file; some tools wrap them as the annotations of an object."""
    content = load(path)
    entries = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise CocoError(f"{path}: expected a JSON list of results")
    check_entries(entries, RESULT, lambda position: f"{path}: entry {position}")
    scores = [entry["score"] for entry in entries]
    if (wrong := first_odd(scores)) is not None:
        raise CocoError(f"{path}: entry {wrong} has score {scores[wrong]!r:.60}")
    return entries
