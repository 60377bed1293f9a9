"""Results -> detections of every image of a dataset, with a count of everything that does not fit."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from eval.names import LEAVE_OUT, ImageNames
from eval.packed import DetectionPacker, PackedByName
from eval.results import ResultLine, ResultsError
from structures.boxes import ImageSize, as_boxes
from structures.names import ClassNames
from structures.records import Dataset, Detections
from structures.text import number_of


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
        fate = f"counted as misses{self.remedy}" if missing_count else "left out"
        labels = ", ".join(f"{name} ({count})" for name, count in sorted(self.unknown_labels.items()))
        lines = [
            (
                self.missing,
                f"{count_images(self.missing)} of the ground truth without results {fate}",
            ),
            (self.extra, f"{count_images(self.extra)} not in the ground truth left out"),
            (
                self.resized,
                f"{count_images(self.resized)} of another size than in the ground truth; boxes were not rescaled",
            ),
            (labels, f"detections of classes not in the ground truth left out: {labels}"),
        ]
        return [line for condition, line in lines if condition]


def count_images(images: Sequence[str]) -> str:
    """Return how many there are, with the first names.

    >>> count_images(["a", "b", "c", "d"])
    '4 images (a, b, c, ...)'
    """
    examples = ", ".join(images[:3]) + (", ..." if len(images) > 3 else "")
    return f"{number_of(len(images), 'image')} ({examples})"


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
    """Matches result lines to the images of a dataset, one line at a time; only their numbers are kept."""

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
        extra: names of images that it lacks, whose detections were left out.
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
