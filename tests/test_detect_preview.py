"""`--dry-run` shows what was read and draws examples; tables are whole in a pipe and at 80 columns."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

from detect.preview import counts, preview
from eval.ground_truth import open_ground_truth
from eval.report import Sheet, sheets_csv
from structures.images import read_size
from tests.layouts import coco, photo, text, voc_lists

LONG = "a class with a name that is far longer than " + "any_terminal_of_eighty_columns_has_room_for_in_one_line" * 2


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Return a COCO file of 30 photos, each with an object and every other with a crowd; the last cannot be read."""
    names = [f"{number:02d}.jpg" for number in range(30)]
    for name in names[:-1]:
        photo(tmp_path / "images" / name)
    (tmp_path / "images/29.jpg").write_bytes(b"no photo")
    coco(tmp_path / "instances.json", names)
    content = json.loads((tmp_path / "instances.json").read_text())
    content["annotations"] += [
        {"id": 100 + n, "image_id": n, "category_id": 1, "bbox": [0, 0, 99, 39], "iscrowd": 1} for n in range(0, 30, 2)
    ]
    text(tmp_path / "instances.json", json.dumps(content))
    return tmp_path / "instances.json"


def test_objects_are_counted_by_class_and_size(many: Path) -> None:
    table = counts(open_ground_truth(many))
    assert table == {"dog": {"objects": 30, "photos": 30, "small": 30, "medium": 0, "large": 0, "ignored": 15}}


