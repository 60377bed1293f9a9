"""Matching and average precision: by hand, against slow loops, against the answers of others, and metamorphic."""

import math
from functools import partial

import numpy as np
import pytest

from eval.average_precision import EXACT_LEVELS, RankedOutcomes, all_point, eleven_point, rank_outcomes
from eval.matching import FALSE, IGNORED, TRUE, match_ilsvrc, match_voc
from eval.protocols import PROTOCOLS, class_curves, ilsvrc, voc, voc07
from eval.scores import score
from eval.tables import DetectionTable, ObjectTable
from structures.boxes import as_boxes, mirror
from structures.records import Detections
from tests.boxes import truth

SIZE = (100, 100)
BOX, FAR, OFF = [10, 10, 30, 30], [60, 60, 80, 80], [10, 10, 30, 24]  # OFF overlaps BOX by 0.7


def found(*boxes, scores=None, labels=None):
    columns = as_boxes(boxes)
    scores = np.linspace(0.9, 0.1, len(columns)) if scores is None else scores
    return Detections(columns, np.zeros(len(columns)) if labels is None else labels, scores, SIZE)


def outcomes(truths, detections, matcher=match_voc):
    return matcher(DetectionTable.of(detections), ObjectTable.of(truths)).outcome.tolist()


def ap(truths, detections, protocol=voc):
    return dict(protocol(truths, detections, ["thing"]))["AP/thing"]


# by hand -------------------------------------------------------------------------------------------------------------


def test_three_boxes_on_paper():
    """Two objects; hit, miss, hit: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1."""
    truths, detections = [truth(BOX, FAR)], [found(BOX, [40, 40, 50, 50], FAR)]
    assert ap(truths, detections, voc) == pytest.approx((1 + 2 / 3) / 2)
    assert ap(truths, detections, voc07) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_a_second_detection_of_an_object_is_false():
    assert outcomes([truth(BOX)], [found(BOX, BOX)]) == [TRUE, FALSE]


def test_the_better_scored_detection_takes_the_object_wherever_it_stands():
    assert outcomes([truth(BOX)], [found(OFF, BOX, scores=[0.2, 0.8])]) == [FALSE, TRUE]
    assert outcomes([truth(BOX)], [found(BOX, OFF, scores=[0.2, 0.8])]) == [FALSE, TRUE]


def test_voc_does_not_fall_back_to_another_object_and_ilsvrc_does():
    twins = [truth([10, 10, 30, 30], [12, 10, 32, 30])]
    detections = [found([10, 10, 30, 30], [10, 10, 30, 30])]
    assert outcomes(twins, detections, match_voc) == [TRUE, FALSE]
    assert outcomes(twins, detections, match_ilsvrc) == [TRUE, TRUE]


def test_detections_of_difficult_objects_are_ignored_even_repeatedly():
    truths = [truth(BOX, FAR, ignore=[True, False])]
    detections = [found(BOX, BOX, FAR)]
    assert outcomes(truths, detections) == [IGNORED, IGNORED, TRUE]
    assert ap(truths, detections) == 1.0


def test_a_first_detection_of_a_difficult_object_leaves_no_nan():
    assert ap([truth(BOX, FAR, ignore=[True, False])], [found(BOX)], voc07) == 0.0


def test_the_difficult_object_must_be_the_most_overlapped_one():
    truths = [truth(BOX, [10, 10, 30, 26], ignore=[False, True])]
    assert outcomes(truths, [found(OFF)]) == [IGNORED]  # 14/16 with the difficult one, 14/20 with the other
    assert outcomes(truths, [found(BOX)]) == [TRUE]


def test_of_equally_overlapped_objects_the_first_counts():
    assert outcomes([truth(BOX, BOX, ignore=[True, False])], [found(BOX)]) == [IGNORED]
    assert outcomes([truth(BOX, BOX, ignore=[False, True])], [found(BOX)]) == [TRUE]


