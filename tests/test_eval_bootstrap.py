"""Draws of photos score as the drawn photos themselves would, and intervals are what they are by hand."""

import numpy as np
import pytest

from eval.bootstrap import difference_interval, draw_photos, draw_scores, interval, mean_ap_interval
from eval.protocols import PROTOCOLS, coco
from eval.scores import score
from structures.boxes import as_boxes
from structures.records import Detections
from tests.boxes import truth

BOX, FAR = [10, 10, 50, 50], [60, 60, 90, 90]
CLASSES = ["x", "y", "z"]


def found(*boxes, scores, labels):
    return Detections(as_boxes(boxes), labels, scores, (100, 100))


def scene(seed, images=9):
    """Return objects, some ignored, and detections near and far, with scores that are all different."""
    random = np.random.default_rng(seed)
    truths, detections = [], []
    for image in range(images):
        corners = random.integers(0, 60, (int(random.integers(0, 5)), 2))
        boxes = np.concatenate([corners, corners + random.integers(8, 40, corners.shape)], axis=1)
        labels = random.integers(0, 2, len(boxes))  # none of the third class
        truths.append(truth(*boxes, labels=labels, ignore=random.random(len(boxes)) < 0.2, name=str(image)))
        near = np.repeat(boxes, 2, axis=0) + random.integers(-3, 4, (2 * len(boxes), 4))
        some = np.concatenate([near, [FAR, BOX]])
        kinds = np.concatenate([np.repeat(labels, 2), random.integers(0, 3, 2)])
        detections.append(found(*some, scores=random.permutation(1000)[: len(some)] / 1000 + image / 1e5, labels=kinds))
    return truths, detections


@pytest.mark.parametrize("crowd", [False, True])
@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_a_draw_scores_as_its_photos_would(protocol, crowd):
    """Drawn photos are laid out and scored from the beginning; a photo drawn twice is there twice."""
    truths, detections = scene(1)
    drawn = draw_scores(protocol, truths, detections, CLASSES, crowd=crowd, draws=20, seed=3)
    weights = draw_photos(len(truths), 20, seed=3)
    assert (weights.sum(axis=1) == len(truths)).all()
    assert weights.max() > 1
    for row, weight in enumerate(weights):
        photos = np.repeat(np.arange(len(truths)), weight)
        slow = score(protocol, [truths[i] for i in photos], [detections[i] for i in photos], CLASSES, crowd=crowd)
        assert drawn.by_class[row] == pytest.approx([slow.values[f"AP/{name}"] for name in CLASSES], nan_ok=True)
        assert drawn.mean[row] == pytest.approx(slow.headline[1], nan_ok=True)
    assert len(set(drawn.mean)) > 10  # the draws differ


def test_the_same_seed_draws_the_same_photos_for_all():
    assert (draw_photos(50, 3, seed=1) == draw_photos(50, 3, seed=1)).all()
    assert (draw_photos(50, 3, seed=1) != draw_photos(50, 3, seed=2)).any()


def test_a_run_does_not_differ_from_itself():
    truths, detections = scene(2)
    one, two = (draw_scores("voc", truths, detections, CLASSES, draws=30) for _ in range(2))
    apart = difference_interval(one, two)
    assert (apart.value, apart.error, apart.low, apart.high) == (0, 0, 0, 0)
    assert mean_ap_interval(one).error > 0


def test_a_difference_is_surer_than_its_sides_where_photos_are_hard_for_both():
    """Half of the photos are found by neither; of the others the second run finds one more of ten."""
    truths = [truth(BOX, name=str(i)) for i in range(20)]
    one = [found(*[BOX] * (i < 9), scores=[0.9] * (i < 9), labels=[0] * (i < 9)) for i in range(20)]
    two = [found(*[BOX] * (i < 10), scores=[0.9] * (i < 10), labels=[0] * (i < 10)) for i in range(20)]
    first, second = (draw_scores("voc", truths, some, ["x"], draws=2000) for some in (one, two))
    apart = difference_interval(first, second)
    assert apart.value == pytest.approx(0.05)
    assert apart.error == pytest.approx(np.sqrt(0.05 * 0.95 / 20), rel=0.1)  # of a share of 1 in 20
    assert mean_ap_interval(first).error == pytest.approx(np.sqrt(0.45 * 0.55 / 20), rel=0.1)


def test_the_interval_of_a_figure_ends_at_100_percent():
    truths = [truth(BOX, name=str(i)) for i in range(4)]
    one = [found(*[BOX] * (i < 3), scores=[0.9] * (i < 3), labels=[0] * (i < 3)) for i in range(4)]
    sure = mean_ap_interval(draw_scores("voc", truths, one, ["x"]))
    assert (sure.value, sure.high) == (0.75, 1)
    assert 0 <= sure.low < 0.75


def test_an_interval_by_hand():
    """The draws are 0.2 too high on average, as sets that hold photos twice are; the interval is not."""
    some = interval(np.array([0.3, *np.linspace(0, 1, 41)]))
    assert (some.value, some.low, some.high) == pytest.approx((0.3, 0.025 - 0.2, 0.975 - 0.2))
    assert some.error == pytest.approx(np.linspace(0, 1, 41).std(ddof=1))
    assert np.isnan(interval(np.array([np.nan, 0.1, 0.2])).error)


def test_large_sets_are_drawn_in_parts(monkeypatch):
    truths, detections = scene(4)
    whole = draw_scores("coco", truths, detections, CLASSES, draws=10)
    assert whole.mean[0] == pytest.approx(dict(coco(truths, detections, CLASSES, crowd=False))["AP"])
    monkeypatch.setattr("eval.rankings.MOST_WEIGHTS", 40)
    parts = draw_scores("coco", truths, detections, CLASSES, draws=10)
    assert np.allclose(parts.by_class, whole.by_class, rtol=1e-12, equal_nan=True)


def test_an_unknown_protocol_is_refused():
    with pytest.raises(ValueError, match=r"no protocol 'vok'.*voc"):
        draw_scores("vok", [], [], [])
