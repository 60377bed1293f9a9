"""Histograms, neighbours and hierarchical grouping against slow oracles."""

import heapq
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proposals.selective_search import grouping
from proposals.selective_search.compiled import compiled
from proposals.selective_search.features import Superpixels, bin_pixels, describe, touching
from proposals.selective_search.grouping import group, hierarchy
from proposals.selective_search.segmentation import segment, smooth, weigh_edges
from proposals.selective_search.similarities import (
    ROUNDING,
    bound_by,
    histogram_similarity,
    similarity_weights,
    with_shapes,
)
from structures.boxes import mirror


def scene(seed, shape=(30, 40, 3)):
    noise = np.random.default_rng(seed).integers(0, 256, shape).astype(np.float32)
    planes = np.ascontiguousarray(np.moveaxis(noise, 2, 0))
    planes = np.clip(smooth(planes, 2.0) * 6 - 600, 0, 255).astype(np.float32)
    ((labels, n),) = segment(weigh_edges(planes), [(30, 6)])
    return planes, labels, n


def slow_pairs(labels):
    height, width = labels.shape
    pairs = set()
    for y, x in np.ndindex(height, width):
        for v, u in itertools.product(range(y - 1, y + 2), range(x - 1, x + 2)):
            if 0 <= v < height and 0 <= u < width and labels[v, u] != labels[y, x]:
                pairs.add(tuple(sorted((int(labels[y, x]), int(labels[v, u])))))
    return sorted(pairs)


