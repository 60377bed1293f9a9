"""Exact pooling: by hand, against an integral summed up finely, mirrored, degenerate, and learned through."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import roi_align

from classifier.pooling import SMALLEST_CELL, cell_weights, pool, pool_parts


def surface(values: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Interpolate linearly between the middles of the squares of a map, zero beyond its border."""
    padded = np.pad(values, 1)
    grid_y, grid_x = y - 0.5 + 1, x - 0.5 + 1
    rows, columns = np.floor(grid_y).astype(int), np.floor(grid_x).astype(int)
    found = np.zeros((len(y), len(x)))
    for down in (0, 1):
        for across in (0, 1):
            i, j = rows + down, columns + across
            weight = np.outer(1 - np.abs(grid_y - i), 1 - np.abs(grid_x - j))
            inside = np.outer((i >= 0) & (i < padded.shape[0]), (j >= 0) & (j < padded.shape[1]))
            clipped = np.clip(i, 0, padded.shape[0] - 1)[:, None], np.clip(j, 0, padded.shape[1] - 1)[None, :]
            found += np.where(inside, weight * padded[clipped], 0)
    return found


def slow_pool(values: np.ndarray, box: np.ndarray, cells: int, samples: int = 200) -> np.ndarray:
    """Sum the surface up at many places in each cell."""
    x1, y1, x2, y2 = box
    step = (np.arange(cells * samples) + 0.5) / (cells * samples)
    sampled = surface(values, y1 + (y2 - y1) * step, x1 + (x2 - x1) * step)
    return sampled.reshape(cells, samples, cells, samples).mean(axis=(1, 3))


def boxes_on(height: int, width: int) -> st.SearchStrategy[list[float]]:
    corner = st.tuples(st.floats(-2, width), st.floats(-2, height), st.floats(0.1, width), st.floats(0.1, height))
    return corner.map(lambda c: [c[0], c[1], c[0] + c[2], c[1] + c[3]])


def test_by_hand() -> None:
    ramp = torch.arange(6.0).expand(4, 6)[None]  # the value of a square is its column
    found = pool(ramp, torch.tensor([[1.0, 1.0, 5.0, 3.0]]), cells=2)
    assert found.tolist() == [[[[1.5, 3.5], [1.5, 3.5]]]]


@given(box=boxes_on(5, 7), seed=st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_equals_the_integral(box: list[float], seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(5, 7))
    found = pool(torch.from_numpy(values).float()[None], torch.tensor([box]), cells=3)
    np.testing.assert_allclose(found[0, 0].numpy(), slow_pool(values, np.array(box), 3), atol=5e-3)


def test_is_what_roi_align_comes_to_with_many_samples_inside_the_map() -> None:
    torch.manual_seed(0)
    maps, corners = torch.rand(8, 24, 32), torch.rand(50, 4) * 8
    boxes = torch.cat([corners[:, :2] + 1, corners[:, :2] + corners[:, 2:] + 1.2], dim=1)
    rows = torch.cat([torch.zeros(50, 1), boxes], dim=1)
    sampled = roi_align(maps[None], rows, 7, 1.0, sampling_ratio=32, aligned=True)
    assert (pool(maps, boxes, cells=7) - sampled).abs().max() < 1e-3


def test_the_mirrored_region_of_the_mirrored_map_is_the_mirrored_pool() -> None:
    torch.manual_seed(1)
    maps, box = torch.rand(3, 6, 9), torch.tensor([[1.3, 0.2, 7.9, 5.5]])
    mirrored = torch.tensor([[9 - 7.9, 0.2, 9 - 1.3, 5.5]])
    assert torch.allclose(pool(maps.flip(2), mirrored, cells=7), pool(maps, box, cells=7).flip(3), atol=1e-5)


def test_parts_take_each_part_from_its_own_map() -> None:
    torch.manual_seed(2)
    maps, boxes = torch.rand(2 * 9, 8, 8), torch.tensor([[0.5, 1.0, 6.5, 7.0], [3.0, 3.0, 3.5, 3.7]])
    by_part = torch.stack([pool(maps[part::9], boxes, cells=3)[:, :, part // 3, part % 3] for part in range(9)])
    assert torch.allclose(pool_parts(maps, boxes, parts=3), by_part.mean(dim=0), atol=1e-5)


@pytest.mark.parametrize("box", [[2.5, 2.5, 2.5, 2.5], [2.2, 1.0, 2.2, 4.0], [1.0, 1.0, 1.0 + SMALLEST_CELL / 9, 2.0]])
def test_a_region_without_width_reads_the_surface_where_it_stands(box: list[float]) -> None:
    torch.manual_seed(3)
    maps = torch.rand(1, 5, 5)
    found = pool(maps, torch.tensor([box]), cells=1)
    x1, y1, x2, y2 = box
    expected = slow_pool(maps[0].double().numpy(), np.array([x1, y1, x2 + 1e-3, y2 + 1e-3]), 1)
    assert found.item() == pytest.approx(expected.item(), abs=5e-3)


def test_far_beyond_the_map_there_is_nothing() -> None:
    assert pool(torch.ones(2, 4, 4), torch.tensor([[9.0, 9.0, 12.0, 12.0]]), cells=2).abs().max() == 0


def test_no_regions() -> None:
    none = torch.zeros(0, 4)
    assert pool(torch.ones(2, 4, 4), none, cells=7).shape == (0, 2, 7, 7)
    assert pool_parts(torch.ones(18, 4, 4), none, parts=3).shape == (0, 2)


def test_weights_of_an_interval_inside_sum_to_one() -> None:
    weights = cell_weights(torch.tensor([1.0, 2.3]), torch.tensor([3.0, 2.4]), cells=4, squares=6)
    assert torch.allclose(weights.sum(dim=2), torch.ones(2, 4), atol=1e-4)


def test_gradients_reach_the_map_and_the_boxes() -> None:
    maps = torch.rand(1, 4, 4, requires_grad=True)
    boxes: Tensor = torch.tensor([[0.6, 0.7, 3.1, 2.9]], requires_grad=True)
    pool(maps, boxes, cells=2).sum().backward()  # type: ignore[no-untyped-call]
    assert maps.grad is not None
    assert maps.grad.abs().sum() > 0
    assert boxes.grad is not None
    assert boxes.grad.abs().sum() > 0
