"""Annotated photos are recognised and read alike, whichever tool exported them; what is odd is named and counted."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from eval.coco import CocoDataset
from eval.ground_truth import AnyDataset, has_crowds, has_split, open_ground_truth, splits_of, usual_protocol
from eval.joined import JoinedDataset
from eval.notes import notes_of
from eval.selection import Selection
from eval.voc import VocDataset
from eval.yolo import YoloDataset
from structures.errors import InputError
from tests.layouts import (
    BOX,
    ROW,
    SIZE,
    XML,
    coco,
    cvat_coco,
    cvat_subsets_of_coco,
    cvat_subsets_of_voc,
    cvat_subsets_of_yolo,
    cvat_ultralytics,
    cvat_voc,
    cvat_yolo,
    folders_alone,
    labelimg_side_by_side,
    labelimg_two_folders,
    labelimg_yolo,
    photo,
    roboflow_coco,
    roboflow_darknet,
    roboflow_voc,
    roboflow_yolo,
    text,
    ultralytics,
    voc_lists,
    windows,
)

LAYOUTS = {
    VocDataset: (
        *(labelimg_side_by_side, labelimg_two_folders, voc_lists, cvat_voc, cvat_subsets_of_voc, roboflow_voc),
    ),
    CocoDataset: (cvat_coco, cvat_subsets_of_coco, roboflow_coco),
    YoloDataset: (
        *(labelimg_yolo, cvat_yolo, cvat_ultralytics, cvat_subsets_of_yolo, ultralytics, folders_alone),
        *(roboflow_yolo, roboflow_darknet, windows),
    ),
}


@pytest.mark.parametrize(
    ("kind", "make"),
    [(kind, make) for kind, makers in LAYOUTS.items() for make in makers],
    ids=[make.__name__ for makers in LAYOUTS.values() for make in makers],
)
def test_layouts_of_tools_are_read_alike(tmp_path: Path, kind: type[AnyDataset], make: Callable[[Path], None]) -> None:
    make(tmp_path)
    data = open_ground_truth(tmp_path)
    assert type(data) is kind
    assert [Path(name).stem for name in data.image_ids] == ["a", "b"]
    for truth in data:
        assert truth.boxes.tolist() == [BOX]
        assert [data.classes[label] for label in truth.labels] == ["dog"]
        assert truth.image_size == SIZE
        assert data.image_path(truth.image_id).is_file()


def test_the_only_split_is_taken_with_a_note_and_a_named_one_must_be_there(tmp_path: Path) -> None:
    cvat_voc(tmp_path)
    assert open_ground_truth(tmp_path).notes[0].startswith("1 list 'default' read, as there is no ")
    with pytest.raises(InputError, match=r"ImageSets/Main/val\.txt: no such image list; there are default"):
        open_ground_truth(tmp_path, "val")
    cvat_yolo(tmp_path / "yolo")
    assert open_ground_truth(tmp_path / "yolo").notes[0].startswith("1 split 'train' read, as there is no ")
    with pytest.raises(InputError, match=r"obj\.data: no split 'val'; there are train"):
        open_ground_truth(tmp_path / "yolo", "val")
    roboflow_coco(tmp_path / "coco")
    with pytest.raises(InputError, match=r"no split 'quarter'; its files are train/_annotations\.coco\.json, valid/"):
        open_ground_truth(tmp_path / "coco", "quarter")


def test_val_may_be_called_valid_and_train_is_another(tmp_path: Path) -> None:
    for make in (roboflow_voc, roboflow_coco):
        make(tmp_path / make.__name__)
        (tmp_path / make.__name__ / "train/b.xml").unlink(missing_ok=True)
        assert splits_of(tmp_path / make.__name__)[0] == "train"
        assert len(open_ground_truth(tmp_path / make.__name__, "val")) == 2
    assert len(open_ground_truth(tmp_path / "roboflow_voc", "train")) == 1


@pytest.mark.parametrize(
    "make",
    [
        *(voc_lists, cvat_subsets_of_voc, roboflow_voc, roboflow_coco, cvat_subsets_of_coco, roboflow_yolo),
        *(roboflow_darknet, ultralytics, folders_alone),
    ],
)
def test_whether_a_split_is_there_is_known(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path)
    there = [name for name in ("train", "val", "test", "nights") if has_split(tmp_path, name)]
    assert there
    assert "nights" not in there
    for name in there:
        assert len(open_ground_truth(tmp_path, name))
    for name in {"train", "val", "test"}.difference(there):
        with pytest.raises((InputError, OSError)):
            open_ground_truth(tmp_path, name)


def test_files_are_recognised_as_their_folders_are(tmp_path: Path) -> None:
    ultralytics(tmp_path)
    assert len(open_ground_truth(tmp_path / "data.yaml", "val")) == 2
    cvat_yolo(tmp_path / "cvat")
    assert len(open_ground_truth(tmp_path / "cvat/obj.data", "train")) == 2
    coco(tmp_path / "x.json", ["a.jpg"])
    assert len(open_ground_truth(tmp_path / "x.json")) == 1
    with pytest.raises(InputError, match="one file without lists"):
        open_ground_truth(tmp_path / "x.json", "val")


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_what_was_looked_for_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=rf"{name}: no .*; looked for ImageSets/Main or .*instances.*data\.yaml"):
        open_ground_truth(tmp_path / name)


def test_protocol_and_crowds_follow_from_the_format(tmp_path: Path) -> None:
    voc_lists(tmp_path / "voc")
    ultralytics(tmp_path / "yolo")
    cvat_coco(tmp_path / "coco")
    opened = [open_ground_truth(tmp_path / name) for name in ("voc", "yolo", "coco")]
    assert list(map(usual_protocol, opened)) == ["voc07", "coco", "coco"]
    assert list(map(has_crowds, opened)) == [False, False, True]
    assert usual_protocol(Selection(opened[0])) == "voc07"
    assert has_crowds(Selection(opened[2]))


def test_protocol_and_crowds_of_several_together(tmp_path: Path) -> None:
    voc_lists(tmp_path / "voc")
    cvat_coco(tmp_path / "coco")
    voc, coco = VocDataset(tmp_path / "voc", classes=["dog"]), open_ground_truth(tmp_path / "coco")
    one, both = (JoinedDataset({"a": voc, "b": Selection(other)}) for other in (voc, coco))
    assert (usual_protocol(one), has_crowds(one)) == ("voc07", False)
    assert (usual_protocol(both), has_crowds(both)) == ("coco", True)


def test_photos_in_another_folder_can_be_named(tmp_path: Path) -> None:
    photo(tmp_path / "elsewhere/a.png")
    text(tmp_path / "boxes/a.xml", XML)
    assert open_ground_truth(tmp_path / "boxes", images=tmp_path / "elsewhere").image_path("a").name == "a.png"


@pytest.mark.parametrize(
    ("make", "photos"),
    [(ultralytics, "images/val"), (roboflow_yolo, "valid/images"), (labelimg_yolo, "."), (labelimg_yolo, "images")],
)
def test_labels_of_yolo_stay_when_photos_in_another_folder_are_named(
    tmp_path: Path, make: Callable[[Path], None], photos: str
) -> None:
    make(tmp_path / "set")
    if photos == "images":  # LabelImg, with the labels in a folder of their own
        (tmp_path / "set/labels").mkdir()
        for file in (tmp_path / "set").glob("?.txt"):
            file.rename(tmp_path / "set/labels" / file.name)
        photos = "."
    (tmp_path / "elsewhere/images").mkdir(parents=True)
    for file in list((tmp_path / "set" / photos).glob("*.jpg")):
        file.rename(tmp_path / "elsewhere/images" / file.name)
    data = open_ground_truth(tmp_path / "set", images=tmp_path / "elsewhere/images")
    assert [len(truth) for truth in data] == [1, 1]
    assert data.image_path("a.jpg") == tmp_path / "elsewhere/images/a.jpg"
    assert notes_of(data) == []
    (tmp_path / "elsewhere/images/b.jpg").unlink()
    [note] = notes_of(open_ground_truth(tmp_path / "set", images=tmp_path / "elsewhere/images"))
    assert note.startswith("1 file of labels without a photo left out")


def test_a_missing_photo_is_not_taken_from_another_split(tmp_path: Path) -> None:
    roboflow_voc(tmp_path)
    (tmp_path / "train/b.jpg").unlink()
    data = open_ground_truth(tmp_path, "train")
    assert data.image_path("a") == tmp_path / "train/a.jpg"
    assert not data.image_path("b").exists()


def test_xml_of_another_kind_is_refused_not_read_as_a_photo_without_objects(tmp_path: Path) -> None:
    photo(tmp_path / "images/a.jpg")
    text(
        tmp_path / "annotations.xml", '<annotations><image id="0" name="a.jpg"><box label="dog"/></image></annotations>'
    )
    with pytest.raises(InputError, match=r"annotations\.xml: begins with <annotations>, not with VOC's <annotation>"):
        open_ground_truth(tmp_path)


@pytest.mark.parametrize("make", [labelimg_side_by_side, labelimg_two_folders])
def test_photos_without_xml_are_left_out_and_counted(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path)
    assert not open_ground_truth(tmp_path).notes
    folder = next(tmp_path.rglob("a.jpg")).parent
    for name in ("c.PNG", "d.jpg", "a.txt"):
        photo(folder / name) if "txt" not in name else text(folder / name, "no photo")
    data = open_ground_truth(tmp_path)
    assert len(data) == 2
    assert data.notes == [f"2 photos without an annotation left out (first: {folder / 'c.PNG'})"]


def test_photos_of_one_name_in_two_folders_both_stay(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        photo(tmp_path / folder / "images/1.jpg")
        text(tmp_path / folder / "labels/1.txt", ROW)
    text(tmp_path / "data.yaml", "train: [a/images, b/images]\nnames: [cat, dog]\nval: val.txt\n")
    text(tmp_path / "val.txt", "./a/images/1.jpg\n./b/images/1.jpg\n./a/images/1.jpg\n")
    for split in ("train", "val"):
        data = open_ground_truth(tmp_path, split)
        assert data.image_ids == ("a/images/1.jpg", "b/images/1.jpg")
        assert [data.image_path(name) for name in data.image_ids] == [tmp_path / name for name in data.image_ids]
        assert [len(truth) for truth in data] == [1, 1]
    assert [note.partition(" (")[0] for note in data.notes] == ["1 image listed more than once, counted once"]


def test_lists_of_classes_that_differ_between_splits_are_refused(tmp_path: Path) -> None:
    roboflow_darknet(tmp_path)
    text(tmp_path / "valid/_darknet.labels", "dog\ncat\n")
    with pytest.raises(InputError, match=r"valid/_darknet\.labels: the classes are not those of .*train/_darknet"):
        open_ground_truth(tmp_path)


# YOLO's rows


@pytest.fixture
def yolo(tmp_path: Path) -> Callable[..., YoloDataset]:
    """Return a function that opens one photo with these rows."""

    def make(rows: str, names: str = "cat\ndog\n", more: str = "") -> YoloDataset:
        photo(tmp_path / "a.jpg")
        text(tmp_path / "a.txt", rows)
        text(tmp_path / "classes.txt", names)
        if more:
            text(tmp_path / "data.yaml", more)
        return YoloDataset(tmp_path)

    return make


def test_a_polygon_is_boxed_and_counted(yolo: Callable[..., YoloDataset]) -> None:
    data = yolo("0 0.1 0.1 0.6 0.1 0.6 0.6 0.1 0.6\n1 0.2 0.2 0.4 0.2 0.3 0.5\n")
    assert data.ground_truth("a.jpg").boxes.tolist() == [[10, 4, 60, 24], [20, 8, 40, 20]]
    assert data.notes[0].startswith("2 objects with a polygon: the box around it is taken (first: ")
    assert data.notes[0].endswith("a.txt: line 1)")


def test_keypoints_are_left_out(yolo: Callable[..., YoloDataset]) -> None:
    rows = "0 0.35 0.35 0.5 0.5 0.1 0.1 2 0.2 0.2 1\n"
    data = yolo(rows, more="train: .\nnames: [cat]\nkpt_shape: [2, 3]\n")
    assert data.ground_truth("a.jpg").boxes.tolist() == [BOX]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0 nan 0.5 0.5 0.5", "line 1: a number is not finite"),
        ("0 0.5 1e400 0.5 0.5", "line 1: a number is not finite"),
        ("\n0 0.5 0.5 0.5 inf", "line 2: a number is not finite"),
        ("2 0.5 0.5 0.5 0.5", "line 1: class 2, expected 0 to 1"),
        ("-1 0.5 0.5 0.5 0.5", "line 1: class -1, expected"),
        ("0.5 0.5 0.5 0.5 0.5", r"line 1: class 0\.5, expected"),
        ("1e300 0.5 0.5 0.5 0.5", r"line 1: class 1e\+300, expected"),
        ("0 50 20 30 10", "line 1: 65 is not a share of a photo; are these pixels"),
        ("0 0.5 0.5 0.5", "line 1: 4 columns, expected 5"),
        ("0 0.5 0.5 0.5 0.5 0.9", "line 1: 6 columns, .*results have 6"),
        ("dog 0.5 0.5 0.5 0.5", "line 1: expected numbers, got 'dog"),
        ("0 0.5 0.5 0.5 0.5\n" + "0 " * 20_000, "line 2: more than 10000 columns"),
        ("\x00\x01", "expected numbers|1 column,"),
    ],
)
def test_odd_rows_are_errors_that_name_the_line(yolo: Callable[..., YoloDataset], rows: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"a\.txt: {message}"):
        yolo(rows)


def test_ten_million_columns_are_refused_before_they_are_read(
    yolo: Callable[..., YoloDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval.yolo_txt.MOST_BYTES", 100)
    with pytest.raises(InputError, match=r"a\.txt: 200 bytes, expected labels of at most 100"):
        yolo("0 " * 100)


def test_boxes_are_checked_as_those_of_other_formats(yolo: Callable[..., YoloDataset]) -> None:
    data = yolo("0 0.5 0.5 -0.2 0.2\n0 0.5 0.5 0 0.2\n0 0.95 0.5 0.2 0.2\n0 1.3 0.5 0.2 0.2\n0 0.5 0.5 1 1\n")
    assert len(data.ground_truth("a.jpg")) == 3
    assert [note.rpartition(" (")[0].partition(":")[0].partition(", ")[0] for note in data.notes] == [
        "1 object with x2 < x1 or y2 < y1",
        "1 object without area left out",
        "1 object wholly outside the photo",
        "1 object reaching beyond the edge of the photo (0-based corners",
    ]
    assert all("a.txt: line" in note for note in data.notes)


def test_photos_without_labels_and_labels_without_photos_are_counted(tmp_path: Path) -> None:
    ultralytics(tmp_path)
    photo(tmp_path / "images/val/c.jpg")
    text(tmp_path / "labels/val/ghost.txt", ROW)
    data = open_ground_truth(tmp_path)
    assert len(data) == 3
    assert len(data.ground_truth("c.jpg")) == 0
    assert sorted(note.rpartition(" (")[0] for note in data.notes) == [
        "1 file of labels without a photo left out",
        "1 photo without a label file, taken to show no objects",
    ]
    assert any(note.endswith("ghost.txt)") for note in data.notes)


def test_missing_photos_of_a_list_are_left_out_and_named(tmp_path: Path) -> None:
    cvat_yolo(tmp_path)
    (tmp_path / "obj_train_data/b.jpg").unlink()
    data = open_ground_truth(tmp_path)
    assert data.image_ids == ("a.jpg",)
    assert any(note.startswith("1 photo missing, left out") for note in data.notes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("names: [a, a]\ntrain: .\n", "the class 'a' is named twice"),
        ("names: {0: a, 2: b}\ntrain: .\n", "numbered from 0 to 1"),
        ("names: []\ntrain: .\n", "no names of classes"),
        ("names: [a]\nnc: 3\ntrain: .\n", "nc is 3, but names has 1"),
        ("names: [a]\ntrain: nowhere\n", "the photos 'nowhere' do not exist"),
        ("names: [a]\ntrain: .\nkpt_shape: [9, 10000]\n", "kpt_shape must be two numbers"),
        ("names: [a\n", "not readable as YAML"),
        ("!!python/object/apply:os.system ['true']\n", "not a data.yaml"),
        ("a: &a [x]\nb: &b [*a, *a]\nnames: [*b, *b]\ntrain: .\n", "no names of classes"),
        ("[" * 1000, "not readable as YAML"),
        ("names: {0: cat, 1: dog, 1: cow}\n", "not readable as YAML: the key '1' appears twice"),
        ("- a\n", "not a data.yaml"),
    ],
)
def test_odd_descriptions_are_errors_that_name_the_file(
    yolo: Callable[..., YoloDataset], content: str, message: str
) -> None:
    with pytest.raises(InputError, match=rf"data\.yaml: .*{message}"):
        yolo(ROW, more=content)


def test_names_are_texts_whatever_yaml_would_make_of_them(yolo: Callable[..., YoloDataset]) -> None:
    assert yolo(ROW, more="names: [no, 007, 1e3, null]\ntrain: .\n").classes == ("no", "007", "1e3", "null")


def test_an_object_of_a_class_called_background_is_refused(yolo: Callable[..., YoloDataset]) -> None:
    assert len(yolo(ROW, names="background\ndog\n")) == 1
    with pytest.raises(InputError, match="objects are annotated as 'background'"):
        yolo(ROW, names="cat\nbackground\n")


def test_a_photo_that_cannot_be_read_is_named(yolo: Callable[..., YoloDataset], tmp_path: Path) -> None:
    yolo(ROW)
    (tmp_path / "a.jpg").write_bytes(b"no photo")
    with pytest.raises(InputError, match=r"a\.jpg"):
        YoloDataset(tmp_path)


def test_the_array_of_a_photo_without_objects_has_its_shape(yolo: Callable[..., YoloDataset]) -> None:
    truth = yolo("").ground_truth("a.jpg")
    assert truth.boxes.shape == (0, 4)
    assert truth.labels.dtype == np.int64
