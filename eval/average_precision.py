"""Precision, recall and average precision of ranked outcomes. Pure functions on arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.matching import IGNORED, TRUE, Matches
from eval.tables import DetectionTable, ObjectTable
from structures.boxes import Floats, Indices

Curve64 = npt.NDArray[np.float64]

RECALL_LEVELS: Curve64 = np.arange(11, dtype=np.float64) * 0.1  # VOC 2007, see eleven_point
EXACT_LEVELS: Curve64 = np.arange(11, dtype=np.float64) / 10


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
    def recall(self) -> Curve64:
        """(N,) share of the objects found so far; NaN where there are none."""
        return np.asarray(self.true / self.positives) if self.positives else np.full(len(self.true), np.nan)

    @property
    def precision(self) -> Curve64:
        """(N,) share of true ones among the detections so far."""
        return np.asarray(self.true / np.arange(1, len(self.true) + 1))

    @property
    def ceiling(self) -> Curve64:
        """(N,) highest precision at this recall or a higher one."""
        return np.asarray(np.maximum.accumulate(self.precision[::-1])[::-1])


def rank_outcomes(
    found: DetectionTable, matches: Matches, objects: ObjectTable, classes: Sequence[str]
) -> list[RankedOutcomes]:
    """Return the ranked outcomes of every class, in label order."""
    order = found.ranking[matches.outcome[found.ranking] != IGNORED]
    by_class = order[np.argsort(found.labels[order], kind="stable")]
    bounds = np.searchsorted(found.labels[by_class], np.arange(len(classes) + 1))
    return [
        RankedOutcomes(np.cumsum(matches.outcome[rows] == TRUE), found.scores[rows], int(positives))
        for rows, positives in zip(np.split(by_class, bounds[1:-1]), objects.counted(len(classes)), strict=True)
    ]


def eleven_point(ranked: RankedOutcomes, *, levels: Curve64 = RECALL_LEVELS) -> float:
    """Return the AP of VOC 2007: the mean of the highest precision at recall 0, 0.1 ... 1 or beyond (VOCevaldet.m).

    Args:
        ranked: one class.
        levels: the recalls to reach. The default is 0:0.1:1 as multiples of 0.1 in doubles, where 0.3, 0.6 and 0.7 come
            out a hair too high, so that a recall of exactly 0.3 misses its level. Python ports of the devkit count so
            (np.arange, np.linspace), and so do the answers that circulate as tests. `EXACT_LEVELS` counts as the text
            defines it. Only a class whose number of objects divides by five can show the difference.

    Differs: MATLAB's colon counts the upper half of a range down from its end, so there 0.6 and 0.7 are exact.

    >>> ranked = RankedOutcomes(np.arange(1, 4), np.ones(3, np.float32), positives=10)
    >>> round(eleven_point(ranked) * 11), round(eleven_point(ranked, levels=EXACT_LEVELS) * 11)
    (3, 4)
    """
    if ranked.positives == 0:
        return float("nan")
    reached = np.searchsorted(ranked.recall, levels)  # the first detection with recall >= level
    heights = np.append(ranked.ceiling, 0.0)[reached]  # a level that is never reached: 0
    return float(heights.mean())


def all_point(ranked: RankedOutcomes) -> float:
    """Return the area under the precision ceiling (VOC 2010 and later, VOCap.m).

    >>> all_point(RankedOutcomes(np.array([1, 1, 2]), np.ones(3, np.float32), positives=2))
    0.8333333333333333
    """
    if ranked.positives == 0:
        return float("nan")
    steps = np.diff(ranked.true, prepend=0)  # 1 where recall grows
    return float((steps * ranked.ceiling).sum() / ranked.positives)
