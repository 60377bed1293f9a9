"""The one interface of every proposal generator: image in, Proposals out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from structures.records import Image, Proposals

TELLS_FIT = "scores_tell_fit"


@runtime_checkable
class ProposalGenerator(Protocol):
    """Says where objects might be in one photo.

    A generator is deterministic: the same photo and the same parameters give the same boxes in the same order. That is
    best first, but a union lists its parts one after the other. The whole-image box is always among them, boxes lie
    inside the image, and no two boxes are equal.

    A generator whose scores say how well a box fits an object, from 0 to 1, has an attribute scores_tell_fit that is
    true; the detector then weighs classes by them. See `tells_fit`. One that learned from objects of some classes, and
    may pass over others, has an attribute learned_classes with their names. See `learned_classes`.
    """

    @property
    def name(self) -> str:
        """Short name; for one that is listed in `proposals.generators`, its name there."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Every setting that decides the boxes, as JSON values: the key of a store."""

    def __call__(self, image: Image) -> Proposals:
        """Return the proposals of an RGB uint8 (H, W, 3) photo."""


@runtime_checkable
class ProposalsByName(Protocol):
    """A generator of boxes that were made before, which may be known by the name of the photo only."""

    @property
    def notes(self) -> Sequence[str]:
        """What was odd about the boxes of the photos so far, one line each."""

    def proposals_of(self, image_id: str, image: Image) -> Proposals:
        """Return the proposals of a photo by its pixels or its name."""


@runtime_checkable
class ProposesInSteps(Protocol):
    """A generator with a network, which works on several photos together; calling it takes the steps for one photo.

    No photo's proposals depend on which others are with it, beyond what rounding on the device brings.
    """

    def begin(self, image: Image) -> Any:
        """Do for an RGB uint8 (H, W, 3) photo what needs no network; from any thread."""

    def look(self, begun: Sequence[Any]) -> None:
        """Run the network for photos that were begun, and keep what it gives; `finish` does it where this was not."""

    def finish(self, begun: Sequence[Any]) -> list[Proposals]:
        """Return the proposals of photos that were begun."""


class _AtOnce:
    """A generator without a network, in steps: all is done in the first."""

    def __init__(self, propose: Callable[[Image], Proposals]) -> None:
        self._propose = propose

    def begin(self, image: Image) -> Proposals:
        return self._propose(image)

    def look(self, begun: Sequence[Proposals]) -> None:
        pass

    def finish(self, begun: Sequence[Proposals]) -> list[Proposals]:
        return list(begun)


def in_steps(propose: Callable[[Image], Proposals]) -> ProposesInSteps:
    """Return a generator as one that works in steps."""
    return propose if isinstance(propose, ProposesInSteps) else _AtOnce(propose)


def learned_classes(propose: object) -> tuple[str, ...]:
    """Return the classes that a generator learned from, as far as it says; none where it may find any object."""
    return tuple(getattr(propose, "learned_classes", ()))


def tells_fit(propose: object) -> bool:
    """Say whether the scores of a generator tell how well a box fits an object; those that say nothing do not."""
    return bool(getattr(propose, TELLS_FIT, False))
