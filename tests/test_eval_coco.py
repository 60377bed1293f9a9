"""COCO files are read and written as pycocotools means them, without its traps."""

import contextlib
import io
import json
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from eval.coco import CocoDataset, CocoError
from eval.coco_protocol import coco
from eval.coco_results import read_coco_results, write_coco_results
from structures.boxes import as_boxes
from structures.records import Detections
from tests.boxes import truth

BEYOND = (10**400, 1e300)  # neither fits float32, and the first no float at all
NOTHING = Detections(as_boxes([]), np.zeros(0), np.zeros(0), (100, 100))


def found(*boxes, scores):
    return Detections(as_boxes(boxes), np.zeros(len(boxes)), scores, (100, 100))


@pytest.fixture
def instances(tmp_path):
    """Return a function that writes an instances.json, with changes, and opens it."""

    def make(**changes):
        content = {
            "images": [
                {"id": 9, "file_name": "b.jpg", "width": 60, "height": 50},
                {"id": 4, "file_name": "a.jpg", "width": 100, "height": 80},
            ],
            "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}],
            "annotations": [
                {"id": 0, "image_id": 9, "category_id": 90, "bbox": [1, 2, 10, 20], "iscrowd": 0, "area": 77.5},
                {"id": 5, "image_id": 9, "category_id": 1, "bbox": [0, 0, 60, 50], "iscrowd": 1, "area": 3000},
            ],
        }
        path = tmp_path / "instances.json"
        path.write_text(json.dumps({**content, **changes}))
        return CocoDataset(path)

    return make


def test_sparse_category_ids_become_labels_and_back(instances, tmp_path):
    data = instances()
    assert data.classes == ("person", "toothbrush")
    assert data.category_ids == (1, 90)
    assert data.image_ids == ("a.jpg", "b.jpg")  # in the order of their ids
    record = data.ground_truth("b.jpg")
    assert record.boxes.tolist() == [[1, 2, 11, 22], [0, 0, 60, 50]]
    assert record.labels.tolist() == [1, 0]
    assert record.ignore.tolist() == [False, True]
    assert record.area.tolist() == [77.5, 3000]
    assert record.image_size == (50, 60)
    assert len(data.ground_truth("a.jpg")) == 0
    detections = Detections(record.boxes, record.labels, [0.1, np.float32(1 / 3)], (50, 60))
    path = tmp_path / "results.json"
    write_coco_results(path, [("b.jpg", detections)], category_ids=data.category_ids, image_numbers=data.image_numbers)
    assert [entry["category_id"] for entry in json.loads(path.read_text())] == [90, 1]
    again = read_coco_results(path, data)[0]["b.jpg"]
    assert again.boxes.tolist() == detections.boxes.tolist()
    assert again.labels.tolist() == detections.labels.tolist()
    assert again.scores.tolist() == detections.scores.tolist()


def test_missing_area_and_iscrowd_have_defaults(instances):
    data = instances(annotations=[{"id": 1, "image_id": 4, "category_id": 1, "bbox": [0, 0, 3, 4]}])
    record = data.ground_truth("a.jpg")
    assert (record.area.tolist(), record.ignore.tolist()) == ([12], [False])


def test_whole_numbers_may_be_written_as_3_0(instances):
    photos = [{"id": 4.0, "file_name": "a.jpg", "width": 200.0, "height": 100.0}]
    rows = [{"id": 1.0, "image_id": 4, "category_id": 1.0, "bbox": [0, 0, 3, 4], "iscrowd": 0.0}]
    data = instances(images=photos, annotations=rows)
    assert data.ground_truth("a.jpg").image_size == (100, 200)
    assert [repr(number) for number in data.image_numbers.values()] == ["4"]
    assert not data.notes


def test_file_names_from_windows(instances):
    data = instances(images=[{"id": 4, "file_name": "val\\a.jpg"}], annotations=[])
    assert data.image_ids == ("val/a.jpg",)


