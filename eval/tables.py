"""All boxes of a dataset in long columns, image by image: what matching works on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from structures.boxes import Boxes, Floats, Indices, Mask
from structures.nms import best_first
from structures.records import Detections, GroundTruth

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)
class ObjectTable:
    """The annotated objects of all images.

    Attributes:
        image: (N,) position of the image in its dataset.
        boxes: (N, 4) float32 xyxy.
        labels: (N,) int64.
        ignore: (N,) bool: difficult or crowd, not counted.
        area: (N,) float32 in square pixels.
    """

    image: Indices
    boxes: Boxes
    labels: Indices
    ignore: Mask
    area: Floats

    @classmethod
    def of(cls, truths: Sequence[GroundTruth]) -> "ObjectTable":
        """Lay the objects of all images end to end."""
        return cls(
            image=_positions(truths),
            boxes=_stack([t.boxes for t in truths], np.zeros((0, 4), np.float32)),
            labels=_stack([t.labels for t in truths], np.zeros(0, np.int64)),
            ignore=_stack([t.ignore for t in truths], np.zeros(0, bool)),
            area=_stack([t.area for t in truths], np.zeros(0, np.float32)),
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def counted(self, classes: int) -> Indices:
        """Return the (classes,) number of objects of each class that count: npos of the devkit."""
        return np.bincount(self.labels[~self.ignore], minlength=classes).astype(np.int64)


@dataclass(frozen=True, eq=False)
class DetectionTable:
    """The detections of all images.

    Attributes:
        image: (N,) position of the image in its dataset.
        boxes: (N, 4) float32 xyxy.
        labels: (N,) int64.
        scores: (N,) float32.
    """

    image: Indices
    boxes: Boxes
    labels: Indices
    scores: Floats

    @classmethod
    def of(cls, detections: Sequence[Detections]) -> "DetectionTable":
        """Lay the detections of all images end to end."""
        return cls(
            image=_positions(detections),
            boxes=_stack([d.boxes for d in detections], np.zeros((0, 4), np.float32)),
            labels=_stack([d.labels for d in detections], np.zeros(0, np.int64)),
            scores=_stack([d.scores for d in detections], np.zeros(0, np.float32)),
        )

    def __len__(self) -> int:
        return len(self.boxes)

    @cached_property
    def ranking(self) -> Indices:
        """Rows from the highest score to the lowest; ties by image, then by input order."""
        return best_first(self.scores)


def shared_groups(
    found: DetectionTable, objects: ObjectTable, *, by_class: bool = True
) -> Iterator[tuple[Indices, Indices]]:
    """Yield the rows of detections and of objects that share an image (and a class), where there are both.

    Rows of either kind come in table order.
    """
    found_key, object_key = _keys(found, by_class), _keys(objects, by_class)
    found_rows, object_rows = np.argsort(found_key, kind="stable"), np.argsort(object_key, kind="stable")
    keys, starts, counts = np.unique(object_key[object_rows], return_index=True, return_counts=True)
    firsts = np.searchsorted(found_key[found_rows], keys, side="left")
    lasts = np.searchsorted(found_key[found_rows], keys, side="right")
    for first, last, start, count in zip(firsts, lasts, starts, counts, strict=True):
        if last > first:
            yield found_rows[first:last], object_rows[start : start + count]


def _keys(table: ObjectTable | DetectionTable, by_class: bool) -> Indices:
    if not by_class:
        return table.image
    many_classes = 1 << 32  # labels are far fewer, so that a pair has one key
    keys: Indices = table.image * many_classes + table.labels
    return keys


def _positions(records: Sequence[Detections] | Sequence[GroundTruth]) -> Indices:
    return np.repeat(np.arange(len(records)), [len(record) for record in records]).astype(np.int64)


def _stack(columns: Sequence[npt.NDArray[Scalar]], empty: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    return np.concatenate([empty, *columns])
