"""The boxes of any generator in the order of a learned score, so that a few hundred are enough.

Selective Search ranks by position in its trees and by chance. MultiBox can score any box by how well it fits an
object. In this order a classifier can stop after a quarter of the boxes and lose little recall (docs/multibox.md).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from proposals.generators import RANKED_PREFIX
from proposals.protocol import ProposalGenerator, in_steps
from proposals.tidy import falling_scores, suppress_quickly
from structures.boxes import Boxes, Floats, Indices, whole_image
from structures.nms import best_first
from structures.records import Image, Proposals

MAX_BOXES = 200  # more of the union cost time and do not raise mAP on VOC val (benchmarks/LOG.md)
NMS_THRESHOLD = 0.75  # of 0.6 to 0.9; with it the best 200 boxes of VOC val cover 4 points more (benchmarks/LOG.md)
CLOSE = 30  # of 0 to 200
# Of 0.4 to 0.75; covers 8 points more of the objects of other classes at the same mAP (benchmarks/LOG.md).
SPREAD_THRESHOLD = 0.5


@runtime_checkable
class ScoresInSteps(Protocol):
    """A score of boxes that comes of a network, in the steps of `proposals.protocol.ProposesInSteps`."""

    def begin(self, image: Image) -> Any:
        """Do for a photo what needs no network."""

    def look(self, begun: Sequence[Any]) -> None:
        """Run the network for photos that were begun."""

    def finish(self, begun: Sequence[Any], boxes: Sequence[Boxes]) -> list[Floats]:
        """Return the (N,) scores of (N, 4) boxes of each photo."""


class ScoresAtOnce:
    """Any other score of boxes, in steps: all is done in the last."""

    def __init__(self, score: Callable[[Image, Boxes], Floats]) -> None:
        self._score = score

    def begin(self, image: Image) -> Image:
        """Return the photo itself."""
        return image

    def look(self, begun: Sequence[Image]) -> None:
        """Do nothing."""

    def finish(self, begun: Sequence[Image], boxes: Sequence[Boxes]) -> list[Floats]:
        """Score photo by photo."""
        return [self._score(image, own) for image, own in zip(begun, boxes, strict=True)]


class Ranked:
    """Orders the proposals of a generator by a score of its boxes, best first; ties keep the generator's order.

    Args:
        propose: the generator.
        score: photo and (N, 4) boxes in pixels -> (N,) scores, higher is better; one that works in steps does so on
            several photos together.
        scorer: name and settings of the score, for the manifest.
        max_boxes: how many of the best stay, and the whole photo in any case; None keeps all.
        nms_threshold: a box goes when its overlap with a better one is above this, so that the best are not all of
            the same few objects; 1 keeps all. The whole photo stays in any case.
        close: how many of the best boxes that threshold holds for, which are likely objects: boxes around them vote.
        spread_threshold: the rest of max_boxes overlap each other and these by at most this, so that they are spread
            over what else there is. Without max_boxes there is no such rest.
        own: source of the boxes that the scoring network proposed itself. They keep the scores that they came with; the
            scores of all others are squared, because at the same score such a box fits less well (benchmarks/LOG.md).
            None scores all boxes alike.
        learned_classes: that the score learned from, and puts first; none if it knows no classes.
    """

    scores_tell_fit = True  # see detect.detector.Detector

    def __init__(
        self,
        propose: ProposalGenerator,
        score: Callable[[Image, Boxes], Floats],
        scorer: Mapping[str, Any],
        *,
        max_boxes: int | None = MAX_BOXES,
        nms_threshold: float = NMS_THRESHOLD,
        close: int = CLOSE,
        spread_threshold: float = SPREAD_THRESHOLD,
        own: str | None = None,
        learned_classes: Sequence[str] = (),
    ) -> None:
        self.learned_classes = tuple(learned_classes)
        self._inner, self._propose = propose, in_steps(propose)
        self._score, self._scorer = score if isinstance(score, ScoresInSteps) else ScoresAtOnce(score), scorer
        self._max_boxes, self._nms_threshold = max_boxes, nms_threshold
        self._close, self._spread_threshold, self._own = close, spread_threshold, own

    @property
    def name(self) -> str:
        """The generator's name with "ranked:" before it."""
        return RANKED_PREFIX + self._inner.name

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Of the generator and of the score."""
        inner = {"name": self._inner.name, "parameters": dict(self._inner.parameters)}
        cut: dict[str, Any] = {"max_boxes": self._max_boxes, "nms_threshold": self._nms_threshold}
        if self._max_boxes is not None:
            cut |= {"close": self._close, "spread_threshold": self._spread_threshold}
        kept = {} if self._own is None else {"own": self._own}
        return {"ranked": inner, "by": dict(self._scorer), **cut, **kept}

    def __call__(self, image: Image) -> Proposals:
        """Return the best of the generator's boxes with the new scores, best first, and the others as left out."""
        return self.finish([self.begin(image)])[0]

    def begin(self, image: Image) -> tuple[Any, Any]:
        """Do what needs no network; see `proposals.protocol.ProposesInSteps`."""
        return self._propose.begin(image), self._score.begin(image)

    def look(self, begun: Sequence[tuple[Any, Any]]) -> None:
        """Run the networks of the generator and of the score for photos that were begun."""
        self._propose.look([own for own, _ in begun])
        self._score.look([own for _, own in begun])

    def finish(self, begun: Sequence[tuple[Any, Any]]) -> list[Proposals]:
        """Return the best boxes of photos that were begun."""
        found = self._propose.finish([own for own, _ in begun])
        scores = self._score.finish([own for _, own in begun], [each.boxes for each in found])
        return [self._ordered(*each) for each in zip(found, scores, strict=True)]

    def _ordered(self, found: Proposals, scores: Floats) -> Proposals:
        scored = replace(found, scores=self._on_one_scale(found, scores), left_out=None)
        kept = self._best(scored)
        whole = np.flatnonzero((scored.boxes == whole_image(scored.image_size)).all(axis=1))
        rows = np.concatenate([kept, np.setdiff1d(whole, kept)])
        rest = np.setdiff1d(np.arange(len(scored)), rows)
        left_out = scored.take(rest[best_first(scored.scores[rest])])
        return replace(scored.take(rows[best_first(scored.scores[rows])]), left_out=left_out)

    def _on_one_scale(self, found: Proposals, scores: Floats) -> Floats:
        """Return scores that compare the network's own boxes with those of others."""
        if self._own is None:
            return scores
        own = np.array([name == self._own for name in found.source_names])[found.source]
        return np.where(own, found.scores, scores * scores)

    def _best(self, scored: Proposals) -> Indices:
        """Return the rows of the boxes that stay, those close to each other first."""
        best = suppress_quickly(scored.boxes, scored.scores, self._nms_threshold)
        if self._max_boxes is None:
            return best
        close = best[: min(self._close, self._max_boxes)]
        others = np.setdiff1d(np.arange(len(scored)), close)
        order = np.concatenate([close, others[best_first(scored.scores[others])]])
        spread = suppress_quickly(scored.boxes[order], falling_scores(len(order)), self._spread_threshold)
        return np.concatenate([close, order[spread[spread >= len(close)]]])[: self._max_boxes]
