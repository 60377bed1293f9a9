"""The benchmark of detection with ways that answer from the ground truth: turns, resuming, table, plot."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from benchmarks import detection, detection_growth
from benchmarks.detection_ways import Answer, Setting
from benchmarks.gpu_parts import prepare_photos
from eval.voc import VocDataset
from structures.records import Detections


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    return prepare_photos(tmp_path / "voc", None, count=6)


class Knows:
    """A way that knows the objects of every photo, and the time that it took."""

    def __init__(self, dataset: VocDataset, asked: list[str]) -> None:
        self._dataset, self._asked = dataset, asked

    def send(self, path: Path) -> None:
        self._asked.append(path.stem)

    def recv(self) -> Answer:
        truth = self._dataset.ground_truth(self._asked[-1])
        found = Detections(truth.boxes, truth.labels, np.full(len(truth.labels), 0.9, np.float32), truth.image_size)
        return Answer(found, 0.5 + 0.1 * len(self._asked), 10**8)


@pytest.fixture
def asked(voc: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have all ways answer from the ground truth; return the list of what they are asked."""
    found: list[str] = []

    @contextmanager
    def pretend(name: str, setting: Setting) -> Iterator[Knows]:
        yield Knows(VocDataset(voc, "train"), found)

    monkeypatch.setattr(detection, "asked", pretend)
    monkeypatch.setattr(detection.os, "sched_setaffinity", lambda *_: None, raising=False)
    return found


def test_a_run_times_a_few_photos_judges_all_and_goes_on_where_it_stopped(
    voc: Path, asked: list[str], tmp_path: Path
) -> None:
    words = [str(voc), "train", "--out", str(tmp_path / "out"), "--way", "shared, multibox", "--way", "plain"]
    detection.main([*words, "--timed", "6", "--minutes", "0"])
    assert asked == [f"{number:06d}" for number in range(6) for _ in range(2)]  # in turn
    rows = json.loads((tmp_path / "out/ways.json").read_text())["rows"]
    assert rows["plain"]["timed"] == 4  # the first on each of two canvases is not counted
    assert "mAP" not in rows["plain"]
    asked.clear()
    detection.main([*words, "--timed", "0"])
    assert len(asked) == 12
    rows = json.loads((tmp_path / "out/ways.json").read_text())["rows"]
    assert rows["shared, multibox"]["mAP"] == rows["plain"]["mAP"] == 1
    assert rows["plain"]["median"] > 0
    asked.clear()
    detection.main([*words, "--timed", "0"])
    assert asked == []
    assert "100.0" in (tmp_path / "out/ways.txt").read_text()
    with PIL.Image.open(tmp_path / "out/ways.png") as picture:
        assert min(picture.size) > 300


def test_a_way_that_is_not_done_has_its_count_in_brackets() -> None:
    rows = {"plain": {"median": 2.0, "lower": 1.5, "upper": 2.5, "timed": 4, "memory": 2 * 10**8, "judged": 7}}
    cells = [next(iter(column.cells)) for column in detection.table(rows).columns]
    assert cells == ["plain", "2.000", "1.500-2.500", "4", "1.0", "(7)", "(7)", "200"]


def test_results_that_are_there_already_are_taken(voc: Path, asked: list[str], tmp_path: Path) -> None:
    words = [str(voc), "train", "--way", "plain", "--timed", "0"]
    detection.main([*words, "--out", str(tmp_path / "out")])
    (tmp_path / "there").mkdir()
    (tmp_path / "out/plain.jsonl").rename(tmp_path / "there/detections.jsonl")
    asked.clear()
    detection.main([*words, "--out", str(tmp_path / "new"), "--found", f"plain={tmp_path / 'there'}"])
    assert asked == []
    assert json.loads((tmp_path / "new/ways.json").read_text())["rows"]["plain"]["mAP"] == 1


def test_unknown_ways_are_refused(voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        detection.arguments([str(voc), "train", "--out", str(tmp_path), "--way", "magic"])
    assert "'magic' is not one of the ways: both, default; " in capsys.readouterr().err


def test_growth_shows_each_photo_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector remembers the last photos, and would not run its network on them again."""
    seen = list[bytes]()

    class Seeing:
        def many(self, photos: list[np.ndarray]) -> list[None]:
            seen.extend(photo.tobytes() for photo in photos)
            return [None] * len(photos)

    monkeypatch.setattr(detection_growth, "load", lambda name, dtype, **options: Seeing())
    monkeypatch.setattr(detection_growth, "MEGAPIXELS", (0.01, 0.02))
    images = [np.random.default_rng(seed).integers(0, 256, (40, 200, 3), np.uint8) for seed in range(16)]
    rows = list(detection_growth._rows(images, "float32"))
    assert [(row["what"], row["to"]) for row in rows[-3:]] == [("photos", 1), ("photos", 4), ("photos", 16)]
    assert len(rows) == 3 * 2 + 3 * 4 + 3
    assert len(set(seen)) == len(seen) == 4 * (6 + 12 + 1 + 4 + 16)
