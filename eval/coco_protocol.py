"""COCO's average precision and recall: the figures of pycocotools, with its traps shut.

pycocotools counts an annotation with id 0 as unmatched, fails on empty results, scores an unknown category 0 and a NaN
as a hit, and cannot ignore a difficult object other than as a crowd. Here ids play no part; records cannot hold scores
that are not finite; labels are checked; and ignored objects that are not crowds keep plain IoU. The rest is equal, to
the last digit; tests hold it against pycocotools.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from eval.average_precision import mean_at_levels, mean_of_known, rows_by_class
from eval.coco_matching import AREAS, MOST_DETECTIONS, THRESHOLDS, CocoMatches, match_coco
from eval.matching import IGNORED, TRUE
from structures.boxes import Doubles, Indices
from structures.records import Detections, GroundTruth

COCO_LEVELS: Doubles = np.linspace(0, 1, 101)  # not multiples of 0.01 to the last digit: those of pycocotools
ALL_AREAS, AP50, AP75 = 0, 0, 5  # positions in AREAS and THRESHOLDS
FEWER = (1, 10)  # of a class in an image, for recall


def coco(
    truths: Sequence[GroundTruth], detections: Sequence[Detections], classes: Sequence[str], *, crowd: bool = True
) -> Iterator[tuple[str, float]]:
    """Yield COCO's twelve figures, then AP and AP50 of every class; NaN where there is nothing to find.

    Args:
        truths: of all images, also those without objects; equal scores rank in this order, so sort it by COCO image id.
        detections: of the same images, in the same order; the 100 best of a class in an image count.
        classes: class names in label order.
        crowd: ignored objects are COCO crowds: they excuse any number of detections, by the share of the detection
            inside them. False, for VOC's difficult objects: one excuses one detection, by IoU.

    Raises:
        InputError: a label without a class.
    """
    matches = match_coco(truths, detections, len(classes), crowd=crowd)
    precision = average_precision(matches, len(classes))
    yield from ((name, float(mean_of_known(values))) for name, values in _figures(matches, precision))
    for label, name in enumerate(classes):
        yield f"AP/{name}", float(precision[label, ALL_AREAS].mean())
        yield f"AP50/{name}", float(precision[label, ALL_AREAS, AP50])


def _figures(matches: CocoMatches, precision: Doubles) -> Iterator[tuple[str, Doubles]]:
    """Yield the twelve figures, each with what it is the mean of."""
    ranges = [(area, name) for area, name in enumerate(AREAS) if area != ALL_AREAS]
    yield "AP", precision[:, ALL_AREAS]
    yield "AP50", precision[:, ALL_AREAS, AP50]
    yield "AP75", precision[:, ALL_AREAS, AP75]
    yield from ((f"AP_{name}", precision[:, area]) for area, name in ranges)
    yield from ((f"AR_{count}", recall(matches, len(precision), count)[:, ALL_AREAS]) for count in FEWER)
    found = recall(matches, len(precision))
    yield f"AR_{MOST_DETECTIONS}", found[:, ALL_AREAS]
    yield from ((f"AR_{name}", found[:, area]) for area, name in ranges)


def average_precision(matches: CocoMatches, classes: int) -> Doubles:
    """Return the (classes, 4, 10) average precision in each range of area at each threshold; NaN without objects."""
    positives = _positives(matches, classes)
    columns = matches.outcome.reshape(len(AREAS) * len(THRESHOLDS), -1)
    values, found = np.empty((classes, len(AREAS), len(THRESHOLDS))), np.zeros(columns.shape[1], np.bool_)
    found[matches.hits[1]] = True
    for label, rows in enumerate(rows_by_class(matches.labels, classes)):
        outcome, hits = columns.take(rows, axis=1), np.flatnonzero(found[rows])
        true = outcome[:, hits] == TRUE
        seen = np.cumsum(outcome != IGNORED, axis=1, dtype=np.int32)[:, hits]
        objects = np.repeat(positives[label], len(THRESHOLDS))
        curves = np.cumsum(true, axis=1, dtype=np.int32), seen
        values[label] = mean_at_levels(*curves, objects, COCO_LEVELS).reshape(values.shape[1:])
    return values


def recall(matches: CocoMatches, classes: int, most: int = MOST_DETECTIONS) -> Doubles:
    """Return the (classes, 4, 10) recall with the best detections of a class in each image; NaN without objects."""
    columns, rows = matches.hits
    shape = (classes, len(AREAS), len(THRESHOLDS))
    cells = matches.labels[rows] * (len(AREAS) * len(THRESHOLDS)) + columns
    found = np.bincount(cells[matches.rank[rows] < most], minlength=math.prod(shape)).reshape(shape).astype(np.float64)
    positives = _positives(matches, classes)[:, :, None]
    return np.divide(found, positives, out=np.full_like(found, np.nan), where=positives > 0)


def _positives(matches: CocoMatches, classes: int) -> Indices:
    """Return the (classes, 4) number of objects that count in each range of area."""
    labels = matches.objects.labels
    return np.stack([np.bincount(labels[counts], minlength=classes) for counts in matches.counts.T], axis=1)
