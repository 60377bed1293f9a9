"""Pictures: names in any script, labels that leave each other room, and `rcnn draw` on results that are there."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.features
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detect.drawing import fonts
from detect.drawing.fonts import font_for, legible, missing_fonts
from detect.drawing.labels import covered, place_labels, places
from detect.drawing.picture import colour, draw
from detect.runs.record import RunRecord
from detect.runs.results import ResultsFolder
from proposals.stored.reader import file_key
from structures.boxes import Boxes
from structures.records import Detections

CLASSES = ("cat", "dog")
BOXES = [[10, 30, 60, 70], [40, 40, 110, 90]]


def found(labels: list[int] | None = None, scores: list[float] | None = None, boxes: Any = BOXES) -> Detections:
    return Detections(boxes, labels or [0, 1], scores or [0.9, 0.6], (100, 120))  # type: ignore[arg-type]


def drawn(*names: str) -> np.ndarray[Any, Any]:
    return np.array(draw(np.zeros((100, 120, 3), np.uint8), found(), names))


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let there be no font but Pillow's own."""
    monkeypatch.setattr(fonts, "_files", lambda letters: iter(()))
    fonts._file_for.cache_clear()
    yield
    fonts._file_for.cache_clear()


@pytest.mark.parametrize(("one", "other"), [("кошка", "шкока"), ("café", "cafè"), ("γάτα", "τάγα"), ("cat", "cot")])
def test_names_of_equal_length_look_different(one: str, other: str) -> None:
    """Pillow's own font has a box for every letter beyond ASCII, so that they all looked alike."""
    assert missing_fonts([one, other]) == ""
    assert (drawn(one, "dog") != drawn(other, "dog")).any()


def test_a_name_without_a_font_is_drawn_as_its_number(no_fonts: None) -> None:
    assert not legible("猫")
    np.testing.assert_array_equal(drawn("猫", "dog"), drawn("class 1", "dog"))
    assert legible("[dog] {0}")


@pytest.mark.parametrize(
    ("name", "script", "package"),
    [
        ("猫", "Chinese", "fonts-noto-cjk"),
        ("고양이", "Hangul", "fonts-noto-cjk"),
        ("кот", "Cyrillic", "fonts-noto-core"),
        ("🐕 dog", "emoji", "fonts-symbola"),
    ],
)
def test_a_missing_font_is_named_with_its_script_and_package(
    no_fonts: None, name: str, script: str, package: str
) -> None:
    warning = missing_fonts(["dog", name])
    assert f"no font here has the {script} letters of '{name}'" in warning
    assert warning.endswith(f"such as the package {package}")
    assert missing_fonts(["dog", "cat"]) == ""


def test_joiners_and_variants_need_no_letter_of_a_font(no_fonts: None) -> None:
    assert legible("ca\u200dt \ufe0f")
    assert missing_fonts(["ca\u200dt"]) == ""


def test_a_font_without_digits_writes_the_name_and_another_the_score(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_digits(text: str, size: int) -> Any:
        return font_for(text, size) if text.isalpha() or not any(map(str.isalpha, text)) else None

    usual = drawn("cat", "dog")
    monkeypatch.setattr("detect.drawing.picture.font_for", without_digits)
    apart = drawn("cat", "dog")
    label = np.s_[5:30, 10:100]
    assert (apart[label] != drawn("tac", "dog")[label]).any()  # the name is there
    assert (usual[label] != apart[label]).mean() < 0.1  # and so is the score, on the same baseline


def test_letters_that_shape_each_other_need_another_library(monkeypatch: pytest.MonkeyPatch) -> None:
    assert legible("كلب")  # matplotlib's DejaVu has it
    monkeypatch.setattr(PIL.features, "check", lambda name: False)
    assert "libraqm" in missing_fonts(["dog", "كلب"])
    monkeypatch.setattr(PIL.features, "check", lambda name: True)
    assert missing_fonts(["dog", "كلب"]) == ""


def test_fonts_that_have_a_box_for_every_letter_are_none() -> None:
    assert fonts._plain_first(["a/LastResortHE-Regular.ttf", "b/Noto-Bold.ttf", "c/NotoSans-Regular.ttf"]) == [
        "c/NotoSans-Regular.ttf",
        "b/Noto-Bold.ttf",
    ]


def test_damaged_fonts_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ASans.ttf").write_bytes(b"no font")
    good = font_for("кот", 20)
    monkeypatch.setattr(fonts, "_asked", lambda letters: [str(tmp_path / "ASans.ttf")])
    fonts._file_for.cache_clear()
    again = font_for("кот", 20)
    fonts._file_for.cache_clear()
    assert good is not None
    assert again is not None


side = st.integers(20, 300)
box = st.tuples(*[st.floats(0, 300, width=32)] * 4).map(
    lambda b: [min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3])]
)


