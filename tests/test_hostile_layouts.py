"""Layouts in which a command could write or remove what is not its own: each ends without a byte of the user's lost."""

import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import detect.detector
from detect.cli import main
from detect.detector import Detector
from detect.training.folder import OWN_NAMES, occupied
from structures.files import PARTIAL, FileRefused, replacing
from structures.locks import LOCK_FILE, lock_folder
from structures.own_files import OwnFiles, check_outputs
from tests.shapes import write_voc
from tests.test_detect_own_files import Whole, photo, snapshot
from tests.test_detect_own_files import detects as detects


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """A small dataset in VOC's layout, in the folder where commands are run."""
    write_voc(tmp_path / "voc", "train", range(3))
    return tmp_path / "voc"


def test_a_converted_dataset_outlives_overwriting(
    detects: Callable[..., int], rcnn: Callable[..., int], voc: Path, tmp_path: Path
) -> None:
    assert rcnn("convert", voc, "--to", "yolo", "--out", tmp_path / "data", "--copy-photos") == 0
    shutil.rmtree(voc)  # the copies are all that is left
    before = snapshot(tmp_path / "data")
    for more in ((), ("--draw", "--format", "yolo"), ("--overwrite",)):
        assert detects("data", "--out", "data", *more) == 0
        assert {path: content for path, content in snapshot(tmp_path / "data").items() if path in before} == {
            path: content if path.name != "written.jsonl" else path.read_bytes() for path, content in before.items()
        }
    assert not (tmp_path / "data/pictures").exists()


@pytest.mark.parametrize(("form", "name"), [("coco", "instances.json"), ("yolo", "labels/train/000.txt")])
def test_what_a_killed_conversion_left_unfinished_is_swept(
    rcnn: Callable[..., int], voc: Path, tmp_path: Path, form: str, name: str
) -> None:
    assert rcnn("convert", voc, "--to", form, "--out", tmp_path / "data") == 0
    whole = {path.name for path in snapshot(tmp_path / "data")}
    shutil.rmtree(tmp_path / "data")
    unfinished = (tmp_path / "data" / name).with_name(f".{Path(name).name}.999999999{PARTIAL}")
    unfinished.parent.mkdir(parents=True)
    unfinished.write_bytes(b"half a")
    (unfinished.parent / f".notes.txt.7{PARTIAL}").write_bytes(b"of the user")
    assert rcnn("convert", voc, "--to", form, "--out", tmp_path / "data") == 0
    assert {path.name for path in snapshot(tmp_path / "data")} == whole | {f".notes.txt.7{PARTIAL}"}


def test_photos_that_lie_where_they_would_be_copied_to_stay_the_users(
    detects: Callable[..., int], rcnn: Callable[..., int], voc: Path, tmp_path: Path
) -> None:
    (tmp_path / "images/train").mkdir(parents=True)
    for path in (voc / "JPEGImages").iterdir():
        shutil.copy(path, tmp_path / "images/train" / path.name)
    photos = snapshot(tmp_path / "images")
    assert rcnn("convert", voc, "--to", "yolo", "--out", tmp_path, "--copy-photos") == 0
    with OwnFiles(tmp_path) as files:
        assert not [name for name in files if name.startswith("images/")]
        assert not files.remove(next(f"images/train/{path.name}" for path in photos))
    assert detects("images", "--out", ".", "--overwrite") == 0
    assert snapshot(tmp_path / "images") == photos


@pytest.mark.parametrize("words", [("--overwrite",), ("--overwrite", "--draw")])
def test_our_own_pictures_are_not_removed_where_they_are_searched(
    detects: Callable[..., int], tmp_path: Path, words: tuple[str, ...]
) -> None:
    photo(tmp_path / "photos/a.jpg")
    assert detects("photos", "--out", "out", "--draw") == 0
    drawn = snapshot(tmp_path / "out/pictures")
    assert detects("out/pictures/a.jpg", "--out", "out", *words) == (2 if "--draw" in words else 0)
    assert snapshot(tmp_path / "out/pictures") == drawn


def test_a_training_writes_through_no_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    work = tmp_path / "work"
    with occupied(work):
        pass
    for name in sorted(OWN_NAMES - {"training.json"}):
        for place in (work / name, work / "phase2" / name):
            place.parent.mkdir(exist_ok=True)
            place.symlink_to(tmp_path / "elsewhere/precious")
            with pytest.raises(FileRefused, match=rf"{name}: a link leads from here"), occupied(work):
                pass
            place.unlink()
    (work / "phase2").rmdir()
    (tmp_path / f"elsewhere/.state.pt.7{PARTIAL}").write_bytes(b"of another training")
    (work / "phase2").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileRefused, match=r"phase2/.* a link leads from here"), occupied(work):
        pass
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == [f".state.pt.7{PARTIAL}"]


def test_a_lock_that_is_a_link_or_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("of the user")
    (tmp_path / LOCK_FILE).symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match=rf"{LOCK_FILE}"):
        lock_folder(tmp_path)
    assert (tmp_path / "precious").read_text() == "of the user"
    (tmp_path / LOCK_FILE).unlink()
    (tmp_path / LOCK_FILE).mkdir()
    with pytest.raises(OSError, match=rf"{LOCK_FILE}"):
        lock_folder(tmp_path)


