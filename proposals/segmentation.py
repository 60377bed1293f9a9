"""Felzenszwalb and Huttenlocher's graph segmentation: image, k, min_size -> superpixels (IJCV 2004).

Every pixel is a node, joined to its 8 neighbours by edges that weigh the colour difference. Edges are taken from light
to heavy; two components join when the edge is no heavier than what both hold inside plus k / size. In the end
components below min_size join a neighbour, again light edges first. The edges do not depend on k: `sort_edges` once,
`segment` for every k.

Differs: weights are rounded to 1/128 of a grey level, which is far below the noise of a photo and turns the sort into
one counting pass. Equal weights keep raster order: by pixel, then east, south-west, south, south-east.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from proposals.compiled import compiled, inlined

SIGMA = 0.8  # Felzenszwalb and Huttenlocher, section 4; Selective Search uses the same
WEIGHT_STEPS = 128  # steps of one grey level; three channels of 0..255 fit into 16 bits: 441.7 * 128 < 65535
NO_EDGE = 65535  # the weight of an edge that would leave the image
N_DIRECTIONS = 4  # east, south-west, south, south-east; the other four belong to the neighbours

Channels = npt.NDArray[np.float32]
LabelMap = npt.NDArray[np.int32]
Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class SortedEdges:
    """The edges of one image from light to heavy.

    Attributes:
        order: (E,) int32, each edge as pixel * 4 + direction.
        start: (levels + 1,) int64, where each weight level begins in order.
        shape: (height, width) of the image.
    """

    order: npt.NDArray[np.int32]
    start: npt.NDArray[np.int64]
    shape: tuple[int, int]


def smooth(channels: Channels, sigma: float = SIGMA) -> Channels:
    """Blur (H, W, C) channels with a Gaussian; sigma 0 changes nothing."""
    if sigma <= 0:
        return channels
    blurred = cv2.GaussianBlur(channels, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.float32).reshape(channels.shape)


def sort_edges(channels: Channels) -> SortedEdges:
    """Weigh and sort the edges of float32 (H, W, C) channels, 0..255, C at most 3."""
    weights = np.empty((*channels.shape[:2], N_DIRECTIONS), np.uint16)
    weigh(np.ascontiguousarray(channels), weights)
    order, start = counting_sort(weights.reshape(-1))
    return SortedEdges(order, start, (channels.shape[0], channels.shape[1]))


def segment(edges: SortedEdges, *, k: float, min_size: int) -> tuple[LabelMap, int]:
    """Cut an image into superpixels.

    Args:
        edges: from `sort_edges`.
        k: scale of observation; a larger k gives larger superpixels.
        min_size: superpixels below this many pixels join a neighbour.

    Returns:
        The (H, W) labels 0..n-1, numbered in raster order of their first pixel, and n.
    """
    height, width = edges.shape
    labels = np.empty(height * width, np.int32)
    n = join_edges(edges.order, edges.start, width, np.float32(k), min_size, labels)
    return labels.reshape(height, width), int(n)


@inlined
def difference(a: Array, b: Array) -> Any:
    """Return the distance of two colours in weight steps."""
    total = np.float32(0)
    for c in range(len(a)):
        total += (a[c] - b[c]) * (a[c] - b[c])
    return np.uint16(np.sqrt(total) * np.float32(WEIGHT_STEPS) + np.float32(0.5))


@compiled
def weigh(channels: Array, weights: Array) -> None:
    """Fill weights (H, W, 4) with the colour differences of (H, W, C) channels."""
    height, width, _ = channels.shape
    for y in range(height):
        for x in range(width):
            here = channels[y, x]
            weights[y, x, :] = NO_EDGE
            if x + 1 < width:
                weights[y, x, 0] = difference(here, channels[y, x + 1])
            if y + 1 < height:
                if x > 0:
                    weights[y, x, 1] = difference(here, channels[y + 1, x - 1])
                weights[y, x, 2] = difference(here, channels[y + 1, x])
                if x + 1 < width:
                    weights[y, x, 3] = difference(here, channels[y + 1, x + 1])


@compiled
def counting_sort(weights: Array) -> tuple[Array, Array]:
    """Return the edge numbers by rising weight, and where every weight level begins; NO_EDGE is left out."""
    start = np.zeros(NO_EDGE + 1, np.int64)
    for weight in weights:
        if weight != NO_EDGE:
            start[weight + 1] += 1
    for level in range(NO_EDGE):
        start[level + 1] += start[level]
    order = np.empty(start[NO_EDGE], np.int32)
    place = start.copy()
    for edge in range(len(weights)):
        if weights[edge] != NO_EDGE:
            order[place[weights[edge]]] = edge
            place[weights[edge]] += 1
    return order, start


@inlined
def find(parent: Array, node: Any) -> Any:
    """Return the root of a node and halve its path. A root holds minus its size."""
    while True:
        above = parent[node]
        if above < 0:
            return node
        top = parent[above]
        if top < 0:
            return above
        parent[node] = top
        node = top


@compiled
def join_edges(order: Array, start: Array, width: int, k: Any, min_size: int, labels: Array) -> int:
    """Join pixels into superpixels, write their labels and return how many there are."""
    parent = np.full(len(labels), -1, np.int32)
    limit = np.full(len(labels), k, np.float32)  # internal difference plus k / size, by root
    offset = np.array([1, width - 1, width, width + 1], np.int32)
    for level in range(len(start) - 1):
        weight = np.float32(level) / np.float32(WEIGHT_STEPS)
        for e in range(start[level], start[level + 1]):
            node = order[e] >> 2
            a = find(parent, node)
            b = find(parent, node + offset[order[e] & 3])
            if a != b and weight <= limit[a] and weight <= limit[b]:
                if parent[b] < parent[a]:
                    a, b = b, a
                parent[a] += parent[b]
                parent[b] = a
                limit[a] = weight - k / np.float32(parent[a])
    for e in range(len(order)):
        node = order[e] >> 2
        a = find(parent, node)
        b = find(parent, node + offset[order[e] & 3])
        if a != b and (-parent[a] < min_size or -parent[b] < min_size):
            if parent[b] < parent[a]:
                a, b = b, a
            parent[a] += parent[b]
            parent[b] = a
    return number(parent, labels)


@compiled
def number(parent: Array, labels: Array) -> int:
    """Write labels 0..n-1 in raster order of the first pixel of every component, and return n."""
    n = 0
    name = np.full(len(parent), -1, np.int32)
    for node in range(len(parent)):
        root = find(parent, node)
        if name[root] < 0:
            name[root] = n
            n += 1
        labels[node] = name[root]
    return n
