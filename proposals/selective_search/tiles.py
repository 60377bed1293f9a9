"""The first step of graph segmentation: tile by tile, all joins that are certain, for all scales k together.

Edges are taken from light to heavy, so each one lies somewhere else in the photo. Tiles fit into the cache of a
processor, a large photo does not. In a tile the edges are taken in their order, as long as their decisions are certain:

- both components accept the edge at every scale: they join;
- one of them refuses it at every scale: nothing happens, and that one will never grow again;
- else both are sealed: from here on the scales differ, or the pixels outside decide.

A pixel just outside the tile is a sealed component. What touches a sealed component becomes sealed as well, unless it
refuses. So a component that is not sealed is what it would be in the whole photo, and a sealed one is what it was then.
What remains is a graph of components: going on there gives what the pixels would have given (see
`proposals.selective_search.joining`). Of the edges between two components only the lightest counts: if it is refused
then one of the two never grows again, and refuses the others too.
"""

from typing import Any, NamedTuple

import numpy as np

from proposals.selective_search.buffers import Scratch
from proposals.selective_search.compiled import Array, compiled, helper, inlined

SIDE = (
    254  # pixels; with one more on each side, numbers of pixels just fit into 16 bits; any less gives the same result
)
CHUNK = 256  # edges that are looked at together; any number gives the same result
SEEN_BITS = 14  # 16,384 pairs of components are remembered, 64 KiB
N_DIRECTIONS = 4  # east, south-west, south, south-east; the other four belong to the neighbours
NO_EDGE = 65535  # the weight of an edge that would leave the image
SURE, MAYBE, SIZE, INTERNAL = range(4)  # columns of Tile.parts
SEALED_SURE, SEALED_MAYBE = 0, NO_EDGE


class Tile(NamedTuple):
    """Memory for one tile with the pixels around it, N together. An edge is pixel * 4 + direction.

    Attributes:
        order: (4N,) uint32 edges from light to heavy, then those that are kept.
        levels: (4N,) uint16 their weights.
        place: (levels,) uint32 where the next edge of each weight goes.
        forest: (N,) uint16 the node above each node; a root points at itself.
        parts: (N, 4) uint16 of each root: the first level that some scale refuses, the first that all refuse, number of
            pixels, heaviest level inside.
        marks: (N,) uint8 a bit for each direction in which an edge is kept.
        names: (N,) int32 the name of each root in the graph.
        seen: (pairs,) uint32 pairs of components whose lightest edge is kept.
        chunk: (3, CHUNK) uint32 places of edges and the nodes above their ends.
        offset: (4,) uint32 how far the pixel at the other end of an edge is, by direction.
    """

    order: Array
    levels: Array
    place: Array
    forest: Array
    parts: Array
    marks: Array
    names: Array
    seen: Array
    chunk: Array
    offset: Array


def lend_tile(side: int, scratch: Scratch) -> Tile:
    """Return the memory for tiles of at most this side."""
    n = (side + 2) ** 2
    return Tile(
        scratch.take("tile order", N_DIRECTIONS * n, np.uint32),
        scratch.take("tile levels", N_DIRECTIONS * n, np.uint16),
        scratch.take("tile place", NO_EDGE + 1, np.uint32),
        scratch.take("tile forest", n, np.uint16),
        scratch.take("tile parts", (n, 4), np.uint16),
        scratch.take("tile marks", n, np.uint8),
        scratch.take("tile names", n, np.int32),
        scratch.take("tile seen", 1 << SEEN_BITS, np.uint32),
        scratch.take("tile chunk", (3, CHUNK), np.uint32),
        scratch.take("tile offset", N_DIRECTIONS, np.uint32),
    )


