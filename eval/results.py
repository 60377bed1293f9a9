"""detections.jsonl -> detections of every image of a dataset, with a count of everything that does not fit."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from eval.checks import without_inside_out
from eval.coco_json import whole_number
from eval.names import LEAVE_OUT, ImageNames
from eval.notes import Notes
from structures.boxes import ImageSize, as_boxes
from structures.errors import InputError
from structures.files import regular_file
from structures.json_reader import JsonError, parse_json
from structures.names import ClassNames
from structures.records import Dataset, Detections

DETECTIONS_FILE = "detections.jsonl"  # in the folder of a run
FIELDS = ("image", "width", "height", "boxes", "labels", "scores")
LARGEST_SIDE = 2**31 - 1  # pixels
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

    detections: list[Detections]
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
    content = regular_file(path).read_bytes().split(b"\n")
    lines = [line for line in enumerate(content, 1) if line[1].strip()]
    results, notes, odd, seen = [], [], Notes(), dict[str, str]()
    for number, text in lines:
        place = f"{path}: line {number}"
        try:
            entry = parse_json(text, place)
        except JsonError as error:
            if number != len(content) or not text.startswith(b"{"):
                raise ResultsError(str(error)) from None
            notes.append(f"{place}: the last line is cut off and was left out: 1 image")
            continue
        result = read_line(entry, place)
        if result.image in seen:
            raise ResultsError(f"{place}: {result.image} again, first at {seen[result.image]}")
        seen[result.image] = place
        results.append(well_formed(result, odd))
    return results, [*notes, *odd.lines()]


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
    chosen, extra = _choose(lines, dataset, allow_extra)
    classes = ClassNames(dataset.classes)
    unknown = Counter(name for line in chosen.values() for name in _names(line) if classes.find(name) < 0)
    if unknown and unknown.total() == sum(len(line.found) for line in chosen.values()):
        raise ResultsError(f"no detection is of a class of the ground truth: {', '.join(sorted(unknown)[:20])}")
    sizes = {truth.image_id: truth.image_size for truth in dataset}
    return Aligned(
        detections=[_relabel(chosen[i], classes) if i in chosen else _empty(sizes[i]) for i in dataset.image_ids],
        missing=[image_id for image_id in dataset.image_ids if image_id not in chosen],
        extra=extra,
        unknown_labels=unknown,
        resized=[line.image for image_id, line in chosen.items() if line.found.image_size != sizes[image_id]],
        remedy=" (`only_detected=True` leaves them out)",
    )


def align_records(detections: Mapping[str, Detections], dataset: Dataset, extra: Sequence[str] = ()) -> Aligned:
    """Bring detections that carry the dataset's own image ids and labels into its order.

    Args:
        detections: by image id.
        dataset: the ground truth.
        extra: images that it lacks, left out already.
    """
    empty = {truth.image_id: _empty(truth.image_size) for truth in dataset}
    return Aligned(
        detections=[detections.get(image_id, empty[image_id]) for image_id in dataset.image_ids],
        missing=[image_id for image_id in dataset.image_ids if image_id not in detections],
        extra=list(extra),
    )


def _choose(
    lines: Iterable[ResultLine], dataset: Dataset, allow_extra: bool
) -> tuple[dict[str, ResultLine], list[str]]:
    """Return the line of every image id, and the photos that the dataset lacks."""
    names = ImageNames(dataset)
    chosen, extra = dict[str, ResultLine](), list[str]()
    for line in lines:
        image_id = names.find(line.image)
        if image_id is None and not allow_extra:
            raise ResultsError(f"{line.place}: {line.image} is not in the ground truth ({LEAVE_OUT})")
        if image_id is None:
            extra.append(line.image)
        elif image_id in chosen:
            raise ResultsError(f"{line.place}: {line.image} and {chosen[image_id].image} are both image {image_id}")
        else:
            chosen[image_id] = line
    return chosen, extra


def _names(line: ResultLine) -> Iterator[str]:
    return (line.names[label] for label in line.found.labels)


def _empty(image_size: ImageSize) -> Detections:
    return Detections(as_boxes([]), np.zeros(0, np.int64), np.zeros(0, np.float32), image_size)


def _relabel(line: ResultLine, classes: ClassNames) -> Detections:
    known = np.array([classes.find(name) for name in line.names], np.int64)
    found = line.found
    renamed = Detections(found.boxes, known[found.labels], found.scores, found.image_size)
    return renamed.take(renamed.labels >= 0)
