"""The curves of a page: precision against recall, recall against IoU, both against the score."""

from dataclasses import dataclass

import numpy as np

from eval.average_precision import RankedOutcomes, rank_outcomes
from eval.matching import IGNORED, TRUE, best_of_objects
from eval.mistakes import JudgedRun
from eval.proposal_recall import recall
from structures.boxes import Doubles, Floats, Indices

POINTS = 200  # the most points of a curve; there may be a million detections
IOU_LEVELS: Doubles = np.linspace(0.5, 1.0, 26)


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """Precision and recall of one class, at some of its detections, best first.

    Attributes:
        recall: (P,) share of the objects found.
        precision: (P,) share of true ones among the detections so far.
        ceiling: (P,) highest precision at this recall or a higher one.
        scores: (P,) of the detection where each point lies.
    """

    recall: Doubles
    precision: Doubles
    ceiling: Doubles
    scores: Floats


@dataclass(frozen=True, eq=False)
class ByScore:
    """Precision and recall over all classes together, when detections below a score are dropped.

    Attributes:
        scores: (P,) the weakest score kept, falling.
        precision: (P,) share of true ones among the detections kept.
        recall: (P,) share of the objects found by them.
    """

    scores: Floats
    precision: Doubles
    recall: Doubles

    def thinned(self) -> "ByScore":
        """Return an even sample of the points, by their number and by their scores."""
        if len(self.scores) <= 2 * POINTS:
            return self
        levels = np.linspace(self.scores[0], self.scores[-1], POINTS)
        by_score = np.searchsorted(-self.scores, -levels).clip(max=len(self.scores) - 1)
        rows = np.union1d(by_score, _sample(np.arange(len(self.scores))))
        return ByScore(self.scores[rows], self.precision[rows], self.recall[rows])

    @property
    def balance(self) -> "Balance | None":
        """Where F1 is highest; None without a true detection."""
        product, total = 2 * self.precision * self.recall, self.precision + self.recall
        f1 = np.divide(product, total, out=np.zeros_like(product), where=total > 0)
        if not f1.max(initial=0) > 0:
            return None
        at = int(f1.argmax())
        return Balance(float(self.scores[at]), float(self.precision[at]), float(self.recall[at]), float(f1[at]))


@dataclass(frozen=True)
class Balance:
    """Where precision and recall are best in balance: by F1, their harmonic mean.

    Attributes:
        score: the weakest that is kept.
        precision: share of true ones among the detections kept.
        recall: share of the objects found by them.
        f1: the harmonic mean of the two.
    """

    score: float
    precision: float
    recall: float
    f1: float


def precision_recall(judged: JudgedRun) -> dict[str, PrecisionRecall]:
    """Return the curve of every class that has objects that count."""
    ranked = rank_outcomes(judged.found, judged.matches, judged.objects, judged.classes)
    curves = zip(judged.classes, ranked, strict=True)
    return {name: _thinned(curve) for name, curve in curves if curve.positives}


def _thinned(curve: RankedOutcomes) -> PrecisionRecall:
    """Keep the points where recall rises, or an even sample of them, and the last."""
    rising = np.flatnonzero(np.diff(curve.true, prepend=0))
    rows = np.unique(np.append(_sample(rising), [len(curve.true) - 1] * bool(len(curve.true)))).astype(np.int64)
    return PrecisionRecall(curve.recall[rows], curve.precision[rows], curve.ceiling[rows], curve.scores[rows])


def _sample(rows: Indices) -> Indices:
    if len(rows) <= POINTS:
        return rows
    return rows[np.linspace(0, len(rows) - 1, POINTS).astype(np.int64)]


def by_score(judged: JudgedRun) -> ByScore:
    """Return precision and recall over all classes as the weakest score that is kept falls."""
    order = judged.found.ranking[judged.matches.outcome[judged.found.ranking] != IGNORED]
    true = np.cumsum(judged.matches.outcome[order] == TRUE)
    scores = judged.found.scores[order]
    ends = np.flatnonzero(
        np.append(scores[1:] != scores[:-1], [True] * bool(len(scores)))
    )  # equal scores stay together
    positives = int((~judged.objects.ignore).sum())
    shares = true[ends] / positives if positives else np.full(len(ends), np.nan)
    return ByScore(scores[ends], true[ends] / (ends + 1), shares)


def recall_by_iou(judged: JudgedRun) -> dict[str, Doubles]:
    """Return the share of objects that some detection overlaps by each of IOU_LEVELS: of its class, and of any."""
    return {
        "right class": recall(_best_overlaps(judged, by_class=True), IOU_LEVELS),
        "any class": recall(_best_overlaps(judged, by_class=False), IOU_LEVELS),
    }


def _best_overlaps(judged: JudgedRun, *, by_class: bool) -> Floats:
    return best_of_objects(judged.found, judged.objects, by_class=by_class)[~judged.objects.ignore]
