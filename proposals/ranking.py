"""The boxes of any generator in the order of a learned score, so that the best few hundred are worth most.

Selective Search ranks by the place in its trees and by chance. MultiBox can look at any box and say how well it fits an
object. With its order a classifier may stop after a quarter of the boxes and lose little recall (docs/multibox.md).
"""

from collections.abc import Callable, Mapping
from typing import Any

from proposals.protocol import ProposalGenerator
from structures.boxes import Boxes, Floats
from structures.nms import best_first
from structures.records import Image, Proposals

PREFIX = "ranked:"


class Ranked:
    """Orders the proposals of a generator by a score of its boxes, best first; ties keep the generator's order.

    Args:
        propose: the generator.
        score: photo and (N, 4) boxes in pixels -> (N,) scores, higher is better.
        scorer: name and settings of the score, for the manifest.
    """

    def __init__(
        self, propose: ProposalGenerator, score: Callable[[Image, Boxes], Floats], scorer: Mapping[str, Any]
    ) -> None:
        self._propose, self._score, self._scorer = propose, score, scorer

    @property
    def name(self) -> str:
        """The generator's name with "ranked:" before it."""
        return PREFIX + self._propose.name

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Of the generator and of the score."""
        inner = {"name": self._propose.name, "parameters": dict(self._propose.parameters)}
        return {"ranked": inner, "by": dict(self._scorer)}

    def __call__(self, image: Image) -> Proposals:
        """Return the same boxes with the new scores, best first."""
        found = self._propose(image)
        scores = self._score(image, found.boxes)
        scored = Proposals(found.boxes, scores, found.image_size, found.source, found.source_names)
        return scored.take(best_first(scored.scores))
