"""The settings of a detector, apart from those of its generator and classifier: one record, checked in one place.

The command line, `run.json` and Python share this record. The generator and the classifier know their own settings
(`Detector.settings`).
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from structures.errors import InputError

if TYPE_CHECKING:
    from structures.images import ExifPolicy

SCORE_FLOOR = 0.05
MAP_SCORE_FLOOR = 0.001  # mAP needs weak detections, too (docs/evaluation.md)
NMS_THRESHOLD = 0.3  # R-CNN, section 2.2
MAX_PER_CLASS = 100  # R-CNN keeps at most this many boxes of a class per image
VOTE_THRESHOLD = 0.5  # Gidaris and Komodakis, ICCV 2015, section 5
VOTE_POWER = 3.0  # 1 to 6 were tried; with 1, AP (coco) is 3 to 6 points lower and mAP the same (benchmarks/LOG.md)
DRAW_FLOOR = 0.5  # lowest score to draw: more boxes would make a picture illegible
COUNT = "a whole number of at least 1"


@dataclass(frozen=True)
class DetectorSettings:
    """What a detector does with proposals and probabilities, and how it reads photos.

    Attributes:
        score_floor: lowest score to keep, 0 to 1; for mAP use 0.001, for people 0.05 or more.
        nms_threshold: a detection is dropped if its IoU with a better one of its class is above this, 0 to 1.
        max_boxes: classify only the first N proposals; None takes all. A union lists the boxes of one part after the
            other.
        max_per_class: most detections per class and photo.
        weigh_by_fit: multiply class probabilities by the scores of the proposals. Right if these tell how well a box
            fits an object, as MultiBox's do; None asks the generator (its `scores_tell_fit`).
        vote_threshold: a detection moves to the weighted mean of the boxes that overlap it by this IoU or more
            (`structures.nms.vote`), above 0 to 1; None leaves it at its proposal, as the paper does.
        vote_power: votes are weighted by their scores to this power, above 0; the higher, the more the best boxes
            count.
        class_agnostic: also drop a detection for a better one of another class.
        only: classes to look for, or one; None looks for all that the classifier knows.
        exif: "apply" turns photos from files as their EXIF orientation says, "ignore" takes the stored pixels.

    Raises:
        InputError: a setting is out of range.
    """

    score_floor: float = SCORE_FLOOR
    nms_threshold: float = NMS_THRESHOLD
    max_boxes: int | None = None
    max_per_class: int = MAX_PER_CLASS
    weigh_by_fit: bool | None = None
    vote_threshold: float | None = VOTE_THRESHOLD
    vote_power: float = VOTE_POWER
    class_agnostic: bool = False
    only: tuple[str, ...] | None = None
    exif: "ExifPolicy" = "apply"

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, np.generic):  # JSON knows Python's numbers only
                object.__setattr__(self, each.name, value.item())
        only: object = self.only  # as a caller may write it
        if isinstance(only, Iterable):
            object.__setattr__(self, "only", (only,) if isinstance(only, str) else tuple(only))
        score, iou, power, threshold = self.score_floor, self.nms_threshold, self.vote_power, self.vote_threshold
        voting = threshold is None or (_number(threshold) and 0 < threshold <= 1)
        _require(_number(score) and 0 <= score <= 1, "score_floor", score, "from 0 to 1")
        _require(_number(iou) and 0 <= iou <= 1, "nms_threshold", iou, "from 0 to 1")
        _require(self.max_boxes is None or _counts(self.max_boxes), "max_boxes", self.max_boxes, f"{COUNT}, or None")
        _require(_counts(self.max_per_class), "max_per_class", self.max_per_class, COUNT)
        _require(voting, "vote_threshold", threshold, "above 0 and at most 1, or None")
        _require(_number(power) and 0 < power < math.inf, "vote_power", power, "above 0 and finite")
        _require(isinstance(self.class_agnostic, bool), "class_agnostic", self.class_agnostic, "True or False")
        named = self.only is None or (isinstance(self.only, tuple) and all(isinstance(name, str) for name in self.only))
        _require(named and self.only != (), "only", self.only, "names of classes, or None")
        _require(self.exif in ("apply", "ignore"), "exif", self.exif, "'apply' or 'ignore'")

    def as_record(self) -> dict[str, Any]:
        """Return them as JSON values, without newer settings at their default, so that old results can be resumed."""
        later = {"class_agnostic": False, "only": None}
        return {name: value for name, value in asdict(self).items() if name not in later or value != later[name]}


class SettingChanges(TypedDict, total=False):
    """The fields of `DetectorSettings` as optional keywords."""

    score_floor: float
    nms_threshold: float
    max_boxes: int | None
    max_per_class: int
    weigh_by_fit: bool | None
    vote_threshold: float | None
    vote_power: float
    class_agnostic: bool
    only: tuple[str, ...] | None
    exif: "ExifPolicy"


def _number(value: object) -> bool:
    return isinstance(value, int | float)


def _counts(value: object) -> bool:
    return isinstance(value, int) and value >= 1


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise InputError(f"`{name}` {value!r} must be {expected}")
