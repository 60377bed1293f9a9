"""What a classifier said of the regions of one photo: between proposals and detections."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from structures.boxes import Boxes, Floats
from structures.errors import InputError
from structures.records import Proposals

Features = npt.NDArray[np.float16] | npt.NDArray[np.float32]
"""Numbers of a layer of the network for each region, (N, D)."""


def no_features() -> Features:
    """Return the features of regions of which none were asked for."""
    return np.zeros((0, 0), np.float16)


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions of one photo with their class probabilities.

    Attributes:
        proposals: the regions, in the order they were proposed; its `left_out` has those that were not classified.
        probabilities: (N, C + 1) float32, background last.
        classes: names of the C classes.
        features: (N, D) what the network's last layer sees of each region; D is 0 where they were not asked for.

    Raises:
        InputError: columns that do not fit together.
    """

    proposals: Proposals
    probabilities: Floats
    classes: tuple[str, ...]
    features: Features = field(default_factory=no_features)

    def __post_init__(self) -> None:
        count, columns = len(self.proposals), len(self.classes) + 1
        if self.probabilities.shape != (count, columns):
            raise InputError(f"probabilities must have shape {(count, columns)}, got {self.probabilities.shape}")
        if self.features.ndim != 2 or (self.features.shape[1] and len(self.features) != count):
            raise InputError(f"features of {count} regions must have shape ({count}, D), got {self.features.shape}")

    def __len__(self) -> int:
        return len(self.proposals)

    @property
    def boxes(self) -> Boxes:
        """(N, 4) float32 xyxy in pixels of the photo."""
        return self.proposals.boxes

    def scores(self, *, weigh_by_fit: bool) -> Floats:
        """Return the (N, C) scores that detections are chosen by.

        Args:
            weigh_by_fit: multiply the probability of each class by the proposal's score, the chance that the box fits
                an object; otherwise the probability alone.
        """
        of_classes = self.probabilities[:, :-1]
        return of_classes * self.proposals.scores[:, None] if weigh_by_fit else of_classes
