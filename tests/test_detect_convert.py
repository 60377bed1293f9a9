"""Annotations and results keep through other formats what these can hold; what they cannot is counted and named."""

import json
import os
import sys
import weakref
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detect.convert.job import Conversion, Converted
from detect.convert.run import convert
from detect.runs.exports import require_exportable
from eval.coco import CocoDataset
from eval.ground_truth import open_ground_truth
from eval.results import ResultLine, read_line, read_lines
from eval.voc import VocDataset
from structures.errors import InputError
from structures.text import number_of
from tests.layouts import XML, coco, labelimg_side_by_side, photo, text, ultralytics, voc_lists

FEW = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
DIFFICULT_IN_COCO = "object marked difficult, written with ignore=1: counted by pycocotools"
NAMES = ("cat", "dog", "Käse & <b>")


def run(source: Path, form: str, out: Path, **more: Any) -> Converted:
    return convert(Conversion(source, form, out, **more))


@pytest.fixture(autouse=True)
def _no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda file: None)


@st.composite
def boxes(draw: st.DrawFn, step: float) -> list[float]:
    """Return x1, y1, x2, y2 on a photo of 100 x 40, in multiples of a step."""
    x1, x2 = sorted(draw(st.lists(st.integers(0, int(100 / step)), min_size=2, max_size=2, unique=True)))
    y1, y2 = sorted(draw(st.lists(st.integers(0, int(40 / step)), min_size=2, max_size=2, unique=True)))
    return [x1 * step, y1 * step, x2 * step, y2 * step]


def objects(step: float) -> st.SearchStrategy[list[tuple[list[float], int, bool]]]:
    return st.lists(st.tuples(boxes(step), st.integers(0, 2), st.booleans()), max_size=4)


def write_voc(root: Path, photos: list[list[tuple[list[float], int, bool]]]) -> None:
    for number, rows in enumerate(photos):
        items = "".join(
            f"<object><name>{NAMES[label].replace('&', '&amp;').replace('<', '&lt;')}</name>"
            f"<difficult>{int(difficult)}</difficult><bndbox><xmin>{x1 + 1:g}</xmin><ymin>{y1 + 1:g}</ymin>"
            f"<xmax>{x2:g}</xmax><ymax>{y2:g}</ymax></bndbox></object>"
            for (x1, y1, x2, y2), label, difficult in rows
        )
        size = "<size><width>100</width><height>40</height></size>"
        text(root / f"Annotations/{number}.xml", f"<annotation>{size}{items}</annotation>")
    text(root / "ImageSets/Main/val.txt", "".join(f"{number}\n" for number in range(len(photos))))


def contents(data: Any) -> dict[str, list[tuple[tuple[float, ...], str, bool]]]:
    """Return all that VOC knows: boxes, names and difficult flags by the stem of the photo."""
    return {
        Path(truth.image_id).stem: [
            (tuple(box), data.classes[label], bool(ignore))
            for box, label, ignore in zip(truth.boxes.tolist(), truth.labels, truth.ignore, strict=True)
        ]
        for truth in data
    }


@FEW
@given(photos=st.lists(objects(0.25), min_size=1, max_size=3))
def test_voc_comes_back_from_coco_as_it_was(photos: list[list[tuple[list[float], int, bool]]]) -> None:
    with TemporaryDirectory() as name:
        root = Path(name)
        write_voc(root / "voc", photos)
        run(root / "voc", "coco", root / "coco")
        run(root / "coco", "voc", root / "back")
        before, after = VocDataset(root / "voc", "val", NAMES), VocDataset(root / "back", "val", NAMES)
        assert contents(before) == contents(after)
        assert [t.image_size for t in before] == [t.image_size for t in after]


