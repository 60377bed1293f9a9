"""VOC folders are read as the devkit means them, and every oddity is an error that names the file or a counted note."""

import os
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from eval.voc import VOC_CLASSES, VocDataset, VocError, voc_result_files
from structures.boxes import as_boxes
from structures.records import Detections

SIZE = "<size><width>100</width><height>80</height><depth>3</depth></size>"


def thing(name="dog", box=(11, 21, 30, 40), extra="<difficult>0</difficult>"):
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{corners}</bndbox></object>"


@pytest.fixture
def voc(tmp_path):
    """Return a function that writes annotations and opens the folder as a dataset."""

    def make(annotations, *, image_list=None, classes=None, photos=()):
        for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for image_id, body in annotations.items():
            (tmp_path / "Annotations" / f"{image_id}.xml").write_text(f"<annotation>{body}</annotation>")
        for name, size in photos:
            PIL.Image.new("RGB", size).save(tmp_path / "JPEGImages" / name)
        text = "\n".join(annotations) if image_list is None else image_list
        (tmp_path / "ImageSets/Main/val.txt").write_text(text)
        return VocDataset(tmp_path, "val", classes)

    return make


def test_convention_voc_corners_become_half_open(voc):
    truth = voc({"a": SIZE + thing(box=(1, 1, 1, 1)) + thing(box=(1, 1, 100, 80))}).ground_truth("a")
    assert truth.boxes.tolist() == [[0, 0, 1, 1], [0, 0, 100, 80]]
    assert truth.area.tolist() == [1, 8000]
    assert truth.image_size == (80, 100)


def test_voc_classes_are_twenty_in_alphabetical_order(voc):
    assert len(VOC_CLASSES) == 20
    assert list(VOC_CLASSES) == sorted(VOC_CLASSES)
    data = voc({"a": SIZE + thing("tvmonitor") + thing("aeroplane")})
    assert data.classes == VOC_CLASSES
    assert data.ground_truth("a").labels.tolist() == [19, 0]


def test_float_coordinates_are_kept(voc):
    assert voc({"a": SIZE + thing(box=(1.5, 2.25, 10.75, 20))}).ground_truth("a").boxes.tolist() == [
        [0.5, 1.25, 10.75, 20]
    ]


@pytest.mark.parametrize(("extra", "expected"), [("", False), ("<difficult>1</difficult>", True)])
def test_difficult_may_be_missing(voc, extra, expected):
    assert voc({"a": SIZE + thing(extra=extra)}).ground_truth("a").ignore.tolist() == [expected]


def test_parts_are_not_objects(voc):
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></part>"
    truth = voc({"a": SIZE + thing("person", extra=part)}).ground_truth("a")
    assert truth.boxes.tolist() == [[10, 20, 30, 40]]


def test_name_and_bndbox_are_the_objects_own_even_after_a_part(voc):
    data = voc({"a": SIZE + thing("person", extra="<part><name>head</name></part>")})
    assert data.classes == VOC_CLASSES


def test_images_without_objects_are_empty_records(voc):
    truth = voc({"a": SIZE}).ground_truth("a")
    assert truth.boxes.shape == (0, 4)
    assert truth.labels.dtype == np.int64


def test_other_class_names_are_found_by_scanning_the_whole_folder(voc):
    data = voc({"a": SIZE + thing("wombat"), "b": SIZE + thing("dog ")}, image_list="b")
    assert data.classes == ("dog", "wombat")
    assert data.ground_truth("b").labels.tolist() == [0]


def test_names_that_differ_in_case_are_one_class(voc):
    data = voc({"a": SIZE + thing("Dog") + thing("dog")})
    assert data.classes == VOC_CLASSES
    assert len(set(data.ground_truth("a").labels.tolist())) == 1


def test_given_classes_may_differ_only_in_case(voc):
    data = voc({"a": SIZE + thing("Dog") + thing("dog") + thing("CAT")}, classes=["Dog", "dog", "cat"])
    assert data.ground_truth("a").labels.tolist() == [0, 1, 2]


