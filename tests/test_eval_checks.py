"""Odd annotations and results: the same checks for VOC and COCO, and figures that stay those of the official tool."""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from eval.aligned import align, align_records
from eval.checks import Category, unused_categories
from eval.coco import CocoDataset, CocoError
from eval.coco_protocol import coco
from eval.coco_records import CocoDetections
from eval.coco_results import read_coco_results
from eval.notes import Notes
from eval.results import read_lines
from eval.scores import score
from eval.selection import Selection
from eval.voc import VocDataset, VocError
from eval.yolo import YoloDataset
from tests import layouts

Opened = Callable[..., CocoDataset]


@pytest.fixture
def instances(tmp_path: Path) -> Opened:
    """Return a function that writes rows (image, category, box) of photos of 100 x 80 pixels, and opens them."""

    def make(rows: list[tuple[int, int, list[float]]], categories: list[dict[str, Any]], **options: Any) -> CocoDataset:
        content = {
            "images": [{"id": n, "file_name": f"{n}.jpg", "width": 100, "height": 80} for n in (1, 2)],
            "categories": categories,
            "annotations": [
                {"id": n, "image_id": i, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
                for n, (i, c, b) in enumerate(rows, start=1)
            ],
        }
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(content))
        return CocoDataset(path, **options)

    return make


CRATE = [{"id": 1, "name": "crate"}]


def write_results(path: Path, rows: list[tuple[int, int, list[float], float]]) -> Path:
    keys = ("image_id", "category_id", "bbox", "score")
    path.write_text(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))
    return path


def figures(data: CocoDataset, results: Path) -> list[float]:
    """Return our twelve figures, with pycocotools' -1 for what is not there."""
    found = align_records(read_coco_results(results, data)[0], data).detections
    values = [value for name, value in coco(list(data), found, data.classes) if "/" not in name]
    return np.nan_to_num(values, nan=-1).tolist()


