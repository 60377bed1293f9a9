"""How runs on the same photos differ: mAP and every class with intervals, and the photos where they differ most."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.bootstrap import DRAWS, Drawn, Interval, difference_interval, draw_scores, interval, mean_ap_interval
from eval.matching import TRUE, match_voc
from eval.mistakes import best_of_each_class
from eval.tables import DetectionTable, ObjectTable
from structures.boxes import Indices
from structures.records import Detections, GroundTruth


@dataclass(frozen=True)
class PhotoCounts:
    """What runs found on one photo, among the best detections of each run, as many of a class as it has objects.

    Attributes:
        image_id: of the photo.
        objects: how many objects count.
        found: of each run, true detections at IoU 0.5.
        false: of each run, false ones.
    """

    image_id: str
    objects: int
    found: tuple[int, ...]
    false: tuple[int, ...]

    @property
    def apart(self) -> int:
        """How far the furthest run is from the first, in true detections less false ones."""
        gains = [found - false for found, false in zip(self.found, self.false, strict=True)]
        return max(abs(gain - gains[0]) for gain in gains)


@dataclass(frozen=True)
class Comparison:
    """Runs held against the first one of them.

    Attributes:
        protocol: its name.
        figure: what the mean is called: mAP, or AP by COCO's protocol.
        classes: names in label order.
        objects: number of objects of each class that count.
        images: number of photos.
        draws: of the photos, for the intervals.
        means: the figure of each run.
        differences: of each run but the first, to the first.
        by_class: for each run, the average precision of every class.
        class_differences: for each run but the first, the difference of every class to the first.
        photos: all of them, the one where runs differ most first.
    """

    protocol: str
    figure: str
    classes: tuple[str, ...]
    objects: tuple[int, ...]
    images: int
    draws: int
    means: tuple[Interval, ...]
    differences: tuple[Interval, ...]
    by_class: tuple[tuple[Interval, ...], ...]
    class_differences: tuple[tuple[Interval, ...], ...]
    photos: tuple[PhotoCounts, ...]


def compare_runs(
    protocol: str,
    truths: Sequence[GroundTruth],
    runs: Sequence[Sequence[Detections]],
    classes: Sequence[str],
    *,
    crowd: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
) -> Comparison:
    """Compare runs on the same photos.

    Args:
        protocol: a name in `eval.protocols.PROTOCOLS`.
        truths: of all images, also those without objects.
        runs: for each run the detections of the same images, in the same order.
        classes: class names in label order.
        crowd: ignored objects are COCO crowds, not difficult ones; only "coco" tells them apart.
        draws: how often the photos are drawn again.
        seed: of the draws.

    Raises:
        InputError: no such protocol, or records that do not fit together.
    """
    drawn = [draw_scores(protocol, truths, run, classes, crowd=crowd, draws=draws, seed=seed) for run in runs]
    objects = ObjectTable.of(truths)
    return Comparison(
        protocol=protocol,
        figure="AP" if protocol == "coco" else "mAP",
        classes=tuple(classes),
        objects=tuple(objects.counted(len(classes)).tolist()),
        images=len(truths),
        draws=draws,
        means=tuple(map(mean_ap_interval, drawn)),
        differences=tuple(difference_interval(drawn[0], other) for other in drawn[1:]),
        by_class=tuple(tuple(map(interval, each.by_class.T)) for each in drawn),
        class_differences=tuple(_class_differences(drawn[0], other) for other in drawn[1:]),
        photos=_photos(truths, objects, runs, len(classes)),
    )


def _class_differences(first: Drawn, other: Drawn) -> tuple[Interval, ...]:
    return tuple(map(interval, (other.by_class - first.by_class).T))


def _photos(
    truths: Sequence[GroundTruth], objects: ObjectTable, runs: Sequence[Sequence[Detections]], classes: int
) -> tuple[PhotoCounts, ...]:
    counts = [_count(DetectionTable.of(run), objects, len(truths), classes) for run in runs]
    counted = np.bincount(objects.image[~objects.ignore], minlength=len(truths)).tolist()
    found, false = (np.array(column).T.tolist() for column in zip(*counts, strict=True))
    photos = [
        PhotoCounts(truth.image_id, counted[i], tuple(found[i]), tuple(false[i])) for i, truth in enumerate(truths)
    ]
    return tuple(sorted(photos, key=lambda photo: -photo.apart))


def _count(found: DetectionTable, objects: ObjectTable, photos: int, classes: int) -> tuple[Indices, Indices]:
    """Return how many of the best detections are true in each photo, and how many are false."""
    matches = match_voc(found, objects)
    best = best_of_each_class(found, matches, objects, classes)
    true = matches.outcome[best] == TRUE
    return (
        np.bincount(found.image[best[true]], minlength=photos),
        np.bincount(found.image[best[~true]], minlength=photos),
    )