def test_of_equally_overlapped_objects_ilsvrc_takes_the_first():
    """So the second detection, which overlaps the first object alone, finds it taken."""
    truths = [truth([0, 0, 16, 32], [4, 0, 20, 32])]
    detections = [found([2, 0, 18, 32], [-2, 0, 14, 32])]
    assert outcomes(truths, detections, match_ilsvrc) == [TRUE, FALSE]


@pytest.mark.parametrize("matcher", [match_voc, match_ilsvrc])
def test_iou_equal_to_the_threshold_is_a_hit(matcher):
    half = [found([0, 0, 100, 50])]
    assert outcomes([truth([0, 0, 100, 100])], half, partial(matcher, iou_threshold=0.5)) == [TRUE]
    assert outcomes([truth([0, 0, 100, 100])], half, partial(matcher, iou_threshold=0.51)) == [FALSE]


def test_ilsvrc_is_kinder_to_small_objects():
    small, shifted = [10, 10, 20, 20], [15, 10, 25, 20]  # IoU 1/3; threshold 100 / 400
    assert outcomes([truth(small)], [found(shifted)], match_ilsvrc) == [TRUE]
    assert outcomes([truth(small)], [found(shifted)], match_voc) == [FALSE]
    large, shifted = [0, 0, 60, 60], [30, 0, 90, 60]
    assert outcomes([truth(large)], [found(shifted)], match_ilsvrc) == [FALSE]


@pytest.mark.parametrize("matcher", [match_voc, match_ilsvrc])
@pytest.mark.parametrize("flat", [[50, 50, 50, 55], [50, 50, 50, 50]])
def test_an_object_without_area_is_never_found(matcher, flat):
    assert outcomes([truth(flat)], [found([0, 0, 5, 5], flat)], matcher) == [FALSE, FALSE]
    assert outcomes([truth(flat, BOX)], [found(FAR, BOX)], matcher) == [FALSE, TRUE]


def test_ilsvrc_prefers_an_object_that_counts_to_one_that_does_not():
    truths = [truth(BOX, OFF, ignore=[True, False])]
    assert outcomes(truths, [found(BOX, BOX, BOX)], match_ilsvrc) == [TRUE, IGNORED, IGNORED]


def test_classes_and_images_do_not_mix():
    truths = [truth(BOX, labels=[0], name="a"), truth(name="b")]
    detections = [found(BOX, labels=[1]), found(BOX, labels=[0])]
    for matcher in (match_voc, match_ilsvrc):
        assert outcomes(truths, detections, matcher) == [FALSE, FALSE]


def test_a_class_without_objects_is_nan_and_stays_out_of_the_mean():
    truths = [truth(BOX, FAR, labels=[0, 2], ignore=[False, True])]
    for protocol in (voc07, voc, ilsvrc):
        rows = list(protocol(truths, [found(BOX, FAR, labels=[0, 1])], ["cat", "dog", "cow"]))
        assert [name for name, _ in rows] == ["mAP", "AP/cat", "AP/dog", "AP/cow"]
        assert dict(rows)["mAP"] == dict(rows)["AP/cat"] == pytest.approx(1.0)
        assert math.isnan(dict(rows)["AP/dog"])
        assert math.isnan(dict(rows)["AP/cow"])  # difficult ones only


def test_a_class_with_objects_and_no_detections_has_ap_zero():
    for protocol in (voc07, voc, ilsvrc):
        assert dict(protocol([truth(BOX)], [found()], ["thing"])) == {"mAP": 0.0, "AP/thing": 0.0}


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_nothing_at_all_gives_nan_everywhere(name):
    assert all(math.isnan(value) for _, value in PROTOCOLS[name]([truth()], [found()], ["thing"]))


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_labels_without_a_class_are_an_error(name):
    with pytest.raises(ValueError, match="labels 1 to 1, expected 0 to 0"):
        list(PROTOCOLS[name]([truth(BOX)], [found(BOX, labels=[1])], ["thing"]))


def test_every_image_needs_its_record():
    with pytest.raises(ValueError, match="ground truth of 2 images but detections of 1"):
        list(voc([truth(), truth()], [found()], ["thing"]))