@compiled
def join_tiles(
    weights: Array,
    side: int,
    least: float,
    most: float,
    tile: Tile,
    names: Array,
    components: Array,
    marks: Array,
) -> int:
    """Join pixels inside tiles.

    Args:
        weights: (H, 4, W) uint16 levels of the edges.
        side: of the tiles, at most.
        least: smallest k, a whole number of weight steps.
        most: largest k, a whole number of weight steps.
        tile: memory.
        names: (H, W) gets the component of each pixel.
        components: (H * W, 2) gets the pixels of each component, and the heaviest level inside.
        marks: (H, W) gets a bit for each direction in which an edge between two components is kept.

    Returns:
        How many components there are.
    """
    height, _, width = weights.shape
    rows, columns = -(-height // side), -(-width // side)
    n: Any = np.int64(0)
    for tile_number in range(rows * columns):
        row, column = tile_number // columns, tile_number % columns
        y0, y1 = row * height // rows, (row + 1) * height // rows
        x0, x1 = column * width // columns, (column + 1) * width // columns
        top, left, bottom, right = max(y0 - 1, 0), max(x0 - 1, 0), min(y1 + 1, height), min(x1 + 1, width)
        here = weights[top:bottom, :, left:right]
        n_edges = sort_tile(here, tile)
        begin_tile(bottom - top, right - left, y0 - top, x0 - left, y1 - top, x1 - left, least, most, tile)
        n_edges = join_tile(n_edges, least, most, tile)
        n = name_tile(right - left, y0 - top, x0 - left, names[y0:y1, x0:x1], n, components, tile)
        mark_lightest(n_edges, tile)
        for y in range(y0, y1):
            first = (y - top) * (right - left) - left
            for x in range(x0, x1):
                marks[y, x] = tile.marks[first + x]
    return int(n)


@inlined
def write_offsets(width: Any, offset: Array) -> None:
    """Write how far the pixel at the other end of an edge is, by direction, in rows of this width."""
    offset[0], offset[1], offset[2], offset[3] = 1, width - 1, width, width + 1


@inlined
def root(forest: Array, node: Any) -> Any:
    """Return the root of a node."""
    above = forest[node]
    while above != node:
        node = above
        above = forest[node]
    return node


@helper
def sort_tile(weights: Array, tile: Tile) -> Any:
    """Write the edges inside (h, 4, w) weights from light to heavy, return how many there are."""
    height, _, width = weights.shape
    place = tile.place
    place[:] = 0
    for y in range(height):
        for direction in range(N_DIRECTIONS if y + 1 < height else 1):
            dx = 1 if direction == 0 else direction - 2
            for level in weights[y, direction, max(-dx, 0) : width - max(dx, 0)]:
                place[level] += np.uint32(1)
    n = np.uint32(0)
    for level in range(len(place)):
        count = place[level]
        place[level] = n
        n += count
    for y in range(height):
        for direction in range(N_DIRECTIONS if y + 1 < height else 1):
            dx = 1 if direction == 0 else direction - 2
            edge = np.uint32((y * width + max(-dx, 0)) * N_DIRECTIONS + direction)
            for level in weights[y, direction, max(-dx, 0) : width - max(dx, 0)]:
                slot = place[level]
                place[level] = slot + np.uint32(1)
                tile.order[slot], tile.levels[slot] = edge, level
                edge += np.uint32(N_DIRECTIONS)
    return place[NO_EDGE - 1]


@inlined
def first_refused(internal: Any, tolerance: Any) -> Any:
    """Return the first level that is refused, by the level inside and a tolerance in weight steps, a whole number."""
    inside = np.float64(internal)
    return min(np.floor(np.sqrt(inside * inside + tolerance)) + 1, NO_EDGE)


@helper
def begin_tile(
    height: int, width: int, y0: int, x0: int, y1: int, x1: int, least: float, most: float, tile: Tile
) -> None:
    """Make every pixel a component; those outside y0..y1 and x0..x1 are sealed."""
    sure, maybe = first_refused(np.uint16(0), least), first_refused(np.uint16(0), most)
    write_offsets(width, tile.offset)
    parts = tile.parts
    for y in range(height):
        for x in range(width):
            node = np.uint32(y * width + x)
            inside = y0 <= y < y1 and x0 <= x < x1
            tile.forest[node], tile.names[node], tile.marks[node] = node, -1, 0
            parts[node, SURE], parts[node, MAYBE] = sure if inside else SEALED_SURE, maybe if inside else SEALED_MAYBE
            parts[node, SIZE], parts[node, INTERNAL] = 1, 0


@inlined
def keep_open(edges: Array, offset: Array, forest: Array, chunk: Array) -> Any:
    """Note the edges whose ends are not yet seen to be joined, with the nodes two above them; return how many.

    There is no branch, as no processor could guess it.
    """
    n = np.uint32(0)
    for i in range(np.uint32(len(edges))):
        node = edges[i] >> np.uint32(2)
        a = forest[forest[node]]
        b = forest[forest[node + offset[edges[i] & np.uint32(3)]]]
        chunk[0, n], chunk[1, n], chunk[2, n] = i, a, b
        n += np.uint32(a != b)
    return n


@helper
def join_tile(n_edges: Any, least: float, most: float, tile: Tile) -> Any:
    """Take the sorted edges; leave those in the list that did not join, and return how many."""
    offset = tile.offset
    order, levels, forest, parts, chunk = tile.order, tile.levels, tile.forest, tile.parts, tile.chunk
    n = np.uint32(0)
    for first in range(np.uint32(0), np.uint32(n_edges), np.uint32(CHUNK)):
        for i in range(keep_open(order[first : min(first + CHUNK, n_edges)], offset, forest, chunk)):
            edge, level = order[first + chunk[0, i]], levels[first + chunk[0, i]]
            a, b = np.uint32(root(forest, chunk[1, i])), np.uint32(root(forest, chunk[2, i]))
            node = edge >> np.uint32(2)
            forest[node] = a
            forest[node + offset[edge & np.uint32(3)]] = b
            if a == b:
                continue
            if level < min(parts[a, SURE], parts[b, SURE]):
                join(parts, forest, a, b, level, least, most)
                continue
            if level < min(parts[a, MAYBE], parts[b, MAYBE]):
                parts[a, SURE], parts[a, MAYBE] = SEALED_SURE, SEALED_MAYBE
                parts[b, SURE], parts[b, MAYBE] = SEALED_SURE, SEALED_MAYBE
            order[n] = edge
            n += np.uint32(1)
    return n


@inlined
def join(parts: Array, forest: Array, a: Any, b: Any, level: Any, least: float, most: float) -> None:
    """Join two components over an edge of this level."""
    total = np.float64(parts[a, SIZE] + parts[b, SIZE])
    top = a if parts[a, SIZE] >= parts[b, SIZE] else b
    forest[a ^ b ^ top] = top
    parts[top, SURE] = first_refused(level, np.floor(least / total))
    parts[top, MAYBE] = first_refused(level, np.floor(most / total))
    parts[top, SIZE], parts[top, INTERNAL] = total, level


@helper
def name_tile(width: int, y0: int, x0: int, names: Array, n: int, components: Array, tile: Tile) -> int:
    """Name the components from n on, for the (h, w) pixels that begin at y0 and x0; return the next name.

    In the forest every node then points at its root.
    """
    forest = tile.forest
    for y in range(names.shape[0]):
        for x in range(names.shape[1]):
            node = np.uint32((y + y0) * width + x + x0)
            top = np.uint32(root(forest, node))
            forest[node] = top
            if tile.names[top] < 0:
                tile.names[top] = n
                components[n, 0], components[n, 1] = tile.parts[top, SIZE], tile.parts[top, INTERNAL]
                n += 1
            names[y, x] = tile.names[top]
    return n


@helper
def mark_lightest(n_edges: Any, tile: Tile) -> None:
    """Mark the lightest edge between any two components, and some others.

    Seen holds one pair in each slot, the last: it forgets, so that there is no search and no branch.
    """
    offset = tile.offset
    tile.seen[:] = 0
    for edge in tile.order[:n_edges]:
        node = edge >> np.uint32(2)
        a, b = np.uint32(tile.forest[node]), np.uint32(tile.forest[node + offset[edge & np.uint32(3)]])
        pair = np.uint32(min(a, b) << np.uint32(16)) | max(a, b)
        slot = np.uint32(pair * np.uint32(0x9E3779B1)) >> np.uint32(32 - SEEN_BITS)
        new = np.uint32(a != b) & np.uint32(tile.seen[slot] != pair)
        tile.seen[slot] = pair
        tile.marks[node] |= np.uint8(new << (edge & np.uint32(3)))
