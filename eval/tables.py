"""All boxes of a dataset in long columns, image by image: what matching works on."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from eval.packed import laid_out, positions
from structures.boxes import Boxes, Floats, Indices, Mask
from structures.errors import InputError
from structures.nms import best_first
from structures.records import Detections, GroundTruth


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
            image=positions(truths),
            boxes=laid_out(truths, lambda truth: truth.boxes, np.zeros((0, 4), np.float32)),
            labels=laid_out(truths, lambda truth: truth.labels, np.zeros(0, np.int64)),
            ignore=laid_out(truths, lambda truth: truth.ignore, np.zeros(0, np.bool_)),
            area=laid_out(truths, lambda truth: truth.area, np.zeros(0, np.float32)),
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
            image=positions(detections),
            boxes=laid_out(detections, lambda found: found.boxes, np.zeros((0, 4), np.float32)),
            labels=laid_out(detections, lambda found: found.labels, np.zeros(0, np.int64)),
            scores=laid_out(detections, lambda found: found.scores, np.zeros(0, np.float32)),
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, rows: Indices) -> "DetectionTable":
        """Return the chosen rows, in their order."""
        return DetectionTable(self.image[rows], self.boxes[rows], self.labels[rows], self.scores[rows])

    @cached_property
    def ranking(self) -> Indices:
        """Rows from the highest score to the lowest; ties by image, then by input order."""
        return best_first(self.scores)


def shared_keys(table: ObjectTable | DetectionTable, *, by_class: bool = True) -> Indices:
    """Return the (N,) numbers that are equal for rows of one image (and class)."""
    if not by_class:
        return table.image
    many_classes = 1 << 32  # labels are far fewer, so that a pair has one key
    keys: Indices = table.image * many_classes + table.labels
    return keys


def check_labels(table: ObjectTable | DetectionTable, classes: int) -> None:
    """Refuse labels without a class.

    Raises:
        InputError: names the labels.
    """
    kind = "detections" if isinstance(table, DetectionTable) else "ground truth"
    if len(table) and not 0 <= table.labels.min() <= table.labels.max() < classes:
        raise InputError(f"{kind}: labels {table.labels.min()} to {table.labels.max()}, expected 0 to {classes - 1}")
