"""Small inputs that go wrong in practice, where there is a folder of them: each gives the right value, or a message.

The same kinds of faults are made by the tests of the modules that meet them; these are the files as users had them.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from detect.convert.job import Conversion
from detect.convert.run import convert
from eval.aligned import align, align_records
from eval.coco import CocoDataset
from eval.coco_protocol import coco
from eval.coco_results import read_coco_results
from eval.ground_truth import open_ground_truth
from eval.results import read_lines
from eval.selection import Selection
from proposals.stored.foreign import read_foreign
from proposals.stored.generator import StoredProposals
from structures.class_lists import read_class_names
from structures.errors import InputError
from structures.images import read_image

Case = Callable[[str], Path]


@pytest.fixture
def case(data_dir: Path) -> Case:
    """Return a function that gives the folder of a case."""

    def find(name: str) -> Path:
        path = data_dir.parent / "cases" / name
        if not path.exists():
            pytest.skip(f"{path} is not there")
        return path

    return find


def figures(truth: Path, results: Path) -> dict[str, float]:
    data = CocoDataset(truth)
    found = align_records(read_coco_results(results, data)[0], data).detections
    return dict(coco(list(data), found, data.classes))


@pytest.mark.parametrize(
    ("name", "prefix", "figure", "value"),
    [
        ("root-category", "", "AP", 0.85099),
        ("inside-out", "", "AP", 1.0),
        ("doubles", "iou-", "AP50", 1.0),
        ("doubles", "area-", "AP_small", 0.5),
    ],
)
def test_coco_files_have_the_figures_of_pycocotools(
    case: Case, name: str, prefix: str, figure: str, value: float
) -> None:
    folder = case(name)
    found = figures(folder / f"{prefix}instances.json", folder / f"{prefix}results.json")
    assert found[figure] == pytest.approx(value, abs=5e-6)


def test_lines_with_corners_exchanged_are_named(case: Case) -> None:
    data = open_ground_truth(case("inside-out") / "voc")
    lines, notes = read_lines(case("inside-out") / "swapped.jsonl")
    assert len(align(lines, data).detections[0]) == 0
    assert notes[0].startswith("2 detections with x2 < x1 or y2 < y1")
    assert notes[0].endswith("swapped.jsonl: line 1: box 1")


def test_an_object_beyond_its_photo_is_named_and_not_learned_from(case: Case) -> None:
    data = open_ground_truth(case("beyond-photo") / "instances.json")
    assert data.notes[0].startswith("1 objects wholly outside their photo")
    assert data.notes[0].endswith("annotation 2 of 1.jpg")
    assert [len(truth) for truth in Selection(data, to_learn=True)] == [1, 0]


def test_boxes_of_another_size_are_named(case: Case) -> None:
    photo = case("other-size") / "photos/v.jpg"
    stored = StoredProposals(case("other-size") / "boxes.json")
    stored.proposals_of("v.jpg", read_image(photo))
    [note] = stored.notes
    assert "2 of 2 boxes on 1 of 1 photos lie outside the photo" in note


@pytest.mark.parametrize("name", ["val/p1.jpg", "val/p2.jpg", "train/p3.jpg"])
def test_names_of_windows_are_understood(case: Case, name: str) -> None:
    boxes, _ = read_foreign(case("windows-names") / "boxes.json").boxes_of(name)
    assert boxes.tolist() == [[10, 10, 50, 40]]


def test_class_names_can_be_chosen(case: Case) -> None:
    data = open_ground_truth(case("class-names") / "instances.json")
    assert read_class_names(["crane, bird", "padded"], known=data.classes) == ["crane, bird", "padded"]
    assert Selection(data, classes=["crane, bird", "padded"]).classes == ("crane, bird", "padded")


def test_a_category_called_background_is_not_a_class(case: Case) -> None:
    data = open_ground_truth(case("background-class") / "instances.json")
    assert data.classes == ("crate", "drum")
    assert "left out, as it is not a class: 'background'" in data.notes[0]


@pytest.mark.parametrize("name", ["root-category", "beyond-photo", "background-class", "class-names"])
@pytest.mark.parametrize("form", ["voc", "yolo"])
def test_all_can_be_converted_and_read_again(case: Case, tmp_path: Path, name: str, form: str) -> None:
    done = convert(Conversion(case(name) / "instances.json", form, tmp_path / form, copy_photos=True))
    if form == "yolo" and not any((tmp_path / form).rglob("*.jpg")):
        return  # the case has no photos, without which boxes as shares have no size
    again = open_ground_truth(tmp_path / form, "train")
    assert len(again) == done.photos
    lost = next((line for line in done.losses if "outside their photo left out" in line), "0 ")
    assert sum(map(len, again)) == done.objects - int(lost.split()[0])


@pytest.mark.parametrize("name", ["crash.mat", "memo.pkl"])
def test_hostile_files_are_one_line(case: Case, name: str) -> None:
    with pytest.raises(InputError, match=name):
        read_foreign(case("hostile") / name)


@pytest.mark.parametrize(
    "name", ["jpg_half_then_EOI.jpg", "png_flip.png", "png_zeros.png", "prog_half_EOI.jpg", "webp_zeros.webp"]
)
def test_damaged_photos_are_errors(case: Case, name: str) -> None:
    with pytest.raises(InputError, match=name):
        read_image(case("damaged") / name)
    assert np.asarray(read_image(case("damaged") / "whole.png")).ndim == 3
