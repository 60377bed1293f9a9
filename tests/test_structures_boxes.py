"""Box arithmetic against boxes painted pixel by pixel, and the box convention."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torchvision.ops import box_iou

from structures import boxes as ops
from structures.boxes import as_boxes

SIZE = (9, 12)  # height, width

corner = st.integers(-3, 14)
any_boxes = st.lists(st.tuples(corner, corner, corner, corner), max_size=6).map(as_boxes)


def painted(box: Any, height: int = 30, width: int = 30, shift: int = 8) -> np.ndarray[Any, Any]:
    """Return the box as a mask of pixels: the slow, obvious meaning of 0-based and half-open."""
    mask = np.zeros((height, width), bool)
    x1, y1, x2, y2 = (int(value) + shift for value in box)
    mask[y1:y2, x1:x2] = x2 > x1 and y2 > y1
    return mask


def test_convention_boxes_are_half_open() -> None:
    assert ops.area(as_boxes([[0, 0, 1, 1]])).tolist() == [1]
    assert painted([0, 0, 1, 1]).sum() == 1
    assert ops.whole_image(SIZE).tolist() == [[0, 0, 12, 9]]
    assert ops.area(ops.whole_image(SIZE)).tolist() == [9 * 12]


def test_convention_touching_boxes_do_not_overlap() -> None:
    left, right = as_boxes([[0, 0, 5, 5]]), as_boxes([[5, 0, 10, 5]])
    assert ops.intersection(left, right).tolist() == [[0]]
    assert ops.iou(left, right).tolist() == [[0]]


def test_convention_boxes_are_float32() -> None:
    doubled = np.array([[0.1, 0.2, 3.3, 4.4]])
    some = as_boxes(doubled)
    results = [some, ops.clip(some, SIZE), ops.scale(some, 2, 3), ops.expand(some, 2), ops.mirror(some, SIZE)]
    results += [ops.whole_image(SIZE), as_boxes([])]
    assert {result.dtype for result in results} == {np.dtype(np.float32)}
    assert {ops.area(some).dtype, ops.iou(some, some).dtype} == {np.dtype(np.float32)}


def test_convention_zero_boxes_in_zero_boxes_out() -> None:
    none, some = as_boxes([]), as_boxes([[0, 0, 1, 1]])
    assert ops.area(none).shape == (0,)
    assert ops.iou(none, some).shape == (0, 1)
    assert ops.iou(some, none).shape == (1, 0)
    for result in (ops.clip(none, SIZE), ops.scale(none, 2, 2), ops.expand(none, 2), ops.mirror(none, SIZE)):
        assert result.shape == (0, 4)
    assert ops.large_enough(none, 1).shape == (0,)
    assert ops.unique_rows(none).shape == (0,)


def test_convention_inputs_are_never_changed_in_place() -> None:
    some = as_boxes([[-5, -5, 50, 50], [2, 2, 4, 4]])
    before = some.copy()
    ops.clip(some, SIZE)
    ops.scale(some, 2, 2)
    ops.expand(some, 2)
    ops.mirror(some, SIZE)
    ops.iou(some, some)
    np.testing.assert_array_equal(some, before)


@pytest.mark.parametrize("values", [[1, 2, 3, 4], [[1, 2, 3]], np.zeros((2, 2, 4))])
def test_what_is_not_rows_of_four_is_refused(values: Any) -> None:
    with pytest.raises(ValueError, match=r"shape \(N, 4\)"):
        as_boxes(values)


@given(any_boxes, any_boxes)
def test_iou_agrees_with_painted_pixels(a: ops.Boxes, b: ops.Boxes) -> None:
    result = ops.iou(a, b)
    assert result.shape == (len(a), len(b))
    for row, first in enumerate(a):
        for column, second in enumerate(b):
            shared, union = painted(first) & painted(second), painted(first) | painted(second)
            expected = shared.sum() / union.sum() if union.any() else 0
            assert result[row, column] == pytest.approx(expected, abs=1e-6)


@given(any_boxes)
def test_area_agrees_with_painted_pixels(some: ops.Boxes) -> None:
    assert ops.area(some).tolist() == [painted(box).sum() for box in some]


@given(
    arrays.arrays(np.float32, (5, 4), elements=st.floats(0, 500, width=16)),
    arrays.arrays(np.float32, (3, 4), elements=st.floats(0, 500, width=16)),
)
def test_iou_agrees_with_torchvision(a: ops.Boxes, b: ops.Boxes) -> None:
    a, b = (np.concatenate([x[:, :2], x[:, :2] + x[:, 2:] + 1], axis=1) for x in (a, b))
    expected = box_iou(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_allclose(ops.iou(a, b), expected, atol=1e-5)


def test_iou_of_boxes_without_area_is_zero_never_nan() -> None:
    dot = as_boxes([[3, 3, 3, 3]])
    assert ops.iou(dot, dot).tolist() == [[0]]


@given(any_boxes)
def test_clipped_boxes_paint_the_pixels_inside_the_image(some: ops.Boxes) -> None:
    window = painted([0, 0, SIZE[1], SIZE[0]])
    for before, after in zip(some, ops.clip(some, SIZE), strict=True):
        np.testing.assert_array_equal(painted(after), painted(before) & window)


@given(any_boxes)
def test_mirroring_twice_changes_nothing_and_keeps_the_overlaps(some: ops.Boxes) -> None:
    flipped = ops.mirror(some, SIZE)
    np.testing.assert_array_equal(ops.mirror(flipped, SIZE), some)
    np.testing.assert_allclose(ops.iou(flipped, flipped), ops.iou(some, some), atol=1e-6)


def test_mirror_moves_the_pixels_of_the_mirrored_photo() -> None:
    box = as_boxes([[1, 2, 5, 4]])
    mirrored_pixels = painted(box[0], *SIZE, shift=0)[:, ::-1]
    np.testing.assert_array_equal(painted(ops.mirror(box, SIZE)[0], *SIZE, shift=0), mirrored_pixels)


@given(any_boxes)
def test_scaling_there_and_back_and_expanding_by_one_change_nothing(some: ops.Boxes) -> None:
    np.testing.assert_array_equal(ops.scale(ops.scale(some, 2, 4), 0.5, 0.25), some)
    np.testing.assert_array_equal(ops.expand(some, 1), some)


def test_expand_grows_about_the_centre_and_does_not_clip() -> None:
    assert ops.expand(as_boxes([[0, 0, 4, 2]]), 1.5).tolist() == [[-1, -0.5, 5, 2.5]]


def test_large_enough_is_inclusive_and_drops_what_is_not_finite() -> None:
    rows = [[0, 0, 20, 20], [0, 0, 19.9, 30], [0, 0, 30, 19.9], [np.nan, 0, 30, 30], [0, 0, np.inf, 30], [9, 9, 0, 0]]
    assert ops.large_enough(as_boxes(rows), 20).tolist() == [True, False, False, False, False, False]


def test_unique_rows_of_columns_laid_side_by_side() -> None:
    columns = np.array([[0, 0], [0, 0], [4, 4], [5, 5]], np.float32)
    assert ops.unique_rows(columns.T).tolist() == [0]


def test_unique_rows_keeps_the_first_of_each_in_input_order() -> None:
    rows = as_boxes([[9, 9, 10, 10], [0, 0, 1, 1], [9, 9, 10, 10], [0, 0, 1, 1], [5, 5, 6, 6]])
    assert ops.unique_rows(rows).tolist() == [0, 1, 4]
