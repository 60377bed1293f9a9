"""Which detections are right by COCO's rules, at ten IoU thresholds and in four ranges of area, all in one pass.

The rules are those of pycocotools' COCOeval.evaluateImg, in double precision. A detection takes the object of its image
and class that it overlaps most, of equals the last, among those that no better one took; an object to ignore only where
none that counts is left. Only the 100 best detections of a class in an image take part. Each range of area makes other
objects ignored, so each range with each threshold is a column of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from eval.coco_records import areas_of, scores_of, sides_of
from eval.greedy import take_best
from eval.matching import FALSE, IGNORED, TRUE
from eval.packed import laid_out
from eval.pairs import Pairs, run_starts, shared_pairs
from eval.tables import DetectionTable, ObjectTable, check_labels, shared_keys
from structures.boxes import Doubles, Indices, Mask
from structures.nms import best_first
from structures.records import Detections, GroundTruth

THRESHOLDS: Doubles = np.linspace(0.5, 0.95, 10)
AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}  # both ends included
MOST_DETECTIONS = 100  # of a class in an image


@dataclass(frozen=True, eq=False)
class CocoMatches:
    """What became of the detections that take part, the best of all first; equals by image, then by input order.

    Attributes:
        image: (N,) position of the image.
        labels: (N,) int64.
        rank: (N,) place among the detections of the class in the image, from 0.
        outcome: (4, 10, N) int8 of FALSE, TRUE, IGNORED, for each range of area and IoU threshold.
        objects: of all images.
        counts: (M, 4) whether an object counts in a range of area.
    """

    image: Indices
    labels: Indices
    rank: Indices
    outcome: npt.NDArray[np.int8]
    objects: ObjectTable
    counts: Mask

    @cached_property
    def hits(self) -> tuple[Indices, Indices]:
        """Where the outcome is TRUE: the column, which counts ranges and in them thresholds, and the detection."""
        columns, rows = np.divmod(np.flatnonzero(self.outcome == TRUE), max(len(self.labels), 1))
        return columns, rows


def match_coco(
    truths: Sequence[GroundTruth], detections: Sequence[Detections], classes: int, *, crowd: bool
) -> CocoMatches:
    """Match all images at once.

    Args:
        truths: of all images.
        detections: of the same images, in the same order.
        classes: number of classes.
        crowd: ignored objects are crowds: they excuse any number of detections, by the share of the detection inside.

    Raises:
        InputError: a label without a class.
    """
    found, objects = DetectionTable.of(detections), ObjectTable.of(truths)
    check_labels(found, classes)
    check_labels(objects, classes)
    best, rank = _best_of_each(shared_keys(found), laid_out(detections, scores_of, np.zeros(0)))
    found, sides = found.take(best), laid_out(detections, sides_of, np.zeros((0, 4)))[best]
    counts = ~objects.ignore[:, None] & _within(laid_out(truths, areas_of, np.zeros(0)))
    crowds = objects.ignore & crowd
    measure = _overlap(sides, laid_out(truths, sides_of, np.zeros((0, 4))), crowds)
    parts = shared_pairs(shared_keys(found), shared_keys(objects), measure)
    close = Pairs.joined([pairs.take(pairs.overlap >= THRESHOLDS[0]) for pairs in parts])
    in_range = _within(sides[:, 2] * sides[:, 3]).T[:, None]
    outcome = np.repeat(np.where(in_range, FALSE, IGNORED).astype(np.int8), len(THRESHOLDS), axis=1)
    _judge(
        outcome.reshape(counts.shape[1] * len(THRESHOLDS), -1),
        close,
        objects,
        np.repeat(counts, len(THRESHOLDS), axis=1),
        crowds,
    )
    return CocoMatches(found.image, found.labels, rank, outcome, objects, counts)


def _within(areas: Doubles) -> Mask:
    """Return whether each of (N,) areas lies in each of the ranges, (N, 4)."""
    low, high = np.array(list(AREAS.values()), np.float64).T
    return np.asarray((areas[:, None] >= low) & (areas[:, None] <= high))


def _best_of_each(group: Indices, scores: Doubles) -> tuple[Indices, Indices]:
    """Return the rows of the best of each group, from the highest score of all to the lowest, and their ranks."""
    order = best_first(scores)
    by_group = order[np.argsort(group[order], kind="stable")]
    first = run_starts(group[by_group])
    ranks = np.empty(len(scores), np.int64)
    ranks[by_group] = np.arange(len(scores)) - np.repeat(first, np.diff(first, append=len(scores)))
    kept = order[ranks[order] < MOST_DETECTIONS]
    return kept, ranks[kept]


def _overlap(found: Doubles, objects: Doubles, crowds: Mask) -> Callable[[Indices, Indices], Doubles]:
    """Return what measures pairs of boxes x, y, width, height: in the order of bbIou in pycocotools' maskApi.c."""
    (x, y, width, height), (x2, y2, width2, height2) = found.T.copy(), objects.T.copy()
    right, bottom, area, right2, bottom2, area2 = (
        x + width,
        y + height,
        width * height,
        x2 + width2,
        y2 + height2,
        width2 * height2,
    )

    def measure(rows: Indices, held: Indices) -> Doubles:
        across = np.minimum(right[rows], right2[held]) - np.maximum(x[rows], x2[held])
        down = np.minimum(bottom[rows], bottom2[held]) - np.maximum(y[rows], y2[held])
        both = np.where((across > 0) & (down > 0), across * down, 0)
        own = area[rows]
        union = np.where(crowds[held], own, own + area2[held] - both)
        return np.asarray(np.divide(both, union, out=np.zeros_like(both), where=both > 0), np.float64)

    return measure


def _judge(outcome: npt.NDArray[np.int8], close: Pairs, objects: ObjectTable, counts: Mask, crowds: Mask) -> None:
    """Fill in, per column, what became of the detections that take an object."""
    passes = np.tile(close.overlap[:, None] >= THRESHOLDS, (1, len(AREAS)))
    group = shared_keys(objects)[close.objects]
    taken = take_best(close, passes, counts, crowds, group, last=True)
    right = counts[close.objects[taken.pair], taken.column]
    outcome[taken.column, close.found[taken.pair]] = np.where(right, TRUE, IGNORED)
