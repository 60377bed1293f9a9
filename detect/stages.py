"""The stages of a detector for `detect.flow`, several photos together: propose, trunk, classify, suppress."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

from classifier import protocol as region_classifiers
from classifier.protocol import RegionClassifier
from detect.flow import Stage, each, usual_together
from detect.found import Found
from proposals.protocol import ProposalGenerator, in_steps
from structures.boxes import Floats
from structures.records import Image, Proposals
from structures.regions import Regions
from structures.timing import Timer


class PreparedPhoto(NamedTuple):
    """A photo that is ready for the networks, with what the generator and the classifier have prepared."""

    image: Image
    proposing: Any
    classifying: Any


class ClassifiedPhoto(NamedTuple):
    """A photo whose regions were proposed and classified."""

    image: Image
    regions: Regions


class DetectedPhoto(NamedTuple):
    """The result of a photo: its pixels, the regions with their probabilities, and the detections."""

    image: Image
    regions: Regions
    found: Found


class DetectorStages:
    """The work of a detector on several photos at a time.

    Args:
        propose: proposes regions.
        classify: classifies regions.
        first: proposals -> those to classify.
        regions: proposals and the rows of the classifier -> regions.
        found: regions -> detections.
        timed: context that adds its duration to a stage.
    """

    def __init__(
        self,
        propose: ProposalGenerator,
        classify: RegionClassifier,
        *,
        first: Callable[[Proposals], Proposals],
        regions: Callable[[Proposals, Floats], Regions],
        found: Callable[[Regions], Found],
        timed: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._proposing, self._classifying = in_steps(propose), region_classifiers.in_steps(classify)
        self._first, self._regions, self._found, self._timed = first, regions, found, timed

    def stages(self, read: Callable[[Any], Image], *, workers: int = 1, together: int | None = None) -> list[Stage]:
        """Return the stages; see `detect.detector.Detector.stages`."""
        count = together or usual_together()
        return [
            Stage("propose", each(partial(self._begin, read)), workers=workers),
            Stage("trunk", self._look, together=count),
            Stage("classify", self._classify, together=count),
            Stage("suppress", each(self._suppress)),
        ]

    def _begin(self, read: Callable[[Any], Image], photo: Any) -> PreparedPhoto:
        with Timer("read"):
            image = read(photo)
        with self._timed("propose"):
            classifying = self._classifying.begin(image)  # first: its network is made while Selective Search starts
            return PreparedPhoto(image, self._proposing.begin(image), classifying)

    def _look(self, photos: Sequence[PreparedPhoto]) -> Sequence[PreparedPhoto]:
        with self._timed("trunk"):
            self._proposing.look([photo.proposing for photo in photos])
            self._classifying.look([photo.classifying for photo in photos])
        return photos

    def _classify(self, photos: Sequence[PreparedPhoto]) -> list[ClassifiedPhoto]:
        with self._timed("propose"):
            found = [self._first(own) for own in self._proposing.finish([photo.proposing for photo in photos])]
        with self._timed("classify"):
            boxes = [proposals.boxes for proposals in found]
            rows = self._classifying.finish([photo.classifying for photo in photos], boxes)
        images = [photo.image for photo in photos]
        return [ClassifiedPhoto(image, self._regions(a, b)) for image, a, b in zip(images, found, rows, strict=True)]

    def _suppress(self, photo: ClassifiedPhoto) -> DetectedPhoto:
        with self._timed("suppress"):
            return DetectedPhoto(photo.image, photo.regions, self._found(photo.regions))