@given(st.lists(st.tuples(box, st.tuples(st.integers(1, 20), st.integers(1, 20))), max_size=8), side, side)
def test_each_label_lies_in_the_picture_where_it_covers_least_of_those_before(
    items: list[tuple[list[float], tuple[int, int]]], width: int, height: int
) -> None:
    boxes = np.array([each for each, _ in items], np.float32).reshape(-1, 4)
    sizes = [size for _, size in items]
    taken = place_labels(boxes, sizes, (width, height))
    assert (taken[:, :2] >= 0).all()
    assert (taken[:, 2:] <= [width, height]).all()
    np.testing.assert_array_equal(taken[:, 2:] - taken[:, :2], np.array(sizes).reshape(-1, 2))
    for row, size in enumerate(sizes):
        others = taken[:row]
        least = covered(places(boxes[row].tolist(), size, (width, height)), others).min()
        assert overlap_by_hand(taken[row], others) == pytest.approx(least)


def overlap_by_hand(one: Any, others: Boxes) -> float:
    total = 0.0
    for other in others:
        wide, high = (min(one[k + 2], other[k + 2]) - max(one[k], other[k]) for k in (0, 1))
        total += max(0.0, wide) * max(0.0, high)
    return total


@given(st.integers(2, 10))
def test_labels_of_boxes_in_one_place_do_not_cover_each_other(count: int) -> None:
    boxes = np.tile(np.array([[100, 100, 200, 200]], np.float32), (count, 1))
    taken = place_labels(boxes, [(60, 15)] * count, (400, 400))
    assert taken[0].tolist() == [100, 85, 160, 100]  # above the corner, where it has always been
    assert max(overlap_by_hand(taken[row], taken[:row]) for row in range(count)) == 0


