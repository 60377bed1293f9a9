"""`rcnn` never harms a file that it did not write: photos, other programs' files, and whatever lies outside OUT."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import detect.detector
from detect.detector import Detector
from detect.draw import picture_name
from structures.boxes import Boxes, Floats, whole_image
from structures.records import Image, Proposals


class Whole:
    """Proposes the whole photo, and calls it a thing."""

    name, parameters, classes = "whole", dict[str, Any](), ("thing",)

    def __call__(self, image: Image, boxes: Boxes | None = None) -> Any:
        if boxes is None:
            return Proposals(whole_image(image.shape[:2]), np.ones(1, np.float32), image.shape[:2])  # type: ignore[arg-type]
        scores: Floats = np.tile(np.array([0.9, 0.1], np.float32), (len(boxes), 1))
        return scores


@pytest.fixture
def detects(rcnn: Callable[..., int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Run `rcnn detect` in tmp_path, with a detector that finds one thing in every photo; return its exit code."""
    monkeypatch.setattr(detect.detector.Detector, "load", lambda *names, **options: Detector(Whole(), Whole()))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.safetensors").write_bytes(b"known answers")
    return lambda *words: rcnn("detect", *words, "--weights", tmp_path / "w.safetensors")


def photo(path: Path, level: int = 200) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (40, 30), (level, level, level)).save(path)
    return path.read_bytes()