def official(data: CocoDataset, results: Path) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(data.annotations))
        judge = COCOeval(truth, truth.loadRes(str(results)), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return list(map(float, judge.stats))


@pytest.mark.parametrize(
    ("truth", "rows"),
    [
        ([814.5, 15.1, 94.0, 38.0], [([814.5, 15.1, 94.0, 19.0], 0.9)]),  # IoU of half, to the last digit
        ([700.3, 400.7, 20, 20], [([1000.1, 300.3, 32, 32], 0.9), ([700.3, 400.7, 20, 20], 0.8)]),  # 1,024 exactly
        ([10, 10, 30, 30], [([60, 10, 30, 30], 0.9), ([10, 10, 30, 30], 0.90000000001)]),  # equal in float32
        ([10, 10, 32, 32.0000001], [([10, 10, 32, 32.0000001], 0.9)]),  # medium by a hair
    ],
)
def test_coco_files_are_judged_by_their_doubles(
    instances: Opened, tmp_path: Path, truth: list[float], rows: list[tuple[list[float], float]]
) -> None:
    data = instances([(1, 1, truth)], CRATE)
    results = write_results(tmp_path / "results.json", [(1, 1, box, score) for box, score in rows])
    assert figures(data, results) == pytest.approx(official(data, results), abs=1e-6)
    part = Selection(data, classes=["crate"])
    relabelled = part.relabel(read_coco_results(results, data)[0]["1.jpg"])
    assert isinstance(relabelled, CocoDetections)
    assert relabelled.sides.tolist() == [box for box, _ in rows]
    assert dict(coco([part.ground_truth("1.jpg")], [relabelled], "x"))["AP"] == pytest.approx(figures(data, results)[0])


def test_figures_of_a_grid_of_ties_are_those_of_pycocotools(instances: Opened, tmp_path: Path) -> None:
    """Sides and places in tenths, as people round them: many overlaps lie on a threshold, many scores are equal."""
    random = np.random.default_rng(3)
    objects = [(1 + n % 2, 1 + n % 3 // 2, [*random.integers(0, 400, 2) / 10, 16.0, 32.0]) for n in range(40)]
    data = instances(objects, [*CRATE, {"id": 2, "name": "tin"}])
    rows = [
        (image, category, [box[0], box[1], box[2] * share, box[3]], float(random.integers(1, 9)) / 10)
        for image, category, box in objects
        for share in (0.5, 0.55, 0.75, 1.0)
    ]
    results = write_results(tmp_path / "results.json", rows)
    ours = figures(data, results)
    assert 0 < ours[0] < 1
    assert ours == pytest.approx(official(data, results), abs=1e-6)


def test_results_of_negative_sides_are_judged_as_by_pycocotools_and_named(instances: Opened, tmp_path: Path) -> None:
    """Of one negative side the area is negative, in no range, and the detection ignored; of two it is a false alarm."""
    data = instances([(1, 1, [10, 10, 20, 20]), (1, 1, [50, 40, 30, 30])], CRATE)
    rows: list[tuple[int, int, list[float], float]] = [
        (1, 1, [10, 10, 20, 20], 0.9),
        (1, 1, [50, 70, 30, -30], 0.95),
        (1, 1, [50, 40, 30, 30], 0.5),
    ]
    results = write_results(tmp_path / "results.json", rows)
    found, _, notes = read_coco_results(results, data)
    assert [note.split(":")[0] for note in notes] == ["1 detection of negative width or height"]
    assert notes[0].endswith(f"({results}: entry 1)")
    assert figures(data, results)[0] == pytest.approx(official(data, results)[0]) == pytest.approx(1)
    for protocol in ("voc", "ilsvrc"):  # which leave them out
        assert score(protocol, list(data), align_records(found, data).detections, data.classes).headline[1] == 1
    write_results(results, [*rows, (1, 1, [80.0, 70, -30, -30], 0.97)])
    assert 0.5 < figures(data, results)[0] < 0.9
    assert figures(data, results) == pytest.approx(official(data, results), abs=1e-9)


def test_lines_with_corners_exchanged_are_left_out_and_named(instances: Opened, tmp_path: Path) -> None:
    data = instances([(1, 1, [10, 10, 20, 20])], CRATE)
    boxes = [[10, 10, 30, 30], [10, 40, 50, 10], [5, 5, 5, 9]]
    line = {"image": "1.jpg", "width": 100, "height": 80, "boxes": boxes, "labels": ["crate"] * 3, "scores": [0.5] * 3}
    path = tmp_path / "detections.jsonl"
    path.write_text(json.dumps(line))
    lines, notes = read_lines(path)
    assert align(lines, data).detections[0].boxes.tolist() == [boxes[0], boxes[2]]  # a side of 0 is a miss, no mistake
    assert notes[0].startswith("1 detection with x2 < x1 or y2 < y1")
    assert notes[0].endswith(f"({path}: line 1: box 2)")


def as_voc(root: Path, boxes: list[list[int]], name: str = "crate") -> None:
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    items = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for x1, y1, x2, y2 in boxes
    )
    (root / "Annotations" / "1.xml").write_text(f"<annotation>{items}</annotation>")
    (root / "ImageSets" / "Main" / "val.txt").write_text("1\n")


def test_boxes_beyond_their_photo_are_noted_alike_and_learned_from_up_to_the_edge(
    instances: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = [[20, 20, 60, 60], [150, 30, 200, 70], [90, 10, 120, 40], [-5, 0, 50, 50], [0, 80, 100, 99]]
    sides: list[list[float]] = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in boxes]
    from_coco = instances([(1, 1, box) for box in sides], CRATE)
    as_voc(tmp_path, boxes)
    monkeypatch.setattr("eval.voc.size_of", lambda path: (80, 100))
    from_voc = VocDataset(tmp_path, "val", ["crate"])
    for data, image_id in ((from_coco, "1.jpg"), (from_voc, "1")):
        notes = [note for note in data.notes if "the photo" in note]
        assert [note.split(":")[0] for note in notes] == [
            "2 objects wholly outside the photo",
            "2 objects reaching beyond the edge of the photo (0-based corners, perhaps)",
        ]
        assert data.ground_truth(image_id).boxes.tolist() == boxes  # judged as they are
        learned = Selection(data, to_learn=True).ground_truth(image_id)
        assert learned.boxes.tolist() == [[20, 20, 60, 60], [90, 10, 100, 40], [0, 0, 50, 50]]
        assert len(learned.labels) == len(learned.area) == 3


def test_objects_that_are_annotated_twice_are_noted_alike_and_count(instances: Opened, tmp_path: Path) -> None:
    twice, other = [10, 20, 30, 40], [10, 20, 30, 41]
    rows: list[tuple[int, int, list[float]]] = [(1, 1, [10, 20, 20, 20]), (1, 1, [10, 20, 20, 21])]
    rows += [(1, 1, [10, 20, 20, 20]), (1, 2, [10, 20, 20, 20]), (2, 1, [10, 20, 20, 20])]  # another class and photo
    from_coco = instances(rows, [*CRATE, {"id": 2, "name": "tin"}])
    as_voc(tmp_path / "voc", [twice, other, twice])
    layouts.photo(tmp_path / "yolo" / "1.jpg", (80, 100))
    layouts.text(tmp_path / "yolo" / "classes.txt", "crate\n")
    layouts.text(tmp_path / "yolo" / "1.txt", "0 0.2 0.375 0.2 0.25\n0 0.2 0.375 0.2 0.26\n0 0.2 0.375 0.2 0.25\n")
    sets = (from_coco, VocDataset(tmp_path / "voc", "val", ["crate"]), YoloDataset(tmp_path / "yolo"))
    kind = "object with the box and the class of another on the photo (annotated twice, perhaps): each counts"
    for data, place in zip(sets, ("annotation 3 of 1.jpg", "object 3", "line 3"), strict=True):
        notes = [note for note in data.notes if "of another" in note]
        assert [(note.split(" (/")[0], note.endswith(f"{place})")) for note in notes] == [(f"1 {kind}", True)]
        assert len(data.truths[0]) == (4 if data is from_coco else 3)


def test_hundredths_of_a_pixel_beyond_the_edge_are_not_odd(instances: Opened) -> None:
    assert instances([(1, 1, [0, 0, 100.02, 80.4])], CRATE).notes == []


ROOT = [
    {"id": 0, "name": "tin", "supercategory": "none"},
    {"id": 1, "name": "tin", "supercategory": "tin"},
    {"id": 2, "name": "jar", "supercategory": "tin"},
]


def test_a_root_category_without_objects_is_left_out_with_a_note(instances: Opened, tmp_path: Path) -> None:
    objects: list[tuple[int, int, list[float]]] = [(1, 1, [10, 10, 30, 30]), (2, 2, [5, 5, 20, 20])]
    data = instances(objects, ROOT)
    assert (data.classes, data.category_ids) == (("tin", "jar"), (1, 2))
    assert data.notes[0].startswith("1 category without objects left out, as it is the supercategory of others: 'tin'")
    rows = [(1, 1, [10.0, 10, 30, 30], 0.9), (2, 2, [5.0, 5, 20, 15], 0.7), (2, 0, [5.0, 5, 20, 20], 0.8)]
    results = write_results(tmp_path / "results.json", rows)
    assert read_coco_results(results, data)[2] == [
        f"1 detection of the category 'tin' left out, which is not a class ({results}: entry 2)"
    ]
    assert figures(data, results) == pytest.approx(official(data, results), abs=1e-6)
    with pytest.raises(CocoError, match="category name tin appears twice"):  # both are used
        instances([*objects, (1, 0, [0, 0, 9, 9])], ROOT)


@pytest.mark.parametrize(
    ("categories", "keep", "left_out"),
    [
        ([Category("a", "a", 0), Category("b", "", 3)], (), []),  # above itself only, as COCO's person
        ([Category("a", "", 0), Category("b", "a", 3)], (), [0]),
        ([Category("a", "", 0), Category("b", "a", 3)], ("a", "b"), []),  # learned elsewhere
        ([Category("a", "", 0), Category("a", "a", 0), Category("b", "a", 1)], ("a",), [0]),
        ([Category("a", "", 0), Category("a", "a", 1), Category("b", "a", 1)], ("a",), [0]),
        ([Category("a", "", 2), Category("b", "a", 3)], (), []),
        ([Category("Background", "", 0), Category("b", "", 0)], ("background",), [0]),
    ],
)
def test_categories_that_are_not_classes(
    categories: list[Category], keep: tuple[str, ...], left_out: list[int]
) -> None:
    notes = Notes()
    assert unused_categories(categories, notes, Path("a.json"), keep=keep) == left_out
    assert len(notes.lines()) == len(left_out)


def test_objects_annotated_as_background_are_refused_by_name(instances: Opened, tmp_path: Path) -> None:
    categories = [{"id": 0, "name": "background"}, *CRATE]
    assert instances([(1, 1, [0, 0, 9, 9])], categories).classes == ("crate",)
    with pytest.raises(CocoError, match=r"instances\.json: objects are annotated as 'background'"):
        instances([(1, 0, [0, 0, 9, 9])], categories)
    as_voc(tmp_path, [[0, 0, 9, 9]], name="Background")
    with pytest.raises(VocError, match="objects are annotated as 'Background'"):
        VocDataset(tmp_path, "val")


def test_names_of_categories_are_read_without_blanks_around_them(instances: Opened) -> None:
    assert instances([], [{"id": 1, "name": "  crate "}]).classes == ("crate",)
