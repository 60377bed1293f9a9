"""Top-k accuracy and log loss, by hand."""

import math

import numpy as np
import pytest

from eval.classification import LEAST_PROBABILITY, calibrated_log_loss, classification, true_ranks

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


def test_log_loss_of_a_confident_mistake_is_finite() -> None:
    got = dict(classification(np.array([[1.0, 0.0]], np.float32), np.array([1])))
    assert got["log loss"] == pytest.approx(-math.log(LEAST_PROBABILITY))
    assert got["top-5"] == 1


def test_shuffling_photos_changes_nothing_but_who_calibrates_whom() -> None:
    order, labels = np.array([2, 0, 3, 1]), np.array([0, 2, 1, 2])
    got, unshuffled = (dict(classification(ROWS[rows], labels[rows])) for rows in (order, np.arange(4)))
    for scores in (got, unshuffled):
        del scores["calibrated log loss"]
    assert got == pytest.approx(unshuffled)


def drawn(softness: float) -> tuple[np.ndarray, np.ndarray]:
    """Return answers to 4,000 questions that are truly as sure as they say, then softened."""
    rng = np.random.default_rng(3)
    scores = rng.normal(0, 2, (4000, 10))
    true = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    labels = (true.cumsum(axis=1) > rng.random((4000, 1))).argmax(axis=1)
    soft = true**softness
    return (soft / soft.sum(axis=1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize("softness", [0.3, 1, 3])
def test_calibration_corrects_probabilities_that_are_too_modest_or_too_bold(softness: float) -> None:
    honest, (rows, labels) = dict(classification(*drawn(1))), drawn(softness)
    got = dict(classification(rows, labels))
    assert got["calibrated log loss"] == pytest.approx(honest["log loss"], rel=0.005)
    assert got["top-1"] == honest["top-1"]
    if softness != 1:
        assert got["log loss"] > 1.1 * honest["log loss"]


def test_no_row_is_judged_by_a_factor_that_it_chose() -> None:
    # The even rows say that the answers are always right, the odd ones that they never are.
    rows, labels = np.tile(np.array([[0.6, 0.4]], np.float32), (10, 1)), np.array([0, 1] * 5)
    assert calibrated_log_loss(rows, labels) > dict(classification(rows, labels))["log loss"]


def test_a_single_row_cannot_be_calibrated() -> None:
    assert "calibrated log loss" not in dict(classification(ROWS[:1], np.array([0])))
    with pytest.raises(ValueError, match="two are needed"):
        calibrated_log_loss(ROWS[:1], np.array([0]))


@pytest.mark.parametrize(
    ("rows", "labels", "complaint"),
    [
        (ROWS, [0], "one row per photo"),
        (ROWS[:0], [], "one row per photo"),
        (ROWS[:1], [3], "label 3 is not a column of 3"),
        (ROWS[:1] * np.float32("nan"), [0], "not finite"),
    ],
)
def test_wrong_input_is_refused(rows: np.ndarray, labels: list[int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        list(classification(rows, np.array(labels, np.int64)))
