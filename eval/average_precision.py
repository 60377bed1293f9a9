"""Precision, recall and average precision of ranked outcomes. Pure functions on arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.matching import IGNORED, TRUE, Matches
from eval.tables import DetectionTable, ObjectTable
from structures.boxes import Doubles, Floats, Indices

Counts = npt.NDArray[np.integer]

RECALL_LEVELS: Doubles = np.arange(11, dtype=np.float64) * 0.1  # VOC 2007, see eleven_point
EXACT_LEVELS: Doubles = np.arange(11, dtype=np.float64) / 10


@dataclass(frozen=True, eq=False)
class RankedOutcomes:
    """One class's detections, best first, without the ignored ones.

    Attributes:
        true: (N,) running count of true detections.
        scores: (N,) their scores.
        positives: number of objects that count.
    """

    true: Indices
    scores: Floats
    positives: int

    @property
    def recall(self) -> Doubles:
        """(N,) share of the objects found so far; NaN where there are none."""
        return np.asarray(self.true / self.positives) if self.positives else np.full(len(self.true), np.nan)

    @property
    def precision(self) -> Doubles:
        """(N,) share of true ones among the detections so far."""
        return np.asarray(self.true / np.arange(1, len(self.true) + 1))

    @property
    def ceiling(self) -> Doubles:
        """(N,) highest precision at this recall or a higher one."""
        return np.asarray(np.maximum.accumulate(self.precision[::-1])[::-1])


def rank_outcomes(
    found: DetectionTable, matches: Matches, objects: ObjectTable, classes: Sequence[str]
) -> list[RankedOutcomes]:
    """Return the ranked outcomes of every class, in label order."""
    order = found.ranking[matches.outcome[found.ranking] != IGNORED]
    return [
        RankedOutcomes(np.cumsum(matches.outcome[rows] == TRUE), found.scores[rows], int(positives))
        for rows, positives in zip(
            (order[places] for places in rows_by_class(found.labels[order], len(classes))),
            objects.counted(len(classes)),
            strict=True,
        )
    ]


def rows_by_class(labels: Indices, classes: int) -> list[Indices]:
    """Return the rows of every class, in label order; rows of one class keep their order.

    >>> [rows.tolist() for rows in rows_by_class(np.array([1, 0, 1]), 3)]
    [[1], [0, 2], []]
    """
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.searchsorted(labels[order], np.arange(1, classes)))


def mean_at_levels(true: Counts, seen: Counts, positives: Counts, levels: Doubles) -> Doubles:
    """Return the mean, over some levels of recall, of the highest precision at that recall or beyond.

    For several rankings at once. Only the places where some ranking finds an object are needed.

    Args:
        true: (D, N) objects found so far.
        seen: (D, N) detections so far, without the ignored ones.
        positives: (D,) objects to find.
        levels: (L,) recalls to reach, ascending from 0.

    Returns:
        (D,); NaN where there is nothing to find.
    """
    found, ceiling = _recall(true, positives), _ceiling(true, seen)
    reached = np.searchsorted(levels, found, side="right")  # the levels up to each place
    return _where_any((np.diff(reached, axis=1, prepend=0) * ceiling).sum(axis=1) / len(levels), positives)


def area_under(true: Counts, seen: Counts, positives: Counts) -> Doubles:
    """Return the area under the precision ceiling, for several rankings at once; arguments as `mean_at_levels`."""
    steps = np.diff(_recall(true, positives), axis=1, prepend=0)
    return _where_any((steps * _ceiling(true, seen)).sum(axis=1), positives)


def mean_of_known(values: Doubles, axis: int | None = None) -> Doubles:
    """Return the mean of the values that are not NaN, over all or along an axis; NaN where there are none.

    >>> mean_of_known(np.array([[0.5, np.nan], [np.nan, np.nan]]), axis=1).tolist()
    [0.5, nan]
    """
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _recall(true: Counts, positives: Counts) -> Doubles:
    return np.asarray(true / np.maximum(positives, 1)[:, None])


def _ceiling(true: Counts, seen: Counts) -> Doubles:
    precision = true / np.maximum(seen, 1)
    return np.asarray(np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1])


def _where_any(values: Doubles, positives: Counts) -> Doubles:
    return np.where(positives > 0, values, np.nan)


def eleven_point(ranked: RankedOutcomes, *, levels: Doubles = RECALL_LEVELS) -> float:
    """Return the AP of VOC 2007: the mean of the highest precision at recall 0, 0.1 ... 1 or beyond (VOCevaldet.m).

    Args:
        ranked: one class.
        levels: the recalls to reach. The default is 0:0.1:1 as multiples of 0.1 in doubles, where 0.3, 0.6 and 0.7 come
            out a hair too high, so that a recall of exactly 0.3 misses its level. Python ports of the devkit do
            the same (np.arange, np.linspace), and so do the known answers that circulate as tests. `EXACT_LEVELS`
            follows the definition in the text. Only a class whose number of objects is a multiple of five can differ.

    Differs: MATLAB's colon counts the upper half of a range down from its end, so there 0.6 and 0.7 are exact.

    >>> ranked = RankedOutcomes(np.arange(1, 4), np.ones(3, np.float32), positives=10)
    >>> round(eleven_point(ranked) * 11), round(eleven_point(ranked, levels=EXACT_LEVELS) * 11)
    (3, 4)
    """
    return float(mean_at_levels(*_as_rows(ranked), levels)[0])


def all_point(ranked: RankedOutcomes) -> float:
    """Return the area under the precision ceiling (VOC 2010 and later, VOCap.m).

    >>> all_point(RankedOutcomes(np.array([1, 1, 2]), np.ones(3, np.float32), positives=2))
    0.8333333333333333
    """
    return float(area_under(*_as_rows(ranked))[0])


def _as_rows(ranked: RankedOutcomes) -> tuple[Counts, Counts, Counts]:
    hits = np.flatnonzero(np.diff(ranked.true, prepend=0))  # where recall grows
    return ranked.true[hits][None], hits[None] + 1, np.array([ranked.positives])