def test_twenty_examples_are_drawn_and_what_is_odd_is_named(
    many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = preview({"ground truth": open_ground_truth(many)}, tmp_path / "out")
    pictures = sorted((tmp_path / "out").glob("*.jpg"))
    assert len(pictures) == 20 == len(shown["drawn"])
    assert read_size(pictures[0]) == (40, 100)
    told = capsys.readouterr()
    assert re.search(r"dog +30 +30 +30 +0 +0 +15", told.out)
    assert "left out, as it is the supercategory of others: 'dog'" in told.err
    again = preview({"ground truth": open_ground_truth(many)}, tmp_path / "out")
    assert again == shown


def test_a_photo_that_cannot_be_drawn_is_named_and_the_others_are_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco(tmp_path / "instances.json", ["a.jpg", "b.jpg"])
    photo(tmp_path / "images/a.jpg")
    shown = preview({"x": open_ground_truth(tmp_path / "instances.json")}, tmp_path / "out")
    assert len(shown["drawn"]) == 1
    assert "b.jpg" in shown["unread"][0]
    assert "warning: not drawn: " in capsys.readouterr().err


def test_detections_and_proposals_have_a_dry_run(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voc_lists(tmp_path / "voc")
    usual = ("--ground-truth", tmp_path / "voc", "--dry-run", tmp_path / "out", "--json", tmp_path / "x.json")
    for command in ("detections", "proposals"):
        assert rcnn("eval", command, tmp_path / "nothing", *usual) == 0
        assert "nothing was scored; 2 examples drawn in" in capsys.readouterr().out
        assert json.loads((tmp_path / "x.json").read_text())["classes"]["ground truth"]["dog"]["objects"] == 2


def test_a_dry_run_says_what_results_hold_and_what_is_odd_about_them(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voc_lists(tmp_path / "voc")
    rows = {"boxes": [[1, 2, 3, 4], [9, 2, 3, 4]], "labels": ["dog", "dog"], "scores": [0.5, 0.5]}
    text(tmp_path / "x.jsonl", json.dumps({"image": "a.jpg", "width": 100, "height": 40, **rows}))
    usual = ("--ground-truth", tmp_path / "voc", "--dry-run", tmp_path / "out", "--json", tmp_path / "x.json")
    assert rcnn("eval", "detections", tmp_path / "x.jsonl", *usual) == 0
    told = capsys.readouterr()
    assert f"results: 1 detection of 1 class on 1 of 2 photos, in {tmp_path / 'x.jsonl'}" in told.out
    assert "1 detection with x2 < x1 or y2 < y1" in told.err
    assert any("1 detection with x2 < x1" in line for line in json.loads((tmp_path / "x.json").read_text())["warnings"])


@pytest.mark.parametrize("command", ["regions", "multibox"])
def test_trainings_have_a_dry_run(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    voc_lists(tmp_path / "voc")
    out = tmp_path / "net.safetensors"
    words = (
        "--ground-truth",
        tmp_path / "voc",
        "--split",
        "val",
        "--val",
        "val",
        "--images",
        tmp_path / "voc/JPEGImages",
    )
    assert rcnn("train", command, *words, "--out", out, "--dry-run", tmp_path / "out", "--device", "cpu") == 0
    told = capsys.readouterr()
    assert "nothing was trained; 4 examples drawn in" in told.out
    assert "2 of 2 validation photos are also learned from" in told.err
    assert not out.exists()
    assert not out.with_suffix(".work").exists()


def test_a_classifier_has_a_dry_run(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cat/a.jpg", "cat/b.jpg", "dog/c.jpg"):
        photo(tmp_path / "photos" / name)
    PIL.Image.new("RGB", (300, 200)).save(tmp_path / "photos/cat/b.jpg")
    (tmp_path / "photos/dog/bad.jpg").write_bytes(b"no photo")
    words = ("--folder", tmp_path / "photos", "--val", tmp_path / "photos", "--out", tmp_path / "net.safetensors")
    assert rcnn("train", "classifier", *words, "--dry-run", tmp_path / "out") == 0
    told = capsys.readouterr()
    assert re.search(r"cat +2 +2 +0 +1 +1 +0", told.out)  # of 100 x 40 and of 300 x 200 pixels
    assert "nothing was trained; 6 examples drawn in" in told.out
    assert "1 photo that cannot be read left out (" in told.err
    assert "1 photo of another class, too (" in told.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos"]


def test_benches_have_a_dry_run(rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voc_lists(tmp_path / "voc")
    usual = ("--ground-truth", tmp_path / "voc", "--photos", "1", "--dry-run", tmp_path / "look")
    for command in ("detect", "proposals"):
        out, figures = tmp_path / "out", tmp_path / "x.json"
        assert rcnn("bench", command, *usual, "--out", out, "--json", figures) == 0
        assert "nothing was measured; 1 example drawn in" in capsys.readouterr().out
        assert json.loads(figures.read_text())["photos"] == {"ground truth": 1}
        assert not out.exists()


def test_names_are_never_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from detect.evaluation import show

    sheet = Sheet("A table", ["class", "AP %", "objects"], [[LONG, "12.34", "56"]])
    show([sheet], [])
    assert LONG in capsys.readouterr().out  # a pipe
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, as far as rich can tell
    show([sheet], [])
    plain = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(len, plain.splitlines())) <= 80
    assert LONG.replace(" ", "") in re.sub(r"[\s─]|12\.34|56", "", plain)


def test_captions_are_one_line_above_a_narrow_table_too(capsys: pytest.CaptureFixture[str]) -> None:
    from detect.evaluation import show

    show([Sheet("Where objects were lost, and in which stage", ["a"], [["1"]])], [])
    assert capsys.readouterr().out.splitlines()[0].strip() == "Where objects were lost, and in which stage"


def test_tables_as_csv_have_a_line_for_each_value() -> None:
    sheets = [Sheet("One", ["class", "AP %", "objects"], [["dog, wet", "12.34", "5"]]), Sheet("Two", ["x", "y"], [])]
    rows = list(csv.reader(sheets_csv(sheets).splitlines()))
    assert rows == [
        ["table", "row", "column", "value"],
        ["One", "dog, wet", "AP %", "12.34"],
        ["One", "dog, wet", "objects", "5"],
    ]
