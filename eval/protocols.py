"""How good detections are, by the protocols that papers report: each yields (name, value), the headline first.

`voc07`: AP at 11 recall levels, VOC 2007. `voc`: the whole area under the curve, VOC 2010 and later. `ilsvrc`: that
area with a lower IoU threshold for small objects. `coco`: averaged over ten IoU thresholds (eval/coco_protocol.py).
docs/evaluation.md compares them.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from eval.average_precision import RankedOutcomes, all_point, eleven_point, mean_of_known, rank_outcomes
from eval.coco_protocol import coco
from eval.matching import Matcher, match_ilsvrc, match_voc
from eval.tables import DetectionTable, ObjectTable, check_labels
from structures.errors import InputError
from structures.names import did_you_mean
from structures.records import Detections, GroundTruth

Rows = Iterator[tuple[str, float]]
Protocol = Callable[[Sequence[GroundTruth], Sequence[Detections], Sequence[str]], Rows]


def voc07(
    truths: Sequence[GroundTruth],
    detections: Sequence[Detections],
    classes: Sequence[str],
    *,
    iou_threshold: float = 0.5,
) -> Rows:
    """Yield mAP, then AP of every class, as in the VOC 2007 devkit (11-point).

    Args:
        truths: of all images, also those without objects.
        detections: of the same images, in the same order.
        classes: class names in label order. A class without objects that count has AP NaN and stays out of mAP.
        iou_threshold: least IoU of a true positive.
    """
    curves = class_curves(truths, detections, classes, partial(match_voc, iou_threshold=iou_threshold))
    yield from mean_and_classes([eleven_point(curve) for curve in curves], classes)


def voc(
    truths: Sequence[GroundTruth],
    detections: Sequence[Detections],
    classes: Sequence[str],
    *,
    iou_threshold: float = 0.5,
) -> Rows:
    """Yield mAP, then AP of every class, as in the devkits since VOC 2010 (all-point). Arguments as `voc07`."""
    curves = class_curves(truths, detections, classes, partial(match_voc, iou_threshold=iou_threshold))
    yield from mean_and_classes([all_point(curve) for curve in curves], classes)


def ilsvrc(truths: Sequence[GroundTruth], detections: Sequence[Detections], classes: Sequence[str]) -> Rows:
    """Yield mAP, then AP of every class, as in the ILSVRC detection task. Arguments as `voc07`."""
    curves = class_curves(truths, detections, classes, match_ilsvrc)
    yield from mean_and_classes([all_point(curve) for curve in curves], classes)


PROTOCOLS: dict[str, Protocol] = {"voc07": voc07, "voc": voc, "coco": coco, "ilsvrc": ilsvrc}


def class_curves(
    truths: Sequence[GroundTruth], detections: Sequence[Detections], classes: Sequence[str], matcher: Matcher
) -> list[RankedOutcomes]:
    """Match all images and return the ranked outcomes of every class, in label order.

    Raises:
        InputError: not one record of detections per image, or a label without a class.
    """
    if len(truths) != len(detections):
        raise InputError(f"ground truth of {len(truths)} images but detections of {len(detections)}")
    found, objects = DetectionTable.of(detections), ObjectTable.of(truths)
    for table in (found, objects):
        check_labels(table, len(classes))
    return rank_outcomes(found, matcher(found, objects), objects, classes)


def check_protocol(name: str) -> None:
    """Refuse a name that no protocol has.

    Raises:
        InputError: names those that there are.
    """
    if name not in PROTOCOLS:
        raise InputError(f"no protocol {name!r}; there are {', '.join(PROTOCOLS)}{did_you_mean(name, PROTOCOLS)}")


def mean_and_classes(values: Sequence[float], classes: Sequence[str]) -> Rows:
    """Yield the mean over the classes that have a value, then every class; NaN stands for no value.

    >>> list(mean_and_classes([0.5, float("nan")], ["cat", "dog"]))
    [('mAP', 0.5), ('AP/cat', 0.5), ('AP/dog', nan)]
    """
    yield "mAP", float(mean_of_known(np.array(values)))
    yield from ((f"AP/{name}", value) for name, value in zip(classes, values, strict=True))