def test_a_label_that_has_the_picture_to_itself_is_above_its_box() -> None:
    picture = np.array(draw(np.zeros((100, 120, 3), np.uint8), found([0], [0.9], [[20, 40, 90, 90]]), CLASSES))
    assert (picture[38, 21] == colour("cat", CLASSES)).all()
    assert not picture[:20].any()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results of two photos, without pictures."""
    out, photos = tmp_path / "out", tmp_path / "photos"
    (photos / "sub").mkdir(parents=True)
    with ResultsFolder(out) as written:
        RunRecord(out, {"classes": list(CLASSES), "exif": "apply", "score_floor": 0.05}).update(images=str(photos))
        for name in ("a.png", "sub/b.jpg"):
            PIL.Image.new("RGB", (120, 100)).save(photos / name)
            written.write(name, found(), CLASSES, file_key(photos / name))
    return out


def colours(picture: Path) -> set[str]:
    shown = {tuple(pixel) for pixel in np.array(PIL.Image.open(picture)).reshape(-1, 3).tolist()}
    return {name for name in CLASSES if colour(name, CLASSES) in shown}


def test_results_are_drawn_without_a_network(
    results: Path, rcnn: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("detect.detector.Detector.load", lambda *names, **options: pytest.fail("loads a network"))
    assert rcnn("draw", results) == 0
    assert f"2 pictures in {results}/pictures, 0 of them drawn earlier" in capsys.readouterr().out
    assert colours(results / "pictures/a.png") == {"cat", "dog"}
    assert (results / "pictures/sub/b.jpg").is_file()
    assert {json.loads(line)["file"] for line in (results / "written.jsonl").read_text().splitlines()} == {
        "pictures/a.png",
        "pictures/sub/b.jpg",
    }


def test_pictures_that_are_there_stay_and_others_are_asked_for(
    results: Path, rcnn: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    picture = results / "pictures/a.png"
    assert rcnn("draw", results) == 0
    before = picture.stat().st_mtime_ns
    (results / "pictures/sub/b.jpg").unlink()  # as after a stop
    assert rcnn("draw", results) == 0
    assert "2 pictures" in (told := capsys.readouterr().out)
    assert "1 of them drawn earlier" in told
    assert picture.stat().st_mtime_ns == before
    for options, shown in (
        (["--score", 0.7], {"cat"}),
        (["--score", 0.95], set()),
        (["--classes", "DOG"], {"dog"}),
        (["--classes", "dog", "--score", 0.7], set()),
        ([], {"cat", "dog"}),
    ):
        assert rcnn("draw", results, *options) == 0
        assert colours(picture) == shown


def test_a_picture_that_somebody_changed_is_not_written_over(
    results: Path, rcnn: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    picture = results / "pictures/a.png"
    picture.parent.mkdir()
    picture.write_text("mine")
    assert rcnn("draw", results) == 1
    assert picture.read_text() == "mine"
    assert "was not written by rcnn" in (told := capsys.readouterr().err)
    assert told.index("1 of 2 photos could not be drawn:") < told.rindex("was not written by rcnn")


def test_photos_that_were_moved_or_changed(
    results: Path, tmp_path: Path, rcnn: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.move(tmp_path / "photos", tmp_path / "moved")
    assert rcnn("draw", results) == 2
    assert "none of 2 photos could be drawn" in capsys.readouterr().err
    PIL.Image.new("RGB", (120, 100), "red").save(tmp_path / "moved/a.png")
    assert rcnn("draw", results, "--images", tmp_path / "moved") == 1
    assert "a.png: is not the photo that was searched" in capsys.readouterr().err
    assert sorted(path.name for path in (results / "pictures").rglob("*.*")) == ["b.jpg"]
    assert rcnn("draw", results) == 1  # now it knows where they lie


def test_what_has_no_results_is_refused(
    results: Path, tmp_path: Path, rcnn: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, complaint in (
        ([tmp_path / "none"], "none: has no results of rcnn detect"),
        ([tmp_path / "photos"], "photos: has no results of rcnn detect"),
        ([results, "--classes", "dgo"], "no class dgo; the results know cat, dog; did you mean 'dog'?"),
        ([results, "--images", results / "pictures"], "this photo is in the folder for drawn pictures"),
        ([results, "--max-pixels", 10], "none of 2 photos could be drawn"),
    ):
        assert rcnn("draw", *arguments) == 2
        assert complaint in capsys.readouterr().err
    record = json.loads((results / "run.json").read_text())
    for run in record["runs"]:
        run.pop("images", None)
    (results / "run.json").write_text(json.dumps(record))
    assert rcnn("draw", results) == 2
    assert "does not say where the photos are; name their folder as --images" in capsys.readouterr().err
    (results / "run.json").write_text(json.dumps({**record, "settings": {}}))
    assert rcnn("draw", results) == 2
    assert "lists no classes" in capsys.readouterr().err


def test_a_missing_font_is_reported_once_per_run(
    no_fonts: None, tmp_path: Path, rcnn: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    with ResultsFolder(tmp_path / "out") as written:
        RunRecord(tmp_path / "out", {"classes": ["猫", "犬"]}).update(images=str(tmp_path))
        for name in ("a.png", "b.png"):
            PIL.Image.new("RGB", (120, 100)).save(tmp_path / name)
            written.write(name, found(), ("猫", "犬"))
    assert rcnn("draw", tmp_path / "out") == 0
    assert capsys.readouterr().err.count("fonts-noto-cjk") == 1
