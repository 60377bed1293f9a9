"""The detector on one screen: propose, classify, suppress and vote.

>>> from detect.detector import Detector
>>> detector = Detector.load()                         # doctest: +SKIP
>>> found = detector(read_image("photo.jpg"))          # doctest: +SKIP
>>> found.boxes, found.labels, found.scores            # doctest: +SKIP
"""

import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from classifier.regions import RegionClassifier
from detect.defaults import PROPOSALS
from proposals.protocol import ProposalGenerator, tells_fit
from structures.boxes import Floats
from structures.errors import InputError
from structures.nms import suppress_per_class, vote
from structures.records import Detections, Image, Proposals

if TYPE_CHECKING:
    from detect.classifiers import Features

SCORE_FLOOR = 0.05
NMS_THRESHOLD = 0.3  # R-CNN, section 2.2
VOTE_THRESHOLD = 0.5  # Gidaris and Komodakis, ICCV 2015, section 5
MAX_PER_CLASS = 100  # R-CNN keeps at most so many boxes of a class in an image


class Detector:
    """R-CNN as GoogLeNet's paper has it: regions, a classifier, suppression class by class, no box regression.

    Args:
        propose: says where objects might be.
        classify: says what each region holds; several make an `classifier.regions.Ensemble`.
        score_floor: weaker detections are dropped; for mAP use 0.001, for people 0.05 or more.
        nms_threshold: a detection goes when its IoU with a better one of its class is above this.
        max_boxes: classify only so many of the first proposals; None takes all. A union lists its parts one after
            the other.
        max_per_class: at most so many detections of a class in a photo.
        weigh_by_fit: multiply class probabilities by the proposals' scores. Right where these say how well a box fits
            an object, as MultiBox's do; None asks the generator (its `scores_tell_fit`).
        vote_threshold: boxes that overlap a detection by this or more move it to their mean, see `structures.nms.vote`;
            None leaves detections at their proposals, as the paper does.
        vote_power: of the scores that votes are weighted by; 1 is best where IoU 0.5 counts, 2 gives tighter boxes.

    Attributes:
        seconds: time spent so far in each stage, summed over threads.

    Raises:
        InputError: a setting out of its range.
    """

    def __init__(
        self,
        propose: ProposalGenerator,
        classify: RegionClassifier,
        *,
        score_floor: float = SCORE_FLOOR,
        nms_threshold: float = NMS_THRESHOLD,
        max_boxes: int | None = None,
        max_per_class: int = MAX_PER_CLASS,
        weigh_by_fit: bool | None = None,
        vote_threshold: float | None = VOTE_THRESHOLD,
        vote_power: float = 1.0,
    ) -> None:
        if not (0 <= score_floor <= 1 and 0 <= nms_threshold <= 1):
            raise InputError(f"score_floor {score_floor} and nms_threshold {nms_threshold} must be within 0..1")
        if vote_threshold is not None and not 0 < vote_threshold <= 1:
            raise InputError(f"vote_threshold {vote_threshold} must be above 0 and at most 1, or None")
        if not 0 < vote_power < math.inf:
            raise InputError(f"vote_power {vote_power} must be above 0")
        if max_per_class < 1 or (max_boxes is not None and max_boxes < 1):
            raise InputError(f"max_boxes {max_boxes} and max_per_class {max_per_class} must be at least 1")
        self.propose, self.classify = propose, classify
        self.score_floor, self.nms_threshold = score_floor, nms_threshold
        self.max_boxes, self.max_per_class = max_boxes, max_per_class
        self.weigh_by_fit = tells_fit(propose) if weigh_by_fit is None else weigh_by_fit
        self.vote_threshold, self.vote_power = vote_threshold, vote_power
        self.seconds: dict[str, float] = defaultdict(float)
        self._adding = Lock()

    @classmethod
    def load(
        cls,
        weights: str | Path | Sequence[str | Path] | None = None,
        proposals: str = PROPOSALS,
        *,
        device: str = "auto",
        features: "Features" = "auto",
        **options: Any,
    ) -> "Detector":
        """Build a detector from names; see `detect.generators` and `detect.classifiers` for what they may be.

        Raises:
            InputError: a name, file or device that cannot be used.
        """
        from detect.classifiers import default_weights, load_classifier, shared_features
        from detect.generators import load_proposals

        own = {name: options.pop(name) for name in tuple(options) if name in _OPTIONS}
        named = default_weights(features) if weights is None else weights
        classify = load_classifier(named, device=device, features=features, **options)
        placed = {name: options[name] for name in ("engine", "dtype") if name in options}
        propose = load_proposals(proposals, device=device, shared=shared_features(classify), **placed)
        return cls(propose, classify, **own)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels."""
        return tuple(self.classify.classes)

    def __call__(self, image: Image) -> Detections:
        """Find objects in an RGB uint8 (H, W, 3) photo."""
        return self.detect(image, self.regions(image))

    def regions(self, image: Image) -> Proposals:
        """The first stage alone: may run in another thread, ahead of the classifier."""
        with self._timed("propose"):
            proposals = self.propose(image)
            return proposals if self.max_boxes is None else proposals.take(slice(self.max_boxes))

    def detect(self, image: Image, proposals: Proposals) -> Detections:
        """The second and third stage: classify the given regions of a photo and keep the best of each group.

        Raises:
            InputError: the regions are of a photo of another size.
        """
        if tuple(proposals.image_size) != image.shape[:2]:
            raise InputError(f"regions of a photo of {proposals.image_size} in a photo of {image.shape[:2]}")
        with self._timed("classify"):
            probabilities = self.classify(image, proposals.boxes)
        with self._timed("suppress"):
            weighed = self._weighed(probabilities[:, :-1], proposals)
            rows, labels, scores = suppress_per_class(
                proposals.boxes,
                weighed,
                score_floor=self.score_floor,
                iou_threshold=self.nms_threshold,
                max_per_class=self.max_per_class,
            )
            boxes = proposals.boxes[rows]
            if self.vote_threshold is not None:
                threshold, power = self.vote_threshold, self.vote_power
                boxes = vote(proposals.boxes, weighed, rows, labels, iou_threshold=threshold, power=power)
        names, source = proposals.source_names, proposals.source[rows]
        return Detections(boxes, labels, scores, proposals.image_size, source, names)

    def _weighed(self, probabilities: Floats, proposals: Proposals) -> Floats:
        """Chance that a box fits an object, times chance that the object is of the class."""
        return probabilities * proposals.scores[:, None] if self.weigh_by_fit else probabilities

    def settings(self) -> Mapping[str, Any]:
        """Every setting of the stages, as JSON values; which weights classify is for the caller to add."""
        return {
            "proposals": {"name": self.propose.name, **self.propose.parameters},
            "classes": list(self.classes),
            **{name: getattr(self, name) for name in _OPTIONS},
        }

    def _timed(self, stage: str) -> "_Stopwatch":
        return _Stopwatch(self.seconds, stage, self._adding)


_OPTIONS = (
    "score_floor",
    "nms_threshold",
    "max_boxes",
    "max_per_class",
    "weigh_by_fit",
    "vote_threshold",
    "vote_power",
)


class _Stopwatch:
    def __init__(self, seconds: dict[str, float], stage: str, adding: Lock) -> None:
        self._seconds, self._stage, self._adding = seconds, stage, adding

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        spent = time.perf_counter() - self._start
        with self._adding:
            self._seconds[self._stage] += spent
