"""Which detections are right: pure functions on tables. COCO's rules are in eval/coco_matching.py."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.greedy import take_best
from eval.pairs import Pairs, shared_pairs
from eval.tables import DetectionTable, ObjectTable, shared_keys
from structures.boxes import Floats, Indices, paired_iou

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
    nearest, overlap = most_overlapped(found, objects)
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
    passes: min(0.5, wh / ((w + 10) (h + 10))), which is kinder to small objects. Ignored objects,
    which ILSVRC does not have, come last and stay free. An object without area, whose threshold is 0, cannot be taken.
    """
    order, thresholds = found.ranking, np.minimum(iou_threshold, _slack(objects))
    ranked, close = found.take(order), list[Pairs]()
    nearest, overlap = np.full(len(found), -1, np.int64), np.zeros(len(found), np.float32)
    for pairs in shared_pairs(shared_keys(ranked), shared_keys(objects), _iou(ranked, objects)):
        best = pairs.best()
        nearest[order[best.found]], overlap[order[best.found]] = best.objects, best.overlap
        close.append(pairs.take((pairs.overlap >= thresholds[pairs.objects]) & (pairs.overlap > 0)))
    taken = _taken(Pairs.joined(close), objects)
    rows = order[taken.found]
    nearest[rows], overlap[rows] = taken.objects, taken.overlap
    outcome = np.full(len(found), FALSE, np.int8)
    outcome[rows] = np.where(objects.ignore[taken.objects], IGNORED, TRUE)
    return Matches(outcome, nearest, overlap)


def _slack(objects: ObjectTable) -> Floats:
    width, height = (objects.boxes[:, 2:] - objects.boxes[:, :2]).T
    threshold: Floats = width * height / ((width + ILSVRC_MARGIN) * (height + ILSVRC_MARGIN))
    return threshold


def _taken(close: Pairs, objects: ObjectTable) -> Pairs:
    group, passes = shared_keys(objects)[close.objects], np.ones((len(close), 1), bool)
    counts = ~objects.ignore[:, None]
    return close.take(take_best(close, passes, counts, objects.ignore, group, last=False).pair)


def most_overlapped(found: DetectionTable, objects: ObjectTable) -> tuple[Indices, Floats]:
    """Return the object of its image and class that each detection overlaps most, and the IoU.

    Of equals it is the first; where there is none, -1 and 0.
    """
    return _best(len(found), shared_pairs(shared_keys(found), shared_keys(objects), _iou(found, objects)))


def most_overlapped_of_others(found: DetectionTable, objects: ObjectTable) -> tuple[Indices, Floats]:
    """Return the object of its image, but of another class, that each detection overlaps most, and the IoU."""

    def measure(rows: Indices, held: Indices) -> Floats:
        return np.where(found.labels[rows] == objects.labels[held], np.float32(0), _iou(found, objects)(rows, held))

    return _best(len(found), shared_pairs(found.image, objects.image, measure))


def best_of_objects(found: DetectionTable, objects: ObjectTable, *, by_class: bool) -> Floats:
    """Return the (M,) IoU of each object with the detection of its image, or image and class, that overlaps it most."""
    best = np.zeros(len(objects), np.float32)
    mine, theirs = shared_keys(found, by_class=by_class), shared_keys(objects, by_class=by_class)
    for pairs in shared_pairs(mine, theirs, _iou(found, objects)):
        np.maximum.at(best, pairs.objects, pairs.overlap)
    return best


def _iou(found: DetectionTable, objects: ObjectTable) -> Callable[[Indices, Indices], Floats]:
    return lambda rows, held: paired_iou(found.boxes[rows], objects.boxes[held])


def _best(count: int, parts: Iterable[Pairs]) -> tuple[Indices, Floats]:
    nearest, overlap = np.full(count, -1, np.int64), np.zeros(count, np.float32)
    for pairs in parts:
        best = pairs.best()
        nearest[best.found], overlap[best.found] = best.objects, best.overlap
    return nearest, overlap
