"""Priors: k-means by hand and from a seed, shapes, coverage, and the layout over the cells."""

import numpy as np
import pytest

from proposals.multibox.paper import corner_priors, coverage, residual_spread
from proposals.multibox.priors import grid_priors, shape_priors
from structures.boxes import as_boxes, iou


def random_boxes(count: int, seed: int = 0) -> np.ndarray:
    corners = np.random.default_rng(seed).random((count, 2, 2))
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)


def test_two_clear_groups_give_their_means():
    boxes = as_boxes([[0, 0, 0.25, 0.25], [0, 0, 0.25, 0.5], [0.5, 0.5, 1, 1], [0.25, 0.5, 1, 1]])
    priors = corner_priors(boxes, 2)
    np.testing.assert_allclose(priors, [[0, 0, 0.25, 0.375], [0.375, 0.5, 1, 1]], atol=1e-6)


def test_shapes_are_geometric_means_of_their_group():
    shapes = shape_priors(np.array([[10, 10], [10, 40], [300, 200]], np.float32), 2)
    np.testing.assert_allclose(shapes, [[10, 20], [300, 200]], rtol=1e-3)


@pytest.mark.parametrize(
    "find", [corner_priors, lambda boxes, k, seed=0: shape_priors(boxes[:, 2:] + 0.1, k, seed=seed)]
)
def test_same_seed_same_priors(find):
    boxes = random_boxes(300)
    first = find(boxes, 20, seed=3)
    assert np.array_equal(first, find(boxes.copy(), 20, seed=3))
    assert not np.array_equal(first, find(boxes, 20, seed=4))


def test_priors_are_sorted_small_to_large_and_exact_in_float16():
    priors = corner_priors(random_boxes(300), 20)
    areas = (priors[:, 2] - priors[:, 0]) * (priors[:, 3] - priors[:, 1])
    assert (np.diff(areas) > -1e-3).all()
    assert np.array_equal(priors, priors.astype(np.float16).astype(np.float32))


def test_fewer_different_boxes_than_priors():
    boxes = np.repeat(as_boxes([[0, 0, 0.5, 0.5], [0, 0, 1, 1]]), 5, axis=0)
    assert corner_priors(boxes, 8).tolist() == [[0, 0, 0.5, 0.5], [0, 0, 1, 1]]


@pytest.mark.parametrize(("boxes", "count"), [(np.zeros((0, 4), np.float32), 3), (random_boxes(5), 0)])
def test_no_boxes_or_no_priors_is_an_error(boxes, count):
    with pytest.raises(ValueError, match="priors"):
        corner_priors(boxes, count)


def test_k_means_covers_better_than_its_first_choice():
    boxes = random_boxes(400)
    assert coverage(boxes, corner_priors(boxes, 40)) > coverage(boxes, boxes[:40])


def test_coverage_is_the_best_overlap_counted():
    boxes, priors = random_boxes(50), random_boxes(10, seed=1)
    expected = np.mean([max(iou(box[None], prior[None])[0, 0] for prior in priors) >= 0.5 for box in boxes])
    assert coverage(boxes, priors) == pytest.approx(expected)
    assert coverage(boxes[:0], priors) == 0


def test_spread_is_the_deviation_from_the_nearest_prior():
    priors = as_boxes([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]])
    boxes = as_boxes([[0.1, 0, 0.5, 0.5], [0.5, 0.5, 0.9, 1], [0.5, 0.5, 0.8, 1], [0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(residual_spread(boxes, priors), [0.05, 1e-3, np.sqrt(0.05 / 4), 1e-3], rtol=2e-3)


def test_grid_repeats_shapes_around_every_cell():
    shapes = np.array([[[2, 4], [6, 2]], [[8, 8], [10, 10]]], np.float32)
    priors = grid_priors(shapes, [4, 8], (8, 16))
    assert priors.shape == (2 * 4 * 2 + 1 * 2 * 2, 4)
    assert priors[0].tolist() == [1, 0, 3, 4]
    assert priors[1].tolist() == [-1, 1, 5, 3]
    assert priors[2].tolist() == [5, 0, 7, 4]  # the next cell across
    assert priors[8].tolist() == [1, 4, 3, 8]  # the first cell of the second row
    assert priors[16].tolist() == [0, 0, 8, 8]  # the first cell of the second level
