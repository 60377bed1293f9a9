"""With the weights that ship: the demonstration finds what is there, and bad photos do not stop a run."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from detect import demo
from detect.detector import Detector
from eval.results import ResultLine
from structures.images import read_image
from structures.records import Detections
from tests.networks import quarter_canvases

REGIONS = 150  # of about 1,200 a photo: enough for large objects, and quick without a GPU


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    demo.copy_photos(folder)
    return folder


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.load(max_boxes=REGIONS)


def test_the_photos_of_the_demonstration_need_no_download(photos: Path) -> None:
    assert sorted(path.name for path in photos.iterdir()) == sorted(demo.PHOTOS)
    assert all(min(read_image(path).shape[:2]) >= 300 for path in photos.iterdir())


def test_the_table_names_what_was_found_and_leaves_out_the_weak() -> None:
    found = Detections([[1, 2, 30.4, 40], [5, 5, 9, 9]], [1, 0], [0.9, 0.1], (50, 50))  # type: ignore[arg-type]
    nothing = found.take(slice(0, 0))
    lines = [ResultLine("", "a.png", found, ("cup", "cat")), ResultLine("", "b.png", nothing, ())]
    columns = [list(column.cells) for column in demo.found_table(lines).columns]
    assert columns == [["a.png", "b.png"], ["cat", "nothing"], ["0.90", ""], ["1, 2, 30, 40", ""]]


@pytest.mark.parametrize(
    ("name", "label", "inside"),
    [("astronaut.png", "person", (225, 150)), ("chelsea.png", "cat", (230, 130))],
)
def test_the_person_and_the_cat_are_found(
    detector: Detector, photos: Path, name: str, label: str, inside: tuple[int, int]
) -> None:
    found = detector(read_image(photos / name))
    best = found.take(slice(0, 1))
    assert detector.classes[best.labels[0]] == label
    assert best.scores[0] > 0.5
    (x1, y1, x2, y2), (x, y) = best.boxes[0], inside
    assert x1 < x < x2
    assert y1 < y < y2


def test_bad_photos_do_not_stop_a_run(
    photos: Path, tmp_path: Path, rcnn: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    small = PIL.Image.open(photos / "chelsea.png").resize((150, 100))
    small.convert("L").save(folder / "grey.png")
    small.convert("CMYK").save(folder / "print.jpg")
    small.convert("RGBA").save(folder / "clear.png")
    PIL.Image.fromarray(np.asarray(small.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    (folder / "cut.jpg").write_bytes((folder / "print.jpg").read_bytes()[:-500])
    (folder / "text.jpg").write_text("no photo")
    (folder / "empty.jpg").write_bytes(b"")
    with quarter_canvases():
        assert rcnn("detect", folder, "--out", tmp_path / "out", "--max-boxes", 5, "--engine", "torch") == 1
    lines = [json.loads(line) for line in (tmp_path / "out/detections.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == ["clear.png", "deep.png", "grey.png", "print.jpg"]
    shown = capsys.readouterr().err
    assert all(f"{name}.jpg: " in shown for name in ("cut", "text", "empty"))
    assert "3 of 7 photos skipped" in shown
