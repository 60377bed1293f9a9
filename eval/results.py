"""detections.jsonl -> detections of every image of a dataset, with a count of everything that does not fit."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from eval.checks import without_inside_out
from eval.coco_json import whole_number
from eval.names import LEAVE_OUT, ImageNames
from eval.notes import Notes
from eval.packed import DetectionPacker, PackedByName
from structures.boxes import ImageSize, as_boxes
from structures.errors import InputError
from structures.files import regular_file
from structures.json_reader import JsonError, parse_json
from structures.names import ClassNames
from structures.records import Dataset, Detections

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


@dataclass(frozen=True, eq=False)
class Aligned:
    """Detections brought into the order of a dataset.

    Attributes:
        detections: one record per image of the dataset, in its order; empty for images that the results lack.
        missing: images of the dataset that are missing from the results: all their objects count as missed.
        extra: photos of the results that the dataset lacks: left out.
        unknown_labels: detections left out because the dataset has no such class, by class.
        resized: photos whose stated size differs from the ground truth's: their boxes may be of another scale.
        remedy: what to do about missing images, for the warning.
    """

    detections: Sequence[Detections]
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    unknown_labels: Mapping[str, int] = field(default_factory=dict)
    resized: list[str] = field(default_factory=list)
    remedy: str = ""

    def warnings(self, *, missing_count: bool = True) -> list[str]:
        """Return one line for everything that does not fit.

        Args:
            missing_count: the objects of missing images count as missed.
        """
        fate = f"count as misses{self.remedy}" if missing_count else "are left out"
        labels = ", ".join(f"{name} ({count})" for name, count in sorted(self.unknown_labels.items()))
        lines = [
            (
                self.missing,
                f"{count_images(self.missing)} of the ground truth without a line of results {fate}",
            ),
            (self.extra, f"{count_images(self.extra)} unknown to the ground truth left out"),
            (
                self.resized,
                f"{count_images(self.resized)} differ in size from the ground truth; boxes were not rescaled",
            ),
            (labels, f"detections of classes unknown to the ground truth left out: {labels}"),
        ]
        return [line for condition, line in lines if condition]


def count_images(images: Sequence[str]) -> str:
    """Return how many there are, with the first names.

    >>> count_images(["a", "b", "c", "d"])
    '4 images (a, b, c, ...)'
    """
    examples = ", ".join(images[:3]) + (", ..." if len(images) > 3 else "")
    return f"{len(images)} image{'s' * (len(images) != 1)} ({examples})"


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
    """The lines of a detections.jsonl, as `read_lines` has them, of which one at a time is held; may be read again.

    Args:
        path: the file.

    Attributes:
        notes: of the latest reading, complete when it came to the end.
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
            and image.strip("./") != ""
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
        raise ResultsError(f"{place}: no {', '.join(missing) or 'image that is named'}")
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
    return bool(PurePosixPath(str(value)).name) and isinstance(value, str | int) and not isinstance(value, bool)


def _side(entry: Any, name: str) -> int:
    side = whole_number(entry[name])
    if side is None or not 0 < side <= LARGEST_SIDE:
        raise InputError(f"{name} must be a whole number of pixels from 1 to {LARGEST_SIDE}, got {entry[name]!r:.60}")
    return side


def align(lines: Iterable[ResultLine], dataset: Dataset, *, allow_extra: bool = False) -> Aligned:
    """Bring result lines into the order of a dataset.

    Photos are looked up by `ImageNames`, classes by `ClassNames`.

    Args:
        lines: as from `read_lines`.
        dataset: the ground truth.
        allow_extra: leave out photos that the dataset lacks, and count them.

    Raises:
        ResultsError: a photo is not in the dataset, two photos are the same image of it, or no class is known to it.
    """
    matching = _Matching(dataset, allow_extra)
    for line in lines:
        matching.add(line)
    return matching.aligned()


class _Matching:
    """Result lines that find their images in a dataset one after the other; only their numbers are kept."""

    def __init__(self, dataset: Dataset, allow_extra: bool) -> None:
        self._dataset, self._allow_extra = dataset, allow_extra
        self._names, self._classes = ImageNames(dataset), ClassNames(dataset.classes)
        self._sizes = {truth.image_id: truth.image_size for truth in dataset}
        self._places, self._photos, self._found = dict[str, int](), list[str](), DetectionPacker()
        self._extra, self._resized = list[str](), list[str]()
        self._labels, self._unknown = 0, Counter[str]()

    def add(self, line: ResultLine) -> None:
        image_id = self._names.find(line.image)
        if image_id is None and not self._allow_extra:
            raise ResultsError(f"{line.place}: {line.image} is not in the ground truth ({LEAVE_OUT})")
        if image_id is None:
            self._extra.append(line.image)
            return
        if image_id in self._places:
            other = self._photos[self._places[image_id]]
            raise ResultsError(f"{line.place}: {line.image} and {other} are both image {image_id}")
        self._places[image_id] = len(self._photos)
        self._photos.append(line.image)
        self._found.add(_relabel(line, self._classes))
        self._labels += len(line.found)
        self._unknown.update(name for name in _names(line) if self._classes.find(name) < 0)
        if line.found.image_size != self._sizes[image_id]:
            self._resized.append(line.image)

    def aligned(self) -> Aligned:
        if self._unknown and self._unknown.total() == self._labels:
            unknown = ", ".join(sorted(self._unknown)[:20])
            raise ResultsError(f"no detection is of a class of the ground truth: {unknown}")
        missing = [image_id for image_id in self._dataset.image_ids if image_id not in self._places]
        for image_id in missing:
            self._places[image_id] = len(self._found)
            self._found.add_empty(self._sizes[image_id])
        return Aligned(
            detections=self._found.packed([self._places[image_id] for image_id in self._dataset.image_ids]),
            missing=missing,
            extra=self._extra,
            unknown_labels=self._unknown,
            resized=self._resized,
            remedy=" (`only_detected=True` leaves them out)",
        )


def align_records(detections: Mapping[str, Detections], dataset: Dataset, extra: Sequence[str] = ()) -> Aligned:
    """Bring detections that carry the dataset's own image ids and labels into its order.

    Args:
        detections: by image id.
        dataset: the ground truth.
        extra: images that it lacks, left out already.
    """
    missing = [image_id for image_id in dataset.image_ids if image_id not in detections]
    if isinstance(detections, PackedByName):  # which holds empty records of the others
        return Aligned(detections=detections.records, missing=missing, extra=list(extra))
    empty = {image_id: _empty(dataset.ground_truth(image_id).image_size) for image_id in missing}
    ordered = [detections[image_id] if image_id in detections else empty[image_id] for image_id in dataset.image_ids]
    return Aligned(detections=ordered, missing=missing, extra=list(extra))


def _names(line: ResultLine) -> Iterator[str]:
    return (line.names[label] for label in line.found.labels)


def _empty(image_size: ImageSize) -> Detections:
    return Detections(as_boxes([]), np.zeros(0, np.int64), np.zeros(0, np.float32), image_size)


def _relabel(line: ResultLine, classes: ClassNames) -> Detections:
    known = np.array([classes.find(name) for name in line.names], np.int64)
    found = line.found
    renamed = Detections(found.boxes, known[found.labels], found.scores, found.image_size)
    return renamed.take(renamed.labels >= 0)
