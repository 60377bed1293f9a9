"""Measures how well stored proposals cover the objects of annotated photos, for `rcnn eval proposals`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.aligned import count_images
from eval.ground_truth import AnyDataset
from eval.names import match_names
from eval.proposal_recall import Coverage, measure_coverage
from proposals.stored.checks import BoxChecks
from proposals.stored.generator import NamedBoxes, open_boxes
from structures.boxes import Boxes
from structures.errors import InputError
from structures.records import GroundTruth

NO_BOXES: Boxes = np.zeros((0, 4), np.float32)
SUSPICIOUS = 0.5  # share of objects that have a box exactly equal to them


def measure_proposals(file: Path, dataset: AnyDataset) -> tuple[Coverage, Mapping[str, Any], list[str]]:
    """Compare stored boxes with annotated objects, one photo at a time.

    Returns:
        The coverage, how the boxes were made if the file says so, and warnings.

    Raises:
        InputError: the file cannot be used, or has none of the dataset's photos.
    """
    boxes = open_boxes(file)
    try:
        names, extra = match_names(boxes.image_ids, dataset)
    except ValueError as error:
        raise InputError(f"{file}: {error}") from None
    missing = [image_id for image_id in dataset.image_ids if image_id not in names]
    checks = BoxChecks()
    coverage = measure_coverage(_pairs(boxes, names, missing, dataset, checks))
    possible = [
        (
            missing,
            f"{count_images(missing)} of the ground truth without boxes in the file: their objects count as missed",
        ),
        (extra, f"{count_images(extra)} not in the ground truth left out"),
        *((line, line) for line in checks.lines()),
        (_leaks(coverage), "most objects have a box exactly equal to them: is the ground truth among the proposals?"),
    ]
    made: Mapping[str, Any] = getattr(boxes, "manifest", {})
    return coverage, made, [warning for applies, warning in possible if applies]


def _pairs(
    boxes: NamedBoxes, names: Mapping[str, str], missing: Sequence[str], dataset: AnyDataset, checks: BoxChecks
) -> Iterator[tuple[GroundTruth, Boxes]]:
    for image_id, name in names.items():  # in the order of the file, which reads each shard once
        truth, found = dataset.ground_truth(image_id), boxes.boxes_of(name)[0]
        if truth.size_known:
            checks.look(image_id, found, truth.image_size)
        yield truth, found
    for image_id in missing:
        yield dataset.ground_truth(image_id), NO_BOXES


def _leaks(coverage: Coverage) -> bool:
    return len(coverage.overlap) > 0 and float((coverage.overlap == 1).mean()) > SUSPICIOUS
