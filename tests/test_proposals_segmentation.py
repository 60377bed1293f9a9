"""Graph segmentation against a slow oracle, by hand, and by what must always hold."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proposals.segmentation import WEIGHT_STEPS, segment, smooth, sort_edges

small_images = st.builds(
    lambda seed, height, width, channels, levels: (
        np.random.default_rng(seed).integers(0, levels, (height, width, channels)).astype(np.float32)
    ),
    st.integers(0, 10**6),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([2, 20, 256]),
)


def slow_edges(channels):
    """Every edge as (weight, pixel, direction, other pixel), light edges first."""
    height, width, _ = channels.shape
    edges = []
    for y in range(height):
        for x in range(width):
            for direction, (dy, dx) in enumerate([(0, 1), (1, -1), (1, 0), (1, 1)]):
                v, u = y + dy, x + dx
                if v < height and 0 <= u < width:
                    distance = np.sqrt(np.sum((channels[y, x] - channels[v, u]) ** 2, dtype=np.float32))
                    weight = int(distance * np.float32(WEIGHT_STEPS) + np.float32(0.5)) / WEIGHT_STEPS
                    edges.append((weight, y * width + x, direction, v * width + u))
    return sorted(edges)


def slow_segment(channels, k, min_size):
    """The algorithm of the paper, written out with sets of pixels."""
    height, width, _ = channels.shape
    edges = slow_edges(channels)
    component = {p: frozenset([p]) for p in range(height * width)}
    internal = {component[p]: 0.0 for p in component}

    def join(a, b, weight):
        joined = a | b
        internal[joined] = weight
        component.update(dict.fromkeys(joined, joined))

    for weight, p, _, q in edges:
        a, b = component[p], component[q]
        if a is not b and weight <= min(internal[a] + k / len(a), internal[b] + k / len(b)):
            join(a, b, weight)
    for weight, p, _, q in edges:
        a, b = component[p], component[q]
        if a is not b and min(len(a), len(b)) < min_size:
            join(a, b, weight)
    names = {}
    labels = [names.setdefault(component[p], len(names)) for p in range(height * width)]
    return np.array(labels).reshape(height, width), len(names)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(small_images, st.sampled_from([1.0, 8.0, 64.0, 512.0]), st.sampled_from([0, 2, 5, 30]))
def test_oracle(channels, k, min_size):
    labels, n = segment(sort_edges(channels), k=k, min_size=min_size)
    expected, expected_n = slow_segment(channels, k, min_size)
    assert n == expected_n
    np.testing.assert_array_equal(labels, expected)


def test_oracle_on_smooth_pictures():
    for seed in range(5):
        noise = np.random.default_rng(seed).integers(0, 256, (24, 31, 3)).astype(np.float32)
        channels = smooth(noise, 3.0) * 4
        labels, n = segment(sort_edges(channels), k=40, min_size=10)
        assert n > 1
        np.testing.assert_array_equal(labels, slow_segment(channels, 40, 10)[0])


def test_edges_are_sorted_and_complete():
    channels = np.random.default_rng(0).integers(0, 256, (7, 5, 3)).astype(np.float32)
    edges, expected = sort_edges(channels), slow_edges(channels)
    assert edges.order.tolist() == [4 * p + direction for _, p, direction, _ in expected]
    weights = np.repeat(np.arange(len(edges.start) - 1), np.diff(edges.start)) / WEIGHT_STEPS
    assert weights.tolist() == [weight for weight, _, _, _ in expected]


def test_by_hand_two_halves():
    """Two flat halves 100 apart: k / 8 pixels decides whether the border edge (weight 100) joins them."""
    channels = np.zeros((4, 4, 1), np.float32)
    channels[:, 2:] = 100
    edges = sort_edges(channels)
    assert segment(edges, k=799, min_size=0)[0].tolist() == [[0, 0, 1, 1]] * 4
    assert segment(edges, k=800, min_size=0)[1] == 1
    assert segment(edges, k=1, min_size=9)[1] == 1


def test_by_hand_diagonal_neighbours():
    """A white diagonal on black is one superpixel only because corners touch."""
    channels = np.eye(5, dtype=np.float32)[:, :, None] * 255
    labels, n = segment(sort_edges(channels), k=1, min_size=0)
    assert n == 2
    assert (labels == 1 - np.eye(5)).all()


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 2, 3), (2, 1, 1), (1, 40, 3), (40, 1, 2)])
def test_degenerate_shapes(shape):
    labels, n = segment(sort_edges(np.zeros(shape, np.float32)), k=50, min_size=50)
    assert n == 1
    assert (labels == 0).all()
    assert labels.shape == shape[:2]


@settings(derandomize=True, max_examples=60, deadline=None)
@given(small_images)
def test_metamorphic_mirror(channels):
    """Where no two edges weigh the same, the mirrored picture gives the mirrored superpixels."""
    weights = [edge[0] for edge in slow_edges(channels)]
    assume(len(set(weights)) == len(weights))
    labels, n = segment(sort_edges(channels), k=60, min_size=3)
    mirrored, mirrored_n = segment(sort_edges(channels[:, ::-1]), k=60, min_size=3)
    assert n == mirrored_n
    pairs = set(zip(labels.ravel().tolist(), mirrored[:, ::-1].ravel().tolist(), strict=True))
    assert len(pairs) == n


@settings(derandomize=True, max_examples=60, deadline=None)
@given(small_images, st.sampled_from([2, 5, 12]))
def test_no_superpixel_is_below_min_size(channels, min_size):
    labels, n = segment(sort_edges(channels), k=5, min_size=min_size)
    sizes = np.bincount(labels.ravel())
    assert n == len(sizes)
    assert n == 1 or sizes.min() >= min_size


def test_more_k_never_more_superpixels():
    """Weak: the algorithm does not promise it for every picture; on photos with k doubling it holds."""
    from skimage import data

    for photo in (data.astronaut(), data.chelsea(), data.coffee()):
        edges = sort_edges(smooth(photo[::2, ::2].astype(np.float32)))
        counts = [segment(edges, k=k, min_size=round(k))[1] for k in (25, 50, 100, 200, 400, 800)]
        assert counts == sorted(counts, reverse=True)
        assert counts[0] > 4 * counts[-1]


def test_smooth_keeps_flat_pictures_and_shape():
    flat = np.full((4, 5, 1), 7, np.float32)
    np.testing.assert_allclose(smooth(flat), flat, rtol=1e-6)
    assert smooth(flat, 0) is flat
