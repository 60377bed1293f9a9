"""Felzenszwalb and Huttenlocher's graph segmentation: image, k, min_size -> superpixels (IJCV 2004).

Every pixel is a node, joined to its 8 neighbours by edges that weigh the colour difference. Edges are taken from light
to heavy; two components join when the edge is no heavier than what both hold inside plus k / size. In the end
components below min_size join a neighbour, again light edges first. The edges do not depend on k: `weigh_edges` once,
then `segment` for all scales together (see `proposals.selective_search.joining`).

Differs: the roots of weights are rounded to 1/2048, which turns sorting into counting. In flat areas, where large
components tolerate little, that is 1/1000 of a grey level and less. Equal weights: the upper row first, then east,
south-west, south, south-east, then the left column.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from proposals.selective_search.buffers import Scratch
from proposals.selective_search.compiled import Array, compiled, inlined
from proposals.selective_search.joining import ROOT_STEPS, join_scales
from proposals.selective_search.tiles import N_DIRECTIONS, NO_EDGE

SIGMA = 0.8  # Felzenszwalb and Huttenlocher, section 4; Selective Search uses the same

Planes = npt.NDArray[np.float32]
"""The channels of a photo, float32 (C, H, W) in 0..255."""

EdgeWeights = npt.NDArray[np.uint16]
"""The level of the edge from each pixel in each direction, (H, 4, W), see `joining`; `NO_EDGE` at the border."""

LabelMap = npt.NDArray[np.int32]


def smooth(planes: Planes, sigma: float = SIGMA, scratch: Scratch | None = None) -> Planes:
    """Blur (C, H, W) planes with a Gaussian; sigma 0 changes nothing. With scratch, the result is lent."""
    if sigma <= 0:
        return planes
    blurred = (scratch or Scratch()).take("smooth", planes.shape, np.float32)
    for plane, target in zip(planes, blurred, strict=True):
        cv2.GaussianBlur(plane, (0, 0), sigma, dst=target, borderType=cv2.BORDER_REFLECT)
    return blurred


def weigh_edges(planes: Planes, scratch: Scratch | None = None) -> EdgeWeights:
    """Weigh the edges of (C, H, W) planes, C at most 3. With scratch, the result is lent."""
    _, height, width = planes.shape
    weights = (scratch or Scratch()).take("weights", (height, N_DIRECTIONS, width), np.uint16)
    weigh(np.ascontiguousarray(planes), weights, np.empty(width, np.float32))
    return weights


def segment(
    weights: EdgeWeights, scales: Sequence[tuple[float, int]], scratch: Scratch | None = None
) -> list[tuple[LabelMap, int]]:
    """Cut an image into superpixels, once for each scale. With scratch, the result is lent.

    Args:
        weights: from `weigh_edges`.
        scales: k and min_size of each. A larger k gives larger superpixels; those below min_size pixels join a
            neighbour.
        scratch: memory to work in.

    Returns:
        For each scale the (H, W) labels 0..n-1, numbered in raster order of their first pixel, and n.
    """
    return join_scales(weights, scales, scratch or Scratch())


@compiled
def weigh(planes: Array, weights: Array, total: Array) -> None:
    """Fill weights (H, 4, W) with the colour differences of (C, H, W) planes, as levels; total is memory for a row."""
    n_channels, height, width = planes.shape
    for y in range(height):
        for direction in range(N_DIRECTIONS):
            dy, dx = min(direction, 1), (1 if direction == 0 else direction - 2)
            row = weights[y, direction]
            row[:] = NO_EDGE
            if y + dy == height:
                continue
            first, last = max(-dx, 0), width - max(dx, 0)
            total[:] = 0
            for c in range(n_channels):
                add_squares(total, planes[c, y, first:last], planes[c, y + dy, first + dx : last + dx])
            round_roots(total, row[first:last])


@inlined
def add_squares(total: Array, a: Array, b: Array) -> None:
    """Add the squared differences of two rows."""
    for x in range(len(a)):
        difference = a[x] - b[x]
        total[x] += difference * difference


@inlined
def round_roots(total: Array, out: Array) -> None:
    """Write the levels of weights whose squares are given."""
    for x in range(len(out)):
        out[x] = np.int32(np.sqrt(np.sqrt(total[x])) * np.float32(ROOT_STEPS) + np.float32(0.5))
