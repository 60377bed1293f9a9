"""Every missed object was lost at exactly one stage, the first that it did not survive."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.lost import STAGES, Losses, LostObject, Rules
from eval.mistakes import SIZES, find_mistakes, judge
from eval.trace import find_lost
from structures.boxes import as_boxes, iou
from structures.errors import InputError
from structures.nms import suppress_per_class
from structures.records import Detections, GroundTruth, Proposals
from structures.regions import Regions

CLASSES = ("cat", "dog")
RULES = Rules(score_floor=0.1, nms_threshold=0.3, max_per_class=100, weigh_by_fit=False)
OBJECT = [0, 0, 100, 100]
HALF = [0, 0, 100, 50]  # IoU 0.5
NARROW = [0, 0, 100, 40]  # IoU 0.4
FAR = [300, 300, 400, 400]
SIZE = (500, 500)


def truth(*boxes: Sequence[float], labels: Sequence[int] = (), ignore: Sequence[bool] = ()) -> GroundTruth:
    count = len(boxes)
    area = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes]
    return GroundTruth("a", as_boxes(boxes), labels or [0] * count, ignore or [False] * count, area, SIZE)  # type: ignore[arg-type]


def found(*rows: tuple[Sequence[float], int, float]) -> Detections:
    boxes, labels, scores = [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows]
    return Detections(as_boxes(boxes), labels, scores, SIZE)  # type: ignore[arg-type]


def regions(
    *rows: tuple[Sequence[float], float, float], left_out: Sequence[Sequence[float]] = (), fit: Sequence[float] = ()
) -> Regions:
    """Make regions out of boxes with their probabilities of cat and of dog."""
    scores = fit or [1.0] * len(rows)
    rest = Proposals(as_boxes(left_out), np.zeros(len(left_out), np.float32), SIZE, source_names=("grid",))
    proposals = Proposals(as_boxes([r[0] for r in rows]), scores, SIZE, source_names=("search",), left_out=rest)  # type: ignore[arg-type]
    chances = np.array([[cat, dog, 1 - cat - dog] for _, cat, dog in rows], np.float32).reshape(-1, 3)
    return Regions(proposals, chances, CLASSES)


def detected(seen: Regions, rules: Rules = RULES) -> Detections:
    """Choose detections as the detector does, without votes."""
    rows, labels, scores = suppress_per_class(
        seen.boxes,
        seen.scores(weigh_by_fit=rules.weigh_by_fit),
        score_floor=rules.score_floor,
        iou_threshold=rules.nms_threshold,
        max_per_class=rules.max_per_class,
        class_agnostic=rules.class_agnostic,
    )
    return Detections(seen.boxes[rows], labels, scores, SIZE)


def lost_in(seen: Regions, real: GroundTruth | None = None, rules: Rules = RULES) -> LostObject:
    (only,) = find_lost([real or truth(OBJECT)], [detected(seen, rules)], CLASSES, {"a": seen}, rules).lost
    return only


def test_an_object_that_is_found_is_not_lost() -> None:
    seen = regions((OBJECT, 0.9, 0.0))
    assert find_lost([truth(OBJECT)], [detected(seen)], CLASSES, {"a": seen}, RULES).lost == ()


def test_an_object_without_a_box_that_fits_was_not_proposed() -> None:
    lost = lost_in(regions((FAR, 0.9, 0.0), left_out=[NARROW]))
    assert (lost.stage, lost.box, lost.rank, lost.classified) == ("no proposal", (0, 0, 100, 40), 2, 1)
    assert lost.iou == pytest.approx(0.4)
    assert (lost.source, lost.probabilities, lost.size) == ("grid", {}, "large")
    assert lost.reason() == "the best proposed box has IoU 0.40"


def test_without_any_box_there_is_none_to_name() -> None:
    lost = lost_in(regions())
    assert (lost.stage, lost.box, lost.iou, lost.rank) == ("no proposal", None, 0, 0)


def test_the_first_box_that_fits_but_was_cut_is_named_with_its_rank() -> None:
    lost = lost_in(regions((NARROW, 0.9, 0.0), left_out=[FAR, HALF, OBJECT]))
    assert (lost.stage, lost.box, lost.rank, lost.classified) == ("not classified", (0, 0, 100, 50), 3, 1)
    assert lost.reason() == "box 3 fits, but only 1 were classified"


def test_a_region_of_weak_probability_was_taken_for_background() -> None:
    lost = lost_in(regions((OBJECT, 0.0, 0.3), (HALF, 0.0625, 0.25)))
    assert (lost.stage, lost.box, lost.rank) == ("background", (0, 0, 100, 50), 2)  # the likelier cat of the two
    assert lost.probabilities == {"cat": 0.0625, "background": 0.6875}
    assert lost.score == 0.0625
    assert lost.reason() == "the best box that fits was taken for background: background 0.69, cat 0.06"


def test_a_region_that_looks_like_another_class_was_confused() -> None:
    lost = lost_in(regions((OBJECT, 0.0625, 0.75)))
    assert (lost.stage, lost.probabilities) == ("wrong class", {"cat": 0.0625, "dog": 0.75, "background": 0.1875})


def test_a_class_that_the_classifier_does_not_know_is_taken_for_another() -> None:
    seen = regions((HALF, 0.9, 0.0), (OBJECT, 0.9, 0.0))
    real = truth(OBJECT, labels=[1])
    (lost,) = find_lost([real], [found((OBJECT, 0, 0.9))], ("cat", "bird"), {"a": seen}, RULES).lost
    assert (lost.stage, lost.rank) == ("wrong class", 2)
    assert list(lost.probabilities) == ["cat", "background"]
    assert math.isnan(lost.score)


def test_classes_are_found_by_name_whatever_their_order() -> None:
    seen = regions((OBJECT, 0.0625, 0.9))
    (lost,) = find_lost([truth(OBJECT)], [found()], ("dog", "cat"), {"a": seen}, RULES).lost
    assert lost.stage == "loose"
    assert lost.score == pytest.approx(0.9)


def test_the_right_class_below_the_floor() -> None:
    rules = replace(RULES, weigh_by_fit=True)
    lost = lost_in(regions((OBJECT, 0.75, 0.0), fit=[0.125]), rules=rules)
    assert lost.stage == "below the floor"
    assert lost.score == pytest.approx(0.09375)
    assert lost.reason() == "the best box that fits has score 0.094"


def test_a_score_that_is_asked_for_is_a_floor_too() -> None:
    seen = regions((OBJECT, 0.5, 0.25))
    (lost,) = find_lost([truth(OBJECT)], [detected(seen)], CLASSES, {"a": seen}, RULES, score=0.75).lost
    assert lost.stage == "below the floor"


def test_a_region_that_a_better_box_suppressed() -> None:
    lost = lost_in(regions(([0, 0, 100, 210], 0.9, 0.0), ([0, 0, 90, 100], 0.25, 0.0), (OBJECT, 0.5, 0.0)))
    assert (lost.stage, lost.rank, lost.score) == ("suppressed", 3, 0.5)
    assert lost.other == (0, 0, 100, 210)
    assert lost.other_score == pytest.approx(0.9)
    assert lost.reason() == "a box that fits has score 0.50; a box that does not, 0.90"


def test_a_region_that_a_better_one_of_another_class_suppressed() -> None:
    rules = replace(RULES, class_agnostic=True)
    lost = lost_in(regions((OBJECT, 0.25, 0.0), ([0, 0, 100, 90], 0.0, 0.75)), rules=rules)
    assert (lost.stage, lost.other, lost.other_score) == ("suppressed", (0, 0, 100, 90), 0.75)
    assert lost_in(regions((FAR, 0.25, 0.0), ([0, 0, 100, 90], 0.0, 0.75)), rules=rules).stage == "wrong class"


def test_a_class_that_was_not_looked_for_suppresses_nothing_and_is_not_found() -> None:
    rules = replace(RULES, class_agnostic=True, only=("Cat",))
    seen, real = regions((OBJECT, 0.25, 0.75)), truth(OBJECT, FAR, labels=[0, 1])
    losses = find_lost([real], [found((OBJECT, 0, 0.25))], CLASSES, {"a": seen}, rules)
    assert [(each.row, each.stage) for each in losses.lost] == [(1, "no proposal")]
    (lost,) = find_lost([truth(OBJECT, labels=[1])], [found()], CLASSES, {"a": seen}, rules).lost
    assert lost.stage == "wrong class"


def test_a_region_beyond_the_most_of_a_class() -> None:
    lost = lost_in(regions((FAR, 0.9, 0.0), (OBJECT, 0.5, 0.0)), rules=replace(RULES, max_per_class=1))
    assert (lost.stage, lost.other) == ("suppressed", None)


def test_votes_may_move_a_detection_off_its_object() -> None:
    seen = regions((HALF, 0.9, 0.0))
    moved = found((FAR, 0, 0.3), (NARROW, 0, 0.9))
    (lost,) = find_lost([truth(OBJECT)], [moved], CLASSES, {"a": seen}, RULES).lost
    assert (lost.stage, lost.box, lost.other) == ("loose", (0, 0, 100, 50), (0, 0, 100, 40))


def test_a_detection_can_count_for_one_object_only() -> None:
    seen = regions((OBJECT, 0.9, 0.0))
    (lost,) = find_lost([truth(OBJECT, [0, 0, 100, 90])], [detected(seen)], CLASSES, {"a": seen}, RULES).lost
    assert (lost.row, lost.stage, lost.other) == (1, "shared", (0, 0, 100, 100))


@pytest.mark.parametrize(
    ("detection", "stage"),
    [
        ((HALF, 0, 0.2), "below the floor"),
        ((NARROW, 0, 0.9), "loose"),
        ((HALF, 1, 0.9), "wrong class"),
        ((NARROW, 1, 0.9), "unknown"),
        ((FAR, 0, 0.9), "unknown"),
    ],
)
def test_detections_alone_tell_less(detection: tuple[Sequence[float], int, float], stage: str) -> None:
    losses = find_lost([truth(OBJECT)], [found(detection)], CLASSES, {}, score=0.5)
    assert [each.stage for each in losses.lost] == [stage]
    assert losses.with_regions == 0
    assert losses.lost[0].reason()


def test_a_photo_without_results_was_not_searched() -> None:
    (lost,) = find_lost([truth(OBJECT)], [found()], CLASSES, {}, missing=["a"]).lost
    assert lost.stage == "not searched"


def test_objects_to_ignore_cannot_be_lost() -> None:
    assert find_lost([truth(OBJECT, ignore=[True])], [found()], CLASSES, {}).lost == ()


def test_negative_scores_of_other_programs_count() -> None:
    assert find_lost([truth(OBJECT)], [found((OBJECT, 0, -3.0))], CLASSES, {}).lost == ()


def test_no_photos_no_losses() -> None:
    losses = find_lost([], [], CLASSES, {})
    assert (losses.lost, losses.photos) == ((), 0)


def test_regions_need_the_rules() -> None:
    with pytest.raises(InputError, match="rules"):
        find_lost([truth(OBJECT)], [found()], CLASSES, {"a": regions()})


def test_counts_by_class_size_and_generator() -> None:
    seen = regions((NARROW, 0.9, 0.0), ([200, 200, 220, 220], 0.0, 0.0625))
    real = truth(OBJECT, [200, 200, 220, 220], [400, 0, 420, 20], labels=[0, 1, 1])
    losses = find_lost([real], [detected(seen)], CLASSES, {"a": seen}, RULES)
    assert losses.stages == {"no proposal": 2, "background": 1}
    assert losses.by_class() == {"cat": {"no proposal": 1}, "dog": {"background": 1, "no proposal": 1}}
    assert losses.by_size() == {"large": {"no proposal": 1}, "small": {"background": 1, "no proposal": 1}}
    assert losses.by_source() == {"search": {"no proposal": 2, "background": 1}}
    assert losses.objects.tolist() == [[0, 0, 1], [2, 0, 0]]


corners = st.lists(st.integers(0, 8), min_size=4, max_size=4).map(
    lambda c: [10 * min(c[0], c[2]), 10 * min(c[1], c[3]), 10 * max(c[0], c[2]) + 10, 10 * max(c[1], c[3]) + 10]
)
chances = st.tuples(st.integers(0, 8), st.integers(0, 8)).map(lambda c: (c[0] / 16, c[1] / 16))


@st.composite
def photos(draw: st.DrawFn) -> tuple[GroundTruth, Detections, Regions]:
    boxes = draw(st.lists(corners, max_size=4))
    labels, ignore = [draw(st.integers(0, 1)) for _ in boxes], [draw(st.booleans()) for _ in boxes]
    rows = [(box, *draw(chances)) for box in draw(st.lists(corners, max_size=5))]
    seen = regions(*rows, left_out=draw(st.lists(corners, max_size=3)))
    chosen = detected(seen) if draw(st.booleans()) else found(*((box, 0, max(cat, 0.1)) for box, cat, _ in rows))
    real = replace(truth(*boxes), labels=np.array(labels, np.int64), ignore=np.array(ignore, bool))
    return real, chosen, seen


@settings(deadline=None, max_examples=50)
@given(st.lists(photos(), max_size=3), st.sampled_from([None, 0.2, 0.45]), st.sampled_from(["all", "none", "first"]))
def test_every_missed_object_is_lost_at_one_stage(
    drawn: list[tuple[GroundTruth, Detections, Regions]], score: float | None, which: str
) -> None:
    truths = [replace(real, image_id=str(i)) for i, (real, _, _) in enumerate(drawn)]
    chosen = [each for _, each, _ in drawn]
    kept: Mapping[str, Regions] = {str(i): seen for i, (_, _, seen) in enumerate(drawn) if which == "all" or i == 0}
    losses = find_lost(truths, chosen, CLASSES, {} if which == "none" else kept, RULES, score=score)
    _check(losses, truths, [each.where(score=score) for each in chosen])


def _check(losses: Losses, truths: Sequence[GroundTruth], strong: Sequence[Detections]) -> None:
    sizes = find_mistakes(judge(truths, strong, CLASSES)).sizes
    assert len({(each.image_id, each.row) for each in losses.lost}) == len(losses.lost)
    assert len(losses.lost) == sum(objects - hit for objects, hit in sizes.values())
    assert {each.stage for each in losses.lost} <= STAGES.keys()
    assert losses.objects.sum() == sum(objects for objects, _ in sizes.values())
    for groups in (losses.by_class(), losses.by_size(), losses.by_source()):
        assert sum(groups.values(), start=type(losses.stages)()) == losses.stages
    for name in SIZES:
        objects, hit = sizes[name]
        assert losses.by_size().get(name, losses.stages.__class__()).total() == objects - hit
    assert all(each.reason() for each in losses.lost)


@settings(deadline=None, max_examples=50)
@given(photos())
def test_detections_that_the_rules_made_are_never_loose(drawn: tuple[GroundTruth, Detections, Regions]) -> None:
    """Without votes an object is lost before suppression, by it, or to another object."""
    real, _, seen = drawn
    losses = find_lost([real], [detected(seen)], CLASSES, {"a": seen}, RULES)
    for each in losses.lost:
        assert each.stage not in ("loose", "unknown", "not searched")
        fits = _overlaps(real, each.row, seen)
        if each.stage == "suppressed":
            assert fits
            assert each.other is not None
            assert each.other_score >= each.score >= RULES.score_floor
        if each.stage in ("no proposal", "not classified"):
            assert not fits


def _overlaps(real: GroundTruth, row: int, seen: Regions) -> bool:
    return bool((iou(real.boxes[row : row + 1], seen.boxes) >= 0.5).any())
