"""The one interface of every region classifier: a photo and boxes in, class probabilities out."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from classifier.engines import Engine
from classifier.placement import Placement
from structures.boxes import Boxes, Floats, as_boxes
from structures.errors import InputError
from structures.records import Image


class RegionClassifier(Protocol):
    """Says what every box of a photo holds.

    A classifier with settings, other than its weights, that decide its answers has an attribute parameters: a mapping
    of JSON values, for the record of a run; see `settings_of`. One that also returns features, the input of its last
    layer, has an attribute feature_count with their number D, and they follow the probabilities: (N, C + 1 + D). See
    `feature_count`.
    """

    @property
    def classes(self) -> Sequence[str]:
        """The C object classes; background is the column after them."""

    def __call__(self, image: Image, boxes: Boxes) -> Floats:
        """Return (N, C + 1) probabilities for (N, 4) boxes in pixels of the RGB uint8 photo; rows sum to 1."""


def feature_count(classify: object) -> int:
    """Return how many features of each region a classifier gives after its probabilities; most give none."""
    return int(getattr(classify, "feature_count", 0))


def settings_of(classify: object) -> dict[str, Any]:
    """Return every setting that decides the answers of a classifier, apart from its weights; most have none."""
    return dict(getattr(classify, "parameters", {}))


@runtime_checkable
class ClassifiesInSteps(Protocol):
    """A region classifier that works on several photos together; calling it takes the steps for one photo.

    No photo's probabilities depend on which others are with it, apart from rounding on the device.
    """

    def begin(self, image: Image) -> Any:
        """Do for an RGB uint8 photo what needs no network; from any thread."""

    def look(self, begun: Sequence[Any]) -> None:
        """Run what sees whole photos, and keep what it gives; `finish` does so if this was not called."""

    def finish(self, begun: Sequence[Any], boxes: Sequence[Boxes]) -> list[Floats]:
        """Return the (N, C + 1) probabilities of (N, 4) boxes of each photo that was begun."""


class _AtOnce:
    """Any other classifier, in steps: all is done in the last."""

    def __init__(self, classify: Callable[[Image, Boxes], Floats]) -> None:
        self._classify = classify

    def begin(self, image: Image) -> Image:
        return image

    def look(self, begun: Sequence[Image]) -> None:
        pass

    def finish(self, begun: Sequence[Image], boxes: Sequence[Boxes]) -> list[Floats]:
        return [self._classify(image, own) for image, own in zip(begun, boxes, strict=True)]


def in_steps(classify: Callable[[Image, Boxes], Floats]) -> ClassifiesInSteps:
    """Return a classifier as one that works in steps."""
    return classify if isinstance(classify, ClassifiesInSteps) else _AtOnce(classify)


@runtime_checkable
class RunsInEngines(Protocol):
    """A classifier of regions that says where its networks run."""

    @property
    def engines(self) -> Sequence[Engine | Placement]:
        """One engine per network, or where it is placed if its engines are made later."""


def engines_of(*members: object) -> tuple[Engine | Placement, ...]:
    """Return where the networks of several classifiers run, as far as these say so."""
    return tuple(each for member in members if isinstance(member, RunsInEngines) for each in member.engines)


def checked_boxes(boxes: Boxes) -> Boxes:
    """Return boxes as (N, 4) float32.

    Raises:
        InputError: they are malformed, or not finite.
    """
    found = as_boxes(boxes)
    if not np.isfinite(found).all():
        raise InputError("boxes hold values that are not finite")
    return found
