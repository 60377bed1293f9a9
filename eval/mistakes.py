"""Why detections are wrong and which objects are missed.

The split of false detections is that of TIDE (Bolya et al., ECCV 2020), which refines Hoiem et al., "Diagnosing Error
in Object Detectors" (ECCV 2012). As in Hoiem et al., the shares are of the best detections only, as many as a class has
objects: the long tail of weak ones would hide what matters.

Differs: TIDE asks how much AP would rise if a mistake were put right; here, if it were not made. And a detection of an
object found already is a duplicate here, even if it also lies on an object of another class; TIDE calls that a
confusion.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from eval.average_precision import all_point, rank_outcomes
from eval.matching import FALSE, IGNORED, TRUE, Matches, match_voc, most_overlapped_of_others
from eval.tables import DetectionTable, ObjectTable
from structures.boxes import Floats, Indices, Mask
from structures.records import Detections, GroundTruth

FITS, NEAR = 0.5, 0.1  # IoU: TIDE's t_f and t_b
KINDS = {
    "duplicate": "object found already",
    "localisation": "right class, IoU 0.1 to 0.5",
    "confusion": "wrong class, IoU 0.5 or more",
    "both": "wrong class, IoU 0.1 to 0.5",
    "background": "no object, IoU below 0.1",
}
"""Kinds of false detections, and what they are; a detection is of the first kind that fits."""

SIZES = {"small": 0.0, "medium": 32.0**2, "large": 96.0**2}  # least area in square pixels, as in COCO
CONFUSIONS_SHOWN = 10


@dataclass(frozen=True)
class Mistakes:
    """What went wrong, at IoU 0.5.

    Attributes:
        best: (true ones, false ones) among the best detections, as many as each class has objects.
        kinds: of those false ones, the number of each kind.
        by_class: the same for every class.
        gain: how much mAP (all-point) would rise if no false detection of that kind were made.
        confusions: the commonest (class said, class meant, count).
        sizes: for objects of every size: (objects that count, found ones).
    """

    best: tuple[int, int]
    kinds: Mapping[str, int]
    by_class: Mapping[str, Mapping[str, int]]
    gain: Mapping[str, float]
    confusions: Sequence[tuple[str, str, int]]
    sizes: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, eq=False)
class JudgedRun:
    """Every detection of a run held against the objects, at IoU 0.5 as the VOC devkit matches.

    Attributes:
        classes: class names in label order.
        found: the detections of all images.
        objects: the objects of all images.
        matches: what became of each detection.
        kinds: (N,) position in KINDS of each detection; it means something for false ones only.
        others: (N,) row of the object of another class that the detection overlaps most; -1 for none.
        other_overlap: (N,) its IoU, 0 where there is none.
        best: rows of the best detections of every class, as many as it has objects; ignored ones do not count.
    """

    classes: tuple[str, ...]
    found: DetectionTable
    objects: ObjectTable
    matches: Matches
    kinds: Indices
    others: Indices
    other_overlap: Floats
    best: Indices

    @property
    def best_false(self) -> Indices:
        """Rows of the false ones among the best."""
        false: Indices = self.best[self.matches.outcome[self.best] == FALSE]
        return false

    @property
    def best_confused(self) -> Indices:
        """Rows of those among the best that lie on an object of another class."""
        confused: Indices = self.best_false[self.kinds[self.best_false] == list(KINDS).index("confusion")]
        return confused

    @property
    def on_others(self) -> Mask:
        """(N,) whether a detection is false because it lies on an object of another class: confusion, or both."""
        kinds = [list(KINDS).index(kind) for kind in ("confusion", "both")]
        return np.asarray((self.matches.outcome == FALSE) & np.isin(self.kinds, kinds), np.bool_)

    @property
    def found_at(self) -> Floats:
        """(M,) score of the detection that found each object; NaN for objects that none did."""
        scores = np.full(len(self.objects), np.nan, np.float32)
        true = self.matches.outcome == TRUE
        scores[self.matches.nearest[true]] = self.found.scores[true]
        return scores


def judge(truths: Sequence[GroundTruth], detections: Sequence[Detections], classes: Sequence[str]) -> JudgedRun:
    """Hold every detection against the objects.

    Args:
        truths: of all images.
        detections: of the same images, in the same order.
        classes: class names in label order.
    """
    found, objects = DetectionTable.of(detections), ObjectTable.of(truths)
    matches = match_voc(found, objects, iou_threshold=FITS)
    others, other_overlap = most_overlapped_of_others(found, objects)
    best = best_of_each_class(found, matches, objects, len(classes))
    return JudgedRun(
        tuple(classes), found, objects, matches, _kinds(matches, other_overlap), others, other_overlap, best
    )


def find_mistakes(judged: JudgedRun) -> Mistakes:
    """Split the false detections by kind and the missed objects by size."""
    wrong, confused, classes = judged.best_false, judged.best_confused, judged.classes
    meant = judged.objects.labels[judged.others[confused]]
    pairs = Counter(zip(judged.found.labels[confused].tolist(), meant.tolist(), strict=True))
    labels = judged.found.labels[wrong]
    return Mistakes(
        best=(len(judged.best) - len(wrong), len(wrong)),
        kinds=_count(judged.kinds[wrong]),
        by_class={name: _count(judged.kinds[wrong[labels == i]]) for i, name in enumerate(classes)},
        gain=_gains(judged),
        confusions=[(classes[a], classes[b], n) for (a, b), n in pairs.most_common(CONFUSIONS_SHOWN)],
        sizes=_found_by_size(judged),
    )


def _kinds(matches: Matches, other_overlap: Floats) -> Indices:
    """Return the position in KINDS of every detection; it means something for false ones only."""
    own = matches.overlap
    fits = [own >= FITS, own >= NEAR, other_overlap >= FITS, other_overlap >= NEAR]
    return np.select(fits, [0, 1, 2, 3], default=4).astype(np.int64)


def _count(kinds: Indices) -> dict[str, int]:
    return dict(zip(KINDS, np.bincount(kinds, minlength=len(KINDS)).tolist(), strict=True))


def best_of_each_class(found: DetectionTable, matches: Matches, objects: ObjectTable, classes: int) -> Indices:
    """Return the rows of the best detections of every class, as many as it has objects; ignored ones do not count."""
    order = found.ranking[matches.outcome[found.ranking] != IGNORED]
    limits = objects.counted(classes)
    chosen = [order[found.labels[order] == label][:limit] for label, limit in enumerate(limits)]
    return np.concatenate([np.zeros(0, np.int64), *chosen])


def _gains(judged: JudgedRun) -> dict[str, float]:
    outcomes = judged.matches.outcome

    def mean_ap(outcome: npt.NDArray[np.int8]) -> float:
        matches = replace(judged.matches, outcome=outcome)
        ranked = rank_outcomes(judged.found, matches, judged.objects, judged.classes)
        known = [all_point(curve) for curve in ranked if curve.positives]
        return float(np.mean(known)) if known else float("nan")

    now, false = mean_ap(outcomes), outcomes == FALSE
    without = [np.where(false & (judged.kinds == i), IGNORED, outcomes).astype(np.int8) for i in range(len(KINDS))]
    return {name: mean_ap(outcome) - now for name, outcome in zip(KINDS, without, strict=True)}


def sizes_of(area: Floats) -> Indices:
    """Return the position in SIZES of (N,) areas in square pixels.

    >>> sizes_of(np.array([1023, 1024, 9216], np.float32)).tolist()
    [0, 1, 2]
    """
    return np.digitize(area, list(SIZES.values())[1:]).astype(np.int64)


def _found_by_size(judged: JudgedRun) -> dict[str, tuple[int, int]]:
    hit, objects = np.isfinite(judged.found_at), judged.objects
    size = sizes_of(objects.area)
    of_size = [(size == i) & ~objects.ignore for i in range(len(SIZES))]
    return {name: (int(mask.sum()), int((mask & hit).sum())) for name, mask in zip(SIZES, of_size, strict=True)}
