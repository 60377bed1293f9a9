"""Labelled regions for training: which boxes of a photo are examples of what (R-CNN, section 2.3)."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from structures.boxes import Boxes, Floats, Indices, area, intersection, iou, unique_rows
from structures.errors import InputError
from structures.records import GroundTruth, Labels

POSITIVE_IOU = 0.5  # R-CNN, section 2.3
NEAR_IOU = 0.1  # negatives at least so near an object show what is not tight (Fast R-CNN, section 2.3)
TIGHTNESS = (0.5, 0.6, 0.7, 0.8)  # IoU at which each range of positives begins
COVERED = 0.5  # a box with such a share inside an ignored object or crowd is not known to be background
NO_EXAMPLE = -1  # label


@dataclass(frozen=True, eq=False)
class LabelledRegions:
    """Labelled regions of many photos, as columns.

    Attributes:
        photo: (N,) int64 index of the photo in its dataset.
        boxes: (N, 4) float32 xyxy in pixels.
        labels: (N,) int64 class, or the number of classes for background.
        nearest: (N,) int64 class of the object that it overlaps most, however little; background where there is none.
        overlap: (N,) float32 best IoU with an object that counts: the one that gave the label, if it is 0.5 or more.
        mirrored: (N,) bool, whether the crop is to be mirrored left-right.
    """

    photo: Indices
    boxes: Boxes
    labels: Labels
    nearest: Labels
    overlap: Floats
    mirrored: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.photo)

    @staticmethod
    def join(parts: "Sequence[LabelledRegions]") -> "LabelledRegions":
        """Return the rows of all the parts, in order."""
        return LabelledRegions(
            *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(LabelledRegions))
        )


def label_boxes(
    boxes: Boxes, truth: GroundTruth, *, background: int, use_ignored: bool
) -> tuple[Labels, Labels, Floats]:
    """Give every box the class of the object that it overlaps most.

    Args:
        boxes: (N, 4) candidates in pixels.
        truth: the objects of the photo.
        background: label of boxes whose best IoU is below 0.5.
        use_ignored: ignored objects count as objects, as VOC's difficult ones do for R-CNN. Otherwise boxes that lie
            on them to half or more are no examples, unless they belong to an object that counts; for COCO's crowds.

    Returns:
        Labels (N,), -1 for boxes that are no examples; the class (N,) of the object that counts and is overlapped most,
        or background; and the IoU (N,) with it.
    """
    counts = ~truth.ignore | use_ignored
    nearest, overlap = _nearest(boxes, truth.boxes[counts], truth.labels[counts], background)
    labels = np.where(overlap >= POSITIVE_IOU, nearest, background).astype(np.int64)
    unclear = _covered(boxes, truth.boxes[~counts]) >= COVERED
    labels[unclear & (labels == background)] = NO_EXAMPLE
    return labels, nearest, overlap


def _nearest(boxes: Boxes, objects: Boxes, labels: Labels, background: int) -> tuple[Labels, Floats]:
    if len(objects) == 0:
        return np.full(len(boxes), background, np.int64), np.zeros(len(boxes), np.float32)
    overlaps = iou(boxes, objects)
    best = overlaps.argmax(axis=1)
    overlap = overlaps[np.arange(len(boxes)), best]
    return np.where(overlap > 0, labels[best], background).astype(np.int64), overlap


def _covered(boxes: Boxes, regions: Boxes) -> Floats:
    """Return the (N,) greatest share of each box that lies in one of the regions."""
    own = area(boxes)
    inside = intersection(boxes, regions).max(axis=1, initial=0)
    share: Floats = np.divide(inside, own, out=np.zeros_like(own), where=own > 0)
    return share


def choose_regions(
    boxes: Boxes,
    truth: GroundTruth,
    *,
    photo: int,
    background: int,
    positives: int,
    negatives: int,
    rng: np.random.Generator,
    use_ignored: bool = True,
    near_share: float = 0.5,
    best: Indices | None = None,
    best_share: float = 0.0,
) -> LabelledRegions:
    """Draw examples from the proposals of one photo; the objects themselves are among the candidates.

    Differs: R-CNN draws positives evenly over regions. Here they are drawn evenly over ranges of the IoU, since most
    proposals that overlap an object by 0.5 overlap it by little more, and the tight ones are what should score best.

    Args:
        boxes: (N, 4) proposals.
        truth: the objects of the photo.
        photo: index that the rows carry.
        background: label of the negatives.
        positives: at most this many boxes with IoU >= 0.5.
        negatives: at most this many boxes with IoU < 0.5.
        rng: where the draw comes from; half of the rows, drawn too, are mirrored.
        use_ignored: see `label_boxes`.
        near_share: share of the negatives that come from those with IoU of 0.1 or more, while there are enough.
        best: rows of `boxes` that a detector would look at first: the negatives among them are the ones it may mistake.
        best_share: share of the negatives that come from `best`, at least, while there are enough.

    Returns:
        The chosen rows; none where the photo gives none.
    """
    usable = (~truth.ignore | use_ignored) & (area(truth.boxes) > 0)
    candidates = np.concatenate([truth.boxes[usable], boxes])
    rows = unique_rows(candidates)
    candidates, hard = candidates[rows], np.isin(rows - usable.sum(), [] if best is None else best)
    labels, nearest, overlap = label_boxes(candidates, truth, background=background, use_ignored=use_ignored)
    near = np.flatnonzero((labels == background) & (overlap >= NEAR_IOU))
    near = _draw_some_of(near, hard, round(negatives * near_share), best_share, rng)
    far = np.flatnonzero((labels == background) & (overlap < NEAR_IOU))
    far = _draw_some_of(far, hard, negatives - len(near), best_share, rng)
    tight = np.where((labels >= 0) & (labels != background), np.digitize(overlap, TIGHTNESS), 0)
    chosen = np.concatenate([_draw_evenly(tight, positives, rng), near, far])
    return LabelledRegions(
        np.full(len(chosen), photo, np.int64),
        candidates[chosen],
        labels[chosen],
        nearest[chosen],
        overlap[chosen],
        rng.random(len(chosen)) < 0.5,
    )


def _draw(rows: Indices, count: int, rng: np.random.Generator) -> Indices:
    return rng.choice(rows, min(count, len(rows)), replace=False)


def _draw_some_of(
    rows: Indices, wanted: npt.NDArray[np.bool_], count: int, share: float, rng: np.random.Generator
) -> Indices:
    """Draw rows, at least the given share of them from the wanted ones while there are enough."""
    first = _draw(rows[wanted[rows]], round(count * share), rng)
    return np.concatenate([first, _draw(np.setdiff1d(rows, first), count - len(first), rng)])


def _draw_evenly(groups: Indices, count: int, rng: np.random.Generator) -> Indices:
    """Draw from the rows with a group from 1 on, as evenly over the groups as they allow."""
    turn = rng.random(len(groups))  # within a turn chance decides
    for group in range(1, groups.max(initial=0) + 1):
        rows = np.flatnonzero(groups == group)
        turn[rows] += rng.permutation(len(rows))
    rows = np.flatnonzero(groups)
    return rows[np.argsort(turn[rows])][:count]


def soft_labels(regions: LabelledRegions, *, background: int, ramp: tuple[float, float]) -> Floats:
    """Share each label out between the class and the background, by how well the region fits its object.

    A label of R-CNN's says "object" from an IoU of 0.5 on, however tight the box, so its score cannot tell a tight box
    from a loose one. Differs: here the share of the class may rise with the IoU, as in VarifocalNet (arXiv 2008.13367).

    Args:
        regions: N of them.
        background: number of classes.
        ramp: the class gets nothing up to the first IoU, all from the second on, and a share that rises evenly between.

    Returns:
        (N, background + 1) float32; rows sum to 1.
    """
    low, high = ramp
    share = np.clip((regions.overlap - low) / (high - low), 0, 1).astype(np.float32)
    labels = np.zeros((len(regions), background + 1), np.float32)
    labels[np.arange(len(regions)), regions.nearest] = share
    labels[:, background] = 1 - share  # a region that overlaps nothing has no share to give
    return labels


class BatchDraw:
    """Draws the rows of every batch: a share of positives, the rest background, each batch a function of its number.

    Since nothing is carried from batch to batch, a resumed run sees the same batches as an uninterrupted one.

    Args:
        labels: (N,) labels of the pool.
        background: label of the negatives.
        batch_size: rows per batch (R-CNN: 128).
        positive_share: share of positives (R-CNN: 32 of 128).
        balance: 0 draws positives uniformly over regions (R-CNN), 1 uniformly over classes; between, in between.
        seed: decides all batches.

    Raises:
        InputError: the pool has no positives or no negatives.
    """

    def __init__(
        self,
        labels: Labels,
        *,
        background: int,
        batch_size: int = 128,
        positive_share: float = 0.25,
        balance: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._positive = np.flatnonzero(labels != background)
        self._negative = np.flatnonzero(labels == background)
        if not len(self._positive) or not len(self._negative):
            raise InputError(f"{len(self._positive)} positive and {len(self._negative)} negative regions: need both")
        counts = np.bincount(labels[self._positive], minlength=background).astype(np.float64)
        weight = counts[labels[self._positive]] ** -balance
        self._weight = np.cumsum(weight / weight.sum())
        self._positives, self._batch_size, self._seed = round(batch_size * positive_share), batch_size, seed

    def __call__(self, step: int) -> Indices:
        """Return the (batch_size,) rows of one batch."""
        rng = np.random.default_rng((self._seed, step))
        place = np.searchsorted(self._weight, rng.random(self._positives), side="right")
        positive = self._positive[np.minimum(place, len(self._positive) - 1)]
        negative = rng.choice(self._negative, self._batch_size - self._positives)
        return np.concatenate([positive, negative]).astype(np.int64)
