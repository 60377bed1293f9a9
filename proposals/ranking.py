"""The boxes of any generator in the order of a learned score, so that a few hundred are enough.

Selective Search ranks by the place in its trees and by chance. MultiBox can score any box by how well it fits an
object. In this order a classifier can stop after a quarter of the boxes and lose little recall (docs/multibox.md).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from proposals.generators import RANKED_PREFIX
from proposals.protocol import ProposalGenerator
from proposals.tidy import suppress_quickly
from structures.boxes import Boxes, Floats, whole_image
from structures.nms import best_first
from structures.records import Image, Proposals

MAX_BOXES = 200  # more of the union cost time and do not raise mAP on VOC val (benchmarks/LOG.md)
NMS_THRESHOLD = 0.75  # of 0.6 to 0.9; with it the best 200 boxes of VOC val cover 4 points more (benchmarks/LOG.md)


class Ranked:
    """Orders the proposals of a generator by a score of its boxes, best first; ties keep the generator's order.

    Args:
        propose: the generator.
        score: photo and (N, 4) boxes in pixels -> (N,) scores, higher is better.
        scorer: name and settings of the score, for the manifest.
        max_boxes: how many of the best stay, and the whole photo in any case; None keeps all.
        nms_threshold: a box goes when its overlap with a better one is above this, so that the best are not all of
            the same few objects; 1 keeps all. The whole photo stays in any case.
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
        learned_classes: Sequence[str] = (),
    ) -> None:
        self.learned_classes = tuple(learned_classes)
        self._propose, self._score, self._scorer = propose, score, scorer
        self._max_boxes, self._nms_threshold = max_boxes, nms_threshold

    @property
    def name(self) -> str:
        """The generator's name with "ranked:" before it."""
        return RANKED_PREFIX + self._propose.name

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Of the generator and of the score."""
        inner = {"name": self._propose.name, "parameters": dict(self._propose.parameters)}
        cut = {"max_boxes": self._max_boxes, "nms_threshold": self._nms_threshold}
        return {"ranked": inner, "by": dict(self._scorer), **cut}

    def __call__(self, image: Image) -> Proposals:
        """Return the best of the generator's boxes with the new scores, best first, and the others as left out."""
        found = self._propose(image)
        scores = self._score(image, found.boxes)
        scored = Proposals(found.boxes, scores, found.image_size, found.source, found.source_names)
        kept = suppress_quickly(scored.boxes, scored.scores, self._nms_threshold)[: self._max_boxes]
        whole = np.flatnonzero((scored.boxes == whole_image(scored.image_size)).all(axis=1))
        rows = np.concatenate([kept, np.setdiff1d(whole, kept)])
        rest = np.setdiff1d(np.arange(len(scored)), rows)
        left_out = scored.take(rest[best_first(scored.scores[rest])])
        return replace(scored.take(rows[best_first(scored.scores[rows])]), left_out=left_out)
