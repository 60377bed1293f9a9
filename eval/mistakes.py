"""Why detections are wrong and which objects are missed.

The split of false detections is that of TIDE (Bolya et al., ECCV 2020), which refines Hoiem et al., "Diagnosing Error
in Object Detectors" (ECCV 2012). As in Hoiem et al., the shares are of the best detections only, as many as a class has
objects: the long tail of weak ones would hide what matters.

Differs: TIDE asks how much AP would rise if a mistake were put right; here, if it were not made.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eval.average_precision import all_point, rank_outcomes
from eval.matching import FALSE, IGNORED, TRUE, Matches, match_voc, most_overlapped_of_others
from eval.tables import DetectionTable, ObjectTable
from structures.boxes import Floats, Indices
from structures.records import Detections, GroundTruth

FOREGROUND, BACKGROUND = 0.5, 0.1  # IoU: TIDE's t_f and t_b
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


def find_mistakes(truths: Sequence[GroundTruth], detections: Sequence[Detections], classes: Sequence[str]) -> Mistakes:
    """Split the false detections by kind and the missed objects by size.

    Args:
        truths: of all images.
        detections: of the same images, in the same order.
        classes: class names in label order.
    """
    found, objects = DetectionTable.of(detections), ObjectTable.of(truths)
    matches = match_voc(found, objects, iou_threshold=FOREGROUND)
    other, other_overlap = most_overlapped_of_others(found, objects)
    kind = _kinds(matches, other_overlap)
    best = best_of_each_class(found, matches, objects, len(classes))
    wrong = best[matches.outcome[best] == FALSE]
    confused = wrong[kind[wrong] == list(KINDS).index("confusion")]
    pairs = Counter(zip(found.labels[confused].tolist(), objects.labels[other[confused]].tolist(), strict=True))
    return Mistakes(
        best=(len(best) - len(wrong), len(wrong)),
        kinds=_count(kind[wrong]),
        by_class={name: _count(kind[wrong[found.labels[wrong] == i]]) for i, name in enumerate(classes)},
        gain=_gains(found, matches, objects, classes, kind),
        confusions=[(classes[a], classes[b], n) for (a, b), n in pairs.most_common(CONFUSIONS_SHOWN)],
        sizes=_found_by_size(matches, objects),
    )


def _kinds(matches: Matches, other_overlap: Floats) -> Indices:
    """Return the position in KINDS of every detection; it means something for false ones only."""
    own = matches.overlap
    fits = [own >= FOREGROUND, own >= BACKGROUND, other_overlap >= FOREGROUND, other_overlap >= BACKGROUND]
    return np.select(fits, [0, 1, 2, 3], default=4).astype(np.int64)


def _count(kinds: Indices) -> dict[str, int]:
    return dict(zip(KINDS, np.bincount(kinds, minlength=len(KINDS)).tolist(), strict=True))


def best_of_each_class(found: DetectionTable, matches: Matches, objects: ObjectTable, classes: int) -> Indices:
    """Return the rows of the best detections of every class, as many as it has objects; ignored ones do not count."""
    order = found.ranking[matches.outcome[found.ranking] != IGNORED]
    limits = objects.counted(classes)
    chosen = [order[found.labels[order] == label][:limit] for label, limit in enumerate(limits)]
    return np.concatenate([np.zeros(0, np.int64), *chosen])


def _gains(
    found: DetectionTable, matches: Matches, objects: ObjectTable, classes: Sequence[str], kind: Indices
) -> dict[str, float]:
    def mean_ap(outcome: np.ndarray[tuple[int, ...], np.dtype[np.int8]]) -> float:
        ranked = rank_outcomes(found, replace(matches, outcome=outcome), objects, classes)
        known = [all_point(curve) for curve in ranked if curve.positives]
        return float(np.mean(known)) if known else float("nan")

    now = mean_ap(matches.outcome)
    false = matches.outcome == FALSE
    without = [np.where(false & (kind == i), IGNORED, matches.outcome).astype(np.int8) for i in range(len(KINDS))]
    return {name: mean_ap(outcome) - now for name, outcome in zip(KINDS, without, strict=True)}


def _found_by_size(matches: Matches, objects: ObjectTable) -> dict[str, tuple[int, int]]:
    hit = np.zeros(len(objects), bool)
    hit[matches.nearest[matches.outcome == TRUE]] = True
    size = np.digitize(objects.area, list(SIZES.values())[1:])
    of_size = [(size == i) & ~objects.ignore for i in range(len(SIZES))]
    return {name: (int(mask.sum()), int((mask & hit).sum())) for name, mask in zip(SIZES, of_size, strict=True)}