@FEW
@given(photos=st.lists(objects(0.01), min_size=1, max_size=3))
def test_coco_comes_back_from_yolo_within_its_rounding(photos: list[list[tuple[list[float], int, bool]]]) -> None:
    with TemporaryDirectory() as name:
        root = Path(name)
        for number in range(len(photos)):
            photo(root / f"coco/images/{number}.png")
        write_coco(root / "coco/instances.json", photos)
        run(root / "coco", "yolo", root / "yolo", copy_photos=True)
        run(root / "yolo", "coco", root / "back")
        before, after = CocoDataset(root / "coco/instances.json"), CocoDataset(root / "back/instances.json")
        assert before.classes == after.classes
        for one, two in zip(before, after, strict=True):
            assert one.image_id == two.image_id
            assert one.labels.tolist() == two.labels.tolist()
            assert np.abs(one.boxes - two.boxes).max(initial=0) < 1e-3


def write_coco(path: Path, photos: list[list[tuple[list[float], int, bool]]]) -> None:
    images = [{"id": n + 1, "file_name": f"{n}.png", "width": 100, "height": 40} for n in range(len(photos))]
    rows = [
        {"image_id": n + 1, "category_id": label + 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "id": 10 * n + k}
        for n, some in enumerate(photos)
        for k, ((x1, y1, x2, y2), label, _) in enumerate(some)
    ]
    categories = [{"id": n + 1, "name": name} for n, name in enumerate(NAMES)]
    text(path, json.dumps({"images": images, "annotations": rows, "categories": categories}))


def write_yolo(root: Path, photos: list[list[tuple[list[float], int, bool]]]) -> None:
    for number, rows in enumerate(photos):
        lines = [
            f"{label} {(x1 + x2) / 200:.8g} {(y1 + y2) / 80:.8g} {(x2 - x1) / 100:.8g} {(y2 - y1) / 40:.8g}\n"
            for (x1, y1, x2, y2), label, _ in rows
        ]
        text(root / f"labels/val/{number}.txt", "".join(lines))
    text(root / "data.yaml", json.dumps({"val": "images/val", "names": NAMES}))


PHOTO_PLACES = {"voc": "JPEGImages", "coco": "images", "yolo": "images/val"}


def write(form: str, root: Path, photos: list[list[tuple[list[float], int, bool]]]) -> None:
    """Write annotated photos; COCO's file is named like a split, so that it is called so on the way back, too."""
    for number in range(len(photos)):
        photo(root / PHOTO_PLACES[form] / f"{number}.png")
    if form == "coco":
        write_coco(root / "instances_val.json", photos)
    else:
        {"voc": write_voc, "yolo": write_yolo}[form](root, photos)


@pytest.mark.parametrize(("form", "other"), list(permutations(PHOTO_PLACES, 2)))
@FEW
@given(photos=st.lists(objects(0.25), min_size=1, max_size=3))
def test_boxes_and_names_come_back_from_every_other_format(
    form: str, other: str, photos: list[list[tuple[list[float], int, bool]]]
) -> None:
    with TemporaryDirectory() as name:
        root = Path(name)
        write(form, root / "in", photos)
        there = run(root / "in", other, root / "there", copy_photos=True)
        back = run(root / "there", form, root / "back", copy_photos=True)
        assert there.objects == back.objects == sum(map(len, photos))
        assert len(list((root / "back" / PHOTO_PLACES[form]).iterdir())) == len(photos)
        before, after = (contents(open_ground_truth(root / place)) for place in ("in", "back"))
        assert before.keys() == after.keys()
        for stem, rows in before.items():
            assert [row[1] for row in rows] == [row[1] for row in after[stem]]
            assert all(one[0] == pytest.approx(two[0], abs=1e-3) for one, two in zip(rows, after[stem], strict=True))
        flagged = sum(flag for rows in photos for _, _, flag in rows) * (form == "voc")
        lost = {"yolo": "object marked difficult: the mark is lost", "coco": DIFFICULT_IN_COCO}.get(other, "")
        noun, _, rest = lost.partition(" ")
        said = f"{number_of(flagged, noun)} {rest} ("
        assert any(line.startswith(said) for line in there.losses) == bool(lost and flagged)


