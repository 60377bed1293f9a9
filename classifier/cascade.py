"""A quick classifier for all regions of a photo, and an exact one for the first of them.

With proposals in the order of how well they fit, the first few are those that detections come from, so a look at them
alone is worth nearly as much as one at all (benchmarks/LOG.md). Staged classifiers are as old as Viola and Jones, Rapid
object detection using a boosted cascade, CVPR 2001; here none of the regions is dropped on the way.

The exact classifier may know fewer classes, as where the quick one has learned new ones from a few examples. Then it
says how likely the classes that it knows are, and the background, if the region is of none of the others.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from classifier.engines import Engine
from classifier.placement import Placement
from classifier.protocol import RegionClassifier, engines_of, feature_count, in_steps, settings_of
from structures.boxes import Boxes, Floats
from structures.errors import InputError, require_count
from structures.records import Image

SHARE = 0.75  # of the exact classifier in the mean, of 0.5 to 1


def unknown_classes(quick: Sequence[str], exact: Sequence[str]) -> list[str]:
    """Return the classes of an exact classifier that the quick one does not know, and must."""
    return [name for name in exact if name not in quick]


class Cascade:
    """Classifies all regions with one classifier, and the first of them with another one as well.

    Args:
        quick: for all regions.
        exact: for the first; it knows no class that the quick one does not, and gives no features.
        count: how many of the first regions of a photo, at least 1.
        share: of the exact probabilities in the weighted mean with the quick ones, above 0 to 1.

    Raises:
        InputError: the exact one knows other classes, or gives features, or a number is out of its range.
    """

    def __init__(self, quick: RegionClassifier, exact: RegionClassifier, *, count: int, share: float = SHARE) -> None:
        unknown = unknown_classes(quick.classes, exact.classes)
        if unknown:
            raise InputError(f"the classifier of the first regions knows {unknown[0]!r}, which that of all does not")
        if feature_count(exact):
            raise InputError("features come from the classifier of all regions; that of the first must give none")
        require_count("exact", count)
        if not 0 < share <= 1:
            raise InputError(f"share must be above 0 and at most 1, got {share}")
        self.quick, self.exact, self.count, self.share = quick, exact, count, share
        self.classes, self.feature_count = tuple(quick.classes), feature_count(quick)
        self._known = [*map(self.classes.index, exact.classes), len(self.classes)]
        self._quick, self._exact = in_steps(quick), in_steps(exact)

    @property
    def engines(self) -> tuple[Engine | Placement, ...]:
        """Those of both, as far as they say where they run."""
        return engines_of(self.quick, self.exact)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The settings of the quick classifier, taken to be those of the exact one as well, and those of the mean."""
        return {**settings_of(self.quick), "exact": self.count, "share": self.share}

    def __call__(self, image: Image, boxes: Boxes) -> Floats:
        """Return (N, C + 1) probabilities of (N, 4) boxes, and the features of the quick classifier behind them."""
        return self.finish([self.begin(image)], [boxes])[0]

    def begin(self, image: Image) -> tuple[Any, Any]:
        """Begin with both; see `classifier.protocol.ClassifiesInSteps`."""
        return self._quick.begin(image), self._exact.begin(image)

    def look(self, begun: Sequence[tuple[Any, Any]]) -> None:
        """Have both look at photos that were begun."""
        self._quick.look([own for own, _ in begun])
        self._exact.look([own for _, own in begun])

    def finish(self, begun: Sequence[tuple[Any, Any]], boxes: Sequence[Boxes]) -> list[Floats]:
        """Return the probabilities of (N, 4) boxes of each photo that was begun."""
        rows = self._quick.finish([own for own, _ in begun], boxes)
        first = self._exact.finish([own for _, own in begun], [own[: self.count] for own in boxes])
        return [self._together(*each) for each in zip(rows, first, strict=True)]

    def _together(self, rows: Floats, first: Floats) -> Floats:
        mean, count, share = rows.copy(), len(first), np.float32(self.share)
        quick = rows[:count, self._known]
        known = np.float32(1)  # probability that it is of the classes that the exact one knows, or of none
        if len(self._known) <= len(self.classes):
            known = quick.sum(axis=1, keepdims=True)
        mean[:count, self._known] = share * known * first + (1 - share) * quick
        return mean
