"""A part of a dataset, as a dataset: some of its classes, an even sample of its photos."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from eval.notes import notes_of
from eval.photo_records import PhotoRecords
from structures.boxes import area, clip
from structures.errors import InputError
from structures.names import ClassNames, did_you_mean
from structures.records import Dataset, Detections, GroundTruth

Picked = TypeVar("Picked")


class Selection(PhotoRecords):
    """Some classes and some photos of a dataset.

    Objects of other classes are left out; photos without any of the chosen classes stay, as photos without objects.

    Args:
        dataset: what is chosen from.
        classes: names in the order of the new labels, looked up by `ClassNames`; None takes all.
        photos: how many, evenly spread over the dataset and always the same; 0 takes all.
        without: photos that are left out before any are spread.
        to_learn: cut the boxes to their photos, and leave out objects without a pixel there: they are to be learned
            from, not judged by.
        ignored: names of classes whose objects are all ignored: they count neither as object nor as background.
        ignored_alone: no other object is ignored, whatever the annotations say.

    Attributes:
        classes: class names; a label is an index into them.
        ignored: names of those whose objects are all ignored.
        image_ids: names of the chosen photos, in the dataset's order.
        whole: what was chosen from.

    Raises:
        InputError: a class that is not in the dataset, or one named twice.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        classes: Sequence[str] | None = None,
        photos: int = 0,
        without: Collection[str] = (),
        to_learn: bool = False,
        ignored: Sequence[str] = (),
        ignored_alone: bool = False,
    ) -> None:
        self.whole = dataset
        self._to_learn, self._ignored_alone = to_learn, ignored_alone
        self._ignored = _labels(ignored, dataset) if ignored else []
        self.ignored: Sequence[str] = tuple(dataset.classes[label] for label in self._ignored)
        chosen = list(range(len(dataset.classes))) if classes is None else _labels(classes, dataset)
        self._new_labels = np.full(len(dataset.classes), -1, np.int64)
        self._new_labels[chosen] = np.arange(len(chosen))
        self.classes: Sequence[str] = tuple(dataset.classes[label] for label in chosen)
        excluded = set(without)
        self.image_ids: Sequence[str] = pick_evenly(
            [image_id for image_id in dataset.image_ids if image_id not in excluded], photos
        )
        self.truths = [self._record(dataset.ground_truth(image_id)) for image_id in self.image_ids]

    @property
    def notes(self) -> list[str]:
        """What was odd about the annotations of the dataset."""
        return notes_of(self.whole)

    def image_path(self, image_id: str) -> Path:
        """Return where the photo lies."""
        return self.whole.image_path(image_id)

    def _unknown(self, image_id: str) -> InputError:
        return InputError(f"image {image_id!r} is not one of the {len(self)} that were chosen")

    def relabel(self, found: Detections) -> Detections:
        """Turn labels of the whole dataset into those of the chosen classes; detections of others are left out."""
        labels = self._new_labels[found.labels]
        return replace(found, labels=labels).take(labels >= 0)

    def _record(self, truth: GroundTruth) -> GroundTruth:
        labels = self._new_labels[truth.labels]
        ignore = np.isin(truth.labels, self._ignored)
        if not self._ignored_alone:
            ignore |= truth.ignore
        chosen = replace(truth, labels=labels, ignore=ignore).take(labels >= 0)
        return _within_photo(chosen) if self._to_learn else chosen


def _within_photo(truth: GroundTruth) -> GroundTruth:
    boxes = clip(truth.boxes, truth.image_size)
    whole = GroundTruth(
        truth.image_id, boxes, truth.labels, truth.ignore, truth.area, truth.image_size, truth.size_known
    )
    return whole.take(area(boxes) > 0)


def _labels(classes: Sequence[str], dataset: Dataset) -> list[int]:
    known = ClassNames(dataset.classes)
    unknown = [name for name in classes if known.find(name) < 0]
    if unknown or not classes:
        hint = did_you_mean(unknown[0], dataset.classes) if unknown else ""
        wrong = f"no class {', '.join(unknown)}" if unknown else "no class was named"
        raise InputError(f"{wrong}: the classes are {', '.join(dataset.classes)}{hint}")
    labels = [known.find(name) for name in classes]
    if len(set(labels)) < len(labels):
        raise InputError(f"a class is named twice: {', '.join(classes)}")
    return labels


def pick_evenly(names: Sequence[Picked], count: int) -> tuple[Picked, ...]:
    """Return this many names or other values, evenly spread; all of them if the count is 0 or more than there are.

    >>> pick_evenly("abcdefghij", 4), pick_evenly("abc", 0), pick_evenly("abc", 7)
    (('a', 'c', 'f', 'h'), ('a', 'b', 'c'), ('a', 'b', 'c'))
    """
    if count == 0 or count >= len(names):
        return tuple(names)
    return tuple(names[index * len(names) // count] for index in range(count))
