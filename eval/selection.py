"""A part of a dataset, as a dataset: some of its classes, an even sample of its photos."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from structures.names import ClassNames, did_you_mean
from structures.records import Dataset, Detections, GroundTruth


class Selection:
    """Some classes and some photos of a dataset.

    Objects of the other classes are no objects at all; photos that have no others stay, as photos of nothing.

    Args:
        dataset: what is chosen from.
        classes: names in the order of the new labels, found as `ClassNames` has it; None takes all.
        photos: so many, evenly spread over the dataset and always the same; 0 takes all.
        without: photos that are left out, and are none of those that are spread.

    Attributes:
        classes: class names; a label is an index into them.
        image_ids: names of the chosen photos, in the dataset's order.

    Raises:
        ValueError: a class that the dataset has not, or one named twice.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        classes: Sequence[str] | None = None,
        photos: int = 0,
        without: Collection[str] = (),
    ) -> None:
        self._dataset = dataset
        chosen = list(range(len(dataset.classes))) if classes is None else _labels(classes, dataset)
        self._new_labels = np.full(len(dataset.classes), -1, np.int64)
        self._new_labels[chosen] = np.arange(len(chosen))
        self.classes: Sequence[str] = tuple(dataset.classes[label] for label in chosen)
        self.image_ids: Sequence[str] = spread(
            [image_id for image_id in dataset.image_ids if image_id not in set(without)], photos
        )
        self._records = {image_id: self._record(dataset.ground_truth(image_id)) for image_id in self.image_ids}

    def __len__(self) -> int:
        return len(self.image_ids)

    def __iter__(self) -> Iterator[GroundTruth]:
        return iter(self._records.values())

    @property
    def notes(self) -> list[str]:
        """What was odd about the annotations of the dataset."""
        return list(getattr(self._dataset, "notes", []))

    def image_path(self, image_id: str) -> Path:
        """Return where the photo lies."""
        return self._dataset.image_path(image_id)

    def ground_truth(self, image_id: str) -> GroundTruth:
        """Return the objects of one photo.

        Raises:
            ValueError: the photo is none of those chosen.
        """
        if image_id not in self._records:
            raise ValueError(f"image {image_id!r} is none of the {len(self)} that were chosen")
        return self._records[image_id]

    def relabel(self, found: Detections) -> Detections:
        """Turn labels of the whole dataset into those of the chosen classes; detections of others are left out."""
        labels = self._new_labels[found.labels]
        renamed = Detections(found.boxes, labels, found.scores, found.image_size, found.source, found.source_names)
        return renamed.take(labels >= 0)

    def _record(self, truth: GroundTruth) -> GroundTruth:
        labels = self._new_labels[truth.labels]
        rows = labels >= 0
        return replace(
            truth, boxes=truth.boxes[rows], labels=labels[rows], ignore=truth.ignore[rows], area=truth.area[rows]
        )


def _labels(classes: Sequence[str], dataset: Dataset) -> list[int]:
    known = ClassNames(dataset.classes)
    unknown = [name for name in classes if known.find(name) < 0]
    if unknown or not classes:
        hint = did_you_mean(unknown[0], dataset.classes) if unknown else ""
        raise ValueError(
            f"no class {', '.join(unknown) or 'named'}: the photos know {', '.join(dataset.classes)}{hint}"
        )
    labels = [known.find(name) for name in classes]
    if len(set(labels)) < len(labels):
        raise ValueError(f"a class is named twice: {', '.join(classes)}")
    return labels


def spread(names: Sequence[str], count: int) -> tuple[str, ...]:
    """Return so many names, evenly spread; all of them where the count is 0 or more than there are.

    >>> spread("abcdefghij", 4), spread("abc", 0), spread("abc", 7)
    (('a', 'c', 'f', 'h'), ('a', 'b', 'c'), ('a', 'b', 'c'))
    """
    if count == 0 or count >= len(names):
        return tuple(names)
    return tuple(names[index * len(names) // count] for index in range(count))
