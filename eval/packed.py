"""Records of very many images in few arrays, from which each is cut when it is asked for.

A record per image takes a kilobyte and 20 microseconds; each of its rows here takes a few dozen bytes.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt

from structures.boxes import ImageSize, Indices, Mask, as_boxes
from structures.records import Detections, GroundTruth

R = TypeVar("R", bound=Detections | GroundTruth)
Scalar = TypeVar("Scalar", bound=np.generic)


class Packed(Sequence[R]):
    """Records of images, whose rows lie end to end in one.

    Args:
        whole: the rows of all images, image by image.
        counts: (images,) rows of each.
        about: takes the position of an image, and returns the fields of its record that are not columns, such as its
            size.

    >>> whole = Detections(as_boxes([[0, 0, 9, 9]]), [3], [0.5], (1, 1))
    >>> packed = Packed(whole, np.array([0, 1]), lambda place: {"image_size": (20, 30 + place)})
    >>> [(len(found), found.image_size) for found in packed]
    [(0, (20, 30)), (1, (20, 31))]
    """

    def __init__(self, whole: R, counts: Indices, about: Callable[[int], dict[str, Any]]) -> None:
        self.whole: R = whole
        self.counts, self.about = counts, about
        self._bounds = np.concatenate([[0], np.cumsum(counts)]).tolist()

    def keep(self, rows: Mask) -> "Packed[R]":
        """Return the same images with some of their rows; (N,) whether each row of `whole` stays."""
        before = np.concatenate([[0], np.cumsum(rows)])[self._bounds]
        return self if rows.all() else Packed(cast(R, self.whole.take(rows)), np.diff(before), self.about)

    def rows(self, place: int) -> slice:
        """Return which rows of `whole` are those of an image."""
        return slice(self._bounds[place], self._bounds[place + 1])

    def __len__(self) -> int:
        return len(self.counts)

    @overload
    def __getitem__(self, place: int) -> R: ...
    @overload
    def __getitem__(self, place: slice) -> list[R]: ...
    def __getitem__(self, place: int | slice) -> R | list[R]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        at = range(len(self))[place]  # an IndexError beyond the last
        columns = {name: getattr(self.whole, name)[self.rows(at)] for name in self.whole.COLUMNS}
        return replace(self.whole, **columns, **self.about(at))


class PackedByName(Mapping[str, R], Generic[R]):
    """Packed records of images by their names.

    Args:
        records: of all images.
        places: positions of those that are there, by name.
    """

    def __init__(self, records: Packed[R], places: Mapping[str, int]) -> None:
        self.records: Packed[R] = records
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __getitem__(self, name: str) -> R:
        return self.records[self._places[name]]


class DetectionPacker:
    """Packs detections, one record per image, in any order; sources and names of classes are left behind.

    >>> packer = DetectionPacker()
    >>> packer.add(Detections(as_boxes([[0, 0, 9, 9]]), np.array([3]), np.float32([0.5]), (20, 30)))
    >>> packer.add_empty((5, 5))
    >>> [(len(found), found.image_size) for found in packer.packed([1, 0])]
    [(0, (5, 5)), (1, (20, 30))]
    """

    def __init__(self) -> None:
        self._boxes, self._scores, self._labels = array("f"), array("f"), array("q")
        self._sizes, self._counts = array("q"), array("q")

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, found: Detections) -> None:
        """Add the detections of one more image."""
        self._boxes.frombytes(found.boxes.tobytes())
        self._scores.frombytes(found.scores.tobytes())
        self._labels.frombytes(found.labels.tobytes())
        self._add_image(found.image_size, len(found))

    def add_empty(self, image_size: ImageSize) -> None:
        """Add an image of this (height, width) without detections."""
        self._add_image(image_size, 0)

    def _add_image(self, image_size: ImageSize, count: int) -> None:
        self._sizes.extend(image_size)
        self._counts.append(count)

    def packed(self, order: Sequence[int]) -> Packed[Detections]:
        """Return the detections, those of the image first that was added at the first of these places, and so on."""
        boxes = as_boxes(np.asarray(self._boxes).reshape(-1, 4))
        labels, scores = np.asarray(self._labels), np.asarray(self._scores)
        whole, counts = Detections(boxes, labels, scores, (1, 1)), np.asarray(self._counts)
        places = np.array(order, np.int64)
        sizes = np.asarray(self._sizes).reshape(-1, 2)[places]
        if not np.array_equal(places, np.arange(len(counts))):
            whole = whole.take(_rows(np.cumsum(counts)[places] - counts[places], counts[places]))
        return Packed(whole, counts[places], lambda place: {"image_size": (int(sizes[place, 0]), int(sizes[place, 1]))})


def _rows(starts: Indices, counts: Indices) -> Indices:
    """Return the rows of runs that begin at some rows.

    >>> _rows(np.array([7, 2]), np.array([1, 3])).tolist()
    [7, 2, 3, 4]
    """
    shift = starts - (np.cumsum(counts) - counts)
    rows: Indices = np.arange(int(counts.sum())) + np.repeat(shift, counts)
    return rows


def laid_out(
    records: Sequence[R], column: Callable[[R], npt.NDArray[Scalar]], empty: npt.NDArray[Scalar]
) -> npt.NDArray[Scalar]:
    """Return a column of all records, end to end.

    Args:
        records: one per image.
        column: takes a record and returns its column.
        empty: the column of none.
    """
    return column(records.whole) if isinstance(records, Packed) else np.concatenate([empty, *map(column, records)])


def positions(records: Sequence[R]) -> Indices:
    """Return the position of the record of each row."""
    counts = records.counts if isinstance(records, Packed) else [len(record) for record in records]
    return np.repeat(np.arange(len(records)), counts).astype(np.int64)
