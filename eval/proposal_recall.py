"""How well proposals cover the objects: recall by IoU and by number of boxes, average recall, MABO.

Overlap is many-to-one, as in Uijlings et al. (IJCV 2013): an object is covered by the box that overlaps it most,
whatever else that box covers. Every object that counts is in the denominator, also those of photos without boxes, which
other tools leave out. An object is recalled when its best IoU is at least the threshold.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from eval.mistakes import SIZES, sizes_of
from structures.boxes import Boxes, Doubles, Floats, Indices, iou
from structures.records import GroundTruth

THRESHOLDS: Doubles = np.linspace(0.5, 1.0, 11)  # of the curve of recall against IoU
AVERAGED: Doubles = np.linspace(0.5, 0.95, 10)  # IoU thresholds of average recall, as COCO averages
SHOWN = (0.5, 0.7)  # IoU thresholds of the curves of recall against the number of boxes
COUNTS = (10, 20, 50, 100, 200, 300, 500, 1000, 2000, 5000, 10000)  # numbers of best boxes per image
AVERAGE_RECALL_AT = (100, 300, 1000, 2000)
BLOCK = 4096  # boxes compared with the objects at a time: bounds the memory for a photo with very many


@dataclass(frozen=True, eq=False)
class Coverage:
    """How well each counted object of a dataset is covered.

    Attributes:
        best: (M, K) IoU of each object with the best of the first COUNTS[k] boxes; the last column is of all boxes.
        labels: (M,) class of each object.
        area: (M,) in square pixels.
        boxes: (I,) number of boxes of each image.
    """

    best: Floats
    labels: Indices
    area: Floats
    boxes: Indices

    @property
    def overlap(self) -> Floats:
        """(M,) best IoU of each object with any box."""
        return self.best[:, -1]

    def first(self, count: int) -> Floats:
        """Return the (M,) best IoU of each object with the first `count` boxes of its image; one of COUNTS."""
        return self.best[:, COUNTS.index(count)]


def measure_coverage(pairs: Iterable[tuple[GroundTruth, Boxes]]) -> Coverage:
    """Compare the boxes of every image with its objects, one image at a time.

    Args:
        pairs: ground truth and proposals (N, 4) of every image, best first; (0, 4) where there are none.
    """
    best, labels, areas, boxes = [np.zeros((0, len(COUNTS) + 1), np.float32)], [np.zeros(0, np.int64)], [], []
    for truth, proposals in pairs:
        counts = ~truth.ignore
        best.append(best_overlaps(truth.boxes[counts], proposals))
        labels.append(truth.labels[counts])
        areas.append(truth.area[counts])
        boxes.append(len(proposals))
    area = np.concatenate([np.zeros(0, np.float32), *areas])
    return Coverage(np.concatenate(best), np.concatenate(labels), area, np.array(boxes, np.int64))


def best_overlaps(objects: Boxes, proposals: Boxes, counts: Sequence[int] = COUNTS) -> Floats:
    """Return the best IoU of each object with the first boxes.

    Args:
        objects: (M, 4).
        proposals: (N, 4), best first.
        counts: numbers of boxes, rising.

    Returns:
        (M, len(counts) + 1), the last column with all boxes; 0 where there are no boxes.
    """
    edges = [0, *(min(count, len(proposals)) for count in counts), len(proposals)]
    best = np.zeros((len(objects), len(counts) + 1), np.float32)
    for column, (first, last) in enumerate(pairwise(edges)):
        for start in range(first, last, BLOCK):
            block = iou(objects, proposals[start : min(start + BLOCK, last)])
            best[:, column] = np.maximum(best[:, column], block.max(axis=1, initial=0))
    return np.maximum.accumulate(best, axis=1)


def recall(overlap: Floats, thresholds: npt.ArrayLike) -> Doubles:
    """Return the share of objects whose best IoU is at least each threshold; NaN without objects.

    >>> recall(np.array([0.5, 0.7, 0.9, 0.0], np.float32), [0.5, 0.7, 1.0]).tolist()
    [0.75, 0.5, 0.0]
    """
    limits = np.atleast_1d(np.asarray(thresholds, np.float32))  # as the overlaps, so that 0.7 is not above 0.7
    if len(overlap) == 0:
        return np.full(len(limits), np.nan)
    return np.asarray((overlap[:, None] >= limits).mean(axis=0), np.float64)


def average_recall(overlap: Floats) -> float:
    """Return recall averaged over IoU 0.5, 0.55 ... 0.95, as in COCO."""
    return float(recall(overlap, AVERAGED).mean())


def class_mabo(coverage: Coverage, classes: int) -> Doubles:
    """Return the (classes,) average best overlap of each class; NaN for classes without objects.

    Their mean is MABO (Uijlings et al.).
    """
    totals = np.bincount(coverage.labels, weights=coverage.overlap, minlength=classes)
    counts = np.bincount(coverage.labels, minlength=classes)
    return np.asarray(np.divide(totals, counts, out=np.full(classes, np.nan), where=counts > 0), np.float64)


def recall_by_size(coverage: Coverage, threshold: float = 0.5) -> dict[str, float]:
    """Return the recall of small, medium and large objects (COCO's bounds)."""
    size = sizes_of(coverage.area)
    return {name: float(recall(coverage.overlap[size == i], threshold)[0]) for i, name in enumerate(SIZES)}


def proposal_rows(coverage: Coverage, classes: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Yield every figure with its name: MABO first; figures of a class are named ABO/<class>."""
    averages = class_mabo(coverage, len(classes))
    yield "MABO", float(np.nanmean(averages)) if len(coverage.labels) else float("nan")
    yield from ((f"AR@{count}", average_recall(coverage.first(count))) for count in AVERAGE_RECALL_AT)
    yield "AR", average_recall(coverage.overlap)
    for threshold, value in zip(THRESHOLDS, recall(coverage.overlap, THRESHOLDS), strict=True):
        yield f"recall@{threshold:.2f}", float(value)
    for count in COUNTS:
        for threshold, value in zip(SHOWN, recall(coverage.first(count), SHOWN), strict=True):
            yield f"recall@{threshold:.2f} of {count} boxes", float(value)
    for name, value in recall_by_size(coverage).items():
        yield f"recall@0.50 of {name} objects", value
    yield from _box_rows(coverage.boxes)
    for label, name in enumerate(classes):
        yield f"ABO/{name}", float(averages[label])
        yield f"recall@0.50/{name}", float(recall(coverage.overlap[coverage.labels == label], 0.5)[0])


def _box_rows(boxes: Indices) -> Iterator[tuple[str, float]]:
    for name, value in (("mean", np.mean), ("median", np.median), ("fewest", np.min), ("most", np.max)):
        yield f"boxes per image, {name}", float(value(boxes)) if len(boxes) else float("nan")