@pytest.mark.parametrize("name", ["/home/bob/photos/a.jpg", r"C:\Users\Bob\photos\a.jpg", "photos/a.jpg", "a.jpg"])
def test_photos_of_another_machine_are_found_by_the_ends_of_their_paths(instances, tmp_path, name):
    (tmp_path / "a.jpg").touch()
    images = [{"id": 4, "file_name": name}, {"id": 5, "file_name": "x/b.jpg"}, {"id": 6, "file_name": "y/b.jpg"}]
    data = instances(images=images, annotations=[])
    assert data.image_path(data.image_ids[0]) == tmp_path / "a.jpg"
    (tmp_path / "b.jpg").touch()
    assert [data.image_path(each) for each in data.image_ids[1:]] == [tmp_path / "x/b.jpg", tmp_path / "y/b.jpg"]


def test_oddities_are_noted(instances):
    rows = [{"id": i, "image_id": 4, "category_id": 1, "bbox": [0, 0, i, 4], "ignore": 1} for i in (0, 1)]
    notes = instances(annotations=rows).notes
    assert notes[0].startswith("1 object without area")
    assert notes[1].startswith("2 objects with ignore=1")


def test_ids_that_lead_pycocotools_astray_are_noted(instances):
    rows = [{"id": i, "image_id": 4, "category_id": 1, "bbox": [0, 0, 3, 4 + y]} for y, i in enumerate((0, 7, 7))]
    notes = instances(annotations=rows).notes
    assert [note.split(",")[0] for note in notes] == ["1 object with id 0", "1 object with the id of another"]


def test_missing_sizes_are_noted_and_hold_all_boxes(instances):
    data = instances(images=[{"id": i, "file_name": f"{i}.jpg"} for i in (4, 9)])
    assert data.ground_truth("9.jpg").image_size == (50, 60)
    assert data.notes[0].startswith("2 images without width and height")


