"""Hierarchical grouping: superpixels -> a tree of regions (Uijlings et al., algorithm 1 and section 3.2).

The two most similar neighbours are joined, again and again, until one region is left. Equal similarities: the pair
with the smaller numbers goes first, so the tree is the same every time.

A pair belongs to one of its regions: to the newer one, and of two superpixels to the first. Those of a region lie side
by side, and only its best pair waits in the heap. When a region is gone, so are its pairs, all at once; when the other
end of its best pair is gone, the region looks for the next best as soon as that gets to the top.

A large region meets all its neighbours again after each join, though a small part changes its similarities little. So
these wait under an upper bound, and are worked out only when they get to the top of the heap. Joined histograms are
weighted means, so the intersection of a third one with the mean of a and b is at most what it has with a, plus
(share of b) * (1 - intersection of a and b). No decision is approximate: see
`proposals.selective_search.similarities.bound_by`.
"""

from typing import Any, NamedTuple

import numpy as np

from proposals.selective_search.compiled import Array, compiled, inlined
from proposals.selective_search.features import Numbers, Superpixels
from proposals.selective_search.heap import pop, push, sink
from proposals.selective_search.similarities import (
    ROUNDING,
    Tree,
    bound_by,
    histogram_similarity,
    similarity_weights,
    with_shapes,
)


class Pairs(NamedTuple):
    """Memory for M pairs of neighbouring regions, also of those that are no longer there.

    Attributes:
        ends: (M, 2) int32 the two regions, the smaller number first.
        following: (2M,) int32 the next place in the list of each end: twice the pair, and 1 for its second end.
        known: (M,) float32 similarity of colour and texture as far as they count, or a bound above it.
        exact: (M,) bool, whether it is the similarity.
        keys: (M,) float32 the whole similarity, or a bound above it.
    """

    ends: Array
    following: Array
    known: Array
    exact: Array
    keys: Array


class Queue(NamedTuple):
    """The best pairs of regions, see `proposals.selective_search.heap`.

    Attributes:
        keys: (2N - 1,) float32.
        pairs: (2N - 1,) int32.
        own: (2N - 1, 2) int32 the first pair of each region, and the first that is no longer its own.
    """

    keys: Array
    pairs: Array
    own: Array


