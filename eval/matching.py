"""Which detections are right: pure functions on tables, one for every protocol that matches on its own.

COCO's matching is not here: pycocotools does it (eval/coco_protocol.py).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.tables import DetectionTable, ObjectTable, shared_groups
from structures.boxes import Floats, Indices, iou

FALSE, TRUE, IGNORED = 0, 1, -1
"""Outcomes of a detection. An ignored one counts neither for nor against."""

ILSVRC_MARGIN = 10  # pixels of slack for small objects, ILSVRC development kit, eval_detection.m


@dataclass(frozen=True, eq=False)
class Matches:
    """What became of every detection.

    Attributes:
        outcome: (N,) int8 of FALSE, TRUE, IGNORED, in table order.
        nearest: (N,) row of the object of the same image and class that the detection was held against; -1 for none.
        overlap: (N,) its IoU, 0 where there is none.
    """

    outcome: npt.NDArray[np.int8]
    nearest: Indices
    overlap: Floats


Matcher = Callable[[DetectionTable, ObjectTable], Matches]


def match_voc(found: DetectionTable, objects: ObjectTable, *, iou_threshold: float = 0.5) -> Matches:
    """Match as the VOC devkit does (VOCevaldet.m).

    A detection is held against the object of its class that it overlaps most, taken or not, difficult or not; of equals
    against the first. It is true when the IoU is at least the threshold and no better-scored detection took that
    object. When that object is difficult the detection is ignored, however often this happens.
    """
    nearest, overlap = _most_overlapped(found, objects)
    outcome = np.full(len(found), FALSE, np.int8)
    order = found.ranking
    near = order[overlap[order] >= iou_threshold]
    difficult = objects.ignore[nearest[near]]
    outcome[near[difficult]] = IGNORED
    claims = near[~difficult]
    _, first = np.unique(nearest[claims], return_index=True)
    outcome[claims[first]] = TRUE
    return Matches(outcome, nearest, overlap)


def match_ilsvrc(found: DetectionTable, objects: ObjectTable, *, iou_threshold: float = 0.5) -> Matches:
    """Match as the ILSVRC development kit does (eval_detection.m).

    A detection takes the object of its class that it overlaps most among those not taken yet whose own threshold it
    passes: min(0.5, wh / ((w + 10) (h + 10))), which is kinder to small objects. Objects to ignore, which ILSVRC has
    not, come last and stay free. An object without area, whose threshold is 0, cannot be taken.
    """
    thresholds = np.minimum(iou_threshold, _slack(objects))
    outcome = np.full(len(found), FALSE, np.int8)
    nearest, overlap = np.full(len(found), -1, np.int64), np.zeros(len(found), np.float32)
    for rows, held in shared_groups(found, objects):
        pairs = iou(found.boxes[rows], objects.boxes[held])
        passes = (pairs >= thresholds[held]) & (pairs > 0)
        free = np.ones(len(held), bool)
        for row in np.argsort(-found.scores[rows], kind="stable"):
            choice = _best_free(pairs[row], free, passes[row], objects.ignore[held])
            ignored = bool(objects.ignore[held[choice]])
            nearest[rows[row]], overlap[rows[row]] = held[choice], pairs[row, choice]
            if free[choice] and passes[row, choice]:
                outcome[rows[row]] = IGNORED if ignored else TRUE
                free[choice] = ignored
    return Matches(outcome, nearest, overlap)


def _slack(objects: ObjectTable) -> Floats:
    width, height = (objects.boxes[:, 2:] - objects.boxes[:, :2]).T
    threshold: Floats = width * height / ((width + ILSVRC_MARGIN) * (height + ILSVRC_MARGIN))
    return threshold


def _best_free(
    overlaps: Floats, free: npt.NDArray[np.bool_], passes: npt.NDArray[np.bool_], ignore: npt.NDArray[np.bool_]
) -> int:
    """Return the best object to take: one that counts before one to ignore, else simply the most overlapped."""
    for candidates in (free & passes & ~ignore, free & passes):
        if candidates.any():
            return int(np.argmax(np.where(candidates, overlaps, -1)))
    return int(np.argmax(overlaps))


def _most_overlapped(found: DetectionTable, objects: ObjectTable) -> tuple[Indices, Floats]:
    nearest, overlap = np.full(len(found), -1, np.int64), np.zeros(len(found), np.float32)
    for rows, held in shared_groups(found, objects):
        pairs = iou(found.boxes[rows], objects.boxes[held])
        best = pairs.argmax(axis=1)  # the first of equals, as in the devkit
        nearest[rows], overlap[rows] = held[best], pairs[np.arange(len(rows)), best]
    return nearest, overlap
