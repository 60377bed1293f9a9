"""Hierarchical grouping: superpixels -> a tree of regions (Uijlings et al., algorithm 1 and section 3.2).

The two most similar neighbours are joined, again and again, until one region is left. Similarities wait in a heap.
Equal similarities: the pair with the smaller numbers goes first, so the tree is the same every time.
"""

from typing import Any

import numpy as np

from proposals.compiled import Array, compiled, inlined
from proposals.features import ORIENTATIONS, TEXTURE_BINS, Numbers, Superpixels

MEASURES = "CTSF"  # colour, texture, size, fill


def similarity_weights(measures: str) -> Array:
    """Return which of colour, texture, size and fill count, as four float32 ones or zeros.

    Raises:
        ValueError: empty, repeated or unknown letters.

    >>> similarity_weights("TSF").tolist()
    [0.0, 1.0, 1.0, 1.0]
    """
    if not measures or len(set(measures)) != len(measures) or not set(measures) <= set(MEASURES):
        raise ValueError(f"similarity must be some of the letters {MEASURES}, each once, got {measures!r}")
    return np.array([float(letter in measures) for letter in MEASURES], np.float32)


def group(superpixels: Superpixels, measures: str, image_area: int) -> Numbers:
    """Join superpixels until one region is left.

    Args:
        superpixels: N of them, from `proposals.features.describe`.
        measures: which similarities are added up, such as "CTSF".
        image_area: pixels of the image.

    Returns:
        (2N - 1, 4) int32 xyxy boxes of all regions: the N superpixels first, then each new region as it was made; the
        whole image comes last.
    """
    return hierarchy(superpixels, measures, image_area)[0]


def hierarchy(superpixels: Superpixels, measures: str, image_area: int) -> tuple[Numbers, Numbers]:
    """Join superpixels as `group` does; return the boxes, and (N - 1, 2) int32 the two parts of each new region."""
    s, n = superpixels, len(superpixels.size)
    total = 2 * n - 1
    boxes, size = np.zeros((total, 4), np.int32), np.zeros(total, np.int32)
    boxes[:n], size[:n] = s.boxes, s.size
    parts, weights = np.zeros((n - 1, 2), np.int32), similarity_weights(measures)
    join_regions(n, boxes, size, parts, s.colour.copy(), s.texture.copy(), s.pairs, weights, np.float32(image_area))
    return boxes, parts


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
def similarity(
    a: Any,
    b: Any,
    boxes: Array,
    size: Array,
    rows: Array,
    colour: Array,
    texture: Array,
    weights: Array,
    image_area: Any,
) -> Any:
    """Add up the chosen similarities of regions a and b, each in 0..1."""
    total = np.float32(0)
    share = np.float32(ORIENTATIONS * TEXTURE_BINS) / np.float32(texture.shape[1])  # one by the number of channels
    size_a, size_b = np.float32(size[a]), np.float32(size[b])
    if weights[0] > 0:
        total += histogram_intersection(colour, rows[a], rows[b], share / size_a, share / size_b)
    if weights[1] > 0:
        share /= np.float32(ORIENTATIONS)
        total += histogram_intersection(texture, rows[a], rows[b], share / size_a, share / size_b)
    if weights[2] > 0:
        total += 1 - (size_a + size_b) / image_area
    if weights[3] > 0:
        total += 1 - (united_area(boxes, a, b) - size_a - size_b) / image_area
    return total


@inlined
def before(key_a: Any, a0: Any, a1: Any, key_b: Any, b0: Any, b1: Any) -> Any:
    """Say whether pair a leaves the heap before pair b."""
    if key_a != key_b:
        return key_a > key_b
    return a0 < b0 or (a0 == b0 and a1 < b1)


@inlined
def add_row(counts: Array, into: Any, row: Any) -> None:
    """Add one row of counts to another."""
    for i in range(counts.shape[1]):
        counts[into, i] += counts[row, i]


@inlined
def push(keys: Array, pairs: Array, length: int, key: Any, a: Any, b: Any) -> None:
    """Add a pair to a heap of the given length; the arrays have room for it."""
    slot = length
    while slot > 0:
        up = (slot - 1) >> 1
        if before(keys[up], pairs[up, 0], pairs[up, 1], key, a, b):
            break
        keys[slot], pairs[slot, 0], pairs[slot, 1] = keys[up], pairs[up, 0], pairs[up, 1]
        slot = up
    keys[slot], pairs[slot, 0], pairs[slot, 1] = key, a, b