def group(superpixels: Superpixels, measures: str, image_area: int) -> Numbers:
    """Join superpixels until one region is left.

    Args:
        superpixels: N of them, from `proposals.selective_search.features.describe`.
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
    tree, weights, area = _begin_tree(s), similarity_weights(measures), np.float32(image_area)
    parts, pairs, queue = np.zeros((n - 1, 2), np.int32), _room(2 * len(s.pairs) + 16), _begin_queue(s)
    length = begin(tree, pairs, queue, s.pairs, weights, area)
    new, used = n, len(s.pairs)
    while new < 2 * n - 1:
        new, used, length = join_regions(new, used, length, tree, pairs, queue, parts, weights, area)
        if new < 2 * n - 1:
            pairs = _enlarged(pairs, tree.degree[new])
    return tree.boxes, parts


def _begin_tree(s: Superpixels) -> Tree:
    n, total = len(s.size), 2 * len(s.size) - 1
    boxes, size, alive = np.zeros((total, 4), np.int32), np.zeros(total, np.int32), np.zeros(total, np.bool_)
    boxes[:n], size[:n], alive[:n] = s.boxes, s.size, True
    degree = np.zeros(total, np.int32)
    degree[:n] = np.bincount(s.pairs.reshape(-1), minlength=n)
    rows, first, newest = np.arange(total, dtype=np.int32), np.full(total, -1, np.int32), np.full(total, -1, np.int32)
    return Tree(boxes, size, rows, s.colour.copy(), s.texture.copy(), alive, first, newest, degree)


def _begin_queue(s: Superpixels) -> Queue:
    n, total = len(s.size), 2 * len(s.size) - 1
    ends = np.cumsum(np.bincount(s.pairs[:, 0], minlength=n))  # the pairs are sorted
    own = np.zeros((total, 2), np.int32)
    own[1:n, 0], own[:n, 1] = ends[:-1], ends
    return Queue(np.empty(total, np.float32), np.empty(total, np.int32), own)


def _room(n: int) -> Pairs:
    ends, following, exact = np.empty((n, 2), np.int32), np.empty(2 * n, np.int32), np.empty(n, np.bool_)
    return Pairs(ends, following, np.empty(n, np.float32), exact, np.empty(n, np.float32))


def _enlarged(pairs: Pairs, more: int) -> Pairs:
    """Return the pairs in twice the memory, with room for as many more."""
    larger = _room(2 * len(pairs.known) + more)
    for column, target in zip(pairs, larger, strict=True):
        target[: len(column)] = column
    return larger


@inlined
def add_row(counts: Array, into: Any, row: Any) -> None:
    """Add one row of counts to another."""
    for i in range(counts.shape[1]):
        counts[into, i] += counts[row, i]


@inlined
def link(head: Array, following: Array, pair: Any, a: Any, b: Any) -> None:
    """Put a pair in front of the lists of both its regions; a list is of 2 * pair + 0 or 1, the end that it is of."""
    following[2 * pair], following[2 * pair + 1] = head[a], head[b]
    head[a], head[b] = 2 * pair, 2 * pair + 1


@inlined
def join_boxes(boxes: Array, size: Array, a: Any, b: Any, new: Any) -> None:
    """Write the box and the size of two regions together."""
    size[new] = size[a] + size[b]
    boxes[new, 0], boxes[new, 1] = min(boxes[a, 0], boxes[b, 0]), min(boxes[a, 1], boxes[b, 1])
    boxes[new, 2], boxes[new, 3] = max(boxes[a, 2], boxes[b, 2]), max(boxes[a, 3], boxes[b, 3])


@inlined
def best_of(region: Any, tree: Tree, pairs: Pairs, queue: Queue) -> Any:
    """Return the best of a region's own pairs whose other end is still there; -1 if there is none."""
    best = -1
    for pair in range(queue.own[region, 0], queue.own[region, 1]):
        if best >= 0 and pairs.keys[pair] < pairs.keys[best]:
            continue
        other = pairs.ends[pair, 0] + pairs.ends[pair, 1] - region
        if tree.alive[other]:
            if best < 0 or pairs.keys[pair] > pairs.keys[best]:
                best = pair
            elif other < pairs.ends[best, 0] + pairs.ends[best, 1] - region:
                best = pair
    return best


