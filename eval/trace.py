"""Where did a detector lose an object? Follows each missed object through the stages, up to the first that lost it.

A detector of regions can say this of every object: was it proposed, was it classified, what was it taken for, which box
suppressed it? That needs the regions with their probabilities (`eval.regions`). Without them the detections
alone have to do.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property, partial
from itertools import pairwise

import numpy as np

from eval.checks import BACKGROUND
from eval.lost import Box, Losses, LostObject, Rules, Stage
from eval.matching import TRUE, match_voc
from eval.mistakes import NEAR, SIZES, sizes_of
from eval.tables import DetectionTable, ObjectTable
from structures.boxes import Boxes, Floats, Indices, Mask, iou
from structures.errors import InputError
from structures.names import ClassNames
from structures.nms import suppress_per_class
from structures.records import Detections, GroundTruth
from structures.regions import Regions

NONE = -1  # no column


def find_lost(
    truths: Sequence[GroundTruth],
    detections: Sequence[Detections],
    classes: Sequence[str],
    regions: Mapping[str, Regions],
    rules: Rules | None = None,
    *,
    missing: Collection[str] = (),
    iou_threshold: float = 0.5,
    score: float | None = None,
) -> Losses:
    """Find the first stage that lost each object that the detections miss.

    Args:
        truths: of all images.
        detections: of the same images, in the same order.
        classes: class names in label order.
        regions: by image id, for the images whose regions were kept (`eval.regions.read_regions`); read one at a time.
        rules: that made detections of these regions; needed where there are any.
        missing: image ids without results.
        iou_threshold: least IoU of a box that fits.
        score: weaker detections do not count; None counts all.

    Returns:
        Every object that counts and that no detection found, as `eval.matching.match_voc` has it, with one stage each.

    Raises:
        InputError: regions without rules.
    """
    if len(regions) and rules is None:
        raise InputError("regions without the rules that made detections of them")
    objects, strong = ObjectTable.of(truths), [found.where(score=score) for found in detections]
    missed = _missed(truths, objects, strong, iou_threshold)
    columns = cache(partial(_columns, classes, rules.only if rules else None))
    lost, without = list[LostObject](), frozenset(missing)
    for truth, rows, found, every in zip(truths, missed, strong, detections, strict=True):
        if truth.image_id in without:
            lost += [_begun(truth, row, "not searched") for row in rows]
            continue
        seen = regions.get(truth.image_id) if rows else None
        follow: Callable[[GroundTruth, int, Detections], LostObject]
        if seen is None or rules is None:
            follow = partial(_from_detections, every=every, classes=classes, iou_threshold=iou_threshold)
        else:
            follow = _RegionTrace(seen, columns(seen.classes), rules, iou_threshold, score)
        lost += [_shared(truth, row, found, iou_threshold) or follow(truth, row, found) for row in rows]
    counts = np.zeros((len(classes), len(SIZES)), np.int64)
    np.add.at(counts, (objects.labels[~objects.ignore], sizes_of(objects.area[~objects.ignore])), 1)
    kept = sum(truth.image_id in regions for truth in truths)
    return Losses(tuple(lost), tuple(classes), counts, kept, len(truths), iou_threshold, score)


def _columns(classes: Sequence[str], only: Sequence[str] | None, known: Sequence[str]) -> list[int]:
    """Return the column of each class among the known ones; -1 for those that are not known, or not looked for."""
    names, wanted = ClassNames(known), ClassNames(classes if only is None else only)
    return [names.find(name) if wanted.find(name) >= 0 else NONE for name in classes]


def _missed(
    truths: Sequence[GroundTruth], objects: ObjectTable, found: Sequence[Detections], iou_threshold: float
) -> Iterator[list[int]]:
    """Yield the rows of the missed objects of each image."""
    matches = match_voc(DetectionTable.of(found), objects, iou_threshold=iou_threshold)
    missed = ~objects.ignore
    missed[matches.nearest[matches.outcome == TRUE]] = False
    for start, stop in pairwise(np.cumsum([0, *map(len, truths)])):
        yield np.flatnonzero(missed[start:stop]).tolist()


def _begun(truth: GroundTruth, row: int, stage: Stage) -> LostObject:
    size = list(SIZES)[sizes_of(truth.area[row : row + 1])[0]]
    return LostObject(truth.image_id, row, int(truth.labels[row]), size, stage)


def _overlap(truth: GroundTruth, row: int, boxes: Boxes) -> Floats:
    """Return the (N,) IoU of an object with boxes."""
    overlap: Floats = iou(truth.boxes[row : row + 1], boxes)[0]
    return overlap


def _best(values: Floats, among: Mask) -> int:
    """Return the position of the greatest value among some, at least one; of equals the first."""
    return int(np.argmax(np.where(among, values, -np.inf)))


def _box(boxes: Boxes, row: int) -> Box:
    x1, y1, x2, y2 = boxes[row].tolist()
    return x1, y1, x2, y2


def _shared(truth: GroundTruth, row: int, found: Detections, iou_threshold: float) -> LostObject | None:
    """Return the record of an object that a detection of its class fits, which then counts for another object."""
    overlap = _overlap(truth, row, found.boxes)
    fits = (overlap >= iou_threshold) & (found.labels == truth.labels[row])
    return _with_other(_begun(truth, row, "shared"), found, _best(found.scores, fits)) if fits.any() else None


def _with_other(lost: LostObject, found: Detections, at: int) -> LostObject:
    return replace(lost, other=_box(found.boxes, at), other_score=float(found.scores[at]))


def _from_detections(
    truth: GroundTruth,
    row: int,
    found: Detections,
    *,
    every: Detections,
    classes: Sequence[str],
    iou_threshold: float,
) -> LostObject:
    """Return what detections alone tell of a missed object.

    Args:
        truth: the objects of a photo.
        row: of the object.
        found: detections that count, none of which fits.
        every: these, and those that are too weak.
        classes: names of the labels.
        iou_threshold: least IoU of a box that fits.
    """
    label, overlap = truth.labels[row], _overlap(truth, row, found.boxes)
    too_weak = (every.labels == label) & (_overlap(truth, row, every.boxes) >= iou_threshold)
    near, others = (found.labels == label) & (overlap >= NEAR), (found.labels != label) & (overlap >= iou_threshold)
    if too_weak.any():
        at = _best(every.scores, too_weak)
        weak = replace(_begun(truth, row, "below the floor"), score=float(every.scores[at]))
        return _placed(weak, every.boxes, overlap=_overlap(truth, row, every.boxes), at=at)
    if near.any():
        return _with_other(_begun(truth, row, "loose"), found, _best(overlap, near))
    if others.any():
        at = _best(found.scores, others)
        taken = {classes[found.labels[at]]: float(found.scores[at])}
        return replace(_with_other(_begun(truth, row, "wrong class"), found, at), probabilities=taken)
    return _begun(truth, row, "unknown")


def _placed(lost: LostObject, boxes: Boxes, *, overlap: Floats, at: int) -> LostObject:
    return replace(lost, box=_box(boxes, at), iou=float(overlap[at]))


class _RegionTrace:
    """Follows the missed objects of a photo whose regions were kept.

    Args:
        regions: of the photo.
        columns: of the probabilities, for each label of the dataset; -1 for classes that the classifier does not know.
        rules: that made detections of them.
        iou_threshold: least IoU of a box that fits.
        score: weaker detections do not count; None counts all.
    """

    def __init__(
        self, regions: Regions, columns: Sequence[int], rules: Rules, iou_threshold: float, score: float | None
    ) -> None:
        self.regions, self.columns, self.rules, self.iou_threshold = regions, columns, rules, iou_threshold
        self.floor = max(rules.score_floor, rules.score_floor if score is None else score)
        looked_for = ClassNames(regions.classes if rules.only is None else rules.only)
        wanted = [looked_for.find(name) >= 0 for name in regions.classes]
        self.scores = np.where(wanted, regions.scores(weigh_by_fit=rules.weigh_by_fit), np.float32(-1))
        self.proposed = regions.proposals.followed_by(regions.proposals.left_out)

    def __call__(self, truth: GroundTruth, row: int, found: Detections) -> LostObject:
        """Return the record of an object that no detection fits."""
        overlap = _overlap(truth, row, self.proposed.boxes)
        fits, count = overlap >= self.iou_threshold, len(self.regions)
        if not fits.any():
            lost = _begun(truth, row, "no proposal")
            return self._at(lost, overlap, int(overlap.argmax())) if len(overlap) else lost
        if not fits[:count].any():
            return self._at(_begun(truth, row, "not classified"), overlap, int(fits.argmax()))
        return self._classified(truth, row, found, overlap, fits[:count])

    def _classified(self, truth: GroundTruth, row: int, found: Detections, overlap: Floats, fits: Mask) -> LostObject:
        column = self.columns[truth.labels[row]]
        own = self.scores[:, column] if column >= 0 else overlap[: len(fits)]
        at = _best(own, fits)
        if column < 0 or own[at] < self.floor:
            return self._misread(_begun(truth, row, "background"), overlap, fits, column)
        rows, columns = self._kept
        survivors = fits & np.isin(np.arange(len(fits)), rows[columns == column])
        if not survivors.any():
            lost = self._at(_begun(truth, row, "suppressed"), overlap, at, column)
            return self._suppressed(lost, at, column)
        lost = self._at(_begun(truth, row, "loose"), overlap, _best(own, survivors), column)
        near = found.labels == truth.labels[row]
        return _with_other(lost, found, _best(_overlap(truth, row, found.boxes), near)) if near.any() else lost

    def _misread(self, lost: LostObject, overlap: Floats, fits: Mask, column: int) -> LostObject:
        """Say what the fitting regions of an object were taken for, none of which reaches the floor for its class."""
        probabilities = self.regions.probabilities
        likeliest = probabilities.argmax(axis=1)
        right = fits & (likeliest == column)
        own = self.scores[:, column] if column >= 0 else overlap[: len(fits)]
        at = _best(own, right if right.any() else fits)
        stage: Stage = "wrong class" if likeliest[at] < probabilities.shape[1] - 1 else "background"
        return self._at(replace(lost, stage="below the floor" if right.any() else stage), overlap, at, column)

    def _suppressed(self, lost: LostObject, at: int, column: int) -> LostObject:
        """Name the box that suppressed a region; none did where it is beyond the most of its class."""
        boxes, (rows, columns) = self.regions.boxes, self._kept
        rival = (iou(boxes[at : at + 1], boxes[rows])[0] > self.rules.nms_threshold) & (
            self.rules.class_agnostic | (columns == column)
        )
        if not rival.any():
            return lost
        by = int(rival.argmax())
        return replace(lost, other=_box(boxes, rows[by]), other_score=float(self.scores[rows[by], columns[by]]))

    @cached_property
    def _kept(self) -> tuple[Indices, Indices]:
        """The regions that became detections, best first, and the columns of their classes."""
        rows, columns, _ = suppress_per_class(
            self.regions.boxes,
            self.scores,
            score_floor=self.floor,
            iou_threshold=self.rules.nms_threshold,
            max_per_class=self.rules.max_per_class,
            class_agnostic=self.rules.class_agnostic,
        )
        return rows, columns

    def _at(self, lost: LostObject, overlap: Floats, at: int, column: int | None = None) -> LostObject:
        """Add one of the proposals, and where it was classified what it was taken for."""
        placed = _placed(lost, self.proposed.boxes, overlap=overlap, at=at)
        source = self.proposed.source_names[self.proposed.source[at]]
        placed = replace(placed, source=source, rank=at + 1, classified=len(self.regions))
        if column is None:
            return placed
        names, chances = [*self.regions.classes, BACKGROUND], self.regions.probabilities[at]
        shown = dict.fromkeys([*([column] if column >= 0 else []), int(chances.argmax()), len(names) - 1])
        score = float(self.scores[at, column]) if column >= 0 else lost.score
        return replace(placed, score=score, probabilities={names[i]: float(chances[i]) for i in shown})
