"""Suppression against a slow loop written from the definition, and against torchvision."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import nms as torchvision_nms

from structures import nms
from structures.boxes import as_boxes, iou, mirror
from structures.nms import best_first, suppress, suppress_per_class, vote

corner, side = st.integers(0, 12), st.integers(1, 8)
box = st.tuples(corner, corner, side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
tied_score = st.sampled_from([0.1, 0.2, 0.2, 0.5, 0.9])
scored = st.lists(st.tuples(box, tied_score), max_size=12)


def columns(rows: list[Any]) -> tuple[Any, Any]:
    return as_boxes([row[0] for row in rows]), np.array([row[1] for row in rows], np.float32)


def slow_suppress(boxes: Any, scores: Any, threshold: float) -> list[int]:
    """Take the best remaining box until none is left; drop what overlaps it."""
    remaining, kept = list(range(len(boxes))), []
    while remaining:
        best = max(remaining, key=lambda i: (scores[i], -i))
        kept.append(best)
        too_close = iou(boxes[[best]], boxes)[0] > threshold  # of arrays: NumPy 1 compares single numbers as doubles
        remaining = [i for i in remaining if i != best and not too_close[i]]
    return kept


@given(scored, st.sampled_from([0.0, 0.3, 0.5, 1.0]), st.sampled_from([1, 8, 30, nms.OVERLAPS]))
def test_suppress_agrees_with_the_slow_loop_ties_included(rows: list[Any], threshold: float, at_once: int) -> None:
    boxes, scores = columns(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nms, "OVERLAPS", at_once)
        found = suppress(boxes, scores, iou_threshold=threshold).tolist()
    assert found == slow_suppress(boxes, scores, threshold)


@pytest.mark.parametrize("seed", range(5))
def test_suppress_agrees_with_torchvision(seed: int) -> None:
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 200, (300, 2))
    boxes = as_boxes(np.concatenate([start, start + rng.uniform(1, 120, (300, 2))], axis=1))
    scores = rng.permutation(300).astype(np.float32)  # no ties: torchvision promises no order for them
    expected = torchvision_nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.3).tolist()
    assert suppress(boxes, scores).tolist() == expected


def test_an_overlap_of_exactly_the_threshold_is_kept() -> None:
    boxes = as_boxes([[0, 0, 2, 2], [0, 0, 2, 1]])  # IoU 0.5
    scores = np.array([0.9, 0.8], np.float32)
    assert suppress(boxes, scores, iou_threshold=0.5).tolist() == [0, 1]
    assert suppress(boxes, scores, iou_threshold=0.49).tolist() == [0]


def test_convention_ties_keep_input_order() -> None:
    assert best_first(np.array([0.5, 0.9, 0.5, 0.9], np.float32)).tolist() == [1, 3, 0, 2]
    twins = as_boxes([[0, 0, 5, 5], [0, 0, 5, 5]])
    assert suppress(twins, np.array([0.5, 0.5], np.float32)).tolist() == [0]


def test_boxes_without_area_are_kept_and_suppress_nothing() -> None:
    boxes = as_boxes([[3, 3, 3, 3], [3, 3, 3, 3], [0, 0, 9, 9]])
    assert suppress(boxes, np.array([0.9, 0.8, 0.7], np.float32)).tolist() == [0, 1, 2]


def test_none_and_one() -> None:
    assert suppress(as_boxes([]), np.zeros(0, np.float32)).tolist() == []
    assert suppress(as_boxes([[0, 0, 1, 1]]), np.ones(1, np.float32)).tolist() == [0]


def test_columns_that_do_not_fit_are_refused() -> None:
    boxes = as_boxes([[0, 0, 1, 1]])
    with pytest.raises(ValueError, match="1 box but 2 scores"):
        suppress(boxes, np.ones(2, np.float32))
    with pytest.raises(ValueError, match="not finite"):
        suppress(boxes, np.array([np.nan], np.float32))


def test_per_class_suppression_by_hand() -> None:
    boxes = as_boxes([[0, 0, 10, 10], [1, 1, 10, 10], [50, 50, 60, 60]])
    probabilities = np.array([[0.6, 0.30], [0.7, 0.04], [0.05, 0.9]], np.float32)
    rows, labels, scores = suppress_per_class(boxes, probabilities, score_floor=0.05)
    assert rows.tolist() == [2, 1, 0, 2]  # row 0 goes in class 0 only, row 1 is below the floor in class 1
    assert labels.tolist() == [1, 0, 1, 0]
    np.testing.assert_allclose(scores, [0.9, 0.7, 0.3, 0.05])


def test_a_class_never_suppresses_another_even_outside_the_image() -> None:
    boxes = as_boxes([[90, 0, 100, 10], [-10, -100, 0, -90]])
    probabilities = np.eye(2, dtype=np.float32)
    assert len(suppress_per_class(boxes, probabilities)[0]) == 2


def test_at_most_max_per_class_boxes_of_a_class() -> None:
    boxes = as_boxes([[i * 10, 0, i * 10 + 5, 5] for i in range(8)])
    probabilities = np.linspace(0.1, 0.8, 16, dtype=np.float32).reshape(8, 2)
    rows, labels, _ = suppress_per_class(boxes, probabilities, max_per_class=3)
    assert sorted(rows[labels == 0].tolist()) == [5, 6, 7]
    assert np.bincount(labels).tolist() == [3, 3]


def test_convention_equal_scores_are_ordered_by_label_then_row() -> None:
    boxes = as_boxes([[0, 0, 5, 5], [20, 0, 25, 5]])
    rows, labels, _ = suppress_per_class(boxes, np.full((2, 2), 0.5, np.float32))
    assert list(zip(labels.tolist(), rows.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_convention_no_boxes_give_empty_columns_of_the_right_types() -> None:
    rows, labels, scores = suppress_per_class(as_boxes([]), np.zeros((0, 20), np.float32))
    assert (rows.shape, labels.shape, scores.shape) == ((0,), (0,), (0,))
    assert (rows.dtype, labels.dtype, scores.dtype) == (np.int64, np.int64, np.float32)


@given(st.permutations(range(6)))
def test_shuffling_the_boxes_changes_nothing_but_their_order(order: list[int]) -> None:
    rng = np.random.default_rng(1)
    start = rng.uniform(0, 20, (6, 2))
    boxes = as_boxes(np.concatenate([start, start + 10], axis=1))
    probabilities = rng.permutation(12).reshape(6, 2).astype(np.float32)
    rows, labels, scores = suppress_per_class(boxes, probabilities)
    shuffled_rows, shuffled_labels, shuffled_scores = suppress_per_class(boxes[order], probabilities[order])
    np.testing.assert_array_equal(boxes[rows], boxes[order][shuffled_rows])
    np.testing.assert_array_equal(labels, shuffled_labels)
    np.testing.assert_array_equal(scores, shuffled_scores)


def votes(boxes: list[list[float]], scores: list[float], row: int = 0, **options: float) -> list[float]:
    column = np.array(scores, np.float32)[:, None]
    return vote(as_boxes(boxes), column, np.array([row]), np.array([0]), **options)[0].tolist()


def test_votes_by_hand() -> None:
    boxes = [[0, 0, 10, 10], [0, 0, 10, 20], [0, 0, 10, 30], [50, 50, 60, 60]]
    assert votes(boxes, [0.6, 0.2, 0.9, 0.9]) == pytest.approx([0, 0, 10, 12.5])  # an IoU of 0.5 itself has a vote
    assert votes(boxes, [0.6, 0.2, 0.9, 0.9], iou_threshold=0.51) == pytest.approx([0, 0, 10, 10])
    assert votes(boxes, [0.5, 0.5, 0.5, 0.9], iou_threshold=0.3) == pytest.approx([0, 0, 10, 20])
    assert votes(boxes, [0.6, 0.2, 0.9, 0.9], row=3) == [50, 50, 60, 60]


def test_the_power_of_votes() -> None:
    boxes = [[0.0, 0, 10, 10], [0, 0, 10, 15]]
    for power, share in ((1, 0.25), (2, 0.1), (0.5, 3**-0.5 / (1 + 3**-0.5))):
        assert votes(boxes, [0.75, 0.25], power=power) == pytest.approx([0, 0, 10, 10 + 5 * share]), power


def test_votes_count_by_the_class_of_the_detection() -> None:
    boxes = as_boxes([[0, 0, 10, 10], [0, 0, 10, 20]])
    scores = np.array([[0.9, 0.1], [0.0, 0.3]], np.float32)
    moved = vote(boxes, scores, np.array([0, 1]), np.array([0, 1]))
    np.testing.assert_allclose(moved, [[0, 0, 10, 10], [0, 0, 10, 17.5]])


def test_a_detection_that_nothing_votes_for_stays() -> None:
    assert votes([[3, 3, 3, 3], [0, 0, 9, 9]], [0.9, 0.8]) == [3, 3, 3, 3]
    assert votes([[0, 0, 9, 9]], [0.0]) == [0, 0, 9, 9]
    nothing = np.zeros(0, np.int64)
    assert vote(as_boxes([]), np.zeros((0, 3), np.float32), nothing, nothing).shape == (0, 4)


@given(st.integers(0, 2**32 - 1))
def test_votes_stay_within_the_boxes_and_mirror_with_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 20, (12, 2))
    boxes = as_boxes(np.concatenate([start, start + rng.uniform(5, 40, (12, 2))], axis=1))
    scores = rng.uniform(0, 1, (12, 2)).astype(np.float32)
    rows, labels, _ = suppress_per_class(boxes, scores)
    moved = vote(boxes, scores, rows, labels)
    assert moved.dtype == np.float32
    assert (moved >= boxes.min(axis=0) - 1e-4).all()
    assert (moved <= boxes.max(axis=0) + 1e-4).all()
    size = (100, 100)
    np.testing.assert_allclose(vote(mirror(boxes, size), scores, rows, labels), mirror(moved, size), atol=1e-3)


def test_suppression_over_all_classes_leaves_the_best_class_of_each_place() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]], np.float32)
    chances = np.array([[0.6, 0.7], [0.9, 0.1], [0.3, 0.2]], np.float32)
    rows, labels, scores = suppress_per_class(boxes, chances, class_agnostic=True)
    assert list(zip(rows.tolist(), labels.tolist(), strict=True)) == [(1, 0), (2, 0)]
    assert scores.tolist() == pytest.approx([0.9, 0.3])
    twice = suppress_per_class(np.concatenate([boxes, boxes + 100]), np.tile(chances, (2, 1)), class_agnostic=True)
    assert len(twice[0]) == 4
    few = suppress_per_class(
        np.concatenate([boxes, boxes + 100]), np.tile(chances, (2, 1)), class_agnostic=True, max_per_class=1
    )
    assert few[1].tolist() == [0]
    kept = suppress_per_class(boxes, chances, class_agnostic=True, iou_threshold=1)
    assert len(kept[0]) == 6
