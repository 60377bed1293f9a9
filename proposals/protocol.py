"""The one interface of every proposal generator: image in, Proposals out."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from structures.records import Image, Proposals


@runtime_checkable
class ProposalGenerator(Protocol):
    """Says where objects might be in one photo.

    A generator is deterministic: the same photo and the same parameters give the same boxes in the same order, best
    first. The whole-image box is always among them, boxes lie inside the image, and no two boxes are equal.
    """

    @property
    def name(self) -> str:
        """Short name, as on the command line."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Every setting that decides the boxes, as JSON values: the key of a store."""

    def __call__(self, image: Image) -> Proposals:
        """Return the proposals of an RGB uint8 (H, W, 3) photo."""
