"""How alike two regions are: colour, texture, size and fill (Uijlings et al., section 3.2), and bounds for that."""

from typing import Any, NamedTuple

import numpy as np

from proposals.selective_search.compiled import Array, in_order, inlined
from proposals.selective_search.features import ORIENTATIONS, TEXTURE_BINS
from structures.errors import InputError

MEASURES = "CTSF"  # colour, texture, size, fill
ROUNDING = np.float32(1e-4)  # more than a similarity in float32 is off, a sum of up to 315 numbers of a sum of 1 or 2
STEP_ROUNDING = np.float32(1e-6)  # more than the three sums of a bound are off


class Tree(NamedTuple):
    """All 2N - 1 regions: N superpixels, and the new ones as they are made.

    Attributes:
        boxes: (2N - 1, 4) int32.
        size: (2N - 1,) int32.
        rows: (2N - 1,) int32 row of a region's histograms.
        colour: (N, C * 25) float32 counts.
        texture: (N, C * 80) float32 counts.
        alive: (2N - 1,) bool, of regions that are not yet part of another one.
        first: (2N - 1,) int32 the first place in the list of a region's pairs; -1 ends it.
        newest: (2N - 1,) int32 the newest pair of a region with a newer region.
        degree: (2N - 1,) int32 pairs in the list.
    """

    boxes: Array
    size: Array
    rows: Array
    colour: Array
    texture: Array
    alive: Array
    first: Array
    newest: Array
    degree: Array


def similarity_weights(measures: str) -> Array:
    """Return which of colour, texture, size and fill count, as four float32 ones or zeros.

    Raises:
        InputError: empty, repeated or unknown letters.

    >>> similarity_weights("TSF").tolist()
    [0.0, 1.0, 1.0, 1.0]
    """
    if not measures or len(set(measures)) != len(measures) or not set(measures) <= set(MEASURES):
        raise InputError(f"similarity must be some of the letters {MEASURES}, each once, got {measures!r}")
    return np.array([float(letter in measures) for letter in MEASURES], np.float32)


@inlined
def histogram_intersection(counts: Array, row_a: Any, row_b: Any, scale_a: Any, scale_b: Any) -> Any:
    """Return the sum of the smaller values of two rows of counts, each scaled."""
    total = np.float32(0)
    for i in range(counts.shape[1]):
        a, b = counts[row_a, i] * scale_a, counts[row_b, i] * scale_b
        total += a if a < b else b
    return total


@inlined
def united_area(boxes: Array, a: Any, b: Any) -> Any:
    """Return the area of the box around two boxes."""
    width = max(boxes[a, 2], boxes[b, 2]) - min(boxes[a, 0], boxes[b, 0])
    height = max(boxes[a, 3], boxes[b, 3]) - min(boxes[a, 1], boxes[b, 1])
    return np.float32(width) * np.float32(height)


@inlined
def histogram_similarity(a: Any, b: Any, tree: Tree, weights: Array) -> Any:
    """Add up the similarities of colour and texture of regions a and b, as far as they count, each in 0..1."""
    total = np.float32(0)
    share = np.float32(ORIENTATIONS * TEXTURE_BINS) / np.float32(tree.texture.shape[1])  # one by the number of channels
    size_a, size_b, row_a, row_b = np.float32(tree.size[a]), np.float32(tree.size[b]), tree.rows[a], tree.rows[b]
    if weights[0] > 0:
        total += histogram_intersection(tree.colour, row_a, row_b, share / size_a, share / size_b)
    if weights[1] > 0:
        share /= np.float32(ORIENTATIONS)
        total += histogram_intersection(tree.texture, row_a, row_b, share / size_a, share / size_b)
    return total


@in_order
def with_shapes(total: Any, a: Any, b: Any, tree: Tree, weights: Array, image_area: Any) -> Any:
    """Add the similarities of size and fill of regions a and b to a total, as far as they count, each in 0..1."""
    size_a, size_b = np.float32(tree.size[a]), np.float32(tree.size[b])
    if weights[2] > 0:
        total += 1 - (size_a + size_b) / image_area
    if weights[3] > 0:
        total += 1 - (united_area(tree.boxes, a, b) - size_a - size_b) / image_area
    return np.float32(total)


@inlined
def bound_by(known: Any, other_share: Any, joined: Any, most: Any) -> Any:
    """Return what the histogram similarity of a third region with a new one can be at most.

    Args:
        known: it with one part of the new region, or a bound for that.
        other_share: the share of the other part in the new region.
        joined: it of the two parts with each other.
        most: the largest that there is, of two equal histograms.
    """
    return known + other_share * (most - joined + ROUNDING) + STEP_ROUNDING