def test_photos_are_found_in_the_usual_places(instances, tmp_path):
    assert instances().image_path("a.jpg") == tmp_path / "images" / "a.jpg"
    (tmp_path / "a.jpg").touch()
    assert instances().image_path("b.jpg") == tmp_path / "b.jpg"
    assert (
        CocoDataset(tmp_path / "instances.json", tmp_path / "else").image_path("b.jpg") == tmp_path / "else" / "b.jpg"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "no list 'images'"),
        ({"categories": [], "annotations": []}, "the list 'categories' is empty"),
        ({"images": [{"id": 1}]}, r"images\[0\] has no file_name"),
        ({"images": [{"id": i, "file_name": "a.jpg"} for i in (1, 2)]}, "file_name a.jpg appears twice"),
        ({"images": [{"id": 1, "file_name": "a\0.jpg"}]}, r"no file can have the file_name 'a\\x00.jpg'"),
        ({"images": [{"id": 1, "file_name": "."}]}, r"no file can have the file_name '\.'"),
        ({"images": [{"id": 1, "file_name": ""}]}, r"no file can have the file_name ''"),
        ({"categories": [{"id": 1, "name": n} for n in "ab"]}, "category id 1 appears twice"),
        ({"categories": [{"id": i, "name": "mouse"} for i in (1, 2)]}, "category name mouse appears twice"),
        (
            {"annotations": [{"id": 3, "image_id": 1, "category_id": 1, "bbox": []}]},
            "annotation 3 is of unknown image 1",
        ),
        ({"annotations": [{"image_id": 4, "category_id": 2, "bbox": [0, 0, 1, 1]}]}, "category_id 2 is not among"),
        ({"annotations": [{"image_id": 4, "category_id": 1, "bbox": [0, 0, 1]}]}, "image 4: every bbox must be four"),
        ({"annotations": [{"image_id": 4, "category_id": 1, "bbox": [0, 0, 1, math.nan]}]}, "not finite"),
        *(
            ({"annotations": [{"image_id": 4, "category_id": 1, "bbox": [0, 0, 1, big]}]}, "image 4: .* not finite")
            for big in BEYOND
        ),
        *(
            ({"annotations": [{"image_id": 4, "category_id": 1, "bbox": [0, 0, 1, 1], "area": big}]}, "area 1.* is not")
            for big in BEYOND
        ),
        *(
            ({"images": [{"id": odd, "file_name": "a.jpg"}]}, "expected a whole number")
            for odd in (True, 4.5, math.inf, math.nan)
        ),
        *(
            (
                {"annotations": [{"id": 3, "image_id": 4, "category_id": 1, "bbox": [0, 0, 1, 1], "iscrowd": odd}]},
                "annotation 3 has iscrowd .* expected 0 or 1",
            )
            for odd in ("0", 2, None)
        ),
        ({"images": [{"id": "4", "file_name": "a.jpg"}]}, r"images\[0\] has id '4', expected a whole number"),
        ({"annotations": [{"image_id": 4, "category_id": 1, "bbox": [0, 0, 1, 1], "area": "x"}]}, "area 'x' is not"),
        ({"annotations": [{"image_id": [4], "category_id": 1, "bbox": [0, 0, 1, 1]}]}, r"has image_id \[4\], expected"),
        ({"categories": [{"id": 1, "name": " "}]}, "category 1 has no name"),
        ({"categories": [{"id": 1, "name": None}]}, "category 1 has no name"),
        ({"images": [{"id": 4, "file_name": None}]}, "no file can have the file_name ''"),
        ({"annotations": ["x"]}, r"annotations\[0\] has no image_id"),
    ],
)
def test_bad_files_are_errors_that_name_the_entry(instances, changes, message):
    with pytest.raises(CocoError, match=f"instances.json: {message}|instances.json.*{message}"):
        instances(**changes)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image_id": 5}, "entry 1: image 5 is not in the ground truth .`allow_extra=True` leaves it out"),
        ({"category_id": 2}, "category_id 2"),
        ({"score": math.nan}, "entry 1 has score nan"),
        ({"score": None}, "entry 1 has score None"),
        ({"bbox": "wide"}, "every bbox"),
        *(({"score": big}, "entry 1 has score 1") for big in BEYOND),
        *(({"bbox": [big, 0, 1, 1]}, "entry 1: a bbox holds values that are not finite") for big in BEYOND),
        ({"bbox": [-math.inf, 0, math.inf, 1]}, "not finite"),
    ],
)
def test_bad_results_are_errors_that_name_the_entry(instances, tmp_path, entry, message):
    good = {"image_id": 4, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}
    path = tmp_path / "results.json"
    path.write_text(json.dumps([good, {**good, **entry}]))
    with pytest.raises(CocoError, match=f"results.json.*{message}"):
        read_coco_results(path, instances())
    path.write_text("[{")
    with pytest.raises(CocoError, match="not readable as JSON"):
        read_coco_results(path, instances())


def test_results_are_read_the_same_quickly_and_entry_by_entry(instances, tmp_path, monkeypatch):
    random, data, path = np.random.default_rng(0), instances(), tmp_path / "results.json"
    kinds = zip(random.choice([4, 9], 50).tolist(), random.choice([1, 90], 50).tolist(), strict=True)
    boxes = np.abs(random.normal(0, 10.0 ** random.integers(-6, 3, (50, 4)))).tolist()  # some have an exponent
    rows = [
        {"image_id": image, "category_id": category, "bbox": box, "score": float(random.random())}
        for (image, category), box in zip(kinds, boxes, strict=True)
    ]
    path.write_text(json.dumps(rows))
    written = tmp_path / "written.json"
    for file in (path, written):
        with monkeypatch.context() as patched:
            patched.setattr("eval.coco_result_columns.load", None)  # the careful reader is not asked
            quick, _, notes = read_coco_results(file, data)
        with monkeypatch.context() as patched:
            patched.setattr("eval.coco_result_columns.read_columns", lambda path: None)
            careful, _, others = read_coco_results(file, data)
        assert notes == others
        assert list(quick) == list(careful) == ["a.jpg", "b.jpg"]
        for name in quick:
            for column in quick[name].COLUMNS:
                np.testing.assert_array_equal(getattr(quick[name], column), getattr(careful[name], column))
        names = {"category_ids": data.category_ids, "image_numbers": data.image_numbers}
        write_coco_results(written, quick.items(), **names)  # our own files are read quickly, too


