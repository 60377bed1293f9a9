"""Labelled regions by hand: which box is an example of what, how photos are drawn from, how batches are mixed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.sampling import BatchDraw, LabelledRegions, choose_regions, label_boxes, soft_labels
from structures.boxes import Boxes, as_boxes, iou
from structures.records import GroundTruth
from tests.boxes import random_boxes, truth

BACKGROUND = 3


def label(boxes: list[list[float]], objects: GroundTruth, *, use_ignored: bool = True) -> tuple[list[int], list[float]]:
    labels, nearest, overlap = label_boxes(as_boxes(boxes), objects, background=BACKGROUND, use_ignored=use_ignored)
    assert labels.dtype == nearest.dtype == np.int64
    assert ((nearest == BACKGROUND) == (overlap == 0)).all()
    assert (nearest == labels)[overlap >= 0.5].all()
    assert overlap.dtype == np.float32
    return labels.tolist(), [round(value, 4) for value in overlap.tolist()]


ONE = truth([0, 0, 10, 10], labels=[1])


def test_labels_by_hand() -> None:
    boxes = [[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4.9], [20, 20, 30, 30], [0, 0, 20, 10], [0, 0, 21, 10]]
    labels, overlap = label(boxes, ONE)
    assert labels == [1, 1, BACKGROUND, BACKGROUND, 1, BACKGROUND]  # 0.5 itself is positive (R-CNN: IoU >= 0.5)
    assert overlap == [1, 0.5, 0.49, 0, 0.5, 0.4762]


def test_the_object_with_the_greatest_overlap_gives_the_label() -> None:
    objects = truth([0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 10], labels=[1, 2, 0])
    assert label([[0, 0, 10, 7.9], [0, 0, 10, 9.5], [0, 0, 10, 10]], objects) == ([2, 1, 1], [0.9875, 0.95, 1])


def test_a_photo_without_objects_has_only_background() -> None:
    assert label([[0, 0, 5, 5]], truth()) == ([BACKGROUND], [0])
    assert label([], ONE) == ([], [])
    assert label([], truth()) == ([], [])


def test_difficult_objects_are_objects_if_used() -> None:
    assert label([[0, 0, 10, 9]], truth([0, 0, 10, 10], labels=[2], ignore=[True])) == ([2], [0.9])


def test_ignored_objects_left_out_give_neither_positives_nor_negatives() -> None:
    objects = truth([0, 0, 40, 40], [50, 50, 60, 60], labels=[2, 1], ignore=[True, False])
    boxes = [
        [0, 0, 40, 40],  # on it
        [5, 5, 10, 10],  # inside: IoU is low, but what it shows is not known to be background
        [30, 0, 50, 10],  # half inside
        [31, 0, 51, 10],  # less than half inside
        [0, 0, 100, 100],  # around it
        [50, 50, 60, 60],
    ]
    labels, overlap = label(boxes, objects, use_ignored=False)
    assert labels == [-1, -1, -1, BACKGROUND, BACKGROUND, 1]
    assert overlap == [0, 0, 0, 0, 0.01, 1]


def test_an_object_inside_a_crowd_keeps_its_positives() -> None:
    objects = truth([0, 0, 40, 40], [5, 5, 15, 15], labels=[2, 1], ignore=[True, False])
    assert label([[5, 5, 15, 14], [5, 5, 15, 9]], objects, use_ignored=False) == ([1, -1], [0.9, 0.4])


def draw(boxes: object, objects: GroundTruth, seed: int = 0, **options: object) -> LabelledRegions:
    settings = {"photo": 7, "background": BACKGROUND, "positives": 4, "negatives": 6} | options
    rng = np.random.default_rng(seed)
    return choose_regions(as_boxes(boxes), objects, rng=rng, **settings)  # type: ignore[arg-type]


def scattered(count: int) -> Boxes:
    return random_boxes(count, 90, (5, 30))


TWO = truth([10, 10, 40, 40], [50, 50, 80, 90], labels=[1, 2], ignore=[False, True])


def test_a_draw_holds_what_it_says() -> None:
    boxes = scattered(3000)
    chosen = draw(boxes, TWO)
    assert (chosen.photo == 7).all()
    assert [chosen.photo.dtype, chosen.boxes.dtype] == [np.int64, np.float32]
    assert [chosen.labels.dtype, chosen.overlap.dtype] == [np.int64, np.float32]
    positive = chosen.labels != BACKGROUND
    assert positive.sum() == 4
    assert (~positive).sum() == 6
    best = iou(chosen.boxes, TWO.boxes)
    assert np.allclose(chosen.overlap, best.max(axis=1))
    assert ((chosen.overlap >= 0.5) == positive).all()
    assert (chosen.labels[positive] == TWO.labels[best.argmax(axis=1)[positive]]).all()
    assert ((chosen.overlap[~positive] >= 0.1).sum()) == 3
    assert len(np.unique(chosen.boxes, axis=0)) == 10  # without replacement
    candidates = {tuple(box) for box in np.concatenate([boxes, TWO.boxes]).tolist()}
    assert {tuple(box) for box in chosen.boxes.tolist()} <= candidates


def test_the_share_of_near_negatives() -> None:
    boxes = scattered(400)
    for share, near in ((0, 0), (0.5, 3), (1, 6)):
        chosen = draw(boxes, TWO, near_share=share)
        negative = chosen.overlap[chosen.labels == BACKGROUND]
        assert len(negative) == 6
        assert (negative >= 0.1).sum() == near, share


def test_positives_are_spread_evenly_over_their_tightness() -> None:
    square = truth([0, 0, 100, 100], labels=[1])
    loose, tight = np.linspace(51, 59, 300), np.array([65, 72, 74, 85, 92])  # heights: IoU in percent
    boxes = [[0, 0, 100, height] for height in (*loose, *tight)]
    for count, at_least in ((4, 1), (8, 1), (12, 1)):
        positive = draw(boxes, square, positives=count).overlap
        groups = np.digitize(positive[positive >= 0.5], (0.5, 0.6, 0.7, 0.8))
        held = np.bincount(groups, minlength=5)[1:]
        assert held.sum() == count
        assert held.min() >= at_least
        assert held[1:].tolist() == [min(have, count // 4) for have in (1, 2, 3)]  # the object itself is a tight one
    assert len({draw(boxes, square, seed, positives=2).overlap.tobytes() for seed in range(20)}) > 10


def test_the_share_of_the_best_boxes_among_negatives() -> None:
    boxes = scattered(400)
    best = np.arange(0, 400, 4)
    for share, wanted in ((0.7, 4), (1, 6)):
        chosen = draw(boxes, TWO, best=best, best_share=share)
        negative = chosen.boxes[chosen.labels == BACKGROUND].tolist()
        assert len(negative) == 6
        among = sum(box in boxes[best].tolist() for box in negative)
        assert among >= wanted, share
    few = draw(boxes, TWO, best=np.array([0]), best_share=1)
    assert (few.labels == BACKGROUND).sum() == 6  # too few of the best are made up by others
    for nothing_asked in ({"best_share": 0.7}, {"best": best}):
        assert draw(boxes, TWO, **nothing_asked).boxes.tolist() == draw(boxes, TWO).boxes.tolist()


def test_too_few_near_negatives_are_made_up_by_far_ones() -> None:
    far = scattered(50) * 0.1 + 90
    chosen = draw(far, ONE)
    assert (chosen.labels == BACKGROUND).sum() == 6
    assert (chosen.overlap[chosen.labels == BACKGROUND] < 0.1).all()


def test_objects_are_among_the_candidates() -> None:
    chosen = draw([], ONE)
    assert chosen.boxes.tolist() == [[0, 0, 10, 10]]
    assert chosen.labels.tolist() == [1]
    assert chosen.overlap.tolist() == [1]


def test_ignored_objects_are_not_candidates_if_left_out() -> None:
    assert draw([], TWO).labels.tolist() in ([1, 2], [2, 1])
    assert draw([], TWO, use_ignored=False).labels.tolist() == [1]
    around = [[50, 50, 80, 88], [52, 52, 60, 60], [0, 0, 9, 9]]
    chosen = draw(around, TWO, use_ignored=False)
    assert sorted(chosen.boxes.tolist()) == [[0, 0, 9, 9], [10, 10, 40, 40]]


def test_objects_without_area_are_not_examples() -> None:
    chosen = draw([[50, 50, 60, 60]], truth([5, 5, 5, 9]))
    assert chosen.boxes.tolist() == [[50, 50, 60, 60]]
    assert chosen.labels.tolist() == [BACKGROUND]


def test_photos_that_give_nothing() -> None:
    nothing = draw([], truth())
    assert len(nothing) == 0
    assert nothing.boxes.shape == (0, 4)
    no_objects = draw(scattered(100), truth())
    assert len(no_objects) == 6
    assert (no_objects.labels == BACKGROUND).all()
    assert len(draw(scattered(100), TWO, positives=0, negatives=0)) == 0


def test_twins_are_drawn_once() -> None:
    assert len(draw([[0, 0, 10, 10]] * 5 + [[50, 50, 60, 60]] * 5, ONE)) == 2


def test_a_draw_is_a_function_of_its_generator() -> None:
    boxes = scattered(300)
    first, again, other = draw(boxes, TWO, 1), draw(boxes, TWO, 1), draw(boxes, TWO, 2)
    assert np.array_equal(first.boxes, again.boxes)
    assert np.array_equal(first.mirrored, again.mirrored)
    assert not np.array_equal(first.boxes, other.boxes)


def test_half_of_the_rows_are_mirrored() -> None:
    many = draw(scattered(3000), TWO, positives=50, negatives=950)
    assert 0.4 < many.mirrored.mean() < 0.6


def test_joining_keeps_order_and_types() -> None:
    a, b = draw(scattered(100), TWO, photo=0), draw([], truth(), photo=1)
    joined = LabelledRegions.join([a, b, a])
    assert len(joined) == 2 * len(a)
    assert np.array_equal(joined.boxes, np.concatenate([a.boxes, a.boxes]))
    assert joined.mirrored.dtype == bool


POOL = np.array([0] * 90 + [1] * 9 + [2] * 1 + [BACKGROUND] * 300)


def test_a_batch_is_a_function_of_its_number() -> None:
    batches = BatchDraw(POOL, background=BACKGROUND, batch_size=32)
    later = [batches(number) for number in (5, 0, 9, 5)]
    again = BatchDraw(POOL, background=BACKGROUND, batch_size=32)
    assert np.array_equal(later[0], later[3])
    assert np.array_equal(later[0], again(5))
    assert not np.array_equal(later[0], later[1])
    other = BatchDraw(POOL, background=BACKGROUND, batch_size=32, seed=1)
    assert not np.array_equal(other(5), later[0])


@given(st.integers(1, 200), st.floats(0, 1), st.floats(0, 1), st.integers(0, 1000))
def test_shares_of_a_batch(batch_size: int, share: float, balance: float, iteration: int) -> None:
    draw = BatchDraw(POOL, background=BACKGROUND, batch_size=batch_size, positive_share=share, balance=balance)
    rows = draw(iteration)
    assert rows.shape == (batch_size,)
    assert rows.dtype == np.int64
    assert (POOL[rows] != BACKGROUND).sum() == round(batch_size * share)


@pytest.mark.parametrize(
    ("balance", "shares"), [(0.0, [0.9, 0.09, 0.01]), (1.0, [1 / 3] * 3), (0.5, [0.703, 0.222, 0.074])]
)
def test_balance_between_regions_and_classes(balance: float, shares: list[float]) -> None:
    draw = BatchDraw(POOL, background=BACKGROUND, batch_size=20_000, positive_share=1, balance=balance)
    found = np.bincount(POOL[draw(0)], minlength=3) / 20_000
    assert np.allclose(found, shares, atol=0.015)


def test_every_region_can_be_drawn_and_equally_often() -> None:
    draw = BatchDraw(POOL, background=BACKGROUND, batch_size=40_000, positive_share=0.25)
    counts = np.bincount(draw(3), minlength=len(POOL))
    assert counts[:100].min() > 60  # 100 each on average
    assert counts[:100].max() < 145
    assert counts[100:].min() > 60


@pytest.mark.parametrize("labels", [[BACKGROUND] * 4, [0, 1], []])
def test_pools_that_cannot_make_a_batch(labels: list[int]) -> None:
    with pytest.raises(ValueError, match=r"\d positive and \d negative regions: need both"):
        BatchDraw(np.array(labels, np.int64), background=BACKGROUND)


def test_soft_labels_by_hand() -> None:
    overlap = np.array([1, 0.8, 0.55, 0.3, 0.2, 0], np.float32)
    nearest = np.array([0, 2, 1, 1, 1, BACKGROUND])
    labels = np.where(overlap >= 0.5, nearest, BACKGROUND)
    regions = LabelledRegions(
        np.zeros(6, np.int64), np.zeros((6, 4), np.float32), labels, nearest, overlap, np.zeros(6, bool)
    )
    found = soft_labels(regions, background=BACKGROUND, ramp=(0.3, 0.8))
    assert found.dtype == np.float32
    expected = [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0.5, 0, 0.5], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1]]
    assert np.allclose(found, expected, atol=1e-6)
    steep = soft_labels(regions, background=BACKGROUND, ramp=(0.4999, 0.5))
    assert (steep.argmax(axis=1) == labels).all()  # a steep ramp is R-CNN's step
    assert steep.max(axis=1).tolist() == [1] * 6


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20), st.floats(0, 0.9), st.floats(0.01, 1))
def test_soft_labels_are_shares_that_rise_with_the_overlap(values: list[float], low: float, width: float) -> None:
    overlap = np.sort(np.array(values, np.float32))
    n, nearest = len(overlap), np.where(overlap > 0, 1, BACKGROUND)
    regions = LabelledRegions(
        np.zeros(n, np.int64), np.zeros((n, 4), np.float32), nearest, nearest, overlap, np.zeros(n, bool)
    )
    found = soft_labels(regions, background=BACKGROUND, ramp=(low, min(1, low + width)))
    assert np.allclose(found.sum(axis=1), 1)
    assert (np.diff(found[:, 1]) >= 0).all()
    assert (found[:, [0, 2]] == 0).all()
