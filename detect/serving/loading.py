"""How to load the detector of a server; light to import, since the server itself does without networks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from detect.defaults import PROPOSALS

if TYPE_CHECKING:
    from detect.serving.answering import Answering


@dataclass(frozen=True)
class Loading:
    """How to load what answers jobs; plain data that can be sent to a process.

    Attributes:
        detector: arguments of `detect.detector.Detector.load`.
        others: names of more proposal generators that requests may choose.
        max_pixels: largest photo, in pixels.
    """

    detector: Mapping[str, Any]
    others: tuple[str, ...] = ()
    max_pixels: int = 50_000_000

    def __call__(self) -> "Answering":
        """Load the detectors.

        Raises:
            InputError: a name, file or device cannot be used.
        """
        import numpy as np

        from classifier.placement import place
        from detect.classifiers import shared_features
        from detect.detector import Detector
        from detect.generators import load_proposals
        from detect.serving.answering import Answering
        from proposals.multibox.views import CANVASES

        first = Detector.load(**self.detector)
        placement = place(
            **{name: self.detector[name] for name in ("device", "engine", "dtype") if name in self.detector}
        )
        shared, options = shared_features(first.classify), first.options
        options = replace(options, weigh_by_fit=self.detector.get("weigh_by_fit"))
        detectors = {self.detector.get("proposals", PROPOSALS): first}
        for name in self.others:
            propose = load_proposals(name, placement, shared=shared)
            detectors[name] = Detector(propose, first.classify, options)
        for detector, size in product(detectors.values(), CANVASES):  # makes the engines before the first request
            detector(np.full((*size, 3), 128, np.uint8))
        return Answering(detectors, max_pixels=self.max_pixels)