@pytest.mark.parametrize(
    ("true", "of", "levels"), [(3, 10, 3), (6, 10, 6), (7, 10, 7), (9, 15, 6), (5, 10, 6), (8, 10, 9)]
)
def test_recall_levels_as_multiples_of_a_tenth_in_doubles(true, of, levels):
    """A recall of exactly .3, .6 or .7 misses its level; with exact levels it does not."""
    ranked = RankedOutcomes(np.arange(1, true + 1), np.ones(true, np.float32), of)
    assert eleven_point(ranked) * 11 == pytest.approx(levels)
    assert eleven_point(ranked, levels=EXACT_LEVELS) * 11 == pytest.approx(10 * true // of + 1)


def test_equal_scores_rank_by_image_then_by_input_order():
    truths = [truth(name="a"), truth(BOX, name="b")]
    detections = [found(FAR, scores=[0.5]), found(BOX, FAR, scores=[0.5, 0.5])]
    objects, table = ObjectTable.of(truths), DetectionTable.of(detections)
    assert table.ranking.tolist() == [0, 1, 2]
    curve = rank_outcomes(table, match_voc(table, objects), objects, ["thing"])[0]
    assert curve.true.tolist() == [0, 1, 1]
    assert curve.precision.tolist() == [0, 0.5, 1 / 3]
    assert curve.ceiling.tolist() == [0.5, 0.5, 1 / 3]


def test_scores_come_with_the_counts_they_rest_on():
    truths = [truth(*[BOX] * 4, *[FAR] * 2, labels=[0, 0, 0, 0, 1, 1], ignore=[0, 0, 0, 1, 1, 1]), truth(name="b")]
    scores = score("voc", truths, [found(*[BOX] * 6, labels=[0, 0, 0, 0, 0, 1]), found()], ["cat", "dog"])
    assert (scores.objects, scores.ignored, scores.detections, scores.images) == ((3, 0), (1, 2), (5, 1), 2)


# the answers of others -----------------------------------------------------------------------------------------------

ANSWERS = {
    0.1: (0.3333333333, 0.3371980676),
    0.3: (0.2683982683, 0.2456866804),
    0.5: (0.0303030303, 0.0222222222),
    0.75: (0, 0),
}


def inclusive(rows):
    """Return half-open boxes of x, y, w, h whose last pixel is x + w, as the fixture's own tool counts."""
    rows = np.reshape(rows, (-1, 4))
    return as_boxes(np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:] + 1], axis=1))


@pytest.mark.parametrize("threshold", sorted(ANSWERS))
def test_known_answers_of_seven_images(data_dir, threshold):
    truths, detections = [], []
    folder = data_dir / "eval_fixtures" / "voc_11pt_case"
    for path in sorted((folder / "gts").glob("*.txt")):
        objects = [[float(v) for v in line.split()[1:]] for line in path.read_text().splitlines()]
        rows = [[float(v) for v in line.split()[1:]] for line in (folder / "dets" / path.name).read_text().splitlines()]
        truths.append(truth(*inclusive(objects), name=path.stem))
        detections.append(found(*inclusive([row[1:] for row in rows]), scores=[row[0] for row in rows]))
    assert len(truths) == 7
    at = {"iou_threshold": threshold}
    assert ap(truths, detections, partial(voc07, **at)) == pytest.approx(ANSWERS[threshold][0], abs=1e-6)
    assert ap(truths, detections, partial(voc, **at)) == pytest.approx(ANSWERS[threshold][1], abs=1e-6)


# slow loops ----------------------------------------------------------------------------------------------------------