def snapshot(folder: Path) -> Mapping[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_photos_in_a_folder_named_pictures_are_not_drawn_over(
    detects: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = photo(tmp_path / "pictures/a.jpg")
    assert detects(tmp_path / "pictures/a.jpg", "--out", ".", "--draw") == 2
    assert "a.jpg: is an input" in capsys.readouterr().err
    assert (tmp_path / "pictures/a.jpg").read_bytes() == content
    assert not (tmp_path / "detections.jsonl").exists()


def test_overwrite_leaves_the_users_pictures_alone(detects: Callable[..., int], tmp_path: Path) -> None:
    content, other = photo(tmp_path / "pictures/a.jpg"), photo(tmp_path / "b.jpg", 90)
    for _ in range(2):
        detects(".", "--out", ".", "--overwrite")
        assert (tmp_path / "pictures/a.jpg").read_bytes() == content
        assert (tmp_path / "b.jpg").read_bytes() == other
        assert {entry["image"] for entry in entries(tmp_path / "detections.jsonl")} == {"b.jpg", "pictures/a.jpg"}


@pytest.mark.parametrize("name", ["{elsewhere}/a.jpg", "../../elsewhere/a.jpg", "link/a.jpg"])
def test_names_in_received_results_lead_to_no_file_elsewhere(
    detects: Callable[..., int], tmp_path: Path, name: str
) -> None:
    content = photo(tmp_path / "elsewhere/a.jpg")
    photo(tmp_path / "photos/b.png")
    assert detects("photos", "--out", "out", "--draw") == 0
    (tmp_path / "out/pictures/link").symlink_to(tmp_path / "elsewhere")
    line = {**entries(tmp_path / "out/detections.jsonl")[0], "image": name.format(elsewhere=tmp_path / "elsewhere")}
    with (tmp_path / "out/detections.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    detects("photos", "--out", "out", "--draw", "--draw-score", 0.3)
    assert (tmp_path / "elsewhere/a.jpg").read_bytes() == content
    detects("photos", "--out", "out", "--draw", "--overwrite")
    assert (tmp_path / "elsewhere/a.jpg").read_bytes() == content


def test_a_foreign_line_is_named_and_nothing_is_lost(
    detects: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path / "photos/a.jpg")
    assert detects("photos", "--out", "out") == 0
    path = tmp_path / "out/detections.jsonl"
    ours, foreign = path.read_bytes(), b'{"text": "hello", "label": 1}\n'
    says_nothing, torn = b'{"image": "a.jpg"}\n', b'{"text": "hel'
    for content in (foreign, ours + foreign, says_nothing, ours + torn, foreign[:-1], ours + ours, b"a,b\n", b"a,b"):
        path.write_bytes(content)
        before = snapshot(tmp_path / "out")
        assert detects("photos", "--out", "out") == 2
        number = content.count(b"\n") + (not content.endswith(b"\n"))
        assert f"detections.jsonl: line {number}" in capsys.readouterr().err
        assert snapshot(tmp_path / "out") == before


@pytest.mark.parametrize("content", ['{"text": "hello"}\n', '{"image": "a.jpg", "caption": "x"}\n', "[1]\n", "reason"])
def test_a_foreign_list_of_skips_is_named_and_kept(
    detects: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    photo(tmp_path / "photos/a.jpg")
    assert detects("photos", "--out", "out") == 0
    (tmp_path / "out/skipped.jsonl").write_text(content)
    assert detects("photos", "--out", "out") == 2
    assert "skipped.jsonl: line 1" in capsys.readouterr().err
    assert (tmp_path / "out/skipped.jsonl").read_text() == content


FOREIGN = {
    "detections.jsonl": '{"text": "hello"}\n',
    "skipped.jsonl": '{"image": "a.jpg", "reason": "ours in form, but of no run of this folder"}\n',
    "run.json": '{"experiment": 7}\n',
    "written.jsonl": '{"text": "hello"}\n',
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_a_folder_that_no_run_of_ours_filled_is_not_cleaned(
    detects: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    more: tuple[str, ...],
) -> None:
    photo(tmp_path / "photos/a.jpg")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text(FOREIGN[name])
    assert detects("photos", "--out", "out", *more) == 2
    shown = capsys.readouterr().err
    assert name in shown
    assert shown.count("\n") == 1
    assert (tmp_path / "out" / name).read_text() == FOREIGN[name]


@pytest.mark.parametrize("name", ["detections.jsonl", "run.json", "skipped.jsonl", "written.jsonl"])
def test_files_of_the_results_are_not_written_through_links(
    detects: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    photo(tmp_path / "photos/a.jpg")
    (tmp_path / "out").mkdir()
    (tmp_path / "precious").write_text("")
    (tmp_path / "out" / name).symlink_to(tmp_path / "precious")
    assert detects("photos", "--out", "out", "--draw") == 2
    assert f"{name}: a link" in capsys.readouterr().err
    assert (tmp_path / "precious").read_text() == ""


@pytest.mark.parametrize("form", ["coco", "voc"])
def test_exports_do_not_take_the_place_of_other_files(
    detects: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    photo(tmp_path / "photos/a.jpg")
    path = tmp_path / "out" / {"coco": "coco_results.json", "voc": "voc_results/comp4_det_test_thing.txt"}[form]
    path.parent.mkdir(parents=True)
    path.write_text("of another program")
    for _ in range(2):
        assert detects("photos", "--out", "out", "--format", form) == 2
        assert f"{path.name}: was not written by" in capsys.readouterr().err
        assert path.read_text() == "of another program"
    path.unlink()
    assert detects("photos", "--out", "out", "--format", form) == 0
    photo(tmp_path / "photos/b.jpg")
    assert detects("photos", "--out", "out", "--format", form) == 0  # our own is replaced
    path.write_text("changed by the user")
    photo(tmp_path / "photos/c.jpg")
    capsys.readouterr()
    assert detects("photos", "--out", "out") == 0
    assert path.read_text() == "changed by the user"
    assert f"{path.name} stays" in capsys.readouterr().err


def test_a_picture_that_the_user_changed_is_the_users(
    detects: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path / "photos/a.png")
    photo(tmp_path / "photos/b.png")
    assert detects("photos", "--out", "out", "--draw") == 0
    content = photo(tmp_path / "out/pictures/a.png", 7)
    capsys.readouterr()
    assert detects("photos", "--out", "out", "--draw", "--draw-score", 0.99) == 1
    assert "pictures/a.png: was not written by" in capsys.readouterr().err
    detects("photos", "--out", "out", "--overwrite")
    assert snapshot(tmp_path / "out/pictures") == {Path("out/pictures/a.png").absolute(): content}


def test_results_of_before_there_was_a_record_are_gone_on_with(detects: Callable[..., int], tmp_path: Path) -> None:
    photo(tmp_path / "photos/a.png")
    assert detects("photos", "--out", "out", "--draw", "--format", "coco") == 0
    (tmp_path / "out/written.jsonl").unlink()
    drawn = (tmp_path / "out/pictures/a.png").stat()
    assert detects("photos", "--out", "out", "--draw", "--format", "coco") == 0
    assert (tmp_path / "out/pictures/a.png").stat() == drawn  # not drawn again
    photo(tmp_path / "photos/b.png")
    assert detects("photos", "--out", "out", "--draw") == 0
    assert detects("photos", "--out", "out", "--draw", "--draw-score", 0.99) == 1  # what nothing proves ours stays
    assert (tmp_path / "out/pictures/a.png").stat().st_mtime_ns == drawn.st_mtime_ns


def test_two_photos_never_share_a_picture(detects: Callable[..., int], tmp_path: Path) -> None:
    for name, level in {"x.tif": 10, "x.tif.png": 20, "x.png": 30, "x": 40, "x.drawn.png": 50}.items():
        PIL.Image.new("RGB", (40, 30), (level, level, level)).save(tmp_path / name, "TIFF" if level == 10 else "PNG")
    names = ["x.tif", "x.tif.png", "x.png", "x", "x.drawn.png"]
    assert detects(*names, "--out", "out", "--draw") == 0
    centres = {
        name: PIL.Image.open(tmp_path / "out/pictures" / picture_name(name)).getpixel((20, 20)) for name in names
    }
    assert centres == {name: (10 * i, 10 * i, 10 * i) for i, name in enumerate(names, 1)}
    assert picture_name("x.png") == "x.png"


def test_unfinished_files_of_a_killed_run_are_swept(detects: Callable[..., int], tmp_path: Path) -> None:
    photo(tmp_path / "photos/sub/a.png")
    photo(tmp_path / "photos/b.png")
    assert detects("photos", "--out", "out", "--draw", "--format", "coco") == 0
    out = tmp_path / "out"
    ours = [".run.json.7.partial", ".coco_results.json.7.partial", "pictures/sub/.a.png.7.partial"]
    others = [".film.mp4.7.partial", "pictures/.holiday.jpg.7.partial", "pictures/.b.png.x.partial", "b.png.7.partial"]
    for name in ours + others:
        (out / name).write_bytes(b"half")
    assert detects("photos", "--out", "out") == 0
    assert [name for name in ours + others if (out / name).exists()] == others


def test_reasons_are_in_one_place(detects: Callable[..., int], tmp_path: Path) -> None:
    photo(tmp_path / "photos/a.png")
    (tmp_path / "photos/bad.png").write_bytes(b"")
    for _ in range(3):
        assert detects("photos", "--out", "out") == 1
    assert "empty" in entries(tmp_path / "out/skipped.jsonl")[0]["reason"]
    assert "empty" not in (tmp_path / "out/run.json").read_text()
    assert [run["skipped"] for run in json.loads((tmp_path / "out/run.json").read_text())["runs"]] == [1, 1, 1]
