"""Records of COCO files that keep the files' doubles: what COCO's own evaluator judges, which float32 would change."""

from dataclasses import dataclass

import numpy as np

from structures.boxes import Boxes, Doubles
from structures.records import Detections, GroundTruth


@dataclass(frozen=True, eq=False, kw_only=True)
class CocoTruth(GroundTruth):
    """The annotated objects of one image of an instances.json.

    Attributes:
        sides: (N, 4) float64 x, y, width, height, as stated.
        areas: (N,) float64 in square pixels, as stated.
    """

    COLUMNS = (*GroundTruth.COLUMNS, "sides", "areas")

    sides: Doubles
    areas: Doubles


@dataclass(frozen=True, eq=False, kw_only=True)
class CocoDetections(Detections):
    """What a COCO results file says was found in one image.

    Attributes:
        sides: (N, 4) float64 x, y, width, height, as stated.
        exact_scores: (N,) float64, as stated.
    """

    COLUMNS = (*Detections.COLUMNS, "sides", "exact_scores")

    sides: Doubles
    exact_scores: Doubles


def sides_of(record: GroundTruth | Detections) -> Doubles:
    """Return COCO's boxes (N, 4), x, y, width, height: as a COCO file stated them, or from the corners."""
    return record.sides if isinstance(record, CocoTruth | CocoDetections) else corner_and_size(record.boxes)


def areas_of(truth: GroundTruth) -> Doubles:
    """Return the (N,) areas of objects in square pixels."""
    return truth.areas if isinstance(truth, CocoTruth) else truth.area.astype(np.float64)


def scores_of(found: Detections) -> Doubles:
    """Return the (N,) scores."""
    return found.exact_scores if isinstance(found, CocoDetections) else found.scores.astype(np.float64)


def corner_and_size(boxes: Boxes) -> Doubles:
    """Return corners (N, 4) as COCO's boxes: x, y, width, height.

    >>> corner_and_size(np.array([[1, 2, 4, 6]], np.float32)).tolist()
    [[1.0, 2.0, 3.0, 4.0]]
    """
    wide = boxes.astype(np.float64)  # float32 differences would lose digits that COCO's files hold
    return np.concatenate([wide[:, :2], wide[:, 2:] - wide[:, :2]], axis=1)