def scene(seed, images=12, classes=3):
    """Return random objects and detections near them, with ties, doubles, difficult objects and empty images."""
    random = np.random.default_rng(seed)
    truths, detections = [], []
    for image in range(images):
        count = int(random.integers(0, 6))
        corners = random.integers(0, 60, (count, 2))
        boxes = np.concatenate([corners, corners + random.integers(4, 40, (count, 2))], axis=1)
        truths.append(
            truth(*boxes, labels=random.integers(0, classes, count), ignore=random.random(count) < 0.3, name=str(image))
        )
        near = np.repeat(boxes, 3, axis=0) + random.integers(-4, 5, (3 * count, 4))
        stray = np.concatenate([random.integers(0, 50, (4, 2)), random.integers(51, 100, (4, 2))], axis=1)
        some = np.concatenate([near, stray])
        labels = np.concatenate([np.repeat(truths[-1].labels, 3), random.integers(0, classes, 4)])
        detections.append(found(*some, scores=random.integers(0, 30, len(some)) / 30, labels=labels))
    return truths, detections


def slow_iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0


def slow_voc(truths, detections, label):
    """VOCevaldet.m and VOCap.m, line by line."""
    gt = [
        [
            {"box": b, "difficult": i, "taken": False}
            for b, k, i in zip(t.boxes, t.labels, t.ignore, strict=True)
            if k == label
        ]
        for t in truths
    ]
    npos = sum(not o["difficult"] for image in gt for o in image)
    rows = [
        (-s, image, row, box)
        for image, d in enumerate(detections)
        for row, (box, k, s) in enumerate(zip(d.boxes, d.labels, d.scores, strict=True))
        if k == label
    ]
    tp, fp, curve = 0, 0, []
    for _, image, _, box in sorted(rows, key=lambda r: r[:3]):
        best, overlap = None, -math.inf
        for item in gt[image]:
            if slow_iou(box, item["box"]) > overlap:
                best, overlap = item, slow_iou(box, item["box"])
        if best is not None and overlap >= 0.5:
            if best["difficult"]:
                continue
            tp, fp = (tp, fp + 1) if best["taken"] else (tp + 1, fp)
            best["taken"] = True
        else:
            fp += 1
        curve.append((tp / npos if npos else math.nan, tp / (tp + fp)))
    if npos == 0:
        return math.nan, math.nan
    eleven = sum(max((p for r, p in curve if r >= k * 0.1), default=0) for k in range(11)) / 11
    area_, last = 0, 0
    for recall in sorted({r for r, _ in curve}):
        area_ += (recall - last) * max(p for r, p in curve if r >= recall)
        last = recall
    return eleven, area_


@pytest.mark.parametrize("seed", range(8))
def test_voc_equals_the_devkit_written_out(seed):
    truths, detections = scene(seed)
    classes = ["x", "y", "z"]
    quick07, quick = dict(voc07(truths, detections, classes)), dict(voc(truths, detections, classes))
    for label, name in enumerate(classes):
        eleven, every = slow_voc(truths, detections, label)
        assert quick07[f"AP/{name}"] == pytest.approx(eleven, abs=1e-12, nan_ok=True)
        assert quick[f"AP/{name}"] == pytest.approx(every, abs=1e-12, nan_ok=True)
    assert 0.05 < quick["mAP"] < 0.95  # the scene has both hits and misses


def slow_ilsvrc(truths, detections, label):
    """eval_detection.m of the ILSVRC development kit, line by line; without objects to ignore."""
    gt = [[[b, False] for b, k in zip(t.boxes, t.labels, strict=True) if k == label] for t in truths]
    npos = sum(map(len, gt))
    rows = [
        (-s, image, row, box)
        for image, d in enumerate(detections)
        for row, (box, k, s) in enumerate(zip(d.boxes, d.labels, d.scores, strict=True))
        if k == label
    ]
    hits = []
    for _, image, _, box in sorted(rows, key=lambda r: r[:3]):
        best, overlap = None, -math.inf
        for item in gt[image]:
            width, height = item[0][2:] - item[0][:2]
            enough = min(0.5, width * height / ((width + 10) * (height + 10)))
            if not item[1] and slow_iou(box, item[0]) >= enough and slow_iou(box, item[0]) > overlap:
                best, overlap = item, slow_iou(box, item[0])
        if best is not None:
            best[1] = True
        hits.append(best is not None)
    true = np.cumsum(hits)
    return all_point(RankedOutcomes(true, np.ones(len(true), np.float32), npos))


