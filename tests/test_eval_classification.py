"""Top-k accuracy and log loss, by hand."""

import math

import numpy as np
import pytest

from eval.classification import LEAST_PROBABILITY, classification, true_ranks

ROWS = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.1, 0.4], [0.2, 0.3, 0.5]], np.float32)


def test_three_photos_on_paper() -> None:
    got = dict(classification(ROWS, np.array([0, 2, 1, 2]), ranks=(1, 2, 3)))
    assert got["top-1"] == 0.5
    assert got["top-2"] == 0.75
    assert got["top-3"] == 1
    assert math.isclose(got["log loss"], -np.log([0.7, 0.3, 0.1, 0.5]).mean(), rel_tol=1e-6)


def test_equal_probabilities_are_ranked_by_column_and_not_all_right() -> None:
    even = np.full((3, 3), 1 / 3, np.float32)
    assert true_ranks(even, np.array([0, 1, 2])).tolist() == [0, 1, 2]
    assert dict(classification(even, np.array([0, 1, 2])))["top-1"] == pytest.approx(1 / 3)


def test_log_loss_of_a_sure_mistake_is_finite() -> None:
    got = dict(classification(np.array([[1.0, 0.0]], np.float32), np.array([1])))
    assert got["log loss"] == pytest.approx(-math.log(LEAST_PROBABILITY))
    assert got["top-5"] == 1


def test_shuffling_photos_changes_nothing() -> None:
    order, labels = np.array([2, 0, 3, 1]), np.array([0, 2, 1, 2])
    assert dict(classification(ROWS[order], labels[order])) == pytest.approx(dict(classification(ROWS, labels)))


@pytest.mark.parametrize(
    ("rows", "labels", "complaint"),
    [
        (ROWS, [0], "one row a photo"),
        (ROWS[:0], [], "one row a photo"),
        (ROWS[:1], [3], "label 3 is not a column of 3"),
        (ROWS[:1] * np.float32("nan"), [0], "not finite"),
    ],
)
def test_wrong_input_is_refused(rows: np.ndarray, labels: list[int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        list(classification(rows, np.array(labels, np.int64)))