def test_unknown_images_are_left_out_and_named_where_allowed(instances, tmp_path):
    rows = [{"image_id": n, "category_id": 1, "bbox": [0, 0, n, 1], "score": 0.5} for n in (5, 4, 7, 5)]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    found, extra, _ = read_coco_results(tmp_path / "results.json", instances(), allow_extra=True)
    assert {name: some.boxes.tolist() for name, some in found.items()} == {"a.jpg": [[0, 0, 4, 1]]}
    assert extra == ["5", "7"]


def test_results_need_known_images_and_labels(instances, tmp_path):
    data = instances()
    names = {"category_ids": data.category_ids, "image_numbers": data.image_numbers}
    with pytest.raises(CocoError, match=r"c\.jpg: the image has no COCO id"):
        write_coco_results(tmp_path / "r.json", [("c.jpg", NOTHING)], **names)
    some = Detections(as_boxes([[0, 0, 1, 1]]), [2], [0.5], (9, 9))
    with pytest.raises(CocoError, match="label 2"):
        write_coco_results(tmp_path / "r.json", [("a.jpg", some)], **names)
    assert not (tmp_path / "r.json").exists()


def test_an_empty_results_file_is_an_empty_list(instances, tmp_path):
    data = instances()
    write_coco_results(
        tmp_path / "r.json", [("a.jpg", NOTHING)], category_ids=data.category_ids, image_numbers=data.image_numbers
    )
    assert json.loads((tmp_path / "r.json").read_text()) == []
    assert read_coco_results(tmp_path / "r.json", data) == ({}, [], [])


# the protocol --------------------------------------------------------------------------------------------------------

PRINTED = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)  # our names, in the order in which pycocotools prints and keeps its figures
ANSWERS = dict(
    zip(
        PRINTED,
        (
            *(0.503647, 0.696973, 0.571667, 0.593252, 0.557991, 0.489363),
            *(0.386813, 0.593680, 0.595353, 0.654764, 0.603130, 0.553744),
        ),
        strict=True,
    )
)


def evaluate(data, results):
    return dict(coco(list(data), [results.get(name, NOTHING) for name in data.image_ids], data.classes))


def test_known_answers_of_a_hundred_images(data_dir):
    folder = data_dir / "eval_fixtures" / "coco_bbox"
    data = CocoDataset(folder / "gts" / "sampled_gts_bbox_area.json")
    rows = evaluate(data, read_coco_results(folder / "cocoapi_results.json", data)[0])
    assert {name: rows[name] for name in PRINTED} == pytest.approx(ANSWERS, abs=1e-6)
    wrapped, _, _ = read_coco_results(folder / "dets" / "sampled_bbox_results.json", data)
    assert evaluate(data, wrapped) == pytest.approx(rows, nan_ok=True)


