"""Boxes in the order of a score: the best first, near twins gone, the whole photo always among them."""

import numpy as np
import pytest

from proposals.ranking import Ranked
from structures.boxes import as_boxes, iou, whole_image
from structures.nms import suppress
from structures.records import Proposals
from tests.boxes import random_boxes

PHOTO = np.zeros((100, 100, 3), np.uint8)
SIZE = (100, 100)


class Given:
    """Proposes boxes that it was given."""

    name, parameters = "given", {}

    def __init__(self, boxes):
        self.boxes = boxes

    def __call__(self, image):
        scores = np.linspace(1, 0.5, len(self.boxes)).astype(np.float32)
        source = (np.arange(len(self.boxes)) % 2).astype(np.uint8)
        return Proposals(self.boxes, scores, SIZE, source, ("even", "odd"))


def many():
    return np.concatenate([random_boxes(200, 60, (10, 40)), whole_image(SIZE)])


def by_area(image, boxes):
    """Small boxes are best, so the whole photo is last."""
    return (1 / (boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1])).astype(np.float32)


def test_best_first_without_near_twins():
    boxes = as_boxes([[0, 0, 100, 100], [10, 10, 50, 50], [10, 10, 50, 52], [60, 60, 90, 90]])
    found = Ranked(Given(boxes), by_area, {})(PHOTO)
    np.testing.assert_array_equal(found.boxes, boxes[[3, 1, 0]])
    assert [found.source_names[source] for source in found.source] == ["odd", "odd", "even"]
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("threshold", [0.5, 0.75])  # exact in binary
def test_keeps_what_plain_suppression_keeps(threshold):
    boxes = many()
    scores = by_area(PHOTO, boxes)
    found = Ranked(Given(boxes), by_area, {}, max_boxes=None, nms_threshold=threshold)(PHOTO)
    np.testing.assert_array_equal(found.boxes, boxes[suppress(boxes, scores, iou_threshold=threshold)])
    assert iou(found.boxes, found.boxes)[~np.eye(len(found.boxes), dtype=bool)].max() <= threshold


def test_a_threshold_of_one_only_orders():
    boxes = many()
    found = Ranked(Given(boxes), by_area, {}, max_boxes=None, nms_threshold=1)(PHOTO)
    assert sorted(map(tuple, found.boxes.tolist())) == sorted(map(tuple, boxes.tolist()))


def test_the_whole_photo_stays_after_the_best():
    found = Ranked(Given(many()), by_area, {}, max_boxes=5)(PHOTO)
    assert len(found) == 6
    np.testing.assert_array_equal(found.boxes[-1:], whole_image(SIZE))


def test_a_whole_photo_that_is_better_than_others_is_before_them():
    boxes = as_boxes([[0, 0, 100, 100], [0, 0, 100, 90], [10, 10, 30, 30]])

    def by_size(image, boxes):
        return np.array([0.8, 0.9, 0.1], np.float32)

    found = Ranked(Given(boxes), by_size, {})(PHOTO)  # suppression drops the whole photo, but it stays
    np.testing.assert_array_equal(found.boxes, boxes[[1, 0, 2]])


def test_what_is_cut_is_left_out_best_first():
    boxes = many()
    found = Ranked(Given(boxes), by_area, {}, max_boxes=5)(PHOTO)
    every = np.concatenate([found.boxes, found.left_out.boxes])
    assert sorted(map(tuple, every.tolist())) == sorted(map(tuple, boxes.tolist()))
    np.testing.assert_array_equal(found.left_out.scores, by_area(PHOTO, found.left_out.boxes))
    assert (np.diff(found.left_out.scores) <= 0).all()


def test_own_boxes_keep_their_scores_and_those_of_others_are_squared():
    boxes = as_boxes([[0, 0, 20, 20], [30, 0, 50, 20], [60, 0, 80, 20], [0, 40, 20, 60], [0, 0, 100, 100]])

    def shown(image, boxes):
        return np.array([0.9, 0.6, 0.8, 0.1, 0.2], np.float32)

    found = Ranked(Given(boxes), shown, {}, own="odd")(PHOTO)  # which came with 0.875 and 0.625
    np.testing.assert_array_equal(found.boxes, boxes[[1, 0, 2, 3, 4]])
    np.testing.assert_allclose(found.scores, [0.875, 0.81, 0.64, 0.625, 0.04], rtol=1e-6)
    assert [found.source_names[source] for source in found.source] == ["odd", "even", "even", "odd", "even"]


def test_what_scores_no_boxes_of_its_own_squares_all():
    found = Ranked(Given(many()), by_area, {}, own="another")(PHOTO)
    plain = Ranked(Given(many()), by_area, {})(PHOTO)
    np.testing.assert_array_equal(found.boxes, plain.boxes)
    np.testing.assert_allclose(found.scores, plain.scores**2, rtol=1e-6)


def test_settings_tell_everything():
    ranked = Ranked(Given(many()), by_area, {"by": "area"}, max_boxes=5, nms_threshold=0.5, own="odd")
    assert ranked.parameters == {
        "ranked": {"name": "given", "parameters": {}},
        "by": {"by": "area"},
        "max_boxes": 5,
        "nms_threshold": 0.5,
        "close": 30,
        "spread_threshold": 0.5,
        "own": "odd",
    }


def test_boxes_after_the_best_are_spread_over_the_photo():
    twins = [[10, 10, 30, 30 + i] for i in range(5)]  # overlap by 5 / 6 and more
    loose = [[10, 10, 34, 34], [60, 60, 84, 84], [60, 60, 84, 90]]  # the first by 0.69 with a twin, the last two by 0.8
    boxes = as_boxes([*twins, *loose, [0, 0, 100, 100]])
    found = Ranked(Given(boxes), by_area, {}, max_boxes=8, nms_threshold=1, close=4)(PHOTO)
    # The best four as they are; of the rest what overlaps neither these nor a better one by more than a half.
    np.testing.assert_array_equal(found.boxes, boxes[[0, 1, 2, 3, 6, 8]])


@pytest.mark.parametrize("close", [0, 3, 60])
def test_the_spread_rest_is_what_plain_suppression_leaves(close):
    boxes = many()
    found = Ranked(Given(boxes), by_area, {}, max_boxes=40, nms_threshold=0.75, close=close)(PHOTO)
    assert 2 <= len(found) <= 41
    overlap = iou(found.boxes, found.boxes)
    rest = overlap[np.triu_indices(len(found.boxes) - 1, 1)].reshape(-1)  # the last is the whole photo
    assert rest.max() <= 0.75
    if close == 0:
        assert rest.max() <= 0.5
    expected = boxes[suppress(boxes, by_area(PHOTO, boxes), iou_threshold=0.75)][: min(close, 40)]
    assert {tuple(row) for row in expected.tolist()} <= {tuple(row) for row in found.boxes.tolist()}
