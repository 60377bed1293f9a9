"""What is known of the objects that a detector missed: the first stage that lost each, and how many each stage lost.

`eval.trace.find_lost` makes these records.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Stage = Literal[
    "not searched",
    "no proposal",
    "not classified",
    "background",
    "wrong class",
    "below the floor",
    "suppressed",
    "loose",
    "shared",
    "unknown",
]
STAGES: Mapping[Stage, str] = {
    "not searched": "its photo has no results",
    "no proposal": "no proposed box fits it",
    "not classified": "a box fits, but was cut before classification",
    "background": "the boxes that fit were taken for background",
    "wrong class": "the boxes that fit were taken for another class",
    "below the floor": "right class, but the score is too low",
    "suppressed": "right class, dropped for a better box of the class",
    "loose": "right class, but the detection does not fit",
    "shared": "its detection counts for another object",
    "unknown": "unknown, as its regions were not kept",
}
"""Stages in the order of a detector, and what became of an object there. A box fits from the IoU threshold on."""

Box = tuple[float, float, float, float]
NAN = float("nan")


@dataclass(frozen=True)
class Rules:
    """How a detector chose detections among its regions.

    Attributes:
        score_floor: weaker ones were dropped.
        nms_threshold: one was dropped when its IoU with a better one of its class was above this.
        max_per_class: at most this many of a class were kept per photo.
        weigh_by_fit: class probabilities were multiplied by the proposals' scores.
        class_agnostic: one was also dropped for a better one of another class.
        only: classes that were looked for; None where all were.
    """

    score_floor: float
    nms_threshold: float
    max_per_class: int
    weigh_by_fit: bool
    class_agnostic: bool = False
    only: tuple[str, ...] | None = None


@dataclass(frozen=True)
class LostObject:
    """An object that was missed, and the first stage that it did not survive.

    Attributes:
        image_id: name of the photo in its dataset.
        row: of the object in the photo's `GroundTruth`.
        label: its class.
        size: small, medium or large.
        stage: one of `STAGES`.
        box: the box that came nearest to being right: of all that were proposed (no proposal), the first that fits
            among those that were cut (not classified), else the region that fits and has the best score for the class.
            Where regions were not kept, a detection. None where there is none.
        iou: of that box with the object.
        source: which generator made it; "" where that is not known.
        rank: its place among the proposals, from 1; 0 where that is not known.
        classified: how many proposals were classified.
        score: its score for the object's class, as detections are ranked by; NaN where it has none.
        probabilities: what it was taken for, by name: the object's class, the likeliest class, and background.
        other: the box that stands in its place: the better one that suppressed it, or the detection (loose, shared, and
            without regions wrong class). None where there is none.
        other_score: of that box for its class.
    """

    image_id: str
    row: int
    label: int
    size: str
    stage: Stage
    box: Box | None = None
    iou: float = 0.0
    source: str = ""
    rank: int = 0
    classified: int = 0
    score: float = NAN
    probabilities: Mapping[str, float] = field(default_factory=dict)
    other: Box | None = None
    other_score: float = NAN

    def reason(self) -> str:
        """Say in a few words how it was lost, with the figures that decided."""
        return REASONS[self.stage](self)


def _taken_for(lost: LostObject) -> str:
    by_chance = sorted(lost.probabilities.items(), key=lambda each: -each[1])
    return ", ".join(f"{name} {chance:.2f}" for name, chance in by_chance)


REASONS: Mapping[Stage, Callable[[LostObject], str]] = {
    "not searched": lambda _: "its photo has no results",
    "no proposal": lambda lost: f"the best proposed box has IoU {lost.iou:.2f}",
    "not classified": lambda lost: f"box {lost.rank} fits, but only {lost.classified} were classified",
    "background": lambda lost: f"the best box that fits was taken for background: {_taken_for(lost)}",
    "wrong class": lambda lost: f"the best box that fits was taken for another class: {_taken_for(lost)}",
    "below the floor": lambda lost: f"the best box that fits has score {lost.score:.3f}",
    "suppressed": lambda lost: (
        f"a box that fits has score {lost.score:.2f}; a box that does not, {lost.other_score:.2f}"
        if lost.other
        else f"a box that fits has score {lost.score:.2f}, beyond the most per class"
    ),
    "loose": lambda lost: f"the detection that comes nearest has score {lost.other_score:.2f}",
    "shared": lambda lost: f"its detection, with score {lost.other_score:.2f}, counts for another object",
    "unknown": lambda _: "unknown, as its regions were not kept",
}


@dataclass(frozen=True)
class Losses:
    """Where the missed objects of a dataset were lost.

    Attributes:
        lost: every missed object, photo by photo.
        classes: class names in label order.
        objects: (classes, sizes) how many objects count, missed or not.
        with_regions: how many photos have their regions kept.
        photos: of how many.
        iou_threshold: least IoU of a box that fits.
        score: detections below this did not count as finding an object; None where all did.
    """

    lost: tuple[LostObject, ...]
    classes: tuple[str, ...]
    objects: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    with_regions: int
    photos: int
    iou_threshold: float
    score: float | None

    def by(self, key: Callable[[LostObject], str]) -> dict[str, Counter[Stage]]:
        """Count the stages of the missed objects in groups, such as by `lambda lost: lost.size`."""
        groups: dict[str, Counter[Stage]] = {}
        for each in self.lost:
            groups.setdefault(key(each), Counter())[each.stage] += 1
        return groups

    @property
    def stages(self) -> Counter[Stage]:
        """How many were lost at each stage."""
        return Counter(each.stage for each in self.lost)

    def by_class(self) -> dict[str, Counter[Stage]]:
        """Count the stages for each class that has missed objects."""
        return self.by(lambda each: self.classes[each.label])

    def by_size(self) -> dict[str, Counter[Stage]]:
        """Count the stages for each size of objects."""
        return self.by(lambda each: each.size)

    def by_source(self) -> dict[str, Counter[Stage]]:
        """Count the stages by the generator of the box that came nearest; "" where there is none."""
        return self.by(lambda each: each.source)
