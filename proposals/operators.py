"""torchvision's operators on boxes, loaded without the rest of torchvision where no gradient is needed.

Importing torchvision takes as long as importing torch: it brings the compiler, all models and all data sets along.
"""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LIBRARIES = "_C*"  # of torchvision's folder; _C and _C_stable in different versions


@cache
def _compiled() -> Any:
    """Return torchvision's compiled operators, loaded alone if that can be done."""
    found = importlib.util.find_spec("torchvision")
    for path in Path(found.origin).parent.glob(LIBRARIES) if found is not None and found.origin else ():
        try:
            torch.ops.load_library(path)  # type: ignore[no-untyped-call]
        except (OSError, ImportError):  # torchvision itself says what is wrong, see below
            continue
    if not (hasattr(torch.ops.torchvision, "nms") and hasattr(torch.ops.torchvision, "roi_align")):
        import torchvision  # noqa: F401
    return torch.ops.torchvision


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices of (N, 4) boxes that no better one overlaps by more than the threshold, best first."""
    kept: Tensor = _compiled().nms(boxes, scores, iou_threshold)
    return kept


def roi_align(maps: Tensor, regions: Tensor, side: int, scale: float) -> Tensor:
    """Cut (K, C, side, side) out of (N, C, H, W) maps, with one sample per cell; differentiable.

    Args:
        maps: to cut from.
        regions: (K, 5) numbers of maps, and boxes in pixels of the photo.
        side: cells across and down.
        scale: pixels of a map per pixel of the photo.
    """
    if torch.is_grad_enabled():  # some versions of torchvision register the gradient in Python
        from torchvision.ops import roi_align as differentiable

        found: Tensor = differentiable(maps, regions, side, scale, sampling_ratio=1, aligned=True)
        return found
    found = _compiled().roi_align(maps, regions, scale, side, side, 1, True)
    return found


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Clip (N, 4) xyxy boxes to a canvas of (height, width)."""
    height, width = size
    return torch.stack([boxes[:, side].clamp(0, most) for side, most in enumerate((width, height, width, height))], 1)


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the (N,) overlaps of row with row of two (N, 4) lists; 0 where neither has an area."""
    sides = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    shared = sides.prod(dim=1)
    union = (a[:, 2:] - a[:, :2]).prod(dim=1) + (b[:, 2:] - b[:, :2]).prod(dim=1) - shared
    return shared / union.clamp(min=1e-6)
