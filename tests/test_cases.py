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
TURNED = "with x2 < x1 or y2 < y1, of negative width or height, left out"
LEFT_OUT = "1 category without objects left out"
OUTSIDE = "1 object wholly outside the photo"
DAMAGED = ("jpg_half_then_EOI.jpg", "png_flip.png", "png_zeros.png", "prog_half_EOI.jpg", "webp_zeros.webp")
COMMANDS = [  # words, {c} for the folder of the cases and {o} for a new one; exit code; what is said
    *(
        (
            f"eval detections {{c}}/root-category/results.json --ground-truth {{c}}/root-category/instances.json {how}",
            *said,
        )
        for how, *said in (
            ("--protocol coco", 0, (LEFT_OUT, "'tin'", "AP (coco) 85.10 %")),
            ("--protocol voc07", 0, (LEFT_OUT, "'tin'", "mAP (voc07) 92.42 %")),
            ("--dry-run {o}/look", 0, (LEFT_OUT, "'tin'", "nothing was scored")),
        )
    ),
    *(
        (f"{command} {{c}}/inside-out/results.json --ground-truth {{c}}/inside-out/instances.json {how}", 0, said)
        for command, how, said in (
            ("eval detections", "--protocol coco", ("1 detection of negative width", "entry 1", "AP (coco) 100.00 %")),
            ("eval detections", "--protocol voc", ("1 detection of negative width", "entry 1", "mAP (voc) 100.00 %")),
            ("eval compare", "--draws 9", ("1 detection of negative width", "entry 1", "A: 100.00% AP")),
            ("eval proposals", "", ("1 of 3 boxes on 1 of 1 photo with x2 < x1 or y2 < y1", "MABO 100.00 %")),
            ("convert", "--to csv --out {o}/csv", (f"1 detection {TURNED}", "entry 1", "2 detections, 1 class")),
        )
    ),
    *(
        (f"{command} {{c}}/inside-out/swapped.jsonl {how}", 0, (f"2 detections {TURNED}", "line 1: box 1"))
        for command, how in (
            ("eval detections", "--ground-truth {c}/inside-out/voc"),
            ("eval compare", "--ground-truth {c}/inside-out/voc --draws 9"),
            ("convert", "--to coco --out {o}/coco"),
        )
    ),
    *(
        (
            f"train regions --ground-truth {{c}}/{case}/instances.json --out {{o}}/n.safetensors --dry-run {{o}}/look",
            0,
            said,
        )
        for case, said in (
            ("beyond-photo", (OUTSIDE, "1 example")),
            ("background-class", (LEFT_OUT, "'background'", "3 examples")),
        )
    ),
    ("convert {c}/beyond-photo/instances.json --to yolo --out {o}/yolo", 0, (OUTSIDE, f"{OUTSIDE} left out")),
    (
        "propose {c}/other-size/photos --proposals file:{c}/other-size/boxes.json --out {o}/boxes",
        0,
        ("2 of 2 boxes on 1 of 1 photo outside the photo", "on v.jpg (96 x 64 pixels)"),
    ),
    (
        "propose {c}/windows-names/photos --proposals file:{c}/windows-names/boxes.json --out {o}/boxes",
        0,
        ("3 done, 0 skipped",),
    ),
    *(
        (words.format(f"{{c}}/hostile/{name}", c="{c}", o="{o}"), 2, (f"rcnn: {{c}}/hostile/{name}: ",))
        for name in ("crash.mat", "memo.pkl")
        for words in (
            "propose {c}/other-size/photos --proposals file:{} --out {o}/boxes",
            "eval proposals {} --ground-truth {c}/beyond-photo/instances.json",
            "eval detections {} --ground-truth {c}/beyond-photo/instances.json",
            "convert {} --to csv --out {o}/csv",
            "weights show {}",
        )
    ),
    ("propose {c}/damaged --proposals grid --out {o}/boxes", 1, ("1 done, 5 skipped", *DAMAGED)),
]


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
    assert notes[0].endswith("swapped.jsonl: line 1: box 1)")


def test_an_object_beyond_its_photo_is_named_and_not_learned_from(case: Case) -> None:
    data = open_ground_truth(case("beyond-photo") / "instances.json")
    assert data.notes[0].startswith("1 object wholly outside the photo")
    assert data.notes[0].endswith("annotation 2 of 1.jpg)")
    assert [len(truth) for truth in Selection(data, to_learn=True)] == [1, 0]


def test_boxes_of_another_size_are_named(case: Case) -> None:
    photo = case("other-size") / "photos/v.jpg"
    stored = StoredProposals(case("other-size") / "boxes.json")
    stored.proposals_of("v.jpg", read_image(photo))
    [note] = stored.notes
    assert "2 of 2 boxes on 1 of 1 photo outside the photo" in note


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
    lost = next((line for line in done.losses if "outside the photo left out" in line), "0 ")
    assert sum(map(len, again)) == done.objects - int(lost.split()[0])


@pytest.mark.parametrize("name", ["crash.mat", "memo.pkl"])
def test_hostile_files_are_one_line(case: Case, name: str) -> None:
    with pytest.raises(InputError, match=name):
        read_foreign(case("hostile") / name)


@pytest.mark.parametrize(("words", "code", "said"), COMMANDS)
def test_every_command_says_what_is_odd(
    case: Case,
    rcnn: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: str,
    code: int,
    said: tuple[str, ...],
) -> None:
    folder = case("damaged").parent
    assert rcnn(*words.format(c=folder, o=tmp_path).split()) == code
    told = capsys.readouterr()
    for piece in said:
        assert piece.format(c=folder) in told.out + told.err
    if code == 2:
        assert (told.out, told.err.count("\n")) == ("", 1)


def test_damaged_photos_are_not_learned_from_unnoticed(
    case: Case, rcnn: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/thing").symlink_to(case("damaged"))
    out = tmp_path / "net.safetensors"
    rcnn("train", "classifier", "--folder", tmp_path / "photos", "--out", out, "--dry-run", tmp_path / "look")
    told = capsys.readouterr()
    assert all(f"/thing/{name}: cannot be decoded: damaged" in told.err for name in DAMAGED)
    assert "1 example drawn" in told.out


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_photos_are_errors(case: Case, name: str) -> None:
    with pytest.raises(InputError, match=name):
        read_image(case("damaged") / name)
    assert np.asarray(read_image(case("damaged") / "whole.png")).ndim == 3