def figures_by_both(data, folder):
    """Score detections near the objects by ours, from records, and by the official tool, from files."""
    random = np.random.default_rng(0)
    results = {}
    for record in data:
        boxes = np.repeat(record.boxes, 2, axis=0) + random.normal(0, 8, (2 * len(record), 4))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        labels = np.where(random.random(len(boxes)) < 0.9, np.repeat(record.labels, 2), 0)
        results[record.image_id] = Detections(boxes, labels, random.integers(1, 99, len(boxes)) / 99, record.image_size)
    path = folder / "results.json"
    write_coco_results(path, results.items(), category_ids=data.category_ids, image_numbers=data.image_numbers)
    with contextlib.redirect_stdout(io.StringIO()):
        official = COCO(str(data.annotations))
        judge = COCOeval(official, official.loadRes(str(path)), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    rows = evaluate(data, results)
    return [rows[name] for name in PRINTED], list(judge.stats)


def test_parity_with_pycocotools_on_crowds_and_sparse_ids(data_dir, tmp_path):
    """On real photos."""
    data = CocoDataset(data_dir / "coco128" / "instances.json")
    assert sum(int(record.ignore.sum()) for record in data) == 10
    ours, theirs = figures_by_both(data, tmp_path)
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_parity_with_pycocotools_on_drawn_boxes_of_all_sizes(instances, tmp_path):
    """Masks are a quarter to all of their boxes, so that their areas tell the sizes apart otherwise."""
    random, rows = np.random.default_rng(1), []
    for n in range(200):
        width, height = np.exp(random.uniform(np.log(12), np.log(250), 2))
        place = {"image_id": 3 + 7 * (n % 10), "bbox": [*random.uniform(0, 200, 2), width, height]}
        kind = {"category_id": 90 if n % 3 else 2, "iscrowd": int(n % 7 == 0)}
        rows.append({"id": n + 1, "area": width * height * random.uniform(0.25, 1), **place, **kind})
    photos = [{"id": 3 + 7 * n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in range(10)]
    categories = [{"id": 90, "name": "toothbrush"}, {"id": 2, "name": "bicycle"}]
    ours, theirs = figures_by_both(instances(images=photos, categories=categories, annotations=rows), tmp_path)
    assert len(set(theirs)) == len(PRINTED)  # or exchanged figures would go unseen
    assert min(theirs) > 0
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_figures_of_a_class_by_hand():
    """One detection of IoU 0.62: a hit at the thresholds 0.50, 0.55 and 0.60 of ten."""
    rows = dict(coco([truth([0, 0, 100, 100])], [found([0, 0, 62, 100], scores=[0.9])], "x"))
    assert (rows["AP50/x"], rows["AP/x"]) == pytest.approx((1, 0.3))


def test_a_first_object_is_found_like_any_other():
    """Annotation id 0 would halve this."""
    rows = dict(
        coco(
            [truth([0, 0, 50, 50], [60, 60, 99, 99])], [found([0, 0, 50, 50], [60, 60, 99, 99], scores=[0.9, 0.8])], "x"
        )
    )
    assert rows["AP"] == rows["AP/x"] == rows["AR_100"] == pytest.approx(1.0)


def test_no_detections_are_zero_not_an_error():
    rows = dict(coco([truth([0, 0, 50, 50])], [NOTHING], "xy"))
    assert rows["AP"] == rows["AP/x"] == 0
    assert math.isnan(rows["AP/y"])


def test_the_hundred_best_of_each_class_in_an_image_count():
    alarms = [[0, 0, 1, 1]] * 100
    scores = np.linspace(0.9, 0.8, 100)
    best = dict(coco([truth([10, 10, 90, 90])], [found(*alarms[:99], [10, 10, 90, 90], scores=scores)], "x"))
    beyond = dict(coco([truth([10, 10, 90, 90])], [found(*alarms, [10, 10, 90, 90], scores=[*scores, 0.1])], "x"))
    assert best["AP"] == pytest.approx(0.01)
    assert beyond["AP"] == 0


def test_difficult_objects_are_excused_by_iou_and_crowds_by_coverage():
    """A small box inside a large ignored object: part of a crowd, but no detection of a difficult object."""
    truths = [truth([0, 0, 80, 80], [90, 90, 100, 100], ignore=[True, False])]
    detections = [found([0, 0, 20, 20], [90, 90, 100, 100], scores=[0.9, 0.8])]
    assert dict(coco(truths, detections, "x", crowd=True))["AP"] == pytest.approx(1.0)
    assert dict(coco(truths, detections, "x", crowd=False))["AP"] == pytest.approx(0.5)
    on_it = [found([0, 0, 80, 78], [90, 90, 100, 100], scores=[0.9, 0.8])]
    assert dict(coco(truths, on_it, "x", crowd=False))["AP"] == pytest.approx(1.0, abs=0.06)  # IoU .975


def test_a_dataset_is_not_changed_by_an_evaluation():
    record, some = truth([0, 0, 50, 50], ignore=[True]), found([0, 0, 50, 50], scores=[0.5])
    first = dict(coco([record], [some], "x"))
    assert dict(coco([record], [some], "x")) == pytest.approx(first, nan_ok=True)
