"""Which regions of a photo a classifier on shared features learns from, drawn on the device in every step."""

import torch
from torch import Tensor
from torchvision.ops import box_iou

from classifier.region_draw import RegionDraw
from classifier.sampling import COVERED, NEAR_IOU, POSITIVE_IOU, TIGHTNESS

SMALLEST = 6.0  # pixels of the canvas, for both sides of a region
EMPTY_SHARE = 0.5  # of a photo without objects, only this share of the regions is drawn


@torch.no_grad()
def draw_labelled(
    candidates: Tensor, objects: Tensor, labels: Tensor, ignore: Tensor, *, background: int, draw: RegionDraw
) -> tuple[Tensor, Tensor]:
    """Draw regions to learn from out of candidates, and label them (R-CNN, section 2.3).

    Args:
        candidates: (N, 4) xyxy in pixels.
        objects: (G, 4) annotated boxes.
        labels: (G,) their classes.
        ignore: (G,) which of them count neither as object nor as background.
        background: label of regions whose best IoU is below 0.5.
        draw: how many and which.

    Returns:
        (n, 4) regions and (n,) labels, n at most draw.count. Regions that belong to an ignored object, or lie on one
        to half or more, are left out.
    """
    candidates = candidates[((candidates[:, 2:] - candidates[:, :2]) > SMALLEST).all(dim=1)]
    if len(objects) == 0:
        chosen = _shuffled(torch.arange(len(candidates)))[: round(draw.count * EMPTY_SHARE)]
        return candidates[chosen], torch.full((len(chosen),), background, device=candidates.device)
    best, number = box_iou(candidates, objects).max(dim=1)
    positive = best >= POSITIVE_IOU
    unclear = torch.where(positive, ignore[number], _covered(candidates, objects, ignore))
    near = torch.nonzero(~positive & ~unclear & (best >= NEAR_IOU))[:, 0]
    far = torch.nonzero(~positive & ~unclear & (best < NEAR_IOU))[:, 0]
    chosen = _evenly(torch.nonzero(positive & ~unclear)[:, 0], best, number)[: draw.positives]
    others = draw.count - len(chosen)
    near = _shuffled(near)[: round(others * draw.near_share)]
    rows = torch.cat([chosen, near, _shuffled(far)[: others - len(near)]])
    return candidates[rows], torch.where(positive[rows], labels[number[rows]], background)


def _covered(candidates: Tensor, objects: Tensor, ignore: Tensor) -> Tensor:
    """Return which candidates lie on an ignored object to half or more of their area."""
    corners = torch.maximum(candidates[:, None, :2], objects[None, :, :2])
    sides = (torch.minimum(candidates[:, None, 2:], objects[None, :, 2:]) - corners).clamp(min=0)
    area = (candidates[:, 2:] - candidates[:, :2]).prod(dim=1)
    return ((sides.prod(dim=2) >= COVERED * area[:, None]) & ignore).any(dim=1)


def _evenly(rows: Tensor, overlap: Tensor, number: Tensor) -> Tensor:
    """Put rows into a random order in which objects and ranges of the IoU take turns as far as they last."""
    rows = _shuffled(rows)
    ranges = torch.bucketize(overlap[rows], torch.tensor(TIGHTNESS[1:], device=rows.device))
    group = ranges * (int(number.max()) + 1 if len(number) else 1) + number[rows]
    order = group.argsort(stable=True)
    counts = torch.bincount(group)
    first = counts.cumsum(0) - counts
    turn = torch.empty_like(group)
    turn[order] = torch.arange(len(group), device=rows.device) - first[group[order]]
    return rows[turn.argsort(stable=True)]


def _shuffled(rows: Tensor) -> Tensor:
    return rows[torch.randperm(len(rows)).to(rows.device)]