@inlined
def pop(keys: Array, pairs: Array, length: int) -> None:
    """Remove the first pair of a heap of the given length."""
    key, a, b = keys[length - 1], pairs[length - 1, 0], pairs[length - 1, 1]
    slot, last = 0, length - 1
    while True:
        child = 2 * slot + 1
        if child >= last:
            break
        right = child + 1
        if right < last and before(
            keys[right], pairs[right, 0], pairs[right, 1], keys[child], pairs[child, 0], pairs[child, 1]
        ):
            child = right
        if before(key, a, b, keys[child], pairs[child, 0], pairs[child, 1]):
            break
        keys[slot], pairs[slot, 0], pairs[slot, 1] = keys[child], pairs[child, 0], pairs[child, 1]
        slot = child
    keys[slot], pairs[slot, 0], pairs[slot, 1] = key, a, b


@inlined
def link(arena: Array, head: Array, used: int, region: Any, neighbour: Any) -> Array:
    """Put a neighbour in front of the list of a region, in slot `used`; return the arena, larger if it was full."""
    if used == len(arena):
        larger = np.empty((2 * used, 2), np.int32)
        larger[:used] = arena
        arena = larger
    arena[used, 0], arena[used, 1] = neighbour, head[region]
    head[region] = used
    return arena


@compiled
def join_regions(
    n: int,
    boxes: Array,
    size: Array,
    parts: Array,
    colour: Array,
    texture: Array,
    neighbours: Array,
    weights: Array,
    image_area: Any,
) -> None:
    """Fill boxes, size and parts of the regions n..2n-2, each made of two earlier ones.

    A new region takes over the histogram row of its first part, so memory for 2n rows is not needed.
    """
    total = 2 * n - 1
    rows = np.arange(total).astype(np.int32)  # where the histograms of a region stand
    alive = np.zeros(total, np.bool_)
    alive[:n] = True
    seen = np.full(total, -1, np.int32)
    head = np.full(total, -1, np.int32)  # linked lists of neighbours in one arena of (neighbour, next)
    arena = np.empty((4 * len(neighbours) + 16, 2), np.int32)
    keys = np.empty(2 * len(neighbours) + 16, np.float32)
    pairs = np.empty((len(keys), 2), np.int32)
    used, length = 0, 0
    for p in range(len(neighbours)):
        a, b = neighbours[p, 0], neighbours[p, 1]
        arena = link(arena, head, used, a, b)
        arena = link(arena, head, used + 1, b, a)
        used += 2
        key = similarity(a, b, boxes, size, rows, colour, texture, weights, image_area)
        push(keys, pairs, length, key, a, b)
        length += 1
    for new in range(n, total):
        while not (alive[pairs[0, 0]] and alive[pairs[0, 1]]):
            pop(keys, pairs, length)
            length -= 1
        a, b = pairs[0, 0], pairs[0, 1]
        pop(keys, pairs, length)
        length -= 1
        alive[a], alive[b], alive[new] = False, False, True
        parts[new - n, 0], parts[new - n, 1] = a, b
        size[new] = size[a] + size[b]
        boxes[new, 0], boxes[new, 1] = min(boxes[a, 0], boxes[b, 0]), min(boxes[a, 1], boxes[b, 1])
        boxes[new, 2], boxes[new, 3] = max(boxes[a, 2], boxes[b, 2]), max(boxes[a, 3], boxes[b, 3])
        rows[new] = rows[a]
        add_row(colour, rows[a], rows[b])
        add_row(texture, rows[a], rows[b])
        for part in (a, b):
            at = head[part]
            while at >= 0:
                other = arena[at, 0]
                at = arena[at, 1]
                if not alive[other] or seen[other] == new:
                    continue
                seen[other] = new
                arena = link(arena, head, used, new, other)
                arena = link(arena, head, used + 1, other, new)
                used += 2
                key = similarity(other, new, boxes, size, rows, colour, texture, weights, image_area)
                if length == len(keys):
                    more_keys, more_pairs = np.empty(2 * length, np.float32), np.empty((2 * length, 2), np.int32)
                    more_keys[:length], more_pairs[:length] = keys, pairs
                    keys, pairs = more_keys, more_pairs
                push(keys, pairs, length, key, other, new)
                length += 1
