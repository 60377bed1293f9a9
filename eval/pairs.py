"""Which detections and objects meet: every pair that shares an image, or an image and a class, in long columns."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from structures.boxes import Indices, Mask

MOST_PAIRS = 2**20  # that are measured at a time; the pairs of one detection stay together

Overlaps = npt.NDArray[np.floating]
Measure = Callable[[Indices, Indices], Overlaps]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Detections, each with the objects that it can be held against.

    Attributes:
        found: (P,) row of the detection, ascending.
        objects: (P,) row of the object, ascending within a detection.
        overlap: (P,) how much they overlap.
    """

    found: Indices
    objects: Indices
    overlap: Overlaps

    def __len__(self) -> int:
        return len(self.found)

    def take(self, rows: Mask | Indices) -> "Pairs":
        """Return the chosen pairs."""
        return Pairs(self.found[rows], self.objects[rows], self.overlap[rows])

    @classmethod
    def joined(cls, parts: Sequence["Pairs"]) -> "Pairs":
        """Lay pairs end to end."""
        none = np.zeros(0, np.int64)
        return cls(
            np.concatenate([none, *(part.found for part in parts)]),
            np.concatenate([none, *(part.objects for part in parts)]),
            np.concatenate([np.zeros(0, np.float32), *(part.overlap for part in parts)]),
        )

    def best(self) -> "Pairs":
        """Return the pair of each detection that overlaps most, of equals the first; no overlap may be NaN."""
        if not len(self):
            return self
        starts = run_starts(self.found)
        largest = np.repeat(np.maximum.reduceat(self.overlap, starts), np.diff(starts, append=len(self)))
        places = np.where(self.overlap == largest, np.arange(len(self)), len(self))
        return self.take(np.minimum.reduceat(places, starts))


def run_starts(values: Indices) -> Indices:
    """Return the first place of each run of equal values, none of them below 0.

    >>> run_starts(np.array([4, 4, 7, 4])).tolist()
    [0, 2, 3]
    """
    return np.flatnonzero(np.diff(values, prepend=-1))


def shared_pairs(found: Indices, objects: Indices, measure: Measure) -> Iterator[Pairs]:
    """Yield all pairs of equal keys, the detections in order, about a million pairs at a time.

    Args:
        found: (N,) key of each detection: whatever it must share with an object, as one number.
        objects: (M,) key of each object.
        measure: takes rows of detections and of objects, one of each per pair, and returns their overlaps.

    >>> found, objects = np.array([5, 7, 5]), np.array([5, 6, 5])
    >>> [(p.found.tolist(), p.objects.tolist()) for p in shared_pairs(found, objects, lambda a, b: a / 9)]
    [([0, 0, 2, 2], [0, 2, 0, 2])]
    """
    order = np.argsort(objects, kind="stable")
    starts = run_starts(objects[order])
    keys, counts = objects[order[starts]], np.diff(starts, append=len(objects))
    if not len(keys):
        return
    place = np.minimum(np.searchsorted(keys, found), len(keys) - 1)
    each = np.where(keys[place] == found, counts[place], 0)  # objects of each detection
    before = np.concatenate([[0], np.cumsum(each)])
    first = 0
    while before[first] < before[-1]:
        last = max(int(np.searchsorted(before, before[first] + MOST_PAIRS, side="right")) - 1, first + 1)
        rows = np.repeat(np.arange(first, last), each[first:last])
        within = np.arange(len(rows)) + before[first] - before[rows]
        held = order[starts[place[rows]] + within]
        yield Pairs(rows, held, measure(rows, held))
        first = last