LINES = st.lists(st.lists(st.tuples(boxes(0.01), st.integers(0, 2), st.floats(0, 1, width=32)), max_size=4), max_size=3)


def write_lines(path: Path, photos: list[list[tuple[list[float], int, float]]]) -> None:
    lines = [
        {"image": f"{number}.png", "width": 100, "height": 40, "boxes": [box for box, _, _ in rows]}
        | {"labels": [NAMES[label] for _, label, _ in rows], "scores": [score for _, _, score in rows]}
        for number, rows in enumerate(photos)
    ]
    text(path, "".join(json.dumps(line) + "\n" for line in lines))


def found(path: Path) -> dict[str, list[tuple[list[float], str, float]]]:
    return {
        Path(line.image).stem: sorted(
            (np.round(box, 2).tolist(), line.names[label], round(float(score), 6))
            for box, label, score in zip(line.found.boxes.tolist(), line.found.labels, line.found.scores, strict=True)
        )
        for line in read_lines(path)[0]
    }


@pytest.mark.parametrize("form", ["coco", "csv", "yolo", "voc"])
@FEW
@given(photos=LINES)
def test_results_come_back_as_they_were(form: str, photos: list[list[tuple[list[float], int, float]]]) -> None:
    with TemporaryDirectory() as name:
        root = Path(name)
        write_lines(root / "in/detections.jsonl", photos)
        for number in range(len(photos)):
            photo(root / f"photos/{number}.png")
        done = run(root / "in", form, root / "there", classes=NAMES)
        (root / "there/detections.jsonl").unlink()
        place = {"coco": "coco_results.json", "csv": "detections.csv", "yolo": "yolo_results", "voc": "voc_results"}
        where = {} if form in ("coco", "csv") else {"images": root / "photos"}
        run(root / "there" / place[form], "jsonl", root / "back", **where)
        before, after = found(root / "in/detections.jsonl"), found(root / "back/detections.jsonl")
        if form == "voc":  # its files do not name photos of nothing, and this is said
            silent = [image for image, rows in before.items() if not rows]
            assert any(f"{number_of(len(silent), 'photo')} without detections" in line for line in done.losses) == bool(
                silent
            )
            before = {image: rows for image, rows in before.items() if rows}
        assert before == after


# Losses


def crowded(root: Path) -> None:
    coco(root / "instances_val2017.json", ["a.jpg", "gone.jpg"])
    photo(root / "images/a.jpg")
    content = json.loads((root / "instances_val2017.json").read_text())
    content["annotations"] += [
        {"id": 7, "image_id": 0, "category_id": 1, "bbox": [0.5, 1, 20, 20], "iscrowd": 1, "area": 400},
        {"id": 8, "image_id": 0, "category_id": 1, "bbox": [90, 1, 20, 20], "area": 70, "segmentation": [[1, 2, 3]]},
        {"id": 9, "image_id": 0, "category_id": 1, "bbox": [9, 9, 0, 20]},
        {"id": 10, "image_id": 0, "category_id": 1, "bbox": [200, 9, 9, 20], "ignore": 1},
    ]
    text(root / "instances_val2017.json", json.dumps(content))


def kinds(done: Converted) -> dict[str, int]:
    """Return what got lost, without the example: kind -> count."""
    found = [line.rpartition(" (")[0].partition(" ") for line in done.losses]
    return {kind: int(count) for count, _, kind in found}


def test_losses_of_yolo_are_counted_and_named(tmp_path: Path) -> None:
    crowded(tmp_path / "in")
    done = run(tmp_path / "in", "yolo", tmp_path / "out")
    assert kinds(done) == {
        "images not numbered 1, 2, 3 ... in this order: renumbered": 2,
        "object with a polygon or mask: only the box is kept": 1,
        "crowd left out": 1,
        "object marked difficult: the mark is lost": 1,
        "object whose area differs from that of the box: the area is lost": 1,
        "object without area left out": 1,
        "object cut at the edge of the photo": 1,
        "object wholly outside the photo left out": 1,
        "photo missing": 1,
    }
    assert all(line.endswith(")") for line in done.losses)
    rows = (tmp_path / "out/labels/val/a.txt").read_text().splitlines()
    assert rows == ["0 0.35 0.35 0.5 0.5", "0 0.95 0.275 0.1 0.5"]
    assert (tmp_path / "out/data.yaml").read_text() == "path: .\nval: images/val\nnames:\n  0: dog\n"


