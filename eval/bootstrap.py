"""How sure a mean average precision is, and a difference between two: photos are drawn again (the bootstrap).

Each draw takes as many photos as there are, with replacement (Efron and Tibshirani, "An Introduction to the Bootstrap",
1993, chapters 6 and 13). Two sets of detections share their draws, so that what makes a draw easy for both cancels out
of the difference. Detections are matched once: a photo that is drawn twice counts twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from eval.average_precision import mean_of_known
from eval.rankings import rank
from structures.boxes import Doubles
from structures.records import Detections, GroundTruth

DRAWS = 1000
COVERED = 95  # percent of the draws in an interval


@dataclass(frozen=True)
class Interval:
    """A figure and how far it moves when other photos are drawn.

    Attributes:
        value: on the photos as they are; from 0 to 1, or a difference of such.
        error: standard error, the standard deviation over the draws.
        low: 2.5% of the draws are below, counted from their mean.
        high: 2.5% of the draws are above.
    """

    value: float
    error: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Drawn:
    """Average precision on the photos as they are, and on each draw.

    Attributes:
        classes: names, in label order.
        by_class: (1 + draws, classes) average precision, the photos as they are first; NaN where a draw has no object.
    """

    classes: tuple[str, ...]
    by_class: Doubles

    @property
    def mean(self) -> Doubles:
        """(1 + draws,) mean over the classes with objects: mAP, or AP by COCO's protocol."""
        return mean_of_known(self.by_class, axis=1)


def draw_scores(
    protocol: str,
    truths: Sequence[GroundTruth],
    detections: Sequence[Detections],
    classes: Sequence[str],
    *,
    crowd: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
) -> Drawn:
    """Score detections on the photos as they are and on draws of them.

    The draws depend on the number of photos, `draws` and `seed` alone, so two sets of detections of the same photos can
    be compared draw by draw.

    Args:
        protocol: a name in `eval.protocols.PROTOCOLS`.
        truths: of all images, also those without objects.
        detections: of the same images, in the same order.
        classes: class names in label order.
        crowd: ignored objects are COCO crowds, not difficult ones; only "coco" tells them apart.
        draws: how many.
        seed: of the draws.

    Raises:
        InputError: no such protocol, or records that do not fit together.

    >>> from structures.boxes import as_boxes
    >>> box, one = as_boxes([[0, 0, 9, 9]]), np.ones(1)
    >>> truths = [GroundTruth(name, box, [0], [False], [81], (9, 9)) for name in "ab"]
    >>> found = [Detections(box, [0], one, (9, 9)), Detections(box[:0], [], [], (9, 9))]
    >>> sure = mean_ap_interval(draw_scores("voc", truths, found, ["cat"], draws=100))
    >>> sure.value, round(sure.error, 1)
    (0.5, 0.4)
    """
    ranked = rank(protocol, truths, detections, classes, crowd=crowd)
    return Drawn(tuple(classes), ranked.average_precision(draw_photos(len(truths), draws, seed)))


def mean_ap_interval(drawn: Drawn) -> Interval:
    """Return the mean average precision with its interval, which holds no figure that there cannot be."""
    sure = interval(drawn.mean)
    return replace(sure, low=float(np.clip(sure.low, 0, 1)), high=float(np.clip(sure.high, 0, 1)))


def difference_interval(first: Drawn, second: Drawn) -> Interval:
    """Return how much higher the second's mean average precision is, with its interval; of the same photos."""
    return interval(second.mean - first.mean)


def interval(values: Doubles) -> Interval:
    """Return the first of some values, with the standard error and the interval that the others give.

    Drawn sets hold photos twice, which lifts the highest precisions, and so average precision, a little. The interval
    is moved back by that, so that it lies around the value.

    >>> interval(np.array([0.5, 0.4, 0.6, np.nan]))
    Interval(value=0.5, error=0.141..., low=0.405, high=0.595)
    """
    known = values[1:][~np.isnan(values[1:])]
    if len(known) < 2 or np.isnan(values[0]):
        return Interval(float(values[0]), *[float("nan")] * 3)
    tail = (100 - COVERED) / 2
    low, high = values[0] + np.percentile(known - known.mean(), [tail, 100 - tail])
    return Interval(float(values[0]), float(known.std(ddof=1)), float(low), float(high))


def draw_photos(photos: int, draws: int, seed: int) -> npt.NDArray[np.int16]:
    """Return how often each draw takes each photo, (1 + draws, photos); the first row takes each once."""
    random = np.random.default_rng(seed)
    rows = [np.bincount(random.integers(0, photos, photos), minlength=photos) for _ in range(draws)]
    return np.array([np.ones(photos, np.int64), *rows], np.int16)
