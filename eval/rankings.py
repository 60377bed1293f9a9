"""What became of every detection, class by class, with its photo: enough to score any draw of the photos."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from eval.average_precision import RECALL_LEVELS, Counts, area_under, mean_at_levels, rows_by_class
from eval.checks import upright
from eval.coco_matching import match_coco
from eval.coco_protocol import ALL_AREAS, COCO_LEVELS
from eval.matching import IGNORED, TRUE, Matcher, match_ilsvrc, match_voc
from eval.protocols import check_protocol
from eval.tables import DetectionTable, ObjectTable, check_labels
from structures.boxes import Doubles, Indices
from structures.records import Detections, GroundTruth

Summary = Callable[[Counts, Counts, Counts], Doubles]  # as eval.average_precision.area_under
MATCHERS: dict[str, tuple[Matcher, Summary]] = {
    "voc07": (match_voc, partial(mean_at_levels, levels=RECALL_LEVELS)),
    "voc": (match_voc, area_under),
    "ilsvrc": (match_ilsvrc, area_under),
}
MOST_WEIGHTS = 2**22  # draws times detections at a time: bounds the memory


@dataclass(frozen=True, eq=False)
class Rankings:
    """The detections of one run by one protocol.

    Attributes:
        photo: for each class, (N,) position of the photo of each detection, the best first.
        outcome: for each class, (T, N) int8 of FALSE, TRUE, IGNORED at each IoU threshold.
        positives: (photos, classes) objects that count.
        summary: average precision of rankings.
    """

    photo: Sequence[Indices]
    outcome: Sequence[npt.NDArray[np.int8]]
    positives: Counts
    summary: Summary

    def average_precision(self, weights: Counts) -> Doubles:
        """Return the average precision, mean over the thresholds, if photos count more than once, or not at all.

        Args:
            weights: (D, photos) how often each photo counts, for several draws.

        Returns:
            (D, classes); NaN where a draw has no object.
        """
        size = max(MOST_WEIGHTS // max(1, *map(len, self.photo)), 1)
        parts = [weights[start : start + size] for start in range(0, len(weights), size)]
        return np.concatenate([self._of_draws(part) for part in parts])

    def _of_draws(self, weights: Counts) -> Doubles:
        positives = np.rint(weights @ self.positives.astype(np.float64)).astype(np.int64)
        columns = zip(self.photo, self.outcome, positives.T, strict=True)
        return np.stack([self._of_class(weights[:, photo], *rest) for photo, *rest in columns], axis=1)

    def _of_class(self, weights: Counts, outcome: npt.NDArray[np.int8], positives: Counts) -> Doubles:
        so_far = np.cumsum(weights, axis=1, dtype=np.int32)
        values = []
        for row in outcome:
            hits, ignored = np.flatnonzero(row == TRUE), np.flatnonzero(row == IGNORED)
            skipped = np.cumsum(weights[:, ignored], axis=1, dtype=np.int32)
            skipped = np.pad(skipped, ((0, 0), (1, 0)))[:, np.searchsorted(ignored, hits)]
            found = np.cumsum(weights[:, hits], axis=1, dtype=np.int32)
            values.append(self.summary(found, so_far[:, hits] - skipped, positives))
        return np.asarray(np.mean(values, axis=0))


def rank(
    protocol: str,
    truths: Sequence[GroundTruth],
    detections: Sequence[Detections],
    classes: Sequence[str],
    *,
    crowd: bool = False,
) -> Rankings:
    """Match detections by the rules of a protocol, once. Arguments and errors as `eval.scores.score`."""
    check_protocol(protocol)
    if protocol == "coco":
        return _rank_by_coco(truths, detections, len(classes), crowd=crowd)
    matcher, summary = MATCHERS[protocol]
    found, objects = DetectionTable.of(upright(detections)), ObjectTable.of(truths)
    for table in (found, objects):
        check_labels(table, len(classes))
    outcome, ranking = matcher(found, objects).outcome, found.ranking
    rows = [ranking[places] for places in rows_by_class(found.labels[ranking], len(classes))]
    positives = _positives(objects, ~objects.ignore, len(truths), len(classes))
    return Rankings([found.image[r] for r in rows], [outcome[None, r] for r in rows], positives, summary)


def _rank_by_coco(
    truths: Sequence[GroundTruth], detections: Sequence[Detections], classes: int, *, crowd: bool
) -> Rankings:
    matches = match_coco(truths, detections, classes, crowd=crowd)
    rows, outcome = rows_by_class(matches.labels, classes), matches.outcome[ALL_AREAS]
    positives = _positives(matches.objects, matches.counts[:, ALL_AREAS], len(truths), classes)
    summary = partial(mean_at_levels, levels=COCO_LEVELS)
    return Rankings([matches.image[r] for r in rows], [outcome[:, r] for r in rows], positives, summary)


def _positives(objects: ObjectTable, counts: npt.NDArray[np.bool_], photos: int, classes: int) -> Counts:
    positives = np.zeros((photos, classes), np.int64)
    np.add.at(positives, (objects.image[counts], objects.labels[counts]), 1)
    return positives