def test_given_classes_decide_the_labels_and_others_are_noted(voc):
    data = voc({"a": SIZE + thing("dog") + thing("cat") + thing("cow")}, classes=["dog", "cat"])
    assert data.ground_truth("a").labels.tolist() == [0, 1]
    assert "1 object of the unlisted class 'cow'" in data.notes[0]


def test_image_lists_may_have_a_second_column_and_names_with_spaces(voc):
    body = SIZE + thing()
    data = voc({"a": body, "my photo": body, "scan 1": body}, image_list="a -1\nmy photo  1\nscan 1\n\na\t0\n")
    assert data.image_ids == ("a", "my photo", "scan 1")
    assert data.notes[0].startswith("1 image listed more than once")


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>", SIZE.replace("80", "20")])
def test_a_wrong_size_is_replaced_by_the_photos_and_noted(voc, size):
    data = voc({"a": size + thing()}, photos=[("a.jpg", (64, 48))])
    assert data.ground_truth("a").image_size == (48, 64)
    assert "missing or wrong <size>" in data.notes[0]


def test_without_a_photo_the_size_holds_all_boxes(voc):
    assert voc({"a": thing(box=(1, 1, 30, 40))}).ground_truth("a").image_size == (40, 30)


def test_zero_based_corners_are_noted_not_wrapped(voc):
    data = voc({"a": SIZE + thing(box=(0, 0, 10, 10))}, photos=[("a.jpg", (100, 80))])
    assert data.ground_truth("a").boxes.tolist() == [[-1, -1, 10, 10]]
    assert "beyond the edge" in data.notes[0]


def test_boxes_without_area_are_left_out_and_noted(voc):
    data = voc({"a": SIZE + thing(box=(20, 20, 10, 30)) + thing() + thing(box=(20, 20, 19, 30))})
    assert len(data.ground_truth("a")) == 1
    assert data.notes[0].startswith("1 object with x2 < x1 or y2 < y1, of negative width or height left out (")
    assert data.notes[0].endswith("a.xml: object 1)")
    assert data.notes[1].startswith("1 object without area left out (")
    assert data.notes[1].endswith("a.xml: object 3)")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (thing(box=("x", 1, 2, 3)), "object 1 .dog.: <bndbox> needs numbers"),
        (thing(box=("nan", 1, 2, 3)), "not finite"),
        (thing(box=("1e300", 1, 2, 3)), "not finite"),
        ("<object><name>dog</name></object>", "<bndbox> needs numbers"),
        ("<object></object>", "object 1 has no name"),
        (thing(extra="<bndbox><xmin>3</xmin></bndbox>"), "object 1 .dog.: has xmin more than once"),
        (thing(extra="<difficult>maybe</difficult>"), "difficult is 'maybe'"),
        ("<object>", "not a readable XML file"),
    ],
)
def test_bad_annotations_are_errors_that_name_the_file(voc, body, message):
    with pytest.raises(VocError, match=f"a.xml.*{message}"):
        voc({"a": SIZE + body})


UNKNOWN_ENCODING = "<?xml version='1.0' encoding='klingon'?><annotation/>"


def test_an_unknown_encoding_is_an_error_that_names_the_file(voc, tmp_path):
    voc({"a": SIZE})
    (tmp_path / "Annotations/a.xml").write_text(UNKNOWN_ENCODING)
    with pytest.raises(VocError, match=r"a\.xml: not a readable XML file: unknown encoding"):
        VocDataset(tmp_path, "val", ["dog"])


