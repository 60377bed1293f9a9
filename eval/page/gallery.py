"""The photos of a page: what became of every box in them, which photos are the worst, from which score on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from eval.lost import Losses
from eval.matching import FALSE, IGNORED, TRUE
from eval.mistakes import KINDS, JudgedRun
from eval.page.curves import by_score
from eval.page.figures import rounded
from structures.boxes import Indices
from structures.records import GroundTruth

MOST_BOXES = 100  # of a photo, the best; as many as COCO judges of a class
STEPS = 100  # of the scale of scores
FATES = {TRUE: "true", IGNORED: "ignored"}


@dataclass(frozen=True)
class ScoreRange:
    """The scores that a gallery can start from.

    Attributes:
        low: the lowest.
        high: the highest.
        step: from one to the next.
        start: the one at first, near the best F1 of the first run.
    """

    low: float
    high: float
    step: float
    start: float

    def values(self) -> dict[str, float]:
        """Return it for a JSON file."""
        return asdict(self)


def scale_of(runs: Sequence[JudgedRun]) -> ScoreRange:
    """Return the scale for the scores of some runs: from 0 to 1 for probabilities, else from the lowest to the highest.

    Args:
        runs: at least one.
    """
    scores = np.concatenate([run.found.scores for run in runs]).astype(np.float64)
    low, high = float(scores.min(initial=0)), float(scores.max(initial=1))
    step = (high - low) / STEPS
    best = by_score(runs[0]).balance
    start = low if best is None else low + step * math.floor((best.score - low) / step)
    return ScoreRange(low, high, step, float(f"{start:.9g}"))


def mistakes_at(judged: JudgedRun, score: float, photos: int) -> Indices:
    """Return the (photos,) number of mistakes in each: false detections, and objects missed, at this score or above.

    Args:
        judged: a run.
        score: weaker detections count as not made.
        photos: how many there are.
    """
    false = (judged.matches.outcome == FALSE) & (judged.found.scores >= np.float32(score))
    missed = ~judged.objects.ignore & ~(judged.found_at >= np.float32(score))
    counts = np.bincount(judged.found.image[false], minlength=photos)
    return np.asarray(counts + np.bincount(judged.objects.image[missed], minlength=photos), np.int64)


def worst_first(mistakes: Indices, most: int) -> list[int]:
    """Return the positions of the photos with the most mistakes, the worst first; equals keep their order.

    >>> worst_first(np.array([1, 3, 0, 3]), 3)
    [1, 3, 0]
    """
    return [int(photo) for photo in np.argsort(-mistakes, kind="stable")[:most]]


def photo_values(
    judged: JudgedRun, truths: Sequence[GroundTruth], photos: Sequence[int], losses: Losses | None = None
) -> list[dict[str, Any]]:
    """Return the boxes of some photos for a JSON file, in columns as in detections.jsonl.

    `found` has `kinds`: true, ignored, or the kind of mistake; `ious` with the object that it was held against; and
    `meant`, the class of that object where it is another. `objects` has `found_at`, the score of the detection
    that found the object, or null, and with losses `lost`: null, or the stage that lost it, the reason, and the boxes
    that show it.

    Args:
        judged: a run.
        truths: of all photos, in the order of the run.
        photos: positions of those that are wanted.
        losses: where the objects of the run that were missed were lost.
    """
    found, objects = _spans(judged.found.image, len(truths)), _spans(judged.objects.image, len(truths))
    found_at, lost = judged.found_at, _lost_values(losses)
    return [
        {
            "image": truths[photo].image_id,
            "width": int(truths[photo].image_size[1]),
            "height": int(truths[photo].image_size[0]),
            "objects": {
                "boxes": rounded(judged.objects.boxes[objects[photo]]),
                "labels": [judged.classes[label] for label in judged.objects.labels[objects[photo]]],
                "ignored": judged.objects.ignore[objects[photo]].tolist(),
                "found_at": rounded(found_at[objects[photo]]),
                **({"lost": _of_photo(lost, truths[photo])} if losses else {}),
            },
            "found": _found_values(judged, _best(judged, found[photo])),
        }
        for photo in photos
    ]


def _lost_values(losses: Losses | None) -> dict[tuple[str, int], dict[str, Any]]:
    return {
        (each.image_id, each.row): {
            "stage": each.stage,
            "reason": each.reason(),
            "boxes": [rounded(box) for box in (each.box, each.other) if box],
        }
        for each in (losses.lost if losses else ())
    }


def _of_photo(lost: Mapping[tuple[str, int], dict[str, Any]], truth: GroundTruth) -> list[dict[str, Any] | None]:
    return [lost.get((truth.image_id, row)) for row in range(len(truth))]


def _spans(images: Indices, photos: int) -> list[slice]:
    """Return where the rows of each photo lie; tables are image by image."""
    bounds = np.searchsorted(images, np.arange(photos + 1)).tolist()
    return [slice(first, last) for first, last in pairwise(bounds)]


def _best(judged: JudgedRun, rows: slice) -> Indices:
    order = np.argsort(-judged.found.scores[rows], kind="stable")[:MOST_BOXES]
    return np.asarray(rows.start + order, np.int64)


def _found_values(judged: JudgedRun, rows: Indices) -> dict[str, Any]:
    kinds = list(KINDS)
    outcomes, elsewhere = judged.matches.outcome[rows].tolist(), judged.on_others[rows]
    return {
        "boxes": rounded(judged.found.boxes[rows]),
        "labels": [judged.classes[label] for label in judged.found.labels[rows]],
        "scores": rounded(judged.found.scores[rows]),
        "kinds": [
            FATES.get(fate, kinds[kind]) for fate, kind in zip(outcomes, judged.kinds[rows].tolist(), strict=True)
        ],
        "ious": rounded(np.where(elsewhere, judged.other_overlap[rows], judged.matches.overlap[rows])),
        "meant": [
            judged.classes[judged.objects.labels[other]] if on else None
            for on, other in zip(elsewhere.tolist(), judged.others[rows].tolist(), strict=True)
        ],
    }
