"""Recall, average recall and MABO of proposals: by hand, against a slow loop, and where nothing is there."""

import math

import numpy as np
import pytest

from eval.proposal_recall import (
    AVERAGED,
    COUNTS,
    average_recall,
    best_overlaps,
    class_mabo,
    measure_coverage,
    proposal_rows,
    recall,
    recall_by_size,
)
from structures.boxes import as_boxes, iou, mirror
from tests.boxes import random_boxes, truth

OBJECT, HALF, FAR = [0, 0, 10, 10], [0, 0, 10, 5], [50, 50, 60, 60]


def figures(*pairs, classes=("x", "y")):
    return dict(proposal_rows(measure_coverage((t, as_boxes(b)) for t, b in pairs), classes))


def test_two_objects_on_paper():
    """One covered by 0.5, one fully: mean overlap 0.75, recall 1 at 0.5 and 1/2 above."""
    rows = figures((truth(OBJECT, FAR), [HALF, FAR]))
    assert rows["MABO"] == rows["ABO/x"] == pytest.approx(0.75)
    assert (rows["recall@0.50"], rows["recall@0.55"], rows["recall@1.00"]) == (1, 0.5, 0.5)
    assert rows["AR"] == rows["AR@100"] == pytest.approx((1 + 9 * 0.5) / 10)
    assert rows["boxes per image, mean"] == 2


def test_one_box_may_cover_many_objects():
    assert figures((truth(OBJECT, OBJECT, HALF), [OBJECT]))["recall@0.50"] == 1


def test_objects_of_photos_without_boxes_are_missed_not_left_out():
    rows = figures((truth(OBJECT), [OBJECT]), (truth(OBJECT, FAR, OBJECT), []))
    assert rows["recall@0.50"] == 0.25
    assert rows["MABO"] == 0.25
    assert (rows["boxes per image, fewest"], rows["boxes per image, median"]) == (0, 0.5)


def test_ignored_objects_do_not_count():
    rows = figures((truth(OBJECT, FAR, ignore=[False, True]), [OBJECT]))
    assert rows["recall@0.50"] == 1


def test_mabo_is_the_mean_over_classes_that_have_objects():
    pairs = (truth(OBJECT, OBJECT, OBJECT, FAR, labels=[0, 0, 0, 2]), [OBJECT])
    rows = figures(pairs, classes=("x", "y", "z"))
    assert (rows["ABO/x"], rows["ABO/z"], rows["MABO"]) == (1, 0, 0.5)
    assert math.isnan(rows["ABO/y"])
    assert rows["recall@0.50"] == 0.75


def test_only_the_first_boxes_count_where_a_number_is_given():
    rows = figures((truth(OBJECT), [FAR] * 10 + [HALF] * 90 + [OBJECT]))
    assert rows["recall@0.50 of 10 boxes"] == 0
    assert rows["recall@0.50 of 20 boxes"] == 1
    assert rows["recall@0.70 of 100 boxes"] == 0
    assert rows["recall@0.70 of 200 boxes"] == 1
    assert (rows["AR@100"], rows["AR@300"]) == pytest.approx((0.1, 1.0))


def test_iou_equal_to_the_threshold_is_recalled():
    overlap = iou(as_boxes([[0, 0, 10, 10]]), as_boxes([[0, 0, 10, n] for n in range(5, 10)]))[0]
    assert [float(recall(overlap[[i]], 0.5 + i / 10)[0]) for i in range(5)] == [1] * 5
    assert recall(np.float32(AVERAGED), AVERAGED).tolist() == pytest.approx(np.arange(10, 0, -1) / 10)


def test_recall_by_size():
    coverage = measure_coverage([(truth([0, 0, 10, 10], [0, 0, 50, 50], [0, 0, 98, 98]), as_boxes([[0, 0, 50, 50]]))])
    assert recall_by_size(coverage) == {"small": 0, "medium": 1, "large": 0}


def test_nothing_there_gives_nan():
    rows = figures()
    assert all(math.isnan(value) for value in rows.values())
    assert math.isnan(figures((truth(), [OBJECT]))["MABO"])


@pytest.mark.parametrize("seed", range(3))
def test_best_overlaps_equal_a_slow_loop(seed):
    boxes = random_boxes(9000, 80, (1, 40), seed)
    objects, proposals = boxes[:5], boxes[5 : 5 + np.random.default_rng(seed).integers(4000, 8995)]
    pairs = iou(objects, proposals)
    slow = [[max(row[:n]) for n in (*COUNTS, len(proposals))] for row in pairs]
    assert best_overlaps(objects, proposals).tolist() == slow


def test_mirrored_photos_are_as_well_covered():
    boxes = random_boxes(60, 60, (1, 40))
    turned = mirror(boxes, (100, 100))
    before = figures((truth(*boxes[:9]), boxes[9:]))
    assert figures((truth(*turned[:9]), turned[9:])) == pytest.approx(before, nan_ok=True)


def test_more_boxes_never_cover_less():
    boxes = random_boxes(300, 60, (1, 40), seed=1)
    best = best_overlaps(boxes[:20], boxes[20:])
    assert (np.diff(best, axis=1) >= 0).all()
    assert average_recall(best[:, 0]) < average_recall(best[:, -1])


def test_perfect_proposals_of_real_photos(data_dir):
    from eval.voc import VocDataset

    data = VocDataset(data_dir / "voc2007", "val")
    coverage = measure_coverage((record, record.boxes) for record in data)
    assert class_mabo(coverage, 20).tolist() == [1.0] * 20
    assert len(coverage.labels) == 2417
