"""`rcnn detect` from photos to results, with a detector whose answers are known."""

import json
import shutil
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import detect.detector
from detect.detector import Detector
from detect.drawing.picture import colour, draw
from detect.flow import Passing, flow
from detect.runs.draw import Drawing, Pictures
from detect.runs.photos import Photo
from detect.runs.progress import Pace
from detect.runs.propose import proposing_stages
from detect.runs.reading import PhotoReader
from detect.runs.summary import DetectionSummary
from detect.settings import DetectorSettings
from eval.results import read_lines
from structures.boxes import Boxes, Floats, whole_image
from structures.files import naming
from structures.images import ORIENTATION, read_image
from structures.own_files import OwnFiles
from structures.records import Detections, Image, Proposals

CLASSES = ("bright", "dark")


class HalvesAndWhole:
    """Proposes the whole photo and its left half, as two generators would."""

    name = "halves"
    parameters: Mapping[str, Any] = {"parts": 2}
    learned_classes: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.refuse: Callable[[Image], bool] = lambda image: False
        self.asked: dict[str, Any] = {}

    def __call__(self, image: Image) -> Proposals:
        if self.refuse(image):
            raise ValueError("too odd")
        height, width = image.shape[:2]
        boxes = np.concatenate([whole_image((height, width)), [[0, 0, (width + 1) // 2, height]]]).astype(np.float32)
        scores, source = np.array([1, 0.5], np.float32), np.array([1, 0], np.uint8)
        return Proposals(boxes, scores, (height, width), source, ("half", "whole"))


class Brightness:
    """Calls a region bright by its mean; background gets what is left."""

    classes = CLASSES

    def __call__(self, image: Image, boxes: Boxes) -> Floats:
        means = [image[int(y1) : int(y2), int(x1) : int(x2)].mean() / 255 for x1, y1, x2, y2 in boxes]
        bright = np.array(means, np.float32).reshape(-1, 1) * np.float32(0.9)
        dark = np.float32(0.9) - bright
        return np.concatenate([bright, dark, 1 - bright - dark], axis=1)


@pytest.fixture
def propose(monkeypatch: pytest.MonkeyPatch) -> HalvesAndWhole:
    """Let `Detector.load` return the detector of this file."""
    generator = HalvesAndWhole()

    def load(weights: Any, proposals: str, **options: Any) -> Detector:
        generator.asked = {"weights": weights, "proposals": proposals, **options}
        own = {each.name: options[each.name] for each in fields(DetectorSettings) if each.name in options}
        return Detector(generator, Brightness(), **own)  # type: ignore[arg-type]

    monkeypatch.setattr(detect.detector.Detector, "load", load)
    return generator


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"known answers")
    return path


@pytest.fixture
def rcnn(rcnn: Callable[..., int], propose: HalvesAndWhole, weights: Path) -> Callable[..., int]:
    """Run `rcnn detect` with the detector of this file; return its exit code."""
    del propose
    return lambda *words: rcnn("detect", *words, "--weights", weights)


def photo(path: Path, level: int = 200, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", size, (level, level, level)).save(path)
    return path


def entries(out: Path, name: str = "detections.jsonl") -> dict[str, Any]:
    lines = [json.loads(line) for line in (out / name).read_text().splitlines()]
    return {line["image"]: line for line in lines}


def last_run(out: Path) -> dict[str, Any]:
    runs: list[dict[str, Any]] = json.loads((out / "run.json").read_text())["runs"]
    return runs[-1]


def test_detections_by_hand(rcnn: Callable[..., int], tmp_path: Path) -> None:
    photo(tmp_path / "photos/a.png", 255)
    assert rcnn(tmp_path / "photos", "--out", tmp_path / "out") == 0
    entry = entries(tmp_path / "out")["a.png"]
    assert (entry["width"], entry["height"]) == (40, 30)
    assert entry["labels"] == ["bright"]  # the halves overlap the whole by 0.5, and 0.3 is enough to go
    assert entry["boxes"] == [[0, 0, 30, 30]]  # the left half and the whole vote alike
    assert rcnn(tmp_path / "photos", "--out", tmp_path / "still", "--no-vote") == 0
    assert entries(tmp_path / "still")["a.png"] == {**entry, "boxes": [[0, 0, 40, 30]]}
    assert json.loads((tmp_path / "still" / "run.json").read_text())["settings"]["vote_threshold"] is None
    assert rcnn(tmp_path / "photos", "--out", tmp_path / "tight", "--vote-power", 2) == 0
    assert json.loads((tmp_path / "tight" / "run.json").read_text())["settings"]["vote_power"] == 2
    assert entry["scores"] == pytest.approx([0.9])


def test_every_option_reaches_the_detector(
    rcnn: Callable[..., int], propose: HalvesAndWhole, weights: Path, tmp_path: Path
) -> None:
    path, other = photo(tmp_path / "a.png"), tmp_path / "other.safetensors"
    other.write_bytes(b"other answers")
    placed = ("--device", "cpu", "--engine", "torch", "--dtype", "float32")
    own = ("--mirrored", "--score", 0.25, "--max-boxes", 7, "--vote-power", 3, "--nms", 0.4, "--class-agnostic")
    own += ("--classes", "dark,bright", "--features", "both", "--exact", 9)
    assert rcnn(path, "--out", tmp_path / "out", "--weights", other, "--proposals", "grid", *placed, *own) == 0
    assert propose.asked == {
        "weights": [str(other), str(weights)],
        "proposals": "grid",
        **{"device": "cpu", "engine": "torch", "dtype": "float32", "mirrored": True},
        **{"features": "both", "exact": 9, "keep_features": False, "first_size": (30, 40)},
        **{"nms_threshold": 0.4, "class_agnostic": True, "only": ["dark", "bright"]},
        **{"score_floor": 0.25, "max_boxes": 7, "vote_threshold": 0.5, "vote_power": 3, "exif": "apply"},
    }


def test_photos_go_through_the_networks_together(
    rcnn: Callable[..., int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    groups: list[int] = []
    stages = Detector.stages

    def noted(self: Detector, *words: Any, together: int | None = None, **options: Any) -> Any:
        groups.append(together or 0)
        return stages(self, *words, together=together, **options)

    monkeypatch.setattr(Detector, "stages", noted)
    for level in range(5):
        photo(tmp_path / "photos" / f"{level}.png", 40 * level)
    for name, words in (("alone", ()), ("some", ("--together", 3))):
        assert rcnn(tmp_path / "photos", "--out", tmp_path / name, *words) == 0
    assert groups == [0, 3]
    assert entries(tmp_path / "some") == entries(tmp_path / "alone")


def test_networks_keep_to_as_many_cores_as_are_asked_for(
    rcnn: Callable[..., int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept: list[int] = []
    monkeypatch.setattr("classifier.engines.keep_to_cores", kept.append)
    photo(tmp_path / "photo.png")
    assert rcnn(tmp_path / "photo.png", "--out", tmp_path / "one", "--threads", 1) == 0
    assert kept == [1]
    assert rcnn(tmp_path / "photo.png", "--out", tmp_path / "all") == 0
    assert kept == [1]


def test_boxes_and_detections_are_counted_by_who_proposed_them(rcnn: Callable[..., int], tmp_path: Path) -> None:
    """The left half is bright, and the whole photo is as much dark as bright, so that each gives a detection."""
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[:, :20] = 255
    PIL.Image.fromarray(pixels).save(tmp_path / "a.png")
    assert rcnn(tmp_path / "a.png", "--out", tmp_path / "out", "--score", 0.3) == 0
    entry, run = entries(tmp_path / "out")["a.png"], last_run(tmp_path / "out")
    assert dict(zip(entry["labels"], entry["sources"], strict=True)) == {"bright": "half", "dark": "whole"}
    assert (run["proposals"], run["boxes"]) == ({"half": 1, "whole": 1}, {"half": 1, "whole": 1})
    photo(tmp_path / "b.png", 255)
    assert rcnn(tmp_path / "b.png", "--out", tmp_path / "bright", "--score", 0.3) == 0
    run = last_run(tmp_path / "bright")
    assert (run["proposals"], run["boxes"]) == ({"half": 1, "whole": 1}, {"half": 0, "whole": 1})


def test_it_warns_of_classes_that_the_proposals_never_learned_of(
    rcnn: Callable[..., int], tmp_path: Path, propose: HalvesAndWhole, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path / "a.png")
    for learned, count in ((("dog", "cat"), 1), ((), 0)):
        propose.learned_classes = learned
        assert rcnn(tmp_path / "a.png", "--out", tmp_path / f"out{count}") == 0
        assert capsys.readouterr().err.count("did not learn from bright, dark, and may miss them") == count


def test_the_four_lines_of_python_give_what_the_command_writes(
    rcnn: Callable[..., int], tmp_path: Path, propose: HalvesAndWhole
) -> None:
    path = photo(tmp_path / "photos/a.png", 100)
    rcnn(path, "--out", tmp_path / "out")
    found = Detector(propose, Brightness())(path)
    (line,), _ = read_lines(tmp_path / "out/detections.jsonl")
    (written,) = entries(tmp_path / "out").values()
    assert found.to_dict("a.png") == {name: written[name] for name in written if name != "file_key"}
    assert list(line.found) == list(found)
    np.testing.assert_array_equal(line.found.boxes, found.boxes)
    np.testing.assert_array_equal(line.found.scores, found.scores)


def twenty_photos(folder: Path) -> tuple[set[str], dict[str, str]]:
    """Write good photos of many kinds and bad ones; return the good ids, and the bad ones with what is wrong."""
    for number in range(12):
        photo(folder / f"{number:02d}.jpg", 20 * number)
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = 6
    PIL.Image.new("RGB", (40, 30)).save(folder / "turned.jpg", exif=exif)
    PIL.Image.new("L", (40, 30), 200).save(folder / "grey.png")
    PIL.Image.fromarray(np.full((30, 40), 51400, np.uint16)).save(folder / "deep.png")
    PIL.Image.new("CMYK", (40, 30)).save(folder / "print.jpg")
    PIL.Image.new("RGBA", (40, 30), (0, 0, 0, 0)).save(folder / "clear.png")
    whole = (folder / "00.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("not a photo at all\n")
    (folder / "empty.jpg").write_bytes(b"")
    good = {f"{number:02d}.jpg" for number in range(12)} | {
        "turned.jpg",
        "grey.png",
        "deep.png",
        "print.jpg",
        "clear.png",
    }
    return good, {"cut.jpg": "cannot be decoded", "text.jpg": "not a picture", "empty.jpg": "the file is empty"}


def test_twenty_photos_with_bad_ones_among_them(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = twenty_photos(tmp_path / "photos")
    assert len(good) + len(bad) == 20
    out = tmp_path / "out"
    assert rcnn(tmp_path / "photos", "--out", out, "--draw", "--workers", 2) == 1
    assert last_run(out)["workers"] == 2
    done, skipped, shown = entries(out), entries(out, "skipped.jsonl"), capsys.readouterr().err
    assert done.keys() == good
    assert list(done) == sorted(good)
    assert skipped.keys() == bad.keys()
    for name, reason in bad.items():
        assert reason in skipped[name]["reason"]
        assert f"{name}: " in shown
    assert "3 of 20 photos skipped" in shown
    assert "17 done, 3 skipped" in shown
    assert (done["turned.jpg"]["width"], done["turned.jpg"]["height"]) == (30, 40)
    assert done["clear.png"]["labels"][0] == done["grey.png"]["labels"][0] == done["deep.png"]["labels"][0] == "bright"
    assert {path.name for path in (out / "pictures").iterdir()} == good
    assert last_run(out)["skipped"] == len(bad)
    assert (last_run(out)["photos"], last_run(out)["done"]) == (20, 17)
    assert last_run(out)["stages"].keys() == {"read", "propose", "trunk", "classify", "suppress", "write"}


def test_a_second_run_does_nothing_and_still_tells_of_the_bad_ones(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twenty_photos(tmp_path / "photos")
    out = tmp_path / "out"
    rcnn(tmp_path / "photos", "--out", out)
    before = (out / "detections.jsonl").read_bytes(), (out / "skipped.jsonl").read_bytes()
    capsys.readouterr()
    assert rcnn(tmp_path / "photos", "--out", out) == 1
    assert ((out / "detections.jsonl").read_bytes(), (out / "skipped.jsonl").read_bytes()) == before
    assert "17 of 20 photos done already" in capsys.readouterr().err
    assert last_run(out)["fresh"] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_goes_on_to_the_same_result(
    rcnn: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
    twenty_photos(tmp_path / "photos")
    rcnn(tmp_path / "photos", "--out", tmp_path / "whole")
    killed = tmp_path / "killed"
    usual, calls = Pictures.add, []

    def stop_at_the_seventh(self: Pictures, image_id: str, *photo: Any) -> None:
        calls.append(1)
        if len(calls) == 7:
            signal.raise_signal(number)
        usual(self, image_id, *photo)

    monkeypatch.setattr(Pictures, "add", stop_at_the_seventh)
    assert rcnn(tmp_path / "photos", "--out", killed, "--draw") == 128 + number
    signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err.splitlines()[-1] == "rcnn: stopped; the same command resumes the run"
    assert len(list((killed / "pictures").iterdir())) == 6
    assert len(entries(killed)) == 6
    assert last_run(killed)["finished"] is None
    with (killed / "detections.jsonl").open("ab") as file:
        file.write(b'{"image": "06.jpg", "wid')
    assert rcnn(tmp_path / "photos", "--out", killed) == 1
    assert (killed / "detections.jsonl").read_bytes() == (tmp_path / "whole/detections.jsonl").read_bytes()


def test_a_mended_photo_is_done_in_the_next_run(rcnn: Callable[..., int], tmp_path: Path) -> None:
    photo(tmp_path / "photos/a.jpg")
    (tmp_path / "photos/b.jpg").write_bytes(b"")
    assert rcnn(tmp_path / "photos", "--out", tmp_path / "out") == 1
    photo(tmp_path / "photos/b.jpg")
    assert rcnn(tmp_path / "photos", "--out", tmp_path / "out") == 0
    assert entries(tmp_path / "out").keys() == {"a.jpg", "b.jpg"}
    assert last_run(tmp_path / "out")["skipped"] == 0
    assert not (tmp_path / "out/skipped.jsonl").exists()


def test_another_photo_of_the_same_name_is_not_taken_for_done(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    photo(tmp_path / "a/1.png", 200)
    photo(tmp_path / "b/1.png", 100)
    assert rcnn(tmp_path / "a", "--out", out) == 0
    capsys.readouterr()
    assert rcnn(tmp_path / "b", "--out", out) == 2
    assert "has results of other photos with the names of 1 image (1.png); name another" in capsys.readouterr().err
    (tmp_path / "a/1.png").unlink()
    (tmp_path / "a/1.png").symlink_to(tmp_path / "gone")
    assert rcnn(tmp_path / "a", "--out", out) == 0  # done, though it cannot be read any more
    assert rcnn(tmp_path / "b", "--out", out, "--overwrite") == 0


def test_other_settings_need_another_folder(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path / "a.jpg")
    out = tmp_path / "out"
    assert rcnn(tmp_path / "a.jpg", "--out", out) == 0
    capsys.readouterr()
    assert rcnn(tmp_path / "a.jpg", "--out", out, "--score", 0.5) == 2
    shown = capsys.readouterr().err
    assert "--score: 0.05 then, 0.5 now" in shown
    assert shown.count("\n") == 1
    assert rcnn(tmp_path / "a.jpg", "--out", out, "--score", 0.5, "--overwrite") == 0
    assert last_run(out)["fresh"] == 1


def test_other_weights_of_the_same_name_are_noticed(
    rcnn: Callable[..., int], tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path / "a.jpg")
    rcnn(tmp_path / "a.jpg", "--out", tmp_path / "out")
    weights.write_bytes(b"other answers")
    assert rcnn(tmp_path / "a.jpg", "--out", tmp_path / "out") == 2
    assert "--weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jpg"], "nowhere.jpg: no such file or folder"),
        ([], "no photos were named"),
        (["empty"], "empty: no pictures in this folder"),
        (["--list", "none.txt"], "none.txt: No such file"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    rcnn: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert rcnn(*arguments, "--out", "out") == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["--format", "xml"], ["--score", "1.5"], ["--exif", "maybe"], ["--nope"]])
def test_options_out_of_range_are_exit_code_2(rcnn: Callable[..., int], tmp_path: Path, arguments: list[str]) -> None:
    photo(tmp_path / "a.jpg")
    assert rcnn(tmp_path / "a.jpg", "--out", tmp_path / "out", *arguments) == 2


def test_only_bad_photos_are_exit_code_2(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    assert rcnn(tmp_path / "a.jpg", "--out", tmp_path / "out") == 2
    assert "none of 1 photo" in capsys.readouterr().err


def test_an_out_that_is_a_file_is_refused(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path / "a.jpg")
    assert rcnn(tmp_path / "a.jpg", "--out", tmp_path / "a.jpg") == 2
    assert "a.jpg" in capsys.readouterr().err


def test_results_inside_the_photos_are_not_photos(rcnn: Callable[..., int], tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    for _ in range(2):
        assert rcnn(tmp_path, "--out", tmp_path / "out", "--draw") == 0
    assert entries(tmp_path / "out").keys() == {"a.jpg"}


def test_a_photo_that_the_generator_refuses_is_skipped(
    rcnn: Callable[..., int], tmp_path: Path, propose: HalvesAndWhole
) -> None:
    photo(tmp_path / "photos/a.png", 7)
    photo(tmp_path / "photos/b.png", 8)
    propose.refuse = lambda image: image[0, 0, 0] == 7
    assert rcnn(tmp_path / "photos", "--out", tmp_path / "out") == 1
    assert "a.png: no proposals: ValueError: too odd" in entries(tmp_path / "out", "skipped.jsonl")["a.png"]["reason"]
    assert entries(tmp_path / "out").keys() == {"b.png"}


class Overtaxed(Brightness):
    """Has no memory for some photos."""

    def __init__(self, *levels: int) -> None:
        self.levels = levels

    def __call__(self, image: Image, boxes: Boxes) -> Floats:
        if image[0, 0, 0] in self.levels:
            raise RuntimeError("CUDA out of memory")
        return super().__call__(image, boxes)


def test_a_photo_that_the_classifier_fails_on_is_skipped(
    rcnn: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, level in enumerate([10, 20, 20, 30, 20, 40]):
        photo(tmp_path / f"photos/{number}.png", level)
    load = lambda *args, **options: Detector(HalvesAndWhole(), Overtaxed(20))  # noqa: E731
    monkeypatch.setattr(detect.detector.Detector, "load", load)
    assert rcnn(tmp_path / "photos", "--out", tmp_path / "out") == 1
    assert entries(tmp_path / "out").keys() == {"0.png", "3.png", "5.png"}
    reason = entries(tmp_path / "out", "skipped.jsonl")["1.png"]["reason"]
    assert reason.endswith("1.png: not classified: RuntimeError: CUDA out of memory")


def test_a_classifier_that_fails_on_every_photo_stops_the_run(
    rcnn: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(9):
        photo(tmp_path / f"photos/{number}.png", 20 if number else 10)
    load = lambda *args, **options: Detector(HalvesAndWhole(), Overtaxed(20))  # noqa: E731
    monkeypatch.setattr(detect.detector.Detector, "load", load)
    assert rcnn(tmp_path / "photos", "--out", tmp_path / "out") == 2  # 1 would say that the others are done
    assert "RuntimeError: CUDA out of memory" in capsys.readouterr().err
    assert entries(tmp_path / "out").keys() == {"0.png"}


def test_formats_and_stored_pixels(rcnn: Callable[..., int], tmp_path: Path) -> None:
    twenty_photos(tmp_path / "photos")
    out = tmp_path / "out"
    rcnn(tmp_path / "photos", "--out", out, "--format", "voc", "--split", "val", "--exif", "ignore")
    assert (out / "voc_results/comp4_det_val_bright.txt").is_file()
    assert entries(out)["turned.jpg"]["width"] == 40
    rcnn(tmp_path / "photos", "--out", out, "--format", "coco", "--exif", "ignore")
    assert len(json.loads((out / "coco_results.json").read_text())) == sum(
        len(e["scores"]) for e in entries(out).values()
    )


def test_pictures_can_be_asked_for_later(rcnn: Callable[..., int], tmp_path: Path) -> None:
    photo(tmp_path / "photos/sub/a.png", 255)
    out = tmp_path / "out"
    rcnn(tmp_path / "photos", "--out", out)
    assert not (out / "pictures").exists()
    rcnn(tmp_path / "photos", "--out", out, "--draw")
    drawn = np.array(PIL.Image.open(out / "pictures/sub/a.png"))
    assert drawn.shape == (30, 40, 3)
    assert (drawn[-1, 20] == colour("bright", CLASSES)).all()


def test_late_pictures_have_the_colours_of_early_ones(rcnn: Callable[..., int], tmp_path: Path) -> None:
    photo(tmp_path / "photos/a.png", 0)  # dark alone: the second of the classes is the first of its line
    rcnn(tmp_path / "photos", "--out", tmp_path / "early", "--draw")
    rcnn(tmp_path / "photos", "--out", tmp_path / "late")
    rcnn(tmp_path / "photos", "--out", tmp_path / "late", "--draw")
    early, late = (PIL.Image.open(tmp_path / out / "pictures/a.png") for out in ("early", "late"))
    assert early.tobytes() == late.tobytes()


def test_pictures_are_drawn_again_where_others_are_asked_for(rcnn: Callable[..., int], tmp_path: Path) -> None:
    photo(tmp_path / "photos/a.png", 255)
    out, drawn = tmp_path / "out", tmp_path / "out/pictures/a.png"
    plain = PIL.Image.open(tmp_path / "photos/a.png").tobytes()
    rcnn(tmp_path / "photos", "--out", out, "--draw", "--draw-score", 0.99)
    assert PIL.Image.open(drawn).tobytes() == plain
    rcnn(tmp_path / "photos", "--out", out)
    rcnn(tmp_path / "photos", "--out", out, "--draw", "--draw-score", 0.1)
    assert PIL.Image.open(drawn).tobytes() != plain
    same = drawn.stat().st_mtime_ns
    rcnn(tmp_path / "photos", "--out", out, "--draw", "--draw-score", 0.1)
    assert drawn.stat().st_mtime_ns == same
    rcnn(tmp_path / "photos", "--out", out, "--overwrite", "--score", 0.95)
    rcnn(tmp_path / "photos", "--out", out, "--draw", "--draw-score", 0.1, "--score", 0.95)
    assert PIL.Image.open(drawn).tobytes() == plain


def test_pictures_of_photos_that_are_not_named_this_time_do_not_stay_as_they_were(
    rcnn: Callable[..., int], tmp_path: Path
) -> None:
    files = [photo(tmp_path / "photos" / name, 255) for name in ("a.png", "b.png")]
    out, drawn = tmp_path / "out", tmp_path / "out/pictures/b.png"
    (tmp_path / "list.txt").write_text("".join(f"{file}\n" for file in files))
    rcnn("--list", tmp_path / "list.txt", "--out", out, "--draw", "--draw-score", 0.1)
    other = drawn.read_bytes()
    (tmp_path / "list.txt").write_text(f"{files[0]}\n")
    rcnn(tmp_path / "photos", "--out", out, "--draw", "--draw-score", 0.99)
    rcnn("--list", tmp_path / "list.txt", "--out", out, "--draw", "--draw-score", 0.1)
    rcnn(tmp_path / "photos", "--out", out, "--draw", "--draw-score", 0.1)
    assert drawn.read_bytes() == other


def test_a_picture_that_cannot_be_written_stops_nothing(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, long = tmp_path / "out", "a" * 245 + ".png"  # that of its unfinished picture is too long for a file
    photo(tmp_path / "photos" / long, 255)
    photo(tmp_path / "photos/b.png", 255)
    for _ in range(2):
        assert rcnn(tmp_path / "photos", "--out", out, "--draw") == 1
        assert "its picture cannot be written: " in capsys.readouterr().err
        assert set(entries(out)) == {long, "b.png"}
        assert [file.name for file in (out / "pictures").iterdir()] == ["b.png"]
        assert list(last_run(out)["undrawn"]) == [long]


def test_a_done_photo_that_is_gone_is_named_and_the_others_are_drawn(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path / "elsewhere/a.png", 255)
    photo(tmp_path / "photos/b.png", 255)
    (tmp_path / "photos/a.png").symlink_to(tmp_path / "elsewhere/a.png")
    out = tmp_path / "out"
    assert rcnn(tmp_path / "photos", "--out", out) == 0
    (tmp_path / "elsewhere/a.png").unlink()
    capsys.readouterr()
    assert rcnn(tmp_path / "photos", "--out", out, "--draw") == 1
    assert "1 of 2 photos done, but not drawn" in capsys.readouterr().err
    assert [file.name for file in (out / "pictures").iterdir()] == ["b.png"]
    assert list(last_run(out)["undrawn"]) == ["a.png"]


def test_ids_that_do_not_cover_the_photos_are_refused_before_the_first(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path / "photos/a/1.png")
    photo(tmp_path / "photos/b/1.png")
    ids = tmp_path / "ids.json"
    categories = [{"id": label, "name": name} for label, name in enumerate(CLASSES, 1)]
    content = {"categories": categories, "annotations": [], "images": [{"id": 3, "file_name": "1.png"}]}
    for images, complaint in (
        (content["images"], "a/1.png and b/1.png both match its image 1.png"),
        ([{"id": 3, "file_name": "2.png"}], "has no image a/1.png"),
    ):
        ids.write_text(json.dumps({**content, "images": images}))
        capsys.readouterr()
        assert rcnn(tmp_path / "photos", "--out", tmp_path / "out", "--format", "coco", "--coco-ids", ids) == 2
        assert complaint in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    assert rcnn(tmp_path / "photos", "--out", tmp_path / "out") == 0
    ids.write_text(json.dumps({**content, "images": [{"id": 3, "file_name": "1.png"}]}))
    only_a = ["--out", tmp_path / "out", "--format", "coco", "--coco-ids", ids]
    assert rcnn(tmp_path / "photos/a/1.png", "--overwrite", *only_a) == 0
    photo(tmp_path / "photos/a/2.png")
    capsys.readouterr()
    assert rcnn(tmp_path / "photos/a/2.png", *only_a) == 2
    assert "has no image 2.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--draw-score", 0.1], "--draw-score needs --draw"),
        (["--no-vote", "--vote-power", 2], "--vote-power has no effect with --no-vote"),
        (["--features", "shared", "--exact", 9], "--exact has no effect without --features both"),
        (["--coco-ids", "ids.json"], "--coco-ids needs --format coco"),
    ],
)
def test_options_that_would_change_nothing_are_refused(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[Any], complaint: str
) -> None:
    photo(tmp_path / "a.jpg")
    assert rcnn(tmp_path / "a.jpg", "--out", tmp_path / "out", *arguments) == 2
    assert complaint in capsys.readouterr().err


def test_max_boxes_classifies_only_the_best_regions(rcnn: Callable[..., int], tmp_path: Path) -> None:
    rcnn(photo(tmp_path / "a.png"), "--out", tmp_path / "out", "--max-boxes", 1)
    assert last_run(tmp_path / "out")["proposals"] == {"half": 0, "whole": 1}


def test_the_closing_table_says_which_generator_the_regions_came_from() -> None:
    summary = DetectionSummary(
        photos=2,
        done=2,
        fresh=2,
        skipped={},
        proposals={"selective-search": 30, "multibox": 10},
        boxes={"selective-search": 1, "multibox": 3},
        seconds=1.0,
        stages={},
        first_seconds=2.0,
        photos_per_second=None,
    )
    assert summary.rows([])["from"] == (
        "selective-search 75% of the proposed, 25% of the detected; multibox 25% of the proposed, 75% of the detected"
    )
    assert summary.rows([])["regions per photo"] == "20 proposed, 2.0 detected"
    assert replace(summary, fresh=0, proposals={}, boxes={}).rows([])["regions per photo"] == "-"


def test_naming_another_folder_too_does_not_make_new_photos_of_the_old(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names begin at the common folder, so another argument can change them all."""
    first, out = photo(tmp_path / "p" / "a.png"), tmp_path / "out"
    photo(tmp_path / "q" / "a.png", level=90)
    assert rcnn(first, "--out", out) == 0
    assert rcnn(tmp_path / "p", tmp_path / "q", "--out", out) == 2
    assert "under the name a.png, but it would now be p/a.png" in capsys.readouterr().err
    assert list(entries(out)) == ["a.png"]
    assert rcnn(tmp_path / "q", "--out", tmp_path / "other") == 0
    shutil.copy(first, tmp_path / "q" / "copy.png")  # the same content by another name is another photo
    assert rcnn(tmp_path / "q", "--out", tmp_path / "other") == 0


def test_overwriting_takes_the_pictures_and_new_results_the_exports_of_before(
    rcnn: Callable[..., int], tmp_path: Path
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photo(photos / "a.png")
    photo(photos / "b.png")
    assert rcnn(photos, "--out", out, "--draw", "--format", "coco") == 0
    (photos / "a.png").write_text("no picture")
    assert rcnn(photos, "--out", out, "--draw", "--overwrite") == 1
    assert [path.name for path in (out / "pictures").iterdir()] == ["b.png"]
    assert not list(out.glob("coco*"))
    assert rcnn(photos, "--out", out, "--format", "coco") == 1
    assert (out / "coco_results.json").exists()
    photo(photos / "a.png")
    assert rcnn(photos, "--out", out) == 0
    assert not list(out.glob("coco*"))


def test_another_engine_in_the_same_folder_gives_a_warning(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photo(tmp_path / "photos" / "a.png")
    monkeypatch.setattr("detect.runs.detect.placement", lambda detector: (["torch float32 on cpu"], False))
    assert rcnn(tmp_path / "photos", "--out", tmp_path / "out") == 0
    assert "warning: earlier" not in capsys.readouterr().err
    monkeypatch.setattr("detect.runs.detect.placement", lambda detector: (["torch bfloat16 on cpu"], False))
    photo(tmp_path / "photos" / "b.png")
    assert rcnn(tmp_path / "photos", "--out", tmp_path / "out") == 0
    assert "were done with torch float32 on cpu; scores may differ" in capsys.readouterr().err


def test_names_with_blanks_cannot_stand_in_voc_results(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path / "my photo.png")
    assert rcnn(tmp_path / "my photo.png", "--out", tmp_path / "out", "--format", "voc") == 2
    assert "my photo.png: VOC result files cannot hold a name with spaces" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_named(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, image_id: str, *more: Any) -> None:
        with naming(self.folder / "detections.jsonl"):
            raise OSError(28, "No space left on device")

    photo(tmp_path / "a.png")
    monkeypatch.setattr("detect.runs.results.ResultsFolder.write", full)
    assert rcnn(tmp_path / "a.png", "--out", tmp_path / "out") == 2
    assert "detections.jsonl: No space left on device" in capsys.readouterr().err


def run_ahead(photos: list[Photo], workers: int) -> list[Passing[Photo]]:
    return list(flow(photos, proposing_stages(HalvesAndWhole(), PhotoReader(), workers=workers)))


@pytest.mark.parametrize("workers", [1, 3])
def test_photos_come_out_in_order_whatever_the_threads(tmp_path: Path, workers: int) -> None:
    photos = [Photo(str(i), photo(tmp_path / f"{i}.png", i)) for i in range(9)]
    photos.insert(4, Photo("gone", tmp_path / "gone.png"))
    items = run_ahead(photos, workers)
    assert [item.item for item in items] == photos
    assert [item.error is not None for item in items].index(True) == 4
    assert run_ahead([], workers) == []


def test_only_a_few_photos_are_held_at_a_time(tmp_path: Path) -> None:
    path, started, lock = photo(tmp_path / "a.png"), [0], threading.Lock()

    def count(photo: Photo) -> Image:
        with lock:
            started[0] += 1
        return read_image(photo.path)

    stages = proposing_stages(HalvesAndWhole(), count, workers=2)
    stream = flow([Photo(str(i), path) for i in range(50)], stages)
    for taken in range(1, 11):
        next(stream)
        assert started[0] <= taken + 11  # 4 read ahead, and behind each stage one at work and one that waits
    stream.close()
    assert started[0] <= 21


def test_detections_are_cut_out_if_asked_for(rcnn: Callable[..., int], tmp_path: Path) -> None:
    photo(tmp_path / "photos/a.png", 255)
    photo(tmp_path / "photos/sub/b.jpg", 0)
    out = tmp_path / "out"
    assert rcnn(tmp_path / "photos", "--out", out, "--no-vote") == 0
    assert rcnn(tmp_path / "photos", "--out", out, "--no-vote", "--save-crops") == 0  # also of photos that are done
    crop = out / "crops/bright/a.png.0.jpg"
    assert read_image(crop).shape == (30, 40, 3)
    assert (out / "crops/dark/sub/b.jpg.0.jpg").is_file()
    changed = crop.stat().st_mtime_ns
    assert rcnn(tmp_path / "photos", "--out", out, "--no-vote", "--save-crops") == 0
    assert crop.stat().st_mtime_ns == changed
    assert rcnn(tmp_path / "photos", "--out", tmp_path / "new", "--save-crops", "--draw-score", "0.95") == 0
    assert not (tmp_path / "new/crops").exists()


def test_pace_leaves_out_the_first_photo() -> None:
    times = iter([0.0, 100.0, 101.0, 102.0])
    pace = Pace(total=12, clock=lambda: next(times))
    assert pace.per_second() is None
    pace.step()
    assert pace.left() is None
    pace.step()
    pace.step()
    assert pace.per_second() == pytest.approx(1.0)
    assert pace.left() == pytest.approx(9.0)
    assert pace.seconds == pytest.approx(102.0)


def test_drawing_changes_a_copy_and_stays_on_the_box() -> None:
    image = np.zeros((100, 120, 3), np.uint8)
    found = Detections([[60, 50, 110, 90]], [1], [0.87], (100, 120))  # type: ignore[arg-type]
    drawn = np.array(draw(image, found, CLASSES))
    assert not image.any()
    assert (drawn[89, 80] == colour("dark", CLASSES)).all()
    assert (drawn[50, 80] == colour("dark", CLASSES)).all()
    assert not drawn[60:80, 65:100].any()
    assert not drawn[:, :50].any()


@pytest.mark.parametrize("box", [[0, 0, 1, 1], [-5, -5, 500, 500], [3, 3, 3, 3], [0.2, 0.1, 0.9, 0.8]])
def test_odd_boxes_can_be_drawn(box: list[float]) -> None:
    found = Detections([box], [0], [0.5], (1, 1))  # type: ignore[arg-type]
    for size in ((1, 1), (4, 300)):
        assert draw(np.zeros((*size, 3), np.uint8), found, CLASSES).size == size[::-1]


def test_weak_detections_are_not_drawn(tmp_path: Path) -> None:
    found = Detections([[10, 10, 50, 50]], [0], [0.4], (60, 60))  # type: ignore[arg-type]
    with OwnFiles(tmp_path) as files:
        Pictures(files, "pictures", Drawing(0.5)).add("a.png", np.zeros((60, 60, 3), np.uint8), found, CLASSES)
    assert not np.array(PIL.Image.open(tmp_path / "pictures/a.png")).any()


def test_classes_have_colours_of_their_own() -> None:
    names = [f"class {number}" for number in range(20)]
    assert len({colour(name, names) for name in names}) == 20
    assert colour("zebra") == colour("zebra")


def test_photos_of_too_many_pixels_are_skipped(rcnn: Callable[..., int], tmp_path: Path) -> None:
    photo(tmp_path / "a.png", size=(40, 30))
    photo(tmp_path / "b.png", size=(10, 10))
    out = tmp_path / "out"
    assert rcnn(tmp_path / "a.png", tmp_path / "b.png", "--out", out, "--max-pixels", 500) == 1
    (skipped,) = map(json.loads, (out / "skipped.jsonl").read_text().splitlines())
    assert skipped["image"] == "a.png"
    assert "pixels" in skipped["reason"]
    assert [json.loads(line)["image"] for line in (out / "detections.jsonl").read_text().splitlines()] == ["b.png"]
