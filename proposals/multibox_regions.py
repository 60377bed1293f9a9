"""Which boxes MultiBox's refining head learns from."""

import torch
from torch import Tensor
from torchvision.ops import box_iou, clip_boxes_to_image, nms

from proposals.multibox_loss import IGNORED, NOTHING, POSITIVE_IOU
from structures.boxes import ImageSize

CANDIDATES, KEPT = 1000, 400  # best boxes of the dense head before and after suppression
SUPPRESSION = 0.8  # overlap above which only the better of two boxes is looked at
COPIES, SHAKE = 4, 0.15  # of each object so many boxes with corners moved by this share of its sides
SMALLEST = 2.0  # pixels of the canvas


@torch.no_grad()
def draw_regions(
    boxes: Tensor, logits: Tensor, objects: Tensor, ignore: Tensor, canvas: ImageSize, count: int
) -> tuple[Tensor, Tensor]:
    """Draw the boxes that the refining head learns from: half objects as far as there are such, half background.

    Args:
        boxes: (M, 4) of the dense head.
        logits: (M,) confidences.
        objects: (G, 4) annotated boxes.
        ignore: (G,) which of them do not count.
        canvas: (height, width).
        count: boxes wanted.

    Returns:
        (n, 4) boxes, and (n,) the number of their object or NOTHING; n at most count.
    """
    scores, best = logits.topk(min(CANDIDATES, len(logits)))
    candidates = clip_boxes_to_image(boxes[best], canvas)
    candidates = candidates[nms(candidates, scores, SUPPRESSION)[:KEPT]]
    noise = torch.randn((COPIES * len(objects), 4), device=boxes.device) * SHAKE
    sides = (objects[:, 2:] - objects[:, :2]).repeat(COPIES, 2)
    candidates = torch.cat([candidates, clip_boxes_to_image(objects.repeat(COPIES, 1) + noise * sides, canvas)])
    candidates = candidates[((candidates[:, 2:] - candidates[:, :2]) > SMALLEST).all(dim=1)]
    assigned = _assign_strictly(candidates, objects, ignore)
    positive = torch.nonzero(assigned >= 0)[:, 0]
    negative = torch.nonzero(assigned == NOTHING)[:, 0]
    positive = positive[torch.randperm(len(positive))[: count // 2].to(positive.device)]
    negative = negative[torch.randperm(len(negative))[: count - len(positive)].to(negative.device)]
    rows = torch.cat([positive, negative])
    return candidates[rows], assigned[rows]


def _assign_strictly(boxes: Tensor, objects: Tensor, ignore: Tensor) -> Tensor:
    """Give each box the object that it overlaps by 0.5 or more; ignored objects take their boxes out."""
    if len(objects) == 0:
        return torch.full((len(boxes),), NOTHING, device=boxes.device)
    best, number = box_iou(boxes, objects).max(dim=1)
    assigned = torch.where(best >= POSITIVE_IOU, number, NOTHING)
    return torch.where((assigned >= 0) & ignore[number], IGNORED, assigned)
