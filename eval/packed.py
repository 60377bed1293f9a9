"""Detections of very many images in few arrays: about 30 bytes each, where a record per image takes a kilobyte."""

from array import array
from collections.abc import Sequence
from typing import overload

import numpy as np

from structures.boxes import ImageSize, as_boxes
from structures.records import Detections


class PackedDetections(Sequence[Detections]):
    """Detections, one record per image, added in any order; labels up to 2**31, without sources and names of classes.

    >>> packed = PackedDetections()
    >>> packed.add(Detections(as_boxes([[0, 0, 9, 9]]), np.array([3]), np.float32([0.5]), (20, 30)))
    >>> packed.add_empty((5, 5))
    >>> [(len(found), found.image_size) for found in packed.in_order([1, 0])]
    [(0, (5, 5)), (1, (20, 30))]
    """

    def __init__(self) -> None:
        self._boxes, self._scores, self._labels = array("f"), array("f"), array("i")
        self._sizes, self._ends, self._order = array("q"), array("q", [0]), array("q")

    def add(self, found: Detections) -> None:
        """Add the detections of one more image."""
        self._boxes.frombytes(found.boxes.tobytes())
        self._scores.frombytes(found.scores.tobytes())
        self._labels.frombytes(found.labels.astype(np.int32).tobytes())
        self.add_empty(found.image_size)

    def add_empty(self, image_size: ImageSize) -> None:
        """Add an image of this (height, width) without detections."""
        self._order.append(len(self._order))
        self._sizes.extend(image_size)
        self._ends.append(len(self._scores))

    def in_order(self, places: Sequence[int]) -> "PackedDetections":
        """Return the same detections with the image first that was added at the first of these places, and so on."""
        other = PackedDetections()
        other.__dict__.update(self.__dict__)
        other._order = array("q", places)
        return other

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, place: int) -> Detections: ...
    @overload
    def __getitem__(self, place: slice) -> list[Detections]: ...
    def __getitem__(self, place: int | slice) -> Detections | list[Detections]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        row = self._order[place]
        first, end = self._ends[row], self._ends[row + 1]
        size = self._sizes[2 * row], self._sizes[2 * row + 1]
        boxes = as_boxes(np.array(self._boxes[4 * first : 4 * end], np.float32).reshape(-1, 4))
        labels, scores = np.array(self._labels[first:end], np.int64), np.array(self._scores[first:end], np.float32)
        return Detections(boxes, labels, scores, size)
