"""Greedy non-maximum suppression, per class (R-CNN, section 2.2), and the vote of the boxes that it drops."""

import numpy as np
import numpy.typing as npt

from structures.boxes import Boxes, Floats, Indices, iou
from structures.errors import InputError
from structures.text import number_of

OVERLAPS = 2**14  # computed in one call, which then takes about twice as long as a call for none


def best_first(scores: npt.NDArray[np.floating]) -> Indices:
    """Return the order of decreasing scores; equal scores keep input order.

    >>> best_first(np.array([0.1, 0.5, 0.5], np.float32)).tolist()
    [1, 2, 0]
    """
    return np.argsort(-scores, kind="stable").astype(np.int64)


def suppress(boxes: Boxes, scores: Floats, *, iou_threshold: float = 0.3) -> Indices:
    """Keep the best-scoring box of every overlapping group.

    Args:
        boxes: (N, 4) xyxy in pixels, any order; boxes without area overlap nothing and are kept.
        scores: (N,) higher is better.
        iou_threshold: a box goes when its IoU with a kept box is above this (R-CNN, section 2.2).

    Returns:
        Indices into boxes, best first. Equal scores keep input order.

    Raises:
        InputError: lengths differ, or a score is not finite.

    >>> boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 9]], np.float32)
    >>> suppress(boxes, np.array([0.8, 0.9], np.float32)).tolist()
    [1]
    """
    if len(boxes) != len(scores):
        raise InputError(f"{number_of(len(boxes), 'box')} but {number_of(len(scores), 'score')}")
    if not np.isfinite(scores).all():
        raise InputError("scores hold values that are not finite")
    order = best_first(scores)
    return order[_greedy(boxes[order], iou_threshold)]


def _greedy(boxes: Boxes, iou_threshold: float) -> Indices:
    """Return the rows that stay of boxes that come best first; of few boxes all overlaps are computed in one call."""
    alive: Indices = np.arange(len(boxes))
    kept = [np.zeros(0, np.int64)]
    while len(alive):
        count = max(1, OVERLAPS // len(alive))
        apart = iou(boxes[alive[:count]], boxes[alive]) <= iou_threshold
        stays = np.ones(len(alive), np.bool_)
        for row in range(len(apart)):
            if stays[row]:
                stays[row + 1 :] &= apart[row, row + 1 :]
        kept.append(alive[:count][stays[:count]])
        alive = alive[count:][stays[count:]]
    return np.concatenate(kept)


def suppress_per_class(
    boxes: Boxes,
    probabilities: Floats,
    *,
    score_floor: float = 0.05,
    iou_threshold: float = 0.3,
    max_per_class: int = 100,
    class_agnostic: bool = False,
) -> tuple[Indices, npt.NDArray[np.int64], Floats]:
    """Turn region probabilities into detections: score floor, then suppression class by class.

    Args:
        boxes: (N, 4) xyxy in pixels.
        probabilities: (N, C) of the C object classes, without the background column.
        score_floor: boxes below it are dropped before suppression.
        iou_threshold: see `suppress`.
        max_per_class: the most boxes kept per class and image (R-CNN keeps 100).
        class_agnostic: boxes also suppress those of other classes: where objects overlap, the best class stays.

    Returns:
        Row of each detection in boxes (D,), its label (D,) and its score (D,), best first; ties by label, then by row.

    Raises:
        InputError: boxes and probabilities differ in length, or a probability is not finite.
    """
    rows: list[Indices] = [np.zeros(0, np.int64)]
    labels: list[Indices] = [np.zeros(0, np.int64)]
    for label in range(probabilities.shape[1]):
        candidates = np.flatnonzero(probabilities[:, label] >= score_floor)
        if not class_agnostic:
            kept = suppress(boxes[candidates], probabilities[candidates, label], iou_threshold=iou_threshold)
            candidates = candidates[kept[:max_per_class]]
        rows.append(candidates)
        labels.append(np.full(len(candidates), label, np.int64))
    row, label_column = np.concatenate(rows), np.concatenate(labels)
    scores = probabilities[row, label_column]
    if class_agnostic:
        order = suppress(boxes[row], scores, iou_threshold=iou_threshold)
        order = order[_places_in_class(label_column[order]) < max_per_class]
    else:
        order = best_first(scores)
    return row[order], label_column[order], scores[order].astype(np.float32)


def _places_in_class(labels: npt.NDArray[np.int64]) -> Indices:
    """Return how many of the same label come before each."""
    places = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        places[labels == label] = np.arange(np.count_nonzero(labels == label))
    return places


def vote(
    boxes: Boxes,
    probabilities: Floats,
    rows: Indices,
    labels: npt.NDArray[np.int64],
    *,
    iou_threshold: float = 0.5,
    power: float = 1.0,
) -> Boxes:
    """Move each detection to the mean of the boxes around it, weighted by their scores for its class.

    This is the box voting of Gidaris and Komodakis (ICCV 2015, section 5). Nothing is learned or regressed: the
    proposals that suppression drops together locate the object. Differs: the scores may be raised to a power, so
    that the most confident boxes count more.

    Args:
        boxes: (N, 4) xyxy in pixels, all of them.
        probabilities: (N, C) scores that suppression used.
        rows: (D,) row of each detection in boxes.
        labels: (D,) class of each detection.
        iou_threshold: boxes whose IoU with the detection is this or more have a vote.
        power: exponent of the scores that weight the votes. With higher powers boxes fit more tightly, and a few more
            of them not at all (benchmarks/LOG.md).

    Returns:
        (D, 4); a detection that nothing votes for, such as one without area, stays where it is.

    >>> boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 14], [90, 90, 99, 99]], np.float32)
    >>> vote(boxes, np.array([[0.75], [0.25], [0.9]], np.float32), np.array([0]), np.array([0])).tolist()
    [[0.0, 0.0, 10.0, 11.0]]
    """
    scores = probabilities[:, labels].T.astype(np.float64)
    weights = np.where(iou(boxes[rows], boxes) >= iou_threshold, scores**power, 0)
    total = weights.sum(axis=1, keepdims=True)
    means = np.divide(weights @ boxes, total, out=boxes[rows].astype(np.float64), where=total > 0)
    moved: Boxes = means.astype(np.float32)
    return moved