def test_losses_of_voc_are_counted_and_named(tmp_path: Path) -> None:
    crowded(tmp_path / "in")
    done = run(tmp_path / "in", "voc", tmp_path / "out")
    assert kinds(done).keys() >= {
        "crowd written with difficult=1",
        "object with fractions of a pixel, which are written: some programs read only whole numbers",
    }
    data = open_ground_truth(tmp_path / "out", "val")
    assert data.ground_truth("a").ignore.tolist() == [False, True, False, True]  # the one without area is left out


def test_losses_of_coco_are_counted_and_named(tmp_path: Path) -> None:
    part = "<part><name>head</name></part><truncated>1</truncated>"
    text(tmp_path / "in/a.xml", XML.replace("<bndbox>", f"{part}<difficult>1</difficult><bndbox>"))
    attributes = "<attributes><attribute><name>colour</name><value>red</value></attribute></attributes>"
    text(tmp_path / "in/b.xml", XML.replace("<bndbox>", f"{attributes}<polygon><x1>1</x1></polygon><bndbox>"))
    done = run(tmp_path / "in", "coco", tmp_path / "out")
    assert kinds(done) == {
        "objects with parts, a pose, attributes, or marks as truncated or occluded: these are lost": 2,
        "object with a polygon or mask: only the box is kept": 1,
        DIFFICULT_IN_COCO: 1,
        "photos missing": 2,
    }


def test_photos_are_copied_where_they_are_asked_for(tmp_path: Path) -> None:
    ultralytics(tmp_path / "in")
    run(tmp_path / "in", "voc", tmp_path / "out", copy_photos=True)
    assert sorted(path.name for path in (tmp_path / "out/JPEGImages").iterdir()) == ["a.jpg", "b.jpg"]
    assert [truth.image_size for truth in open_ground_truth(tmp_path / "out")] == [(40, 100)] * 2


