"""`rcnn` never harms a file that it did not write: photos, other programs' files, and whatever lies outside OUT."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import detect.detector
from detect.detector import Detector
from detect.runs.draw import picture_name
from detect.training.folder import occupied, require_own_folder
from detect.training.progress import Curves, read_curve
from structures.boxes import Boxes, Floats, whole_image
from structures.files import FileRefused, file_digest
from structures.line_files import LineFile
from structures.locks import LOCK_FILE, lock_folder
from structures.own_files import OwnFiles
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
    assert "a.jpg: this photo is in the folder for drawn pictures" in capsys.readouterr().err
    assert (tmp_path / "pictures/a.jpg").read_bytes() == content
    assert not (tmp_path / "detections.jsonl").exists()


def test_two_runs_cannot_write_into_one_folder(
    detects: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path / "a.jpg")
    (tmp_path / "out").mkdir()
    lock = lock_folder(tmp_path / "out")
    assert detects("a.jpg", "--out", "out", "--overwrite") == 2
    assert "another run is writing here" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == [LOCK_FILE]
    lock.release()
    assert detects("a.jpg", "--out", "out") == 0


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


@pytest.mark.parametrize("name", ["a\0.jpg", "a\0/b.jpg", "\ud800.jpg"])
def test_a_line_about_a_photo_that_cannot_be_is_named(
    detects: Callable[..., int], rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    photo(tmp_path / "photos/a.jpg")
    assert detects("photos", "--out", "out") == 0
    lines = tmp_path / "out/detections.jsonl"
    entry = json.loads(lines.read_text())
    lines.write_text(json.dumps(entry | {"image": name}) + "\n")
    assert rcnn("draw", tmp_path / "out") == 2
    assert "line 1: no image name" in capsys.readouterr().err


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
    assert f"{path.name} is kept" in capsys.readouterr().err


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


@pytest.mark.parametrize("option", ["--json", "--html"])
@pytest.mark.parametrize("name", ["voc/Annotations/a.xml", "voc/ImageSets/Main/val.txt", "out/detections.jsonl"])
def test_figures_are_not_written_over_what_they_are_of(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, name: str
) -> None:
    for each in ("voc/Annotations/a.xml", "voc/ImageSets/Main/val.txt", "out/detections.jsonl"):
        (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / each).write_text("of the user")
    (tmp_path / "link").symlink_to(tmp_path / name)
    for target in (tmp_path / name, tmp_path / "link"):
        assert rcnn("eval", "detections", tmp_path / "out", "--ground-truth", tmp_path / "voc", option, target) == 2
        assert "would be written over an input" in capsys.readouterr().err
        assert (tmp_path / name).read_text() == "of the user"


def test_weights_are_not_written_over_themselves(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "net.last.safetensors"
    weights.write_bytes(b"of the user")
    (tmp_path / "other.safetensors").hardlink_to(weights)
    data = ("--voc", tmp_path, "--weights", weights)
    for words in (
        ("weights", "convert", weights, weights),
        ("weights", "convert", weights, tmp_path / "other.safetensors"),
        ("train", "regions", *data, "--out", weights),
        ("train", "regions", "--voc", tmp_path, "--proposals", f"grid+multibox:{weights}", "--out", weights),
        ("train", "multibox", *data, "--out", tmp_path / "net.safetensors"),
        ("train", "classifier", "--folder", tmp_path, "--weights", weights, "--out", weights),
    ):
        assert rcnn(*words) == 2
        assert "would be written over an input" in capsys.readouterr().err
        assert weights.read_bytes() == b"of the user"


def test_two_reports_are_not_written_to_one_file(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ("--json", tmp_path / "a", "--html", tmp_path / "a")
    assert rcnn("eval", "detections", tmp_path, "--ground-truth", tmp_path, *both) == 2
    assert "is to be written twice" in capsys.readouterr().err


def test_the_second_file_of_openvino_takes_no_other_files_place(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.bin").write_bytes(b"of the user")
    assert rcnn("export", "default", "--to", "openvino", "--out", tmp_path / "model.xml") == 2
    assert "model.bin: would be written with model.xml" in capsys.readouterr().err
    assert (tmp_path / "model.bin").read_bytes() == b"of the user"


@pytest.mark.parametrize("name", ["features.npy", "training.json", "state.pt", "photo.jpg", "phase2/val.json"])
def test_a_training_takes_no_folder_with_files_of_others(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"format": "of another program"}')
    with pytest.raises(FileRefused, match=name.split("/")[0]), occupied(tmp_path):
        pass
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {tmp_path / name, tmp_path / LOCK_FILE}
    with pytest.raises(FileRefused, match=r"is a file|not a folder"):
        require_own_folder(tmp_path / name)


def test_a_training_takes_a_folder_that_is_new_or_its_own(tmp_path: Path) -> None:
    (tmp_path / "proposals").mkdir()  # of a run that was killed before there was more
    for name in (".DS_Store", ".state.pt.7.partial"):
        (tmp_path / name).write_bytes(b"half")
    for _ in range(2):
        with occupied(tmp_path):
            found = {path.name for path in tmp_path.iterdir()} - {LOCK_FILE}
            assert found >= {"training.json", "proposals", ".DS_Store"}
            assert ".state.pt.7.partial" not in found
        (tmp_path / "best.safetensors").write_bytes(b"the marker says whose it is")


@pytest.mark.parametrize(
    "content",
    [
        "date,price,seconds\n1,2,3\n",
        "iteration,loss,rate,seconds\n1,2,3,4\ntotal,2,3,4\n",
        "x\n",
        "iteration,a,seconds\n1",
    ],
)
def test_another_programs_table_is_not_taken_for_curves(tmp_path: Path, content: str) -> None:
    path = tmp_path / "curves.csv"
    path.write_text(content)
    if content.endswith("1"):  # one of ours, cut short
        assert read_curve(path) == []
        return
    with pytest.raises(FileRefused, match=r"curves\.csv: line"):
        Curves(path, ["loss"])
    assert path.read_text() == content


NAMES = st.lists(
    st.one_of(
        st.sampled_from(
            ["..", ".", "", "C:", "c:x", "\\", "..\\..", "link", "loop", "x.png", "CON", "\0", "\ud800", "~"]
        ),
        st.text(st.characters(exclude_characters="/"), max_size=5),
    ),
    min_size=1,
    max_size=5,
).map("/".join)


@settings(max_examples=60, deadline=None)
@given(name=NAMES, taken=st.booleans(), owned=st.booleans())
def test_no_name_leads_out_of_the_folder_or_to_a_file_of_others(name: str, taken: bool, owned: bool) -> None:
    with TemporaryDirectory() as temporary:
        root = Path(temporary)
        for folder in ("elsewhere", "out/pictures"):
            (root / folder).mkdir(parents=True)
        (root / "elsewhere/x.png").write_bytes(b"of the user")
        (root / "out/link").symlink_to(root / "elsewhere")
        (root / "out/loop").symlink_to(root / "out")
        (root / "out/pictures/x.png").write_bytes(b"of the user")
        if owned:  # a record that was received, with names that lead anywhere
            digest = file_digest(root / "elsewhere/x.png") if taken else "0" * 32
            (root / "out/written.jsonl").write_text(json.dumps({"file": name, "digest": digest}) + "\n")
        before = snapshot(root)
        with OwnFiles(root / "out") as files:
            ours = files.owns(name)
            with suppress(FileRefused, OSError), files.writing(name) as partial:
                partial.write_bytes(b"ours")
            files.remove(name)
        after = snapshot(root)
        gone = {path for path in before if before[path] != after.get(path)} - {root / "out/written.jsonl"}
        assert gone <= ({root / "out" / name} if ours else set())
        assert not {path for path in after if path not in before and not path.is_relative_to(root / "out")}


ENDINGS = st.lists(st.sampled_from([".tif", ".png", ".PNG", ".drawn", ".jpg", ".x"]), max_size=4).map("".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.builds(str.__add__, st.sampled_from(["", "a"]), ENDINGS), unique_by=str.lower, max_size=9))
@example(["a", "a.drawn", "a.png", "a.drawn.png", "a.tif", "a.tif.png", "a.tif.png.png", "a.drawn.drawn.png"])
def test_pictures_have_names_of_their_own(names: list[str]) -> None:
    assert len({picture_name(name).lower() for name in names}) == len(names)


@settings(deadline=None)
@given(st.binary(max_size=60), st.booleans(), st.integers(0, 200))
def test_only_the_beginning_of_a_line_of_ours_is_ever_cut_off(tail: bytes, ours: bool, kept: int) -> None:
    line = json.dumps({"image": 'a "q" \\ ü.jpg', "width": 3, "boxes": [[1, 2]]}).encode() + b"\n"
    end = line[: min(kept, len(line) - 2)] if ours else tail
    with TemporaryDirectory() as temporary:
        path = Path(temporary) / "lines.jsonl"
        path.write_bytes(line + end)
        try:
            LineFile(path, ("image", "width"), lambda entry, place: entry["image"] + "").close()
        except FileRefused:
            assert not ours
            assert path.read_bytes() == line + end
        else:
            assert path.read_bytes().startswith(line)
            lost = not path.read_bytes().startswith(line + end)
            assert not lost or ours or b'{"image": '.startswith(end.rstrip(b"\0")) or end.startswith(b'{"image": "')


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_backup_made_of_hard_links_is_not_written_to(tmp_path: Path, overwrite: bool) -> None:
    path, backup = tmp_path / "lines.jsonl", tmp_path / "backup.jsonl"
    path.write_text('{"image": "a", "width": 3}\n')
    os.link(path, backup)
    lines = LineFile(path, ("image", "width"), lambda entry, place: None, overwrite=overwrite)
    lines.add({"image": "b", "width": 4})
    lines.close()
    assert backup.read_text() == '{"image": "a", "width": 3}\n'
    assert path.read_text() == ("" if overwrite else backup.read_text()) + '{"image": "b", "width": 4}\n'
