"""Exact pooling of regions from maps of a photo: the mean of the bilinear surface over each cell of a region.

A map's values are at the centres of its squares, and between them the surface is interpolated linearly, across and
down. Its mean over a rectangle is an integral with a closed form, so nothing is rounded and nothing is sampled (precise
RoI pooling; Jiang et al., arXiv 1807.11590, section 3.3). Both directions can be done apart: pooling is two products of
matrices, quick on every device. Beyond its border a map is zero.
"""

import torch
from torch import Tensor

SMALLEST_CELL = 0.01  # squares of the map; a narrower cell is widened to it, and reads the surface in its middle


def expand(boxes: Tensor, factor: float) -> Tensor:
    """Return (N, 4) boxes grown about their centres by a factor of their sides, to take in what is around them."""
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) * (factor / 2)
    return torch.cat([centre - half, centre + half], dim=1)


def cell_weights(first: Tensor, last: Tensor, *, cells: int, squares: int) -> Tensor:
    """Return (N, cells, squares) weights of a map's squares in the mean over each cell of N intervals.

    Args:
        first: (N,) beginnings of the intervals, in squares of the map; its border is at 0.
        last: (N,) their ends.
        cells: equal parts of each interval.
        squares: along this side of the map.

    >>> cell_weights(torch.tensor([0.5]), torch.tensor([1.5]), cells=1, squares=3)
    tensor([[[0.5000, 0.5000, 0.0000]]])
    """
    step = torch.arange(cells, device=first.device, dtype=torch.float32) / cells
    length = (last - first).float()[:, None] / cells
    middle = first.float()[:, None] + step * cells * length + length / 2  # (N, cells)
    half = length.clamp(min=SMALLEST_CELL) / 2
    at = torch.arange(squares, device=first.device, dtype=torch.float32) + 0.5
    distance = middle[:, :, None] - at  # (N, cells, squares)
    return (_hat_integral(distance + half[:, :, None]) - _hat_integral(distance - half[:, :, None])) / (
        2 * half[:, :, None]
    )


def _hat_integral(x: Tensor) -> Tensor:
    """Return the area left of x under the hat that is 1 at 0 and falls to 0 at -1 and 1: what one square adds."""
    inside = x.clamp(-1, 1)
    return 0.5 + inside * (1 - inside.abs() / 2)


def pool(maps: Tensor, boxes: Tensor, *, cells: int) -> Tensor:
    """Return the (N, C, cells, cells) means over the cells of N regions.

    Args:
        maps: (C, H, W) of one photo.
        boxes: (N, 4) xyxy in squares of the map; they may reach beyond it.
        cells: across and down.
    """
    channels, height, width = maps.shape
    down = cell_weights(boxes[:, 1], boxes[:, 3], cells=cells, squares=height)
    across = cell_weights(boxes[:, 0], boxes[:, 2], cells=cells, squares=width)
    rows = down.reshape(-1, height) @ maps.permute(1, 0, 2).reshape(height, -1)  # (N * cells, C * W)
    rows = rows.reshape(len(boxes), cells * channels, width)
    found = rows @ across.transpose(1, 2).to(rows.dtype)  # (N, cells * C, cells)
    return found.reshape(len(boxes), cells, channels, cells).permute(0, 2, 1, 3)


def pool_parts(maps: Tensor, boxes: Tensor, *, parts: int) -> Tensor:
    """Return (N, C) means over regions whose every part has a map of its own (position-sensitive pooling, R-FCN).

    Args:
        maps: (C * parts * parts, H, W) of one photo: for each channel the parts row by row.
        boxes: (N, 4) xyxy in squares of the map.
        parts: across and down.
    """
    height, width = maps.shape[1:]
    down = cell_weights(boxes[:, 1], boxes[:, 3], cells=parts, squares=height)
    across = cell_weights(boxes[:, 0], boxes[:, 2], cells=parts, squares=width)
    by_part = maps.reshape(-1, parts, parts, height, width)  # (C, down, across, H, W)
    total = maps.new_zeros((len(boxes), len(by_part)))
    for row in range(parts):
        strips = down[:, row] @ by_part[:, row].permute(2, 0, 1, 3).reshape(height, -1)  # (N, C * across * W)
        strips = strips.reshape(len(boxes), len(by_part), parts * width)
        found = strips @ across.reshape(len(boxes), parts * width, 1).to(strips.dtype)
        total = total + found[:, :, 0]
    return total / parts**2
