"""The last stage of the detector: the best of each group of regions stays, moved by the votes of its neighbours.

Suppression is per class, as in R-CNN, section 2.2; votes are those of Gidaris and Komodakis, ICCV 2015.
"""

from collections.abc import Sequence

import numpy as np

from detect.found import Found
from detect.settings import DetectorSettings
from structures.boxes import Boxes, Floats, Indices, Mask
from structures.errors import InputError
from structures.names import ClassNames, near
from structures.nms import suppress_per_class, vote
from structures.regions import Regions


class Suppression:
    """Regions with class probabilities -> detections.

    Args:
        settings: thresholds, votes, and the classes to look for.
        classes: classes of the classifier.

    Raises:
        InputError: `only` names a class that the classifier does not know.
    """

    def __init__(self, settings: DetectorSettings, classes: Sequence[str]) -> None:
        self._settings, self._classes = settings, tuple(classes)
        self._wanted = None if settings.only is None else _columns(settings.only, self._classes)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The classes to look for, in label order."""
        return tuple(name for at, name in enumerate(self._classes) if self._wanted is None or self._wanted[at])

    def __call__(self, regions: Regions) -> Found:
        """Return the detections, best first."""
        boxes, rows, labels, scores = self._keep(regions)
        proposals = regions.proposals
        return Found(
            boxes,
            labels,
            scores,
            proposals.image_size,
            proposals.source[rows],
            proposals.source_names,
            self._classes,
            exif=self._settings.exif,
        )

    def _keep(self, regions: Regions) -> tuple[Boxes, Indices, Indices, Floats]:
        """Return the boxes that stay, moved by votes, with their rows, labels and scores."""
        boxes, settings = regions.boxes, self._settings
        weighed = self._weighed(regions)
        rows, labels, scores = suppress_per_class(
            boxes,
            weighed,
            score_floor=settings.score_floor,
            iou_threshold=settings.nms_threshold,
            max_per_class=settings.max_per_class,
            class_agnostic=settings.class_agnostic,
        )
        if settings.vote_threshold is None:
            return boxes[rows], rows, labels, scores
        threshold, power = settings.vote_threshold, settings.vote_power
        return vote(boxes, weighed, rows, labels, iou_threshold=threshold, power=power), rows, labels, scores

    def _weighed(self, regions: Regions) -> Floats:
        """Return the (N, C) scores of regions; below 0 for classes that are not wanted."""
        weighed = regions.scores(weigh_by_fit=bool(self._settings.weigh_by_fit))
        return weighed if self._wanted is None else np.where(self._wanted, weighed, np.float32(-1))


def _columns(names: Sequence[str], classes: Sequence[str]) -> Mask:
    """Return a mask of the classes that were named, in any spelling.

    Raises:
        InputError: a name is unknown.
    """
    known = ClassNames(classes)
    places = [known.find(name) for name in names]
    if min(places) < 0:
        name = names[places.index(-1)]
        raise InputError(f"`only` {name}: the weights know no such class{near(name, classes)}")
    return np.isin(np.arange(len(classes)), places)