def test_what_lies_where_an_unfinished_file_will_be_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("of the user")
    (tmp_path / f".a.json.{os.getpid()}{PARTIAL}").symlink_to(tmp_path / "precious")
    with replacing(tmp_path / "a.json") as partial:
        partial.write_text("{}")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.json": "{}", "precious": "of the user"}


@pytest.mark.parametrize("twin", ["Report.JSON", unicodedata.normalize("NFD", "réport.json")])
def test_two_outputs_that_are_one_file_on_some_disks_are_refused(tmp_path: Path, twin: str) -> None:
    other = "report.json" if twin.isascii() else "réport.json"
    with pytest.raises(FileRefused, match="is to be written twice"):
        check_outputs([tmp_path / other, tmp_path / twin], [])


def test_outputs_that_cannot_be_written_are_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("of the user")
    (tmp_path / "folder.json").mkdir()
    for name, said in {
        "folder.json": "is a folder; name a file",
        "file/report.json": r"cannot be written, since .*/file is not a folder that you may write to",
        "file/deep/report.json": r"cannot be written, since .*/file is not a folder",
    }.items():
        with pytest.raises(FileRefused, match=said):
            check_outputs([tmp_path / name], [])
    check_outputs([tmp_path / "new/deep/report.json", tmp_path / "file", Path("/dev/stdout")], [])
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(FileRefused, match=r"report\.json: cannot be written, since"):
        check_outputs([tmp_path / "new/report.json"], [])


def test_no_export_is_written_over_the_weights(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.bin").write_bytes(b"weights")
    assert rcnn("export", tmp_path / "net.bin", "--to", "openvino", "--out", tmp_path / "net.xml") == 2
    assert "net.bin: would be written over an input" in capsys.readouterr().err


COMMANDS: Mapping[str, tuple[str, ...]] = {  # each is given a folder of the user's as OUT
    "detect": ("detect", "photos", "--weights", "w.safetensors", "--draw", "--format", "yolo", "--save-crops"),
    "detect again": ("detect", "photos", "--weights", "w.safetensors", "--overwrite"),
    "propose": ("propose", "photos", "--proposals", "grid"),
    "convert": ("convert", "voc", "--to", "yolo", "--copy-photos"),
    "convert to coco": ("convert", "voc", "--to", "coco"),
}
NAMES = (  # that the user may have in that folder, for files, folders and links
    *(
        "a.jpg",
        "pictures/a.jpg",
        "crops/thing/a.jpg.0.jpg",
        "yolo_results/labels/a.txt",
        "detections.jsonl",
        "run.json",
    ),
    *("skipped.jsonl", "written.jsonl", "manifest.json", "shard-000000.npz", "labels/train/000.txt", "data.yaml"),
    *("images/train/000.png", "instances.json", "yolo_results/classes.txt", ".rcnn.files", "pictures", "labels"),
)


KINDS = ("file", "photo", "same photo", "link", "hard link", "link to a folder")


@settings(max_examples=10, deadline=None)
@given(
    command=st.sampled_from(sorted(COMMANDS)),
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True),
    kind=st.sampled_from(KINDS),
    earlier=st.booleans(),
)
def test_no_layout_of_a_users_folder_costs_a_byte(command: str, names: list[str], kind: str, earlier: bool) -> None:
    with TemporaryDirectory() as temporary:
        root = Path(temporary)
        photo(root / "photos/a.jpg")
        photo(root / "elsewhere/a.jpg", 9)
        (root / "w.safetensors").write_bytes(b"known answers")
        write_voc(root / "voc", "train", range(2))
        theirs = snapshot(root)
        if earlier:
            assert run(root, *COMMANDS[command]) == 0
        put_there = [root / "out" / name for name in names if put(root, root / "out" / name, kind)]
        theirs |= {path: content for path, content in snapshot(root).items() if path in put_there}
        for _ in range(2):
            run(root, *COMMANDS[command])
            after = snapshot(root)
            assert {path: after.get(path) for path in theirs} == theirs
            assert [path for path in after if path not in theirs and not path.is_relative_to(root / "out")] == []


def run(root: Path, *words: str) -> int:
    """Run a command in a folder, with a detector that knows the answer; return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detect.detector.Detector, "load", lambda *names, **options: Detector(Whole(), Whole()))
        patch.setattr("detect.runs.machine.commit", lambda: None)  # asking git takes most of the time otherwise
        patch.setattr(os, "fsync", lambda file: None)
        patch.chdir(root)
        patch.setattr(sys, "argv", ["rcnn", *words, "--out", "out"])
        with pytest.raises(SystemExit) as stop:
            main()
    return int(stop.value.code or 0)


def put(root: Path, path: Path, kind: str) -> bool:
    """Put something of the user's at a place, also where something of ours is; return whether it is there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
    except OSError:  # a folder is there, or a file in the place of a folder
        return False
    if kind == "file":
        path.write_text("of the user\n")
    elif kind == "photo":
        PIL.Image.new("RGB", (9, 9)).save(path, "PNG")
    elif kind == "same photo":
        shutil.copy(root / "photos/a.jpg", path)
    elif kind == "hard link":
        os.link(root / "elsewhere/a.jpg", path)
    else:
        path.symlink_to(root / ("elsewhere/a.jpg" if kind == "link" else "elsewhere"))
    return True