def test_an_image_list_that_is_not_utf_8_is_named(voc, tmp_path):
    voc({"a": SIZE})
    (tmp_path / "ImageSets/Main/latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(VocError, match=r"latin\.txt: not UTF-8"):
        VocDataset(tmp_path, "latin")


def test_what_is_not_xml_and_not_listed_is_passed_over(voc, tmp_path):
    (tmp_path / "Annotations/b.xml").mkdir(parents=True)
    (tmp_path / "Annotations/c.xml").write_text(UNKNOWN_ENCODING)
    (tmp_path / "Annotations/d.xml").write_text("<annotation>")
    assert voc({"a": SIZE + thing("wombat")}).classes == ("wombat",)


def test_missing_things_are_errors_that_name_them(voc, tmp_path):
    with pytest.raises(VocError, match=r"b\.xml: no such annotation"):
        voc({"a": SIZE}, image_list="a\nb")
    with pytest.raises(VocError, match=r"test\.txt: no such image list; there are val"):
        VocDataset(tmp_path, "test")
    with pytest.raises(VocError, match="is not a VOC folder"):
        VocDataset(tmp_path / "nowhere", "val")
    with pytest.raises(VocError, match="image list is empty"):
        voc({"a": SIZE}, image_list="\n")
    with pytest.raises(VocError, match="no image 'z' in split 'val'"):
        voc({"a": SIZE}).ground_truth("z")


def test_photos_are_found_under_other_suffixes(voc, tmp_path):
    data = voc({"a": SIZE, "b": SIZE, "c": SIZE}, photos=[("a.JPG", (9, 9)), ("b.png", (9, 9))])
    assert data.image_path("a").name == "a.JPG"
    assert data.image_path("b").name == "b.png"
    assert data.image_path("c").name == "c.jpg"


def test_result_files_are_one_based_with_digits_that_keep_scores_apart():
    score = np.float32(0.12345678)
    found = Detections(as_boxes([[0, 0, 10, 20], [1.5, 2, 3, 4]]), np.array([1, 1]), np.array([score, 0.5]), (50, 50))
    nothing = Detections(as_boxes([]), np.zeros(0), np.zeros(0), (50, 50))
    files = voc_result_files([("000001", found), ("000002", nothing)], ["cat", "dog"], "val")
    assert list(files) == ["comp4_det_val_cat.txt", "comp4_det_val_dog.txt"]
    assert files["comp4_det_val_cat.txt"] == b""
    rows = [line.split() for line in files["comp4_det_val_dog.txt"].decode().splitlines()]
    assert rows[0][0] == "000001"
    assert np.float32(rows[0][1]) == score
    assert [float(value) for value in rows[0][2:]] == [1, 1, 10, 20]
    assert [float(value) for value in rows[1][2:]] == [2.5, 3, 3, 4]


def test_result_files_refuse_a_label_without_a_class():
    found = Detections(as_boxes([[0, 0, 1, 1]]), np.array([2]), np.array([0.5]), (5, 5))
    with pytest.raises(ValueError, match="a: label 2, expected 0 to 1"):
        voc_result_files([("a", found)], ["cat", "dog"], "val")


@pytest.mark.parametrize("name", ["cup/mug", "a\0b"])
def test_result_files_refuse_a_class_that_cannot_be_part_of_a_file_name(name):
    with pytest.raises(ValueError, match=f"{re.escape(repr(name))} cannot be part of a file name"):
        voc_result_files([], ["cat", name], "val")


def test_result_files_keep_photo_names_that_are_not_utf_8():
    found = Detections(as_boxes([[0, 0, 1, 1]]), np.array([0]), np.array([0.5]), (5, 5))
    files = voc_result_files([(os.fsdecode(b"caf\xe9"), found)], ["cat"], "val")
    assert list(files.values()) == [b"caf\xe9 0.5 1 1 1 1\n"]


def test_the_real_folder_reads_without_a_note(data_dir: Path):
    data = VocDataset(data_dir / "voc2007", "val")
    assert (len(data), sum(len(truth) for truth in data)) == (978, 3015)
    assert data.notes == []
    assert all(data.image_path(image_id).exists() for image_id in data.image_ids)
