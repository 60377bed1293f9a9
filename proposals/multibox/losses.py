"""The loss of the dense head: which object each prior should become, and how far it is from that.

The papers' bipartite loss is in `proposals.multibox.paper`.
"""

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_iou, generalized_box_iou_loss

from proposals.operators import paired_iou

NOTHING, IGNORED = -1, -2  # in the place of an object's number: background, and no loss at all
POSITIVE_IOU = 0.5  # SSD, section 2.2
BEST_PRIORS = 4  # this many priors per object are positive even below that overlap
NEGATIVE_WEIGHT, FOCUS = 0.75, 2.0  # VarifocalNet (arXiv 2008.13367), section 3.2
BOX_WEIGHT = 2.0  # of the overlap loss against the confidence loss, as in ATSS and VarifocalNet


def assign(priors: Tensor, objects: Tensor, ignore: Tensor) -> Tensor:
    """Say which object each prior should become.

    A prior belongs to the object that it overlaps most, if by 0.5; and the four priors nearest to an object belong to
    it in any case, so that no object goes without.

    Args:
        priors: (M, 4) xyxy.
        objects: (G, 4) xyxy, G may be 0.
        ignore: (G,) bool, objects that count neither as object nor as background.

    Returns:
        (M,) number of the object, NOTHING or IGNORED.
    """
    assigned = torch.full((len(priors),), NOTHING, device=priors.device)
    if len(objects) == 0:
        return assigned
    overlap = box_iou(priors, objects)
    best, number = overlap.max(dim=1)
    assigned = torch.where(best >= POSITIVE_IOU, number, assigned)
    nearest = overlap.topk(min(BEST_PRIORS, len(priors)), dim=0).indices
    numbers = torch.arange(len(objects), device=priors.device)
    for rows in nearest.flip(0):  # the very best last: it wins where objects compete, and of equals the last object
        assigned = assigned.scatter_reduce(0, rows, numbers, "amax", include_self=False)
    ignored = (assigned >= 0) & ignore[assigned.clamp(min=0)]
    return torch.where(ignored, IGNORED, assigned)


def quality_loss(logits: Tensor, quality: Tensor, counted: Tensor | None = None) -> Tensor:
    """Return the summed varifocal loss: confidences learn how well the box fits (VarifocalNet, equation 2).

    Args:
        logits: (...) before the sigmoid.
        quality: (...) target in 0..1: overlap of the box with its object, 0 for background.
        counted: (...) bool, which are in the sum; None for all.
    """
    chance = logits.detach().sigmoid()
    weight = torch.where(quality > 0, quality, NEGATIVE_WEIGHT * chance**FOCUS)
    if counted is not None:
        weight = weight * counted
    return functional.binary_cross_entropy_with_logits(logits, quality, weight=weight, reduction="sum")


def dense_loss(logits: Tensor, boxes: Tensor, assigned: Tensor, objects: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the summed losses of confidences and of boxes for one photo, and how many priors are objects.

    All rows are computed and those that do not count left out of the sums: to pick them would make a GPU wait.

    Args:
        logits: (M,) confidences before the sigmoid.
        boxes: (M, 4) xyxy boxes that the priors became.
        assigned: (M,) from `assign`.
        objects: (G, 4) xyxy.
    """
    positive = assigned >= 0
    if len(objects) == 0:  # known without waiting
        return quality_loss(logits, torch.zeros_like(logits), assigned != IGNORED), boxes.sum() * 0, positive.sum()
    targets = objects[assigned.clamp(min=0)]
    fit = torch.where(positive, paired_iou(boxes.detach(), targets).clamp(min=1e-3), 0)
    confidence = quality_loss(logits, fit.to(logits.dtype), assigned != IGNORED)
    moved = torch.where(positive[:, None], boxes, targets)  # what is left out must not be without a gradient
    overlap = generalized_box_iou_loss(moved, targets, reduction="none")
    # Priors that fit better weigh more, so that the forced ones do not dominate.
    return confidence, (overlap * fit).sum(), positive.sum()