@pytest.mark.parametrize("seed", range(4))
def test_neighbours_oracle(seed):
    labels = np.random.default_rng(seed).integers(0, 60, (9, 13)).astype(np.int32)
    found = sorted((int(code) // 60, int(code) % 60) for code in touching(labels, np.int64(60)))
    assert found == slow_pairs(labels)


def test_neighbours_in_first_row_and_column():
    """OpenCV misses these links."""
    assert touching(np.array([[0, 1]], np.int32), np.int64(2)).tolist() == [0 * 2 + 1]
    assert touching(np.array([[0], [1]], np.int32), np.int64(2)).tolist() == [0 * 2 + 1]


def test_many_neighbours_outgrow_the_table():
    labels = np.arange(40 * 40, dtype=np.int32).reshape(40, 40)
    assert len(touching(labels, np.int64(1600))) == len(slow_pairs(labels))


def test_measures_oracle():
    planes, labels, n = scene(0)
    bins = bin_pixels(planes)
    found = describe(labels, n, bins)
    assert n > 5
    for region in range(n):
        ys, xs = np.nonzero(labels == region)
        assert found.size[region] == len(ys)
        assert found.boxes[region].tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        for c in range(3):
            expected = np.bincount(np.minimum(planes[c, ys, xs] * 25 / 256, 24).astype(int), minlength=25)
            assert found.colour[region, 25 * c : 25 * (c + 1)].tolist() == expected.tolist()


def test_textures_oracle():
    """Eight orientations by their definition: the derivative along each, negatives as 0, in 10 bins.

    The strongest derivative of any channel is the end of the last bin of all.
    """
    planes, labels, n = scene(1)
    found = describe(labels, n, bin_pixels(planes)).texture.reshape(n, 3, 4, 2, 10)
    padded = np.pad(np.moveaxis(smooth(planes, 1.0), 0, 2), ((1, 1), (1, 1), (0, 0)), "edge")
    gx, gy = padded[1:-1, 2:] - padded[1:-1, :-2], padded[2:, 1:-1] - padded[:-2, 1:-1]
    angles = np.arange(8) * np.pi / 4
    along = np.stack([np.cos(angle) * gx + np.sin(angle) * gy for angle in angles], axis=-1)
    strength = np.clip(along / along.max(), 0, None)
    expected = np.minimum((strength * 10).astype(int), 9)
    differing = 0
    for region, c, o in np.ndindex(n, 3, 8):
        counts = np.bincount(expected[labels == region][:, c, o], minlength=10)
        differing += np.abs(counts - found[region, c, o % 4, o // 4]).sum()
    assert differing <= 0.001 * labels.size * 24  # values on the border of two bins may round either way


def test_histograms_count_every_pixel_once():
    planes, labels, n = scene(2)
    found = describe(labels, n, bin_pixels(planes))
    np.testing.assert_array_equal(found.colour.reshape(n, 3, 25).sum(axis=2), np.repeat(found.size[:, None], 3, 1))
    assert (found.texture.reshape(n, 24, 10).sum(axis=2) == found.size[:, None]).all()
    assert (found.texture >= 0).all()


def slow_similarity(a, b, measures, image_area):
    """The four formulas of section 3.2 on normalised histograms."""
    x1, y1 = np.minimum(a["box"][:2], b["box"][:2])
    x2, y2 = np.maximum(a["box"][2:], b["box"][2:])
    parts = {
        "C": np.minimum(a["colour"] / a["colour"].sum(), b["colour"] / b["colour"].sum()).sum(),
        "T": np.minimum(a["texture"] / a["texture"].sum(), b["texture"] / b["texture"].sum()).sum(),
        "S": 1 - (a["size"] + b["size"]) / image_area,
        "F": 1 - ((x2 - x1) * (y2 - y1) - a["size"] - b["size"]) / image_area,
    }
    return sum(parts[letter] for letter in measures)


def slow_group(superpixels, measures, image_area):
    """Algorithm 1 with all similarities worked out again at every step; also how close a second best ever came."""
    s = superpixels
    regions = {
        i: {"box": s.boxes[i], "size": int(s.size[i]), "colour": s.colour[i], "texture": s.texture[i]}
        for i in range(len(s.size))
    }
    near = {i: set() for i in regions}
    for a, b in s.pairs.tolist():
        near[a].add(b)
        near[b].add(a)
    boxes, alive, closest = [regions[i]["box"] for i in regions], set(regions), np.inf
    while len(alive) > 1:
        pairs = [(a, b) for a in alive for b in near[a] & alive if a < b]
        found = sorted((-slow_similarity(regions[p[0]], regions[p[1]], measures, image_area), p) for p in pairs)
        a, b = found[0][1]
        closest = min([closest, *(value - found[0][0] for value, _ in found[1:2])])
        new = len(regions)
        one, two = regions[a], regions[b]
        box = np.concatenate([np.minimum(one["box"][:2], two["box"][:2]), np.maximum(one["box"][2:], two["box"][2:])])
        regions[new] = {key: one[key] + two[key] for key in ("size", "colour", "texture")} | {"box": box}
        near[new] = (near[a] | near[b]) - {a, b}
        for other in near[new]:
            near[other].add(new)
        alive = alive - {a, b} | {new}
        boxes.append(box)
    return np.array(boxes), closest


def jittered(superpixels, seed):
    """Spread superpixels over a picture 200 times as wide and high, a little irregularly: whole numbers tie often."""
    s, random = superpixels, np.random.default_rng(seed)
    size = s.size * 200**2 + random.integers(0, 10**5, s.size.shape)
    boxes = s.boxes * 200 + random.integers(-50, 50, s.boxes.shape)
    return Superpixels(size.astype(np.int32), boxes.astype(np.int32), s.colour, s.texture, s.pairs)


COMBINATIONS = ["".join(letters) for n in range(1, 5) for letters in itertools.combinations("CTSF", n)]


@pytest.mark.parametrize("measures", COMBINATIONS)
def test_grouping_oracle(measures):
    for seed in range(3):
        planes, labels, n = scene(seed)
        superpixels = describe(labels, n, bin_pixels(planes))
        if set(measures) <= {"F", "S"}:
            superpixels = jittered(superpixels, seed)
        area = int(superpixels.size.sum())
        np.testing.assert_array_equal(
            group(superpixels, measures, area), slow_group(superpixels, measures, area)[0], err_msg=f"scene {seed}"
        )


@compiled
def exact_similarity(a, b, tree, weights, image_area):
    known = histogram_similarity(a, b, tree, weights)
    return known, with_shapes(known, a, b, tree, weights, image_area)


def eager_parts(superpixels, measures, image_area):
    """Algorithm 1 in our arithmetic, but every similarity is computed at once and none is put off."""
    tree, weights, area = grouping._begin_tree(superpixels), similarity_weights(measures), np.float32(image_area)
    n, parts = len(superpixels.size), []
    near = [set() for _ in range(2 * n - 1)]
    heap = []

    def meet(a, b):
        near[a].add(b)
        near[b].add(a)
        heapq.heappush(heap, (-float(exact_similarity(a, b, tree, weights, area)[1]), a, b))

    for a, b in superpixels.pairs.tolist():
        meet(a, b)
    for new in range(n, 2 * n - 1):
        _, a, b = heapq.heappop(heap)
        while not (tree.alive[a] and tree.alive[b]):
            _, a, b = heapq.heappop(heap)
        parts.append([a, b])
        tree.alive[[a, b, new]] = False, False, True
        tree.size[new], tree.rows[new] = tree.size[a] + tree.size[b], tree.rows[a]
        tree.boxes[new] = (
            *np.minimum(tree.boxes[a, :2], tree.boxes[b, :2]),
            *np.maximum(tree.boxes[a], tree.boxes[b])[2:],
        )
        for counts in (tree.colour, tree.texture):
            counts[tree.rows[a]] += counts[tree.rows[b]]
        for other in sorted((near[a] | near[b]) - {a, b}):
            if tree.alive[other]:
                meet(other, new)
    return np.array(parts)


@pytest.mark.parametrize("measures", COMBINATIONS)
def test_putting_similarities_off_changes_nothing(measures):
    for seed in range(3):
        _, labels, n = scene(seed, (50, 60, 3))
        superpixels = describe(labels, n, bin_pixels(scene(seed + 1, (50, 60, 3))[0]))
        np.testing.assert_array_equal(
            hierarchy(superpixels, measures, labels.size)[1], eager_parts(superpixels, measures, labels.size)
        )


@pytest.mark.parametrize("measures", ["CTSF", "TSF"])
def test_putting_similarities_off_changes_nothing_on_a_photo(measures):
    """More than a thousand superpixels, and more pairs than there is room for at first."""
    from skimage import data

    planes = np.ascontiguousarray(np.moveaxis(data.coffee(), 2, 0)).astype(np.float32)
    ((labels, n),) = segment(weigh_edges(smooth(planes)), [(20, 20)])
    superpixels = describe(labels, n, bin_pixels(planes))
    assert n > 1000
    np.testing.assert_array_equal(
        hierarchy(superpixels, measures, labels.size)[1], eager_parts(superpixels, measures, labels.size)
    )


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["C", "T", "CT"]), st.sampled_from([1, 30, 3000]))
def test_bounds_hold(seed, measures, contrast):
    """What a third region has with the union of two is never above what `bound_by` says, from either part."""
    random = np.random.default_rng(seed)
    size = random.integers(1, 10 ** random.integers(1, 6, 4)).astype(np.int32)
    size[3] = size[0] + size[1]

    def histograms(rows, bins):
        shares = random.dirichlet(np.full(bins, 1 / contrast), (3, rows))
        counts = np.stack([random.multinomial(size[i], shares[i]).reshape(-1) for i in range(3)])
        return np.vstack([counts, counts[0] + counts[1]]).astype(np.float32)

    none, boxes = np.zeros((0, 2), np.int32), np.zeros((4, 4), np.int32)
    tree = grouping._begin_tree(Superpixels(size, boxes, histograms(1, 25), histograms(8, 10), none))
    weights = similarity_weights(measures)
    (joined, a, b, union) = (
        exact_similarity(*pair, tree, weights, np.float32(1))[0] for pair in ((0, 1), (0, 2), (1, 2), (2, 3))
    )
    for known, other in ((a, 1), (b, 0)):
        limit = bound_by.py_func(known, size[other] / size[3], joined, np.float32(len(measures)))
        assert union <= limit + ROUNDING


@settings(derandomize=True, max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(4, 24), st.integers(4, 24), st.sampled_from(["CTSF", "TSF", "CT", "C"]))
def test_metamorphic_mirror(seed, height, width, measures):
    """The mirrored superpixels give the mirrored tree, unless two similarities are as good as equal somewhere."""
    planes, labels, n = scene(seed, (height, width, 3))
    superpixels = describe(labels, n, bin_pixels(planes))
    assume(slow_group(superpixels, measures, labels.size)[1] > 1e-4)
    _, renumbered = np.unique(labels[:, ::-1], return_inverse=True)
    order = np.random.default_rng(seed).permutation(n).astype(np.int32)  # other numbers, other ties
    turned = order[renumbered.reshape(labels.shape)]
    mirrored = describe(turned, n, bin_pixels(np.ascontiguousarray(planes[:, :, ::-1])))
    straight = group(superpixels, measures, labels.size)
    back = mirror(group(mirrored, measures, labels.size).astype(np.float32), (height, width))
    np.testing.assert_array_equal(straight[n:], back[n:])
    assert sorted(straight[:n].tolist()) == sorted(back[:n].tolist())


def test_ties_everywhere_give_the_same_tree_every_time():
    """A chessboard of equal squares: every similarity ties with many others."""
    labels = np.arange(64, dtype=np.int32).reshape(8, 8).repeat(4, axis=0).repeat(4, axis=1)
    superpixels = describe(labels, 64, bin_pixels(np.full((3, 32, 32), 90, np.float32)))
    first = group(superpixels, "CTSF", labels.size)
    for _ in range(3):
        np.testing.assert_array_equal(group(superpixels, "CTSF", labels.size), first)
    with ThreadPoolExecutor(4) as pool:
        for other in pool.map(lambda _: group(superpixels, "CTSF", labels.size), range(8)):
            np.testing.assert_array_equal(other, first)
    assert first[64].tolist() == [0, 0, 8, 4]  # squares 0 and 1: the smallest numbers


def flat(sizes, boxes, pairs):
    n = len(sizes)
    colour, texture = np.zeros((n, 25), np.float32), np.zeros((n, 80), np.float32)
    colour[:, 0] = sizes
    texture[:, ::10] = np.array(sizes)[:, None]
    return Superpixels(np.array(sizes, np.int32), np.array(boxes, np.int32), colour, texture, np.array(pairs, np.int32))


def test_by_hand_size_and_ties():
    """Four equal columns: by size alone (0, 1) ties with (1, 2) and (2, 3) and goes first, then (2, 3)."""
    boxes = [[0, 0, 1, 4], [1, 0, 2, 4], [2, 0, 3, 4], [3, 0, 4, 4]]
    tree = group(flat([4, 4, 4, 4], boxes, [[0, 1], [1, 2], [2, 3]]), "S", 16)
    assert tree.tolist() == [*boxes, [0, 0, 2, 4], [2, 0, 4, 4], [0, 0, 4, 4]]


def test_parts_of_a_tree_by_hand():
    boxes = [[0, 0, 1, 4], [1, 0, 2, 4], [2, 0, 3, 4], [3, 0, 4, 4]]
    _, parts = hierarchy(flat([4, 4, 4, 4], boxes, [[0, 1], [1, 2], [2, 3]]), "S", 16)
    assert parts.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_parts_make_up_the_boxes_and_are_used_once():
    planes, labels, n = scene(3)
    boxes, parts = hierarchy(describe(labels, n, bin_pixels(planes)), "CTSF", labels.size)
    assert sorted(parts.ravel().tolist()) == list(range(2 * n - 2))
    one, two = boxes[parts[:, 0]], boxes[parts[:, 1]]
    around = np.hstack([np.minimum(one[:, :2], two[:, :2]), np.maximum(one[:, 2:], two[:, 2:])])
    np.testing.assert_array_equal(boxes[n:], around)


def test_by_hand_fill():
    """A hole joins what encloses it before a far neighbour does."""
    boxes = [[0, 0, 6, 6], [2, 2, 4, 4], [6, 0, 12, 6]]
    tree = group(flat([32, 4, 36], boxes, [[0, 1], [0, 2]]), "F", 72)
    assert tree.tolist() == [*boxes, [0, 0, 6, 6], [0, 0, 12, 6]]


def test_one_superpixel_is_the_whole_tree():
    empty = np.zeros((0, 2), np.int32)
    assert group(flat([6], [[0, 0, 3, 2]], empty), "CTSF", 6).tolist() == [[0, 0, 3, 2]]


def test_input_is_not_changed():
    planes, labels, n = scene(3)
    superpixels = describe(labels, n, bin_pixels(planes))
    before = superpixels.colour.copy(), superpixels.texture.copy(), superpixels.boxes.copy()
    first, second = group(superpixels, "CTSF", labels.size), group(superpixels, "CTSF", labels.size)
    np.testing.assert_array_equal(first, second)
    for old, new in zip(before, (superpixels.colour, superpixels.texture, superpixels.boxes), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("wrong", ["", "CC", "X", "ctsf"])
def test_unknown_similarities_are_refused(wrong):
    with pytest.raises(ValueError, match="CTSF"):
        similarity_weights(wrong)