@compiled
def begin(tree: Tree, pairs: Pairs, queue: Queue, neighbours: Array, weights: Array, image_area: Any) -> int:
    """Work out all pairs of neighbouring superpixels, put the best of each region into the heap, return its length."""
    for pair in range(len(neighbours)):
        a, b = np.int64(neighbours[pair, 0]), np.int64(neighbours[pair, 1])
        pairs.ends[pair, 0], pairs.ends[pair, 1] = a, b
        link(tree.first, pairs.following, pair, a, b)
        pairs.known[pair], pairs.exact[pair] = histogram_similarity(a, b, tree, weights), True
        pairs.keys[pair] = with_shapes(pairs.known[pair], a, b, tree, weights, image_area)
    length: Any = np.int64(0)
    for region in range((len(tree.size) + 1) // 2):
        best = best_of(region, tree, pairs, queue)
        if best >= 0:
            push(queue.keys, queue.pairs, pairs.ends, length, pairs.keys[best], best)
            length += 1
    return int(length)


@compiled
def join_regions(
    new: int,
    used: int,
    length: int,
    tree: Tree,
    pairs: Pairs,
    queue: Queue,
    parts: Array,
    weights: Array,
    image_area: Any,
) -> tuple[int, int, int]:
    """Make the regions from `new` on, each of two earlier ones, until all are made or the memory for pairs is full.

    Args:
        new: number of the next region.
        used: pairs that were made so far.
        length: of the heap.
        tree: the regions.
        pairs: the pairs.
        queue: the heap.
        parts: (N - 1, 2) gets the two parts of each region.
        weights: see `similarity_weights`.
        image_area: pixels of the image.

    Returns:
        new, used and length as they are now.
    """
    while new < len(tree.size):
        length = settle(length, tree, pairs, queue, len(parts), weights, image_area)
        best = np.int64(queue.pairs[0])
        a, b = np.int64(pairs.ends[best, 0]), np.int64(pairs.ends[best, 1])
        tree.degree[new] = tree.degree[a] + tree.degree[b]
        if used + tree.degree[new] > len(pairs.known):
            break
        length = pop(queue.keys, queue.pairs, pairs.ends, length)
        row = new - len(parts) - 1
        parts[row, 0], parts[row, 1] = a, b
        tree.alive[a], tree.alive[b], tree.alive[new] = False, False, True
        join_boxes(tree.boxes, tree.size, a, b, new)
        last = meet_neighbours(a, b, new, used, pairs.known[best], tree, pairs, weights)
        tree.rows[new] = tree.rows[a]  # so memory for 2N rows is not needed
        add_row(tree.colour, tree.rows[a], tree.rows[b])
        add_row(tree.texture, tree.rows[a], tree.rows[b])
        for pair in range(used, last):
            limit = pairs.known[pair] if pairs.exact[pair] else pairs.known[pair] + ROUNDING
            pairs.keys[pair] = with_shapes(limit, np.int64(pairs.ends[pair, 0]), new, tree, weights, image_area)
        queue.own[new, 0], queue.own[new, 1] = used, last
        if last > used:
            best = best_of(new, tree, pairs, queue)
            push(queue.keys, queue.pairs, pairs.ends, length, pairs.keys[best], best)
            length += 1
        tree.degree[new] = last - used
        used, new = last, new + 1
    return new, used, length


@inlined
def settle(
    length: Any, tree: Tree, pairs: Pairs, queue: Queue, last_superpixel: Any, weights: Array, image_area: Any
) -> Any:
    """Work the heap until its top is an exact similarity of two regions that are still there; return its length."""
    while True:
        top = queue.pairs[0]
        a, b = np.int64(pairs.ends[top, 0]), np.int64(pairs.ends[top, 1])
        owner = a if b <= last_superpixel else b
        best = -1
        if tree.alive[a] and tree.alive[b]:
            if pairs.exact[top]:
                return length
            pairs.known[top], pairs.exact[top] = histogram_similarity(a, b, tree, weights), True
            pairs.keys[top] = with_shapes(pairs.known[top], a, b, tree, weights, image_area)
        if tree.alive[owner]:
            best = best_of(owner, tree, pairs, queue)
        if best < 0:
            length = pop(queue.keys, queue.pairs, pairs.ends, length)
        else:
            sink(queue.keys, queue.pairs, pairs.ends, length, pairs.keys[best], best)


@inlined
def meet_neighbours(a: Any, b: Any, new: Any, used: Any, joined: Any, tree: Tree, pairs: Pairs, weights: Array) -> Any:
    """Pair a region with the neighbours of its parts a and b, under bounds; return how many pairs there are now."""
    last, most = used, weights[0] + weights[1]
    for side in range(2):
        at = tree.first[b] if side else tree.first[a]
        other_share = np.float32(tree.size[a] if side else tree.size[b]) / np.float32(tree.size[new])
        while at >= 0:
            pair, other = np.int64(at >> 1), np.int64(pairs.ends[at >> 1, 1 - (at & 1)])
            at = pairs.following[at]
            if not tree.alive[other]:
                continue
            limit = min(bound_by(pairs.known[pair], other_share, joined, most), most)
            twin = tree.newest[other]
            if twin >= used:
                pairs.known[twin] = min(pairs.known[twin], limit)
                continue
            pairs.ends[last, 0], pairs.ends[last, 1] = other, new
            link(tree.first, pairs.following, last, other, new)
            pairs.known[last], pairs.exact[last] = limit, most == 0
            tree.newest[other] = last
            tree.degree[other] += 1
            last += 1
    return last
