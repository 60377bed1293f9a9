"""The records that flow between the rooms: frozen columns of NumPy arrays, checked when made."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from structures.boxes import Boxes, Floats, ImageSize, Mask, as_boxes
from structures.errors import InputError

Image = npt.NDArray[np.uint8]
"""An RGB photo: uint8, shape (H, W, 3)."""

Labels = npt.NDArray[np.int64]
Rows = npt.NDArray[Any] | slice
"""Rows to take: indices, a mask or a slice."""


def _column(values: npt.ArrayLike, dtype: npt.DTypeLike, length: int, name: str) -> npt.NDArray[Any]:
    column = np.asarray(values, dtype=dtype)
    if column.shape != (length,):
        raise InputError(f"{name} must have shape ({length},), got {column.shape}")
    return column


def _check_finite(values: npt.NDArray[Any], name: str) -> None:
    if not np.isfinite(values).all():
        raise InputError(f"{name} holds values that are not finite")


@dataclass(frozen=True, eq=False)
class Proposals:
    """Where objects might be in one image: best first, but for a union, which lists its parts one after the other.

    Attributes:
        boxes: (N, 4) float32 xyxy in pixels of the original image.
        scores: (N,) float32, higher is better; comparable within one source only.
        image_size: (height, width) of the original image.
        source: (N,) uint8 index into source_names: which generator made the box.
        source_names: names of the generators.

    Raises:
        InputError: columns of different lengths, or values that are not finite.
    """

    boxes: Boxes
    scores: Floats
    image_size: ImageSize
    source: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    source_names: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        boxes = as_boxes(self.boxes)
        source = self.source if len(self.source) else np.zeros(len(boxes), np.uint8)
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "scores", _column(self.scores, np.float32, len(boxes), "scores"))
        object.__setattr__(self, "source", _column(source, np.uint8, len(boxes), "source"))
        _check_finite(self.boxes, "boxes")
        _check_finite(self.scores, "scores")
        if len(boxes) and int(self.source.max()) >= len(self.source_names):
            raise InputError(f"source {int(self.source.max())} has no name in {self.source_names}")

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, indices: npt.NDArray[Any] | slice) -> "Proposals":
        """Return the chosen rows, by indices, by a mask or by a slice."""
        return Proposals(
            self.boxes[indices], self.scores[indices], self.image_size, self.source[indices], self.source_names
        )


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one image, best first.

    Attributes:
        boxes: (N, 4) float32 xyxy in pixels of the original image.
        labels: (N,) int64, 0..C-1: the probability column of the class.
        scores: (N,) float32 in 0..1: probability of the class, times how well the box fits where its proposal tells.
        image_size: (height, width) of the original image.
        source: (N,) uint8 index into source_names: which generator proposed the box.
        source_names: names of the generators.

    Raises:
        InputError: columns of different lengths, or values that are not finite.
    """

    boxes: Boxes
    labels: Labels
    scores: Floats
    image_size: ImageSize
    source: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    source_names: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        boxes = as_boxes(self.boxes)
        source = self.source if len(self.source) else np.zeros(len(boxes), np.uint8)
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "labels", _column(self.labels, np.int64, len(boxes), "labels"))
        object.__setattr__(self, "scores", _column(self.scores, np.float32, len(boxes), "scores"))
        object.__setattr__(self, "source", _column(source, np.uint8, len(boxes), "source"))
        _check_finite(self.boxes, "boxes")
        _check_finite(self.scores, "scores")

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, indices: npt.NDArray[Any] | slice) -> "Detections":
        """Return the chosen rows, by indices, by a mask or by a slice."""
        return Detections(
            self.boxes[indices],
            self.labels[indices],
            self.scores[indices],
            self.image_size,
            self.source[indices],
            self.source_names,
        )


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The annotated objects of one image.

    Attributes:
        image_id: name of the image within its dataset.
        boxes: (N, 4) float32 xyxy in pixels.
        labels: (N,) int64 index into the dataset's classes.
        ignore: (N,) bool: VOC's difficult or COCO's crowd objects.
        area: (N,) float32 in square pixels: COCO's mask area, or the area of the box.
        image_size: (height, width) of the image.
        size_known: whether image_size was stated; else the boxes reach so far, and the image may be larger.

    Raises:
        InputError: columns of different lengths, or values that are not finite.
    """

    image_id: str
    boxes: Boxes
    labels: Labels
    ignore: Mask
    area: Floats
    image_size: ImageSize
    size_known: bool = True

    def __post_init__(self) -> None:
        boxes = as_boxes(self.boxes)
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "labels", _column(self.labels, np.int64, len(boxes), "labels"))
        object.__setattr__(self, "ignore", _column(self.ignore, np.bool_, len(boxes), "ignore"))
        object.__setattr__(self, "area", _column(self.area, np.float32, len(boxes), "area"))
        _check_finite(self.boxes, "boxes")

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, indices: Rows) -> "GroundTruth":
        """Return the chosen rows, by indices, by a mask or by a slice."""
        return replace(
            self,
            boxes=self.boxes[indices],
            labels=self.labels[indices],
            ignore=self.ignore[indices],
            area=self.area[indices],
        )


class Dataset(Protocol):
    """Annotated photos: what evaluation and training read. The VOC and COCO readers are in eval/."""

    @property
    def classes(self) -> Sequence[str]:
        """Class names; a label is an index into them."""

    @property
    def image_ids(self) -> Sequence[str]:
        """Names of the images, in a fixed order."""

    def image_path(self, image_id: str) -> Path:
        """Return where the photo lies."""

    def ground_truth(self, image_id: str) -> GroundTruth:
        """Return the annotated objects of one image."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[GroundTruth]: ...
