"""detections.jsonl: what a line says, checked, and all lines one after the other."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eval.checks import without_inside_out
from eval.coco_json import whole_number
from eval.notes import Notes
from structures.boxes import as_boxes
from structures.errors import InputError
from structures.files import regular_file
from structures.json_reader import JsonError, parse_json
from structures.photo_names import possible
from structures.records import Detections

DETECTIONS_FILE = "detections.jsonl"  # in the folder of a run
FIELDS = ("image", "width", "height", "boxes", "labels", "scores")
LARGEST_SIDE = 2**31 - 1  # pixels
LARGEST_SUM = 1e38  # of numbers that float32 holds, so that each of them is such a number
MOST_SOURCES = 256  # generators that a record can tell apart


class ResultsError(InputError):
    """A results file that cannot be scored; the message names the file and the line."""


@dataclass(frozen=True, eq=False)
class ResultLine:
    """What was found in one photo, with labels as names.

    Attributes:
        place: file and line, for messages.
        image: the photo's name, with forward slashes.
        found: what was found; the labels are positions in `names`.
        names: the class names that occur, those of `found`.
    """

    place: str
    image: str
    found: Detections
    names: tuple[str, ...]


def read_lines(path: Path) -> tuple[list[ResultLine], list[str]]:
    """Read a detections.jsonl.

    Returns:
        The lines, and notes: a last line without an end, cut off by an interrupted run, is left out and named, and so
        are boxes that are turned inside out.

    Raises:
        ResultsError: any other line is malformed, holds numbers that are not finite, or names a photo again.
    """
    lines = ResultLines(path)
    return list(lines), lines.notes


class ResultLines:
    """The lines of a detections.jsonl, as `read_lines` has them, one at a time in memory; may be read again.

    Args:
        path: the file.

    Attributes:
        notes: of the latest iteration, complete at its end.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.notes = path, list[str]()

    def __iter__(self) -> Iterator[ResultLine]:
        odd, seen = Notes(), dict[str, int]()
        for number, entry in self._entries():
            place = f"{self.path}: line {number}"
            result = read_line(entry, place)
            if seen.setdefault(result.image, number) != number:
                raise ResultsError(f"{place}: {result.image} again, first at {self.path}: line {seen[result.image]}")
            yield well_formed(result, odd)
        self.notes += odd.lines()

    def images(self) -> Iterator[str]:
        """Yield the names of the photos, without the rest of their lines.

        Raises:
            ResultsError: a line is malformed.
        """
        return (require_line(entry, f"{self.path}: line {number}") for number, entry in self._entries())

    def _entries(self) -> Iterator[tuple[int, Any]]:
        self.notes = []
        with regular_file(self.path).open("rb") as file:
            for number, text in enumerate(file, start=1):
                place = f"{self.path}: line {number}"
                try:
                    if text.strip():
                        yield number, parse_json(text.removesuffix(b"\n"), place)
                except JsonError as error:
                    if text.endswith(b"\n") or not text.startswith(b"{"):
                        raise ResultsError(str(error)) from None
                    self.notes.append(f"{place}: the last line is cut off and was left out: 1 image")


def require_line(entry: Any, place: str) -> str:
    """Return the photo that a line is about, if `read_line` could read it.

    Raises:
        ResultsError: as `read_line`.
    """
    return str(entry["image"]) if _is_plain(entry) else read_line(entry, place).image


def _is_plain(entry: Any) -> bool:
    """Say whether a line is one as we write them: quickly, as a folder may have millions."""
    try:
        image, width, height, boxes, labels, scores = map(entry.__getitem__, FIELDS)
        numbers = [*chain.from_iterable(boxes), *scores]
        return (
            type(image) is str
            and possible(image)
            and {type(width), type(height)} == {int}
            and 0 < min(width, height) <= max(width, height) <= LARGEST_SIDE
            and {type(boxes), type(labels), type(scores)} == {list}
            and {list} >= set(map(type, boxes))
            and {4} >= set(map(len, boxes))
            and {str} >= set(map(type, labels))
            and {int, float} >= set(map(type, numbers))
            and len(boxes) == len(labels) == len(scores)
            and sum(map(abs, numbers)) < LARGEST_SUM
        )
    except (KeyError, TypeError, AttributeError, OverflowError):
        return False


def well_formed(line: ResultLine, notes: Notes) -> ResultLine:
    """Return a line without the boxes that are turned inside out, which are noted."""
    boxes = line.found.boxes
    sides = boxes[:, 2:] - boxes[:, :2]
    return replace(line, found=without_inside_out(line.found, sides, notes, lambda row: f"{line.place}: box {row + 1}"))


def read_line(entry: Any, place: str) -> ResultLine:
    """Return what a line says, as parsed from JSON.

    Args:
        entry: the line.
        place: file and line, for messages.

    Raises:
        ResultsError: it says too little, or holds numbers that are not finite; names the place.
    """
    missing = [name for name in FIELDS if not isinstance(entry, dict) or name not in entry]
    if missing or not _is_name(entry["image"]):
        raise ResultsError(f"{place}: no {', '.join(missing) or 'image name'}")
    try:
        names = tuple(dict.fromkeys(map(str, entry["labels"])))
        numbers = {name: label for label, name in enumerate(names)}
        size = (_side(entry, "height"), _side(entry, "width"))
        labels = np.array([numbers[str(name)] for name in entry["labels"]], np.int64)
        with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which a record refuses
            source, by = _sources(entry.get("sources"), len(labels))
            found = Detections(as_boxes(entry["boxes"]), labels, entry["scores"], size, source, by, classes=names)
    except (TypeError, ValueError, OverflowError) as error:
        raise ResultsError(f"{place}: {entry['image']}: {error}") from None
    return ResultLine(place, str(entry["image"]), found, names)


def _sources(said: Any, count: int) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Return who proposed each box, where a line says so: the columns `source` and `source_names` of a record."""
    names = list(dict.fromkeys(said)) if isinstance(said, list) and all(isinstance(name, str) for name in said) else []
    if not names or len(said) != count or len(names) > MOST_SOURCES:
        return np.zeros(count, np.uint8), ("",)
    return np.array([names.index(name) for name in said], np.uint8), tuple(names)


def _is_name(value: Any) -> bool:
    if not isinstance(value, str | int) or isinstance(value, bool):
        return False
    return possible(str(value))


def _side(entry: Any, name: str) -> int:
    side = whole_number(entry[name])
    if side is None or not 0 < side <= LARGEST_SIDE:
        raise InputError(f"{name} must be a whole number of pixels from 1 to {LARGEST_SIDE}, got {entry[name]!r:.60}")
    return side
