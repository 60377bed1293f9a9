"""The loops of graph segmentation: sorted edges -> components, for several scales k in little more time than for one.

Nearly all joins are of small components over light edges, where every k says yes. So the light edges are taken once,
for all scales together, in one forest of pixels. Where scales disagree, the two components become atoms: the shared
forest leaves them alone, and each scale goes on with a small forest of its own. Then the pixels are given up for the
graph of what was joined so far, and every scale takes the heavy edges of that smaller graph by itself. No decision is
approximate: each scale gets what it would get alone, which tests check against a slow oracle.

Two components join over an edge of weight w when w <= internal + k / size holds for both. It is computed in whole
numbers, as (w - internal) * size <= k: the left side, the larger of both, is called the strain of the edge.

A forest holds the node above each node; a root points at itself. In lists of edges an edge is pixel * 4 + direction.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from proposals.compiled import Array, compiled, inlined
from proposals.scratch import Scratch

WEIGHT_STEPS = 128  # steps of one grey level; three channels of 0..255 fit into 16 bits: 441.7 * 128 < 65535
LIGHT_SHARE = 0.7  # of the edges, taken for all scales together; any share gives the same superpixels
CHUNK = 256  # edges that are looked at together; any number gives the same superpixels
SEEN_BITS = 16  # 65,536 pairs of components are remembered, 512 KiB
LAST_LEVEL = 65535
CLEAN = -1  # no atom: all scales agree about the component so far


def join_scales(
    order: Array, start: Array, shape: tuple[int, int], scales: Sequence[tuple[float, int]], scratch: Scratch
) -> list[tuple[Array, int]]:
    """Return labels (H * W,) and their number for each k and min_size.

    Args:
        order: (E,) uint32 edges from light to heavy.
        start: (levels + 1,) uint32, where each weight level begins in order.
        shape: (height, width) of the image.
        scales: k and min_size of each.
        scratch: memory for the work and for the labels.
    """
    n, take = shape[0] * shape[1], scratch.take
    strains = np.array([k * WEIGHT_STEPS for k, _ in scales], np.float64)
    heavy = int(np.searchsorted(start, LIGHT_SHARE * len(order)))
    offset = np.array([1, shape[1] - 1, shape[1], shape[1] + 1], np.uint32)
    forest, places, roots = (take(name, n, np.uint32) for name in ("forest", "places", "roots"))
    forest[:] = np.arange(n, dtype=np.uint32)
    size, internal = scratch.filled("size", n, np.int32, 1), scratch.filled("internal", n, np.int32, 0)
    atoms, limit = scratch.filled("atoms", n, np.int32, CLEAN), take("limit", n, np.int32)
    own = [take(f"own {kind}", (len(scales), n), kind) for kind in ("uint32", "int32", "i4")]
    shared, refused = [forest, size, internal, limit, atoms], take("refused", len(order), np.uint32)
    light: list[Any] = [order, start, heavy, offset, strains, *shared, *own, refused, places]
    n_refused, _ = join_light(*light)
    names, name = take("names", n, np.int32), take("name", n, np.int32)
    n_nodes = number(forest, names, name, roots)
    edges = _contracted(refused[:n_refused], order, start, heavy, offset, names, scratch)
    cuts = []
    for j, (_, min_size) in enumerate(scales):
        graph = lift(roots[:n_nodes], names, size, internal, atoms, places, *(part[j] for part in own))
        _join_graph(*edges, graph, strains[j], min_size)
        labels = take(f"labels {j}", n, np.int32)
        cuts.append((labels, int(spread(graph[0], names, labels))))
    return cuts


Edges = tuple[Array, Array, Array]
"""The ends (E,) and (E,) and the levels (E,) of the edges of a graph."""


def _contracted(
    refused: Array, order: Array, start: Array, heavy: int, offset: Array, names: Array, scratch: Scratch
) -> tuple[Edges, int]:
    """Return the edges between named components, and how many of them were refused before, which come first."""
    ends = [scratch.take(f"ends {kind}", len(order) + 1, kind) for kind in ("uint32", "u4", "int32")]
    seen = scratch.filled("seen", 1 << SEEN_BITS, np.uint64, 0)
    arguments: list[Any] = [refused, order, start, heavy, offset, names, *ends, seen]
    n_refused, n = contract(*arguments)
    return (ends[0][:n], ends[1][:n], ends[2][:n]), n_refused


def _join_graph(edges: Edges, n_refused: int, graph: tuple[Array, Array, Array], k: float, min_size: int) -> None:
    """Join the components of one scale, k in weight steps, until nothing more joins."""
    join_heavy(*edges, n_refused, k, *graph)
    join_small(edges[0], edges[1], min_size, graph[0], graph[1])


@inlined
def root(forest: Array, node: Any) -> Any:
    """Return the root of a node."""
    above = forest[node]
    while above != node:
        node = above
        above = forest[node]
    return node


@inlined
def own_root(forests: Array, scale: Any, node: Any) -> Any:
    """Return the root of a node in the forest of one scale."""
    above = forests[scale, node]
    while above != node:
        node = above
        above = forests[scale, node]
    return node


@inlined
def strain(level: Any, size: Any, internal: Any) -> Any:
    """Return what k must at least be, in weight steps, for a component to join over an edge of this level."""
    return np.int64(level - internal) * np.int64(size)


@inlined
def keep_open(edges: Array, offset: Array, forest: Array, kept: Array, one: Array, other: Array) -> Any:
    """Copy the edges whose ends are not yet seen to be joined, with the nodes two above their ends; return how many.

    There is no branch, as no processor could guess it.
    """
    n = np.uint32(0)
    for edge in edges:
        node = edge >> np.uint32(2)
        a = forest[forest[node]]
        b = forest[forest[node + offset[edge & np.uint32(3)]]]
        kept[n], one[n], other[n] = edge, a, b
        n += np.uint32(a != b)
    return n


@compiled
def join_light(
    order: Array,
    start: Array,
    heavy: int,
    offset: Array,
    strains: Array,
    forest: Array,
    size: Array,
    internal: Array,
    limit: Array,
    atoms: Array,
    own_forest: Array,
    own_size: Array,
    own_internal: Array,
    refused: Array,
    places: Array,
) -> Any:
    """Take the edges of the levels below heavy for all scales.

    Args:
        order: see `join_scales`, as start.
        start: where each level begins.
        heavy: the first level that is left.
        offset: from a pixel to its neighbour in each direction.
        strains: (S,) k of each scale in weight steps.
        forest: (N,) shared by all scales.
        size: (N,) pixels of the components of clean roots.
        internal: (N,) heaviest level inside the components of clean roots.
        limit: (N,) heaviest level that a clean root accepts in all scales, -1 for atoms; filled here.
        atoms: (N,) the atom that a root is, or CLEAN.
        own_forest: (S, N) of atoms, by scale.
        own_size: (S, N) pixels, as size.
        own_internal: (S, N) levels, as internal.
        refused: gets the edges that some scale refused, in order.
        places: gets the shared root that each atom was.

    Returns:
        How many edges were refused, and how many atoms there are.
    """
    least, most = np.float64(min(strains.min(), LAST_LEVEL)), strains.max()
    limit[:] = np.int32(least)
    n_refused, n_atoms = np.uint32(0), np.int32(0)
    kept, one, other = np.empty(CHUNK, np.uint32), np.empty(CHUNK, np.uint32), np.empty(CHUNK, np.uint32)
    for level in range(np.int32(heavy)):
        for first in range(start[level], start[level + 1], CHUNK):
            chunk = order[first : min(first + CHUNK, start[level + 1])]
            n_open = keep_open(chunk, offset, forest, kept, one, other)
            for i in range(n_open):
                edge = kept[i]
                a, b = root(forest, one[i]), root(forest, other[i])
                node = edge >> np.uint32(2)
                forest[node] = a
                forest[node + offset[edge & np.uint32(3)]] = b
                if a == b:
                    continue
                if level <= limit[a] and level <= limit[b]:
                    total = size[a] + size[b]
                    larger = a if size[a] >= size[b] else b
                    forest[a ^ b ^ larger] = larger
                    size[larger], internal[larger] = total, level
                    limit[larger] = level + np.int32(least / total)
                    continue
                wish = max(strain(level, size[a], internal[a]), strain(level, size[b], internal[b])) <= most
                if atoms[a] != CLEAN or atoms[b] != CLEAN:
                    wish = any_wish(level, a, b, strains, size, internal, atoms, own_forest, own_size, own_internal)
                if wish:
                    for place in (a, b):
                        if atoms[place] == CLEAN:
                            limit[place], places[n_atoms] = -1, place
                            make_atom(place, n_atoms, size, internal, atoms, own_forest, own_size, own_internal)
                            n_atoms += np.int32(1)
                    if join_own(level, atoms[a], atoms[b], strains, own_forest, own_size, own_internal):
                        continue
                refused[n_refused] = edge
                n_refused += np.uint32(1)
    return n_refused, n_atoms


@inlined
def any_wish(
    level: Any,
    a: Any,
    b: Any,
    strains: Array,
    size: Array,
    internal: Array,
    atoms: Array,
    own_forest: Array,
    own_size: Array,
    own_internal: Array,
) -> bool:
    """Say whether any scale joins two components over an edge, where at least one of them is an atom."""
    wish = False
    for s in range(len(strains)):
        most = np.int64(0)
        for place in (a, b):
            if atoms[place] == CLEAN:
                most = max(most, strain(level, size[place], internal[place]))
            else:
                top = own_root(own_forest, s, np.uint32(atoms[place]))
                most = max(most, strain(level, own_size[s, top], own_internal[s, top]))
        wish |= most <= strains[s]
    return wish


@inlined
def make_atom(
    place: Any,
    atom: Any,
    size: Array,
    internal: Array,
    atoms: Array,
    own_forest: Array,
    own_size: Array,
    own_internal: Array,
) -> None:
    """Give a clean component a tree of its own in each scale."""
    atoms[place] = atom
    for s in range(len(own_forest)):
        own_forest[s, atom], own_size[s, atom], own_internal[s, atom] = atom, size[place], internal[place]


@inlined
def join_own(
    level: Any, a: Any, b: Any, strains: Array, own_forest: Array, own_size: Array, own_internal: Array
) -> bool:
    """Join two atoms in each scale that wants it; return whether they are now together in all."""
    together = True
    for s in range(len(strains)):
        top, under = own_root(own_forest, s, np.uint32(a)), own_root(own_forest, s, np.uint32(b))
        own_forest[s, a], own_forest[s, b] = top, under
        if top == under:
            continue
        if own_size[s, top] < own_size[s, under]:
            top, under = under, top
        first = strain(level, own_size[s, top], own_internal[s, top])
        if max(first, strain(level, own_size[s, under], own_internal[s, under])) <= strains[s]:
            own_forest[s, under] = top
            own_size[s, top] += own_size[s, under]
            own_internal[s, top] = level
        else:
            together = False
    return together


@compiled
def number(forest: Array, names: Array, name: Array, roots: Array) -> Any:
    """Name components 0..n-1 in the order of their first nodes, write down their roots, and return n.

    Names gets the name of each node; name is room for the name of each root.
    """
    n = np.int32(0)
    name[:] = -1
    above, label = forest[0], np.int32(0)
    for node in range(np.uint32(len(forest))):
        if forest[node] != above or node == 0:  # a run of nodes under one node is one component
            above = forest[node]
            top = root(forest, above)
            if name[top] < 0:
                name[top], roots[n] = n, top
                n += np.int32(1)
            label = name[top]
        names[node] = label
    return n


@compiled
def contract(
    refused: Array,
    order: Array,
    start: Array,
    heavy: int,
    offset: Array,
    names: Array,
    one: Array,
    other: Array,
    levels: Array,
    seen: Array,
) -> Any:
    """Write the ends and levels of the edges between named components: the refused ones, then the heavy ones.

    Of the edges between two components only the lightest matters: if it is refused then one of the two will never grow
    again, and refuses the others too. So most of the others are left out.

    Returns:
        How many refused ones there are, which have no level, and how many edges in all.
    """
    n_refused = name_ends(refused, -1, offset, names, one, other, levels, np.uint64(0), seen)
    n = n_refused
    for level in range(heavy, len(start) - 1):
        n = name_ends(order[start[level] : start[level + 1]], level, offset, names, one, other, levels, n, seen)
    return n_refused, n


@inlined
def name_ends(
    edges: Array, level: Any, offset: Array, names: Array, one: Array, other: Array, levels: Array, n: Any, seen: Array
) -> Any:
    """Append the named ends of edges between two components; return how many there are now.

    Seen holds one pair in each slot, the last: it forgets, so that there is no search and no branch.
    """
    for edge in edges:
        node = edge >> np.uint32(2)
        a, b = names[node], names[node + offset[edge & np.uint32(3)]]
        pair = (np.uint64(min(a, b)) << np.uint64(32)) | np.uint64(max(a, b))
        slot = (pair * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - SEEN_BITS)
        one[n], other[n], levels[n] = a, b, level
        n += np.uint64(a != b) & np.uint64(seen[slot] != pair)
        seen[slot] = pair
    return n


@compiled
def lift(
    roots: Array,
    names: Array,
    size: Array,
    internal: Array,
    atoms: Array,
    places: Array,
    own_forest: Array,
    own_size: Array,
    own_internal: Array,
) -> tuple[Array, Array, Array]:
    """Return forest, size and internal level of the graph of shared components, joined as one scale has them."""
    n = len(roots)
    forest, sizes, levels = np.empty(n, np.uint32), np.empty(n, np.int32), np.empty(n, np.int32)
    for node in range(n):
        place = roots[node]
        if atoms[place] == CLEAN:
            forest[node], sizes[node], levels[node] = node, size[place], internal[place]
        else:
            top = root(own_forest, np.uint32(atoms[place]))
            forest[node], sizes[node], levels[node] = names[places[top]], own_size[top], own_internal[top]
    return forest, sizes, levels


@compiled
def join_heavy(
    one: Array, other: Array, levels: Array, first: int, k: float, forest: Array, size: Array, internal: Array
) -> None:
    """Take the edges from the first on, for one scale; k in weight steps."""
    for e in range(np.uint32(first), np.uint32(len(one))):
        top, under = root(forest, forest[one[e]]), root(forest, forest[other[e]])
        forest[one[e]], forest[other[e]] = top, under
        if top == under:
            continue
        needed = max(strain(levels[e], size[top], internal[top]), strain(levels[e], size[under], internal[under]))
        if needed <= k:
            if size[top] < size[under]:
                top, under = under, top
            forest[under] = top
            size[top] += size[under]
            internal[top] = levels[e]


@compiled
def join_small(one: Array, other: Array, min_size: int, forest: Array, size: Array) -> None:
    """Join every component below min_size to a neighbour, along the first of all edges."""
    for e in range(np.uint32(len(one))):
        top, under = root(forest, forest[one[e]]), root(forest, forest[other[e]])
        forest[one[e]], forest[other[e]] = top, under
        if top != under and (size[top] < min_size or size[under] < min_size):
            if size[top] < size[under]:
                top, under = under, top
            forest[under] = top
            size[top] += size[under]


@compiled
def spread(forest: Array, names: Array, labels: Array) -> Any:
    """Write the label of each pixel's component, numbered in order of their first pixels; return how many there are."""
    final, name = np.empty(len(forest), np.int32), np.empty(len(forest), np.int32)
    n = number(forest, final, name, np.empty(len(forest), np.uint32))
    for i in range(len(labels)):
        labels[i] = final[names[i]]
    return n