def test_splits_stay_apart(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        labelimg_side_by_side(tmp_path / "in" / split)
    (tmp_path / "in/train/b.xml").unlink()
    run(tmp_path / "in", "coco", tmp_path / "out")
    sizes = {path.name: len(CocoDataset(path)) for path in sorted((tmp_path / "out").glob("*.json"))}
    assert sizes == {"instances_train.json": 1, "instances_valid.json": 2}


# Refusals


def test_photos_of_one_name_in_two_splits_do_not_become_one(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        photo(tmp_path / f"in/{split}/a.jpg")
        coco(tmp_path / f"in/{split}/_annotations.coco.json", ["a.jpg"])
    with pytest.raises(InputError, match=r"train.a\.jpg and .*valid.a\.jpg have the same name"):
        run(tmp_path / "in", "voc", tmp_path / "out")
    assert run(tmp_path / "in", "yolo", tmp_path / "yolo", copy_photos=True).photos == 2


def test_labels_of_an_earlier_conversion_do_not_mix_with_new_ones(tmp_path: Path) -> None:
    for names, place in ((["a.jpg", "b.jpg"], "more"), (["a.jpg"], "fewer")):
        coco(tmp_path / place / "instances.json", names)
    for _ in range(2):  # the same again is no other conversion
        assert run(tmp_path / "more/instances.json", "yolo", tmp_path / "out").photos == 2
    with pytest.raises(InputError, match=r"b\.txt: is of an earlier conversion, .*; name another folder as `out`"):
        run(tmp_path / "fewer/instances.json", "yolo", tmp_path / "out")
    assert (tmp_path / "out/labels/train/b.txt").read_text() == "0 0.35 0.35 0.5 0.5\n"
    (tmp_path / "out/labels/train/b.txt").unlink()
    assert run(tmp_path / "fewer/instances.json", "yolo", tmp_path / "out").photos == 1


@pytest.mark.parametrize(("form", "place"), [("voc", "voc_results"), ("yolo", "yolo_results/labels")])
def test_results_of_an_earlier_conversion_go(tmp_path: Path, form: str, place: str) -> None:
    one, two = ({"image": f"{name}.jpg", **LINE, "labels": [name]} for name in ("dog", "cat"))
    text(tmp_path / "one/detections.jsonl", json.dumps(one) + "\n")
    text(tmp_path / "two/detections.jsonl", json.dumps(two) + "\n")
    for source in ("one", "two"):
        run(tmp_path / source, form, tmp_path / "out")
    left = {path.name for path in (tmp_path / "out" / place).iterdir()}
    assert left == {"comp4_det_test_cat.txt" if form == "voc" else "cat.txt"}


@pytest.mark.parametrize(
    ("form", "name", "message"),
    [
        ("voc", "a\nb.jpg", "VOC result files cannot hold a name with spaces"),
        ("yolo", "a\\b.jpg", "YOLO's label files cannot have a name that has a backslash"),
        ("csv", "\udcff.jpg", "CSV cannot hold a name that is not UTF-8"),
    ],
)
def test_names_that_a_format_of_results_cannot_hold_are_refused(
    tmp_path: Path, form: str, name: str, message: str
) -> None:
    text(tmp_path / "in/detections.jsonl", json.dumps({"image": name, **LINE}) + "\n")
    with pytest.raises(InputError, match=message):
        run(tmp_path / "in", form, tmp_path / "out")
    assert not (tmp_path / "out/detections.jsonl").exists()
    with pytest.raises(InputError, match=message):
        require_exportable(form, [name], ["dog"], numbering=None)


@pytest.mark.parametrize("name", ["\x01dog", "d\rog", "\ud800dog", "\ufffedog"])
def test_names_that_xml_cannot_hold_are_refused(tmp_path: Path, name: str) -> None:
    coco(tmp_path / "instances.json", ["a.jpg"])
    content = json.loads((tmp_path / "instances.json").read_text())
    content["categories"][1]["name"] = name
    text(tmp_path / "instances.json", json.dumps(content))
    with pytest.raises(InputError, match=r"og': VOC's XML cannot hold this name"):
        run(tmp_path / "instances.json", "voc", tmp_path / "out")
    assert not list(tmp_path.rglob("*.xml"))


@pytest.mark.parametrize("write", [voc_lists, lambda root: coco(root / "instances.json", ["a.jpg", "b.jpg"])])
def test_yolo_takes_no_wrong_size(tmp_path: Path, write: Callable[[Path], None]) -> None:
    """Its boxes are shares of the photo, so that a wrong size would move them."""
    write(tmp_path / "in")
    for name in "ab":
        photo(tmp_path / f"photos/{name}.jpg", (40, 100) if name == "a" else (100, 40))
    source = tmp_path / "in/instances.json" if (tmp_path / "in/instances.json").exists() else tmp_path / "in"
    with pytest.raises(InputError, match=r"b\.jpg: is 40 x 100 pixels, but 100 x 40 were annotated \(if its EXIF"):
        run(source, "yolo", tmp_path / "out", images=tmp_path / "photos")
    assert not list((tmp_path / "out").rglob("*.txt"))
    photo(tmp_path / "photos/b.jpg")
    assert run(source, "yolo", tmp_path / "out", images=tmp_path / "photos").photos == 2


def test_a_size_that_is_not_stated_is_that_of_the_photo(tmp_path: Path) -> None:
    coco(tmp_path / "instances.json", ["a.jpg", "b.jpg", "c.jpg"])
    content = json.loads((tmp_path / "instances.json").read_text())
    for entry in content["images"]:
        del entry["width"], entry["height"]
    text(tmp_path / "instances.json", json.dumps(content))
    photo(tmp_path / "images/a.jpg")
    photo(tmp_path / "images/b.jpg", (20, 100))  # too small for the box
    with pytest.raises(InputError, match=r"b\.jpg: is 100 x 20 pixels, but 60 x 24 were annotated"):
        run(tmp_path / "instances.json", "yolo", tmp_path / "out", images=tmp_path / "images")
    (tmp_path / "images/b.jpg").unlink()
    done = run(tmp_path / "instances.json", "yolo", tmp_path / "out", images=tmp_path / "images")
    assert (tmp_path / "out/labels/train/a.txt").read_text() == "0 0.35 0.35 0.5 0.5\n"
    assert kinds(done)["photos of unknown size: taken to end where the boxes do"] == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf_8_comes_back_from_voc(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.png")
    photo(tmp_path / "photos/a.png")
    (tmp_path / "photos/a.png").rename(tmp_path / "photos" / name)
    text(tmp_path / "in/detections.jsonl", json.dumps({"image": name, **LINE}) + "\n")
    run(tmp_path / "in", "voc", tmp_path / "out")
    run(tmp_path / "out/voc_results", "jsonl", tmp_path / "back", images=tmp_path / "photos")
    [line] = read_lines(tmp_path / "back/detections.jsonl")[0]
    assert line.image == name


def test_a_carriage_return_in_a_name_comes_back_from_csv(tmp_path: Path) -> None:
    text(tmp_path / "in/detections.jsonl", json.dumps({"image": "a\r.jpg", **LINE}) + "\n")
    run(tmp_path / "in", "csv", tmp_path / "out")
    run(tmp_path / "out/detections.csv", "jsonl", tmp_path / "back")
    assert found(tmp_path / "back/detections.jsonl") == found(tmp_path / "in/detections.jsonl")


def test_two_sizes_of_one_photo_in_csv_are_refused(tmp_path: Path) -> None:
    rows = ["a,9,8,cat,0.25,1,2,3,4", "a,7,8,cat,0.25,1,2,3,4"]
    text(tmp_path / "x.csv", "image,width,height,label,score,x1,y1,x2,y2\n" + "\n".join(rows))
    with pytest.raises(InputError, match=r"line 3: another size of 'a' than in the row of .*line 2"):
        run(tmp_path / "x.csv", "jsonl", tmp_path / "out")


def test_a_size_in_csv_need_not_stand_in_every_row(tmp_path: Path) -> None:
    rows = ["a,9,8,cat,0.25,1,2,3,4", "a,,,cat,0.5,1,2,3,4"]
    text(tmp_path / "x.csv", "image,width,height,label,score,x1,y1,x2,y2\n" + "\n".join(rows))
    assert run(tmp_path / "x.csv", "jsonl", tmp_path / "out").objects == 2


def test_files_of_somebody_else_stay(tmp_path: Path) -> None:
    voc_lists(tmp_path / "in")
    text(tmp_path / "out/instances_val.json", "mine")
    with pytest.raises(InputError, match=r"instances_val\.json: was not written by rcnn"):
        run(tmp_path / "in", "coco", tmp_path / "out")
    assert (tmp_path / "out/instances_val.json").read_text() == "mine"
    with pytest.raises(InputError, match=r"is inside .*, which is read"):
        run(tmp_path / "in", "coco", tmp_path / "in" / "coco")


@pytest.mark.parametrize(
    ("form", "message"),
    [("voc", "already has the format voc"), ("csv", "annotations; for these `form` .*csv.*voc, coco")],
)
def test_formats_that_make_no_sense_are_refused(tmp_path: Path, form: str, message: str) -> None:
    voc_lists(tmp_path / "in")
    with pytest.raises(InputError, match=message):
        run(tmp_path / "in", form, tmp_path / "out")


def test_two_photos_never_share_an_annotation(tmp_path: Path) -> None:
    coco(tmp_path / "in/instances.json", ["a.jpg", "a.png"])
    with pytest.raises(InputError, match=r"a\.jpg and a\.png would share one annotation"):
        run(tmp_path / "in", "voc", tmp_path / "out")


def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    coco(tmp_path / "in/instances.json", ["../../a.jpg"])
    with pytest.raises(InputError, match="leads out of this folder"):
        run(tmp_path / "in", "voc", tmp_path / "out")


LINE = {"width": 9, "height": 8, "boxes": [[1, 2, 3, 4]], "labels": ["dog"], "scores": [0.5]}
ODD_RESULTS = [
    ("detections.csv", "image,label\n", "no column score, x1"),
    ("detections.csv", "image,label,score,x1,y1,x2,y2\na,dog,0.5,1,2,3\n", "line 2: 6 columns, but 7"),
    ("detections.csv", "image,width,height,label,score,x1,y1,x2,y2\na,9,9,dog,x,1,2,3,4\n", "line 2: score, x1"),
    ("detections.csv", "image,width,height,label,score,x1,y1,x2,y2\na,9,9,dog,nan,1,2,3,4\n", "line 2: .*finite"),
    ("detections.csv", "image,label,score,x1,y1,x2,y2\na,dog,1,1,2,3,4\n", "the size of photo 'a' is not known"),
    ("detections.csv", 'image,label,score,x1,y1,x2,y2\n"a', "not readable as CSV"),
    ("comp4_det_val_dog.txt", "a 0.5 1 2 3\n", "line 1: expected image, score, xmin"),
    ("comp4_det_val_dog.txt", "a 0.5 1 2 3 4\n", "the size of photo 'a' is not known"),
]


@pytest.mark.parametrize(("name", "content", "message"), ODD_RESULTS)
def test_odd_results_are_errors_that_name_the_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    text(tmp_path / "in" / name, content)
    source = tmp_path / "in" if name.endswith(".txt") else tmp_path / "in" / name
    with pytest.raises(InputError, match=message):
        run(source, "jsonl", tmp_path / "out")


def test_inside_out_boxes_are_left_out_and_named_in_every_format(tmp_path: Path) -> None:
    photo(tmp_path / "photos/a.png")
    text(tmp_path / "voc/comp4_det_val_dog.txt", "a 0.5 31 2 3 4\na 0.5 1 2 3 4\n")
    text(tmp_path / "x.csv", "image,label,score,x1,y1,x2,y2\na,dog,0.5,1,2,3,4\na,dog,0.5,30,2,3,4\n")
    text(tmp_path / "yolo/classes.txt", "dog\n")
    text(tmp_path / "yolo/a.txt", "0 0.5 0.5 -0.2 0.1 0.5\n0 0.5 0.5 0.2 0.1 0.5\n")
    coco(tmp_path / "instances.json", ["a.png"])
    rows = [{"image_id": 0, "category_id": 1, "bbox": [9, 9, width, 8], "score": 0.5} for width in (-4, 4)]
    text(tmp_path / "results.json", json.dumps(rows))
    for number, source in enumerate(("voc", "x.csv", "yolo", "results.json")):
        truth = {"ground_truth": tmp_path / "instances.json"} if source == "results.json" else {}
        done = run(tmp_path / source, "jsonl", tmp_path / str(number), images=tmp_path / "photos", **truth)
        assert done.objects == 1
        [note] = done.notes
        assert note.startswith("1 detection with x2 < x1 or y2 < y1, of negative width or height, left out (")


def test_rows_of_a_photo_need_not_stand_together_in_csv(tmp_path: Path) -> None:
    rows = ["b,9,8,dog,0.5,1,2,3,4", "a,9,8,cat,0.25,1,2,3,4", "b,9,8,cat,0.75,1,2,3,4", "c,9,8,,,,,,"]
    text(tmp_path / "x.csv", "image,width,height,label,score,x1,y1,x2,y2\n" + "\n".join(rows))
    done = run(tmp_path / "x.csv", "jsonl", tmp_path / "out")
    lines = read_lines(tmp_path / "out/detections.jsonl")[0]
    assert [(line.image, len(line.found), line.names) for line in lines] == [
        ("b", 2, ("dog", "cat")),
        ("a", 1, ("cat",)),
        ("c", 0, ()),
    ]
    assert (done.photos, done.objects, done.classes) == (3, 3, ("cat", "dog"))


@pytest.mark.parametrize("form", ["coco", "csv", "yolo"])
def test_results_are_held_a_line_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """Each line is gone when the next but one is made."""
    lines = [json.dumps({**LINE, "image": f"{number}.jpg"}) for number in range(20)]
    text(tmp_path / "in/detections.jsonl", "\n".join(lines))
    made: list[weakref.ref[ResultLine]] = []
    most = 0

    def watched(entry: Any, place: str) -> ResultLine:
        nonlocal most
        made.append(weakref.ref(line := read_line(entry, place)))
        most = max(most, sum(each() is not None for each in made))
        return line

    monkeypatch.setattr("eval.results.read_line", watched)
    assert run(tmp_path / "in", form, tmp_path / "out").photos == 20
    assert len(made) >= 40  # read once to be written, and again to be exported
    assert most <= 3


def test_coco_results_need_their_numbers(tmp_path: Path) -> None:
    text(tmp_path / "results.json", "[]")
    with pytest.raises(InputError, match=r"need the instances.json with their ids as `ground_truth`"):
        run(tmp_path / "results.json", "csv", tmp_path / "out")


def test_sizes_come_from_ground_truth_too(tmp_path: Path) -> None:
    voc_lists(tmp_path / "voc")
    PIL.Image.new("RGB", (1, 1)).save(tmp_path / "voc/JPEGImages/a.jpg")  # the annotation knows better
    text(tmp_path / "found/comp4_det_val_dog.txt", "a 0.5 11 5 60 24\n")
    run(tmp_path / "found", "csv", tmp_path / "out", ground_truth=tmp_path / "voc")
    table = (tmp_path / "out/detections.csv").read_text()
    assert table == "image,width,height,label,score,x1,y1,x2,y2,source\na,100,40,dog,0.5,10,4,60,24,\n"


# The command


def test_the_command_converts_and_says_what_is_not_kept(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labelimg_side_by_side(tmp_path / "in")
    for name in "ab":
        (tmp_path / f"in/{name}.jpg").rename(tmp_path / f"{name}.jpg")
    words = ("convert", tmp_path / "in", "--to", "yolo", "--out", tmp_path / "out", "--images", tmp_path)
    assert rcnn(*words, "--copy-photos", "--classes", "cat,dog", "--json", tmp_path / "x.json") == 0
    told = capsys.readouterr()
    assert told.out == f"annotations of 2 photos, 2 objects, 2 classes, written to {tmp_path / 'out'}\n"
    said = json.loads((tmp_path / "x.json").read_text())
    assert (said["what"], said["photos"], said["classes"], said["losses"]) == ("annotations", 2, ["cat", "dog"], [])
    assert len(open_ground_truth(tmp_path / "out", "train")) == 2
    assert rcnn("convert", tmp_path / "out", "--to", "coco", "--split", "val", "--out", tmp_path / "coco") == 2
    assert "no split 'val'; there are train" in capsys.readouterr().err
    text(tmp_path / "found/comp4_det_val_dog.txt", "a 0.5 11 5 60 24\n")
    truth = ("--ground-truth", tmp_path / "in")
    assert rcnn("convert", tmp_path / "found", "--to", "csv", "--out", tmp_path / "csv", *truth) == 0
    assert capsys.readouterr().out.startswith("results of 1 photo, 1 detection, 20 classes")
    assert rcnn("convert", tmp_path / "nowhere", "--to", "csv", "--out", tmp_path / "csv") == 2
    assert "nowhere: No such file or directory" in capsys.readouterr().err
