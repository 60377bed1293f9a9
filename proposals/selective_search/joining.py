"""The loops of graph segmentation: weighed edges -> components, for several scales k in little more time than for one.

Nearly all joins are of small components over light edges, where every k says yes. So these are done once, for all
scales together, tile by tile (see `proposals.selective_search.tiles`). Then the pixels are given up for the graph of
what was joined so far, which is about a tenth of their number, and every scale takes the edges of that graph by itself.
No decision is approximate: each scale gets what it would get alone, which tests check against a slow oracle.

Two components join over an edge of weight w when w <= internal + k / size holds for both. It is computed in whole
numbers, as (w - internal) * size <= k: the left side, the larger of both, is called the strain of the edge. A weight is
the square of its level: so levels fit into 16 bits and still tell weights of flat areas apart, where k / size is small.

A forest holds the node above each node; a root points at itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from proposals.selective_search.buffers import Scratch
from proposals.selective_search.compiled import Array, compiled, helper, inlined
from proposals.selective_search.tiles import CHUNK, N_DIRECTIONS, NO_EDGE, SIDE, join_tiles, lend_tile, write_offsets

ROOT_STEPS = 2048  # levels in the root of a grey level; three channels of 0..255 fit: sqrt(441.7) * 2048 < 65535
WEIGHT_STEPS = ROOT_STEPS**2  # steps of a weight in one grey level
LARGEST_STRAIN = 2.0**50  # more than any in a tile


ABOVE, SIZE, INTERNAL, LABEL = range(4)  # columns of a forest


@dataclass(frozen=True, eq=False)
class Graph:
    """What is joined in tiles: N components and E edges between them, from light to heavy.

    Attributes:
        names: (H, W) int32 the component of each pixel.
        components: (N, 2) int32 pixels, and the heaviest level inside.
        ends: (E, 2) uint32 the components at both ends of each edge.
        levels: (E,) uint16.
    """

    names: npt.NDArray[np.int32]
    components: npt.NDArray[np.int32]
    ends: npt.NDArray[np.uint32]
    levels: npt.NDArray[np.uint16]


def join_scales(
    weights: Array, scales: Sequence[tuple[float, int]], scratch: Scratch
) -> list[tuple[npt.NDArray[np.int32], int]]:
    """Return (H, W) labels and their number for each k and min_size.

    Args:
        weights: (H, 4, W) uint16 weights of the edges to the east, south-west, south and south-east.
        scales: k and min_size of each.
        scratch: memory for the work and for the labels.
    """
    strains = [k * WEIGHT_STEPS for k, _ in scales]
    graph = _contract(weights, min(strains), max(strains), scratch)
    capacity = N_DIRECTIONS * graph.names.size  # memory that is not reached is never given out by the system
    refused = scratch.take("refused", (capacity, 2), np.uint32)
    trees = scratch.take("trees", (graph.names.size, 4), np.int32)[: len(graph.components)]
    cuts, chunk = [], np.empty((3, CHUNK), np.int32)
    for j, (_, min_size) in enumerate(scales):
        trees[:, ABOVE], trees[:, SIZE : INTERNAL + 1], trees[:, LABEL] = np.arange(len(trees)), graph.components, -1
        labels = scratch.take(f"labels {j}", graph.names.shape, np.int32)
        n = cut(graph.ends, graph.levels, strains[j], min_size, graph.names, trees, refused, chunk, labels)
        cuts.append((labels, int(n)))
    return cuts


def _contract(weights: Array, least: float, most: float, scratch: Scratch) -> Graph:
    """Join in tiles, with the smallest and the largest k in weight steps."""
    height, _, width = weights.shape
    n, capacity = height * width, N_DIRECTIONS * height * width + 1
    names, marks = (scratch.take(name, (height, width), kind) for name, kind in (("names", np.int32), ("marks", "u1")))
    components = scratch.take("components", (n, 2), np.int32)
    bounds = [float(np.floor(min(k, LARGEST_STRAIN))) for k in (least, most)]
    n = join_tiles(weights, SIDE, bounds[0], bounds[1], lend_tile(SIDE, scratch), names, components, marks)
    kept, kept_levels = scratch.take("kept", capacity, np.uint32), scratch.take("kept levels", capacity, np.uint16)
    place, offset = scratch.take("place", NO_EDGE + 1, np.uint32), np.empty(N_DIRECTIONS, np.uint32)
    ends, levels = scratch.take("ends", (capacity, 2), np.uint32), scratch.take("levels", capacity, np.uint16)
    n_kept = list_kept(marks, weights, names.reshape(-1), kept, kept_levels, place, offset, ends, levels)
    return Graph(names, components[:n], ends[:n_kept], levels[:n_kept])


@compiled
def list_kept(
    marks: Array,
    weights: Array,
    names: Array,
    kept: Array,
    kept_levels: Array,
    place: Array,
    offset: Array,
    ends: Array,
    levels: Array,
) -> Any:
    """Write the named ends and the levels of the marked edges by rising level, return how many there are.

    Args:
        marks: (H, W) see `tiles.join_tiles`.
        weights: (H, 4, W) levels of all edges.
        names: (H * W,) the component of each pixel.
        kept: memory for all edges, as those that follow.
        kept_levels: memory.
        place: (levels,) memory.
        offset: (4,) memory.
        ends: gets the components at both ends of each edge.
        levels: gets the level of each edge.
    """
    n = gather_kept(marks, weights, kept, kept_levels)
    sort_ends(n, kept, kept_levels, names, marks.shape[1], place, offset, ends, levels)
    return n


@helper
def gather_kept(marks: Array, weights: Array, kept: Array, levels: Array) -> Any:
    """Write the marked edges, as pixel * 4 + direction, and their levels; return how many there are.

    Upper rows first, then by direction, then the left column. There is no branch, as no processor could guess it.
    """
    height, width = marks.shape
    n = np.uint32(0)
    for y in range(height):
        for direction in range(N_DIRECTIONS):
            edge = np.uint32(y * width * N_DIRECTIONS + direction)
            row = weights[y, direction]
            for x in range(width):
                kept[n], levels[n] = edge, row[x]
                n += np.uint32(marks[y, x] >> direction) & np.uint32(1)
                edge += np.uint32(N_DIRECTIONS)
    return n


@helper
def sort_ends(
    n: Any,
    kept: Array,
    kept_levels: Array,
    names: Array,
    width: int,
    place: Array,
    offset: Array,
    ends: Array,
    levels: Array,
) -> None:
    """Write the named ends and the levels of n kept edges by rising level."""
    write_offsets(width, offset)
    place[:] = 0
    for i in range(n):
        place[kept_levels[i] + 1] += np.uint32(1)
    for level in range(NO_EDGE):
        place[level + 1] += place[level]
    for i in range(n):
        slot = place[kept_levels[i]]
        place[kept_levels[i]] = slot + np.uint32(1)
        node = kept[i] >> np.uint32(2)
        ends[slot, 0], ends[slot, 1] = names[node], names[node + offset[kept[i] & np.uint32(3)]]
        levels[slot] = kept_levels[i]


@inlined
def tree_root(trees: Array, node: Any) -> Any:
    """Return the root of a node."""
    above = trees[node, ABOVE]
    while above != node:
        node = above
        above = trees[node, ABOVE]
    return node


@inlined
def strain(level: Any, size: Any, internal: Any) -> Any:
    """Return what k must at least be, in weight steps, for a component to join over an edge of this level."""
    heavy, inside = np.int64(level), np.int64(internal)
    return (heavy * heavy - inside * inside) * np.int64(size)


@inlined
def keep_open(ends: Array, trees: Array, chunk: Array) -> Any:
    """Note the edges whose ends are not yet seen to be joined, with the nodes two above them; return how many.

    There is no branch, as no processor could guess it, and memory far away is asked for many edges at once.
    """
    n = np.uint32(0)
    for i in range(np.uint32(len(ends))):
        a, b = trees[trees[ends[i, 0], ABOVE], ABOVE], trees[trees[ends[i, 1], ABOVE], ABOVE]
        chunk[0, n], chunk[1, n], chunk[2, n] = i, a, b
        n += np.uint32(a != b)
    return n


@inlined
def find_both(trees: Array, a: Any, b: Any, above_a: Any, above_b: Any) -> Any:
    """Return the roots of two nodes, the larger component first; begin at nodes above them, shorten the way."""
    top, under = tree_root(trees, above_a), tree_root(trees, above_b)
    trees[a, ABOVE], trees[b, ABOVE] = top, under
    return (top, under) if trees[top, SIZE] >= trees[under, SIZE] else (under, top)


@compiled
def cut(
    ends: Array,
    levels: Array,
    k: float,
    min_size: int,
    names: Array,
    trees: Array,
    refused: Array,
    chunk: Array,
    labels: Array,
) -> Any:
    """Cut an image into superpixels at one scale, k in weight steps; return how many there are.

    Args:
        ends: (E, 2) from light to heavy.
        levels: (E,) of the edges.
        k: of the scale, in weight steps.
        min_size: smaller superpixels join a neighbour.
        names: (H, W) the node of each pixel.
        trees: (N, 4) of each node the one above, and of each root the pixels, the heaviest level inside and a label.
        refused: memory for the ends of edges.
        chunk: (3, CHUNK) memory.
        labels: (H, W) gets the superpixel of each pixel.
    """
    n_refused = join_heavy(ends, levels, k, trees, refused, chunk)
    join_small(refused[:n_refused], min_size, trees, chunk)
    return write_labels(trees, names, labels)


@helper
def join_heavy(ends: Array, levels: Array, k: float, trees: Array, refused: Array, chunk: Array) -> Any:
    """Take all edges for one scale, k in weight steps; write the ends of those that did not join, return how many."""
    n = np.uint32(0)
    for first in range(0, len(ends), CHUNK):
        for i in range(keep_open(ends[first : first + CHUNK], trees, chunk)):
            e = first + chunk[0, i]
            a, b, level = ends[e, 0], ends[e, 1], np.int32(levels[e])
            top, under = find_both(trees, a, b, chunk[1, i], chunk[2, i])
            if top == under:
                continue
            needed = strain(level, trees[top, SIZE], trees[top, INTERNAL])
            if max(needed, strain(level, trees[under, SIZE], trees[under, INTERNAL])) <= k:
                trees[under, ABOVE] = top
                trees[top, SIZE] += trees[under, SIZE]
                trees[top, INTERNAL] = level
            else:
                refused[n, 0], refused[n, 1] = a, b
                n += np.uint32(1)
    return n


@helper
def join_small(ends: Array, min_size: int, trees: Array, chunk: Array) -> None:
    """Join every component below min_size to a neighbour, along the first of all edges."""
    for first in range(0, len(ends), CHUNK):
        for i in range(keep_open(ends[first : first + CHUNK], trees, chunk)):
            e = first + chunk[0, i]
            top, under = find_both(trees, ends[e, 0], ends[e, 1], chunk[1, i], chunk[2, i])
            if top != under and trees[under, SIZE] < min_size:
                trees[under, ABOVE] = top
                trees[top, SIZE] += trees[under, SIZE]


@helper
def write_labels(trees: Array, names: Array, labels: Array) -> Any:
    """Write the label of each pixel's component, numbered in order of their first pixels; return how many there are."""
    for node in range(len(trees)):
        trees[node, ABOVE] = tree_root(trees, np.int32(node))
    n = np.int32(0)
    for y in range(len(names)):
        for x in range(names.shape[1]):
            top = trees[names[y, x], ABOVE]
            if trees[top, LABEL] < 0:
                trees[top, LABEL] = n
                n += np.int32(1)
            labels[y, x] = trees[top, LABEL]
    return n