@pytest.mark.parametrize("seed", range(4))
def test_ilsvrc_equals_its_kit_written_out(seed):
    truths, detections = scene(seed)
    truths = [truth(*t.boxes, labels=t.labels, name=t.image_id) for t in truths]
    rows = dict(ilsvrc(truths, detections, ["x", "y", "z"]))
    for label, name in enumerate("xyz"):
        assert rows[f"AP/{name}"] == pytest.approx(slow_ilsvrc(truths, detections, label), abs=1e-12)
    assert rows["mAP"] > dict(voc(truths, detections, ["x", "y", "z"]))["mAP"]


# metamorphic ---------------------------------------------------------------------------------------------------------


def distinct(detections, seed=0):
    """Return the detections with scores that are all different."""
    total = sum(map(len, detections))
    scores = iter(np.random.default_rng(seed).permutation(total) / total)
    return [Detections(d.boxes, d.labels, [next(scores) for _ in d.boxes], SIZE) for d in detections]


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_shuffled_detections_and_images_change_nothing(name):
    truths, detections = scene(3)
    detections = distinct(detections)
    random = np.random.default_rng(1)
    shuffled = [d.take(random.permutation(len(d))) for d in detections]
    order = random.permutation(len(truths))
    before = dict(PROTOCOLS[name](truths, detections, "xyz"))
    after = dict(PROTOCOLS[name]([truths[i] for i in order], [shuffled[i] for i in order], "xyz"))
    assert after == pytest.approx(before, nan_ok=True, abs=1e-12)


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_a_mirrored_world_is_as_good(name):
    truths, detections = scene(5)
    mirrored = [truth(*mirror(t.boxes, SIZE), labels=t.labels, ignore=t.ignore, name=t.image_id) for t in truths]
    turned = [Detections(mirror(d.boxes, SIZE), d.labels, d.scores, SIZE) for d in detections]
    assert dict(PROTOCOLS[name](mirrored, turned, "xyz")) == pytest.approx(
        dict(PROTOCOLS[name](truths, detections, "xyz")), nan_ok=True, abs=1e-12
    )


@pytest.mark.parametrize("name", ["voc07", "voc", "ilsvrc"])
def test_only_the_order_of_scores_matters(name):
    truths, detections = scene(7)
    squared = [Detections(d.boxes, d.labels, d.scores**2, SIZE) for d in detections]
    assert dict(PROTOCOLS[name](truths, squared, "xyz")) == dict(PROTOCOLS[name](truths, detections, "xyz"))


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_perfect_detections_are_perfect(name):
    truths, _ = scene(2)
    perfect = [found(*t.boxes, labels=t.labels, scores=np.full(len(t), 0.5)) for t in truths]
    rows = list(PROTOCOLS[name](truths, perfect, "xyz"))
    assert rows[0][1] == pytest.approx(1.0)


def test_appending_worse_false_alarms_never_raises_ap():
    truths, detections = scene(4)
    worse = [
        Detections(
            np.concatenate([d.boxes, [[0, 0, 2, 2]]]), np.append(d.labels, 0), np.append(d.scores + 1, 0.1), SIZE
        )
        for d in detections
    ]
    assert dict(voc(truths, worse, "xyz"))["AP/x"] <= dict(voc(truths, detections, "xyz"))["AP/x"]


def test_a_million_detections_in_one_pass():
    """Weak: shows that nothing grows with the square of the detections, not how long it takes."""
    random = np.random.default_rng(0)
    count, images = 1000, 1000
    truths = [truth(BOX, labels=[image % 20], name=str(image)) for image in range(images)]
    boxes = as_boxes(np.concatenate([random.integers(0, 40, (count, 2)), random.integers(41, 100, (count, 2))], axis=1))
    labels, scores = np.arange(count) % 20, random.random(count)
    curves = class_curves(
        truths, [Detections(boxes, labels, scores, SIZE)] * images, list("abcdefghijklmnopqrst"), match_voc
    )
    assert sum(len(curve.true) for curve in curves) == 1_000_000
