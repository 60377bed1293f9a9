"""How many regions of a photo a classifier on shared features learns from in a step, and which, as a plain record."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RegionDraw:
    """How many regions of a photo are drawn, and which.

    Attributes:
        count: regions of a photo in one step.
        positives: at most this many of them with an IoU of 0.5 or more, evenly over objects and ranges of the IoU.
        near_share: share of the others with an IoU from 0.1 on, while there are enough.
    """

    count: int = 64
    positives: int = 20
    near_share: float = 0.7
