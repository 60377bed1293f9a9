"""COCO's average precision and recall, through pycocotools, with its traps shut.

pycocotools counts an annotation with id 0 as unmatched, fails on empty results, scores an unknown category 0 and a NaN
as a hit, and cannot ignore a difficult object other than as a crowd. So ids are made here, starting at 1; records
cannot hold scores that are not finite; labels are checked; and ignored objects that are no crowds keep plain IoU.
"""

import contextlib
import importlib.util
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from eval.coco_records import areas_of, scores_of, sides_of
from structures.errors import InputError
from structures.records import Detections, GroundTruth

SUMMARY = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)  # the order of COCOeval.stats
ALL_AREAS, MOST_DETECTIONS = 0, -1  # positions in COCOeval's areaRng and maxDets


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
        InputError: a label without a class, or pycocotools is not installed.
    """
    evaluation = _evaluate(truths, detections, classes, crowd)
    yield from zip(SUMMARY, map(_known, evaluation.stats), strict=True)
    precision = evaluation.eval["precision"][..., ALL_AREAS, MOST_DETECTIONS]  # (IoU thresholds, recalls, classes)
    for label, name in enumerate(classes):
        yield f"AP/{name}", _known(precision[:, :, label].mean())
        yield f"AP50/{name}", _known(precision[0, :, label].mean())


def _honour_ignore(evaluation: Any) -> None:
    """Let `ignore` count where an object is no crowd; COCOeval overwrites it with `iscrowd` when it prepares."""
    prepare = evaluation._prepare

    def prepare_and_restore() -> None:
        prepare()
        for objects in evaluation._gts.values():
            for item in objects:
                item["ignore"] = item["difficult"] or item["iscrowd"]

    evaluation._prepare = prepare_and_restore


def _known(value: float) -> float:
    """Return NaN for pycocotools' -1: nothing to find."""
    return float("nan") if value < 0 else float(value)


def _evaluate(
    truths: Sequence[GroundTruth], detections: Sequence[Detections], classes: Sequence[str], crowd: bool
) -> Any:
    if importlib.util.find_spec("pycocotools") is None:
        raise InputError("COCO's protocol needs pycocotools: pip install pycocotools")
    from pycocotools.cocoeval import COCOeval

    objects = [row for image, truth in enumerate(truths, 1) for row in _object_rows(image, truth, len(classes), crowd)]
    found = [row for image, some in enumerate(detections, 1) for row in _found_rows(image, some, len(classes))]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports by printing
        evaluation = COCOeval(_index(objects, truths, classes), _index(found, truths, classes), "bbox")
        _honour_ignore(evaluation)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _index(rows: list[dict[str, Any]], truths: Sequence[GroundTruth], classes: Sequence[str]) -> Any:
    from pycocotools.coco import COCO

    for number, row in enumerate(rows, 1):  # 0 would read as "unmatched"
        row["id"] = number
    table = COCO()
    table.dataset = {
        "images": [{"id": image} for image in range(1, len(truths) + 1)],
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(classes)],
        "annotations": rows,
    }
    table.createIndex()
    return table


def _object_rows(image: int, truth: GroundTruth, classes: int, crowd: bool) -> Iterator[dict[str, Any]]:
    _check_labels(truth.labels, classes, f"ground truth of {truth.image_id}")
    areas = areas_of(truth).tolist()
    for row, box in enumerate(sides_of(truth).tolist()):
        ignore = bool(truth.ignore[row])
        yield {
            "image_id": image,
            "category_id": int(truth.labels[row]) + 1,
            "bbox": box,
            "area": areas[row],
            "iscrowd": int(ignore and crowd),
            "difficult": int(ignore and not crowd),
        }


def _found_rows(image: int, found: Detections, classes: int) -> Iterator[dict[str, Any]]:
    _check_labels(found.labels, classes, f"detections of image {image}")
    scores = scores_of(found).tolist()
    for row, box in enumerate(sides_of(found).tolist()):
        yield {
            "image_id": image,
            "category_id": int(found.labels[row]) + 1,
            "bbox": box,
            "area": box[2] * box[3],
            "score": scores[row],
        }


def _check_labels(labels: np.ndarray[Any, np.dtype[np.int64]], classes: int, place: str) -> None:
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise InputError(f"{place}: labels go from {labels.min()} to {labels.max()}, but there are {classes} classes")
