"""Regions that a run keeps: what is read is what was seen, whatever killed the run in between."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

import detect.detector
from detect.detector import Detector
from detect.runs.kept import RegionFiles, forget_regions
from detect.runs.record import RunError, RunRecord
from detect.runs.results import ResultsFolder
from eval.lost import Rules
from eval.region_layout import (
    INDEX_FILE,
    REGIONS_FILE,
    Entry,
    Header,
    RegionsError,
    as_bytes,
    as_line,
    from_bytes,
    read_entry,
)
from eval.regions import read_regions
from structures.boxes import Boxes, Floats, as_boxes, whole_image
from structures.files import FileRefused
from structures.records import Image, Proposals
from structures.regions import Regions

CLASSES = ("cat", "dog")
RULES = Rules(score_floor=0.05, nms_threshold=0.3, max_per_class=100, weigh_by_fit=True)
HEAD = Header(CLASSES, RULES)


def seen(count: int, *, features: int = 0, left_out: int = 0, seed: int = 0) -> Regions:
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.integers(0, 99, (count + left_out, 2, 2)), axis=1).reshape(-1, 4).astype(np.float32)
    scores, source = rng.random(count + left_out, np.float32), rng.integers(0, 2, count + left_out).astype(np.uint8)
    proposed = Proposals(corners, scores, (100, 120), source, ("grid", "search"))
    chances = rng.dirichlet([1, 1, 1], count).astype(np.float16).astype(np.float32).reshape(count, 3)
    numbers = rng.normal(size=(count, features)).astype(np.float16)
    return Regions(proposed.first(count) if left_out else proposed, chances, CLASSES, numbers)


def assert_same(one: Regions, other: Regions) -> None:
    assert one.classes == other.classes
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    np.testing.assert_array_equal(one.features, other.features)
    pairs = [(one.proposals, other.proposals)]
    if one.proposals.left_out or other.proposals.left_out:
        pairs.append((one.proposals.left_out, other.proposals.left_out))  # type: ignore[arg-type]
    for a, b in pairs:
        assert (a.image_size, a.source_names) == (b.image_size, b.source_names)
        for column in Proposals.COLUMNS:
            np.testing.assert_array_equal(getattr(a, column), getattr(b, column))


def write(folder: Path, *names: str, features: int = 0, done: tuple[str, ...] = ()) -> RegionFiles:
    RunRecord(folder, {})
    with RegionFiles(folder, HEAD, features=features, done=done) as files:
        for name in names:
            files.add(name, seen(len(name), features=features, seed=len(name)))
    return files


@given(st.integers(0, 4), st.integers(0, 3), st.integers(0, 3), st.integers(0, 9))
def test_what_is_written_is_read(count: int, features: int, left_out: int, seed: int) -> None:
    regions = seen(count, features=features, left_out=left_out, seed=seed)
    content = as_bytes(regions)
    entry = read_entry(json.loads(json.dumps(as_line("a", 7, regions, content))), "line 1")
    assert (entry.at, entry.size(len(CLASSES))) == (7, len(content))
    assert_same(from_bytes(content, entry, CLASSES), regions)


def test_features_beyond_float16_are_the_greatest() -> None:
    regions = replace(seen(1), features=np.array([[1e9, -1e9, 0.5]], np.float32))
    content = as_bytes(regions)
    read = from_bytes(content, read_entry(as_line("a", 0, regions, content), ""), CLASSES)
    assert read.features.tolist() == [[65504.0, -65504.0, 0.5]]


def test_photos_are_read_by_name(tmp_path: Path) -> None:
    write(tmp_path, "a", "bb", "ccc", features=2)
    kept = read_regions(tmp_path)
    assert (list(kept), kept.classes, kept.rules, kept.notes) == (["a", "bb", "ccc"], CLASSES, RULES, ())
    for name in kept:
        assert_same(kept[name], seen(len(name), features=2, seed=len(name)))
    assert "d" not in kept
    with pytest.raises(KeyError):
        kept["d"]


def test_a_folder_without_regions_has_none(tmp_path: Path) -> None:
    kept = read_regions(tmp_path)
    assert (len(kept), kept.classes, kept.rules) == (0, (), None)


def test_a_run_goes_on_and_what_was_not_finished_is_written_over(tmp_path: Path) -> None:
    write(tmp_path, "a", "bb")
    size = (tmp_path / REGIONS_FILE).stat().st_size
    with (tmp_path / REGIONS_FILE).open("ab") as file:
        file.write(b"half of a photo")
    with (tmp_path / INDEX_FILE).open("ab") as file:
        file.write(b'{"image": "ccc", "at": 12')
    assert list(read_regions(tmp_path)) == ["a", "bb"]
    assert "cut off" in read_regions(tmp_path).notes[0]
    files = write(tmp_path, "dddd", done=("a", "bb"))
    assert files.kept == {"a", "bb", "dddd"}
    kept = read_regions(tmp_path)
    assert (list(kept), kept.notes) == (["a", "bb", "dddd"], ())
    assert (tmp_path / REGIONS_FILE).stat().st_size == size + len(as_bytes(seen(4)))
    assert_same(kept["dddd"], seen(4, seed=4))


def test_a_photo_without_results_is_kept_again_and_the_newer_count(tmp_path: Path) -> None:
    write(tmp_path, "a", "bb")
    with RegionFiles(tmp_path, HEAD, done=["a"]) as files:
        assert files.kept == {"a"}
        files.add("bb", seen(3, seed=9))
    assert_same(read_regions(tmp_path)["bb"], seen(3, seed=9))
    assert_same(read_regions(tmp_path)["a"], seen(1, seed=1))


def test_without_any_results_regions_begin_from_scratch(tmp_path: Path) -> None:
    write(tmp_path, "a", "bb")
    with RegionFiles(tmp_path, replace(HEAD, classes=("bird",))) as files:
        assert files.kept == set()
    assert len(read_regions(tmp_path)) == 0


def test_features_that_were_not_kept_are_made_later(tmp_path: Path) -> None:
    write(tmp_path, "a")
    assert write(tmp_path, features=4, done=("a",)).kept == set()
    assert write(tmp_path, "a", features=4, done=("a",)).kept == {"a"}
    assert write(tmp_path, done=("a",)).kept == {"a"}  # more than is asked for
    assert read_regions(tmp_path)["a"].features.shape == (1, 4)


def test_what_a_power_cut_has_lost_is_made_again(tmp_path: Path) -> None:
    write(tmp_path, "a", "bb", "ccc")
    path = tmp_path / REGIONS_FILE
    content = path.read_bytes()
    path.write_bytes(content[: len(as_bytes(seen(1))) + 5])
    files = write(tmp_path, "bb", done=("a", "bb", "ccc"))
    assert files.kept == {"a", "bb"}
    assert_same(read_regions(tmp_path)["bb"], seen(2, seed=2))
    with pytest.raises(RegionsError, match="the regions of ccc are damaged"):
        read_regions(tmp_path)["ccc"]


def test_damage_is_found(tmp_path: Path) -> None:
    write(tmp_path, "a", "bb")
    path = tmp_path / REGIONS_FILE
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)
    with pytest.raises(RegionsError, match=r"regions\.bin: the regions of a are damaged"):
        read_regions(tmp_path)["a"]
    assert len(read_regions(tmp_path)["bb"]) == 2
    path.unlink()
    with pytest.raises(RegionsError, match="damaged"):
        read_regions(tmp_path)["bb"]


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{}",
        '{"image": "a"}',
        json.dumps(as_line("a", 0, seen(1), b"")),
        json.dumps(as_line("a", 0, seen(1), b"") | {"classes": "cat", "rules": {}}),
        json.dumps(as_line("a", 0, seen(1), b"") | {"classes": ["cat"], "rules": {"score_floor": 0}}),
        json.dumps(as_line("a", -1, seen(1), b"") | HEAD.as_json()),
        json.dumps(as_line("a", 0, seen(1), b"") | HEAD.as_json() | {"classified": 2**40}),
        json.dumps(as_line("a", 0, seen(1), b"") | HEAD.as_json() | {"sources": []}),
        json.dumps(as_line("a", 0, seen(1), b"") | HEAD.as_json() | {"width": 0}),
    ],
)
def test_an_index_of_something_else_is_refused_and_stays(tmp_path: Path, line: str) -> None:
    RunRecord(tmp_path, {})
    (tmp_path / INDEX_FILE).write_text(line + "\n")
    with pytest.raises(RegionsError, match="line 1"):
        read_regions(tmp_path)
    with pytest.raises(FileRefused, match="line 1"):
        RegionFiles(tmp_path, HEAD, done=["a"])
    assert (tmp_path / INDEX_FILE).read_text() == line + "\n"


def test_sizes_that_the_file_does_not_have_take_no_memory(tmp_path: Path) -> None:
    write(tmp_path, "a")
    line = json.loads((tmp_path / INDEX_FILE).read_text())
    (tmp_path / INDEX_FILE).write_text(json.dumps(line | {"classified": 2**31 - 1, "features": 2**31 - 1}) + "\n")
    with pytest.raises(RegionsError, match="damaged"):
        read_regions(tmp_path)["a"]


def test_numbers_that_no_regions_have_are_refused() -> None:
    regions = replace(seen(1), probabilities=np.full((1, 3), np.nan, np.float32))
    content = as_bytes(regions)
    with pytest.raises(RegionsError, match="not finite"):
        from_bytes(content, read_entry(as_line("a", 0, regions, content), ""), CLASSES)
    odd = Entry("a", 0, 1, 0, (9, 9), ("grid",), 0, 0)
    with pytest.raises(RegionsError, match="source 1"):
        from_bytes(np.zeros(4, "<f4").tobytes() + np.zeros(1, "<f4").tobytes() + b"\1" + b"\0" * 6, odd, CLASSES)


def test_other_rules_or_classes_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a")
    for head in (replace(HEAD, classes=("dog", "cat")), replace(HEAD, rules=replace(RULES, score_floor=0.5))):
        with pytest.raises(FileRefused, match="other classes or rules"):
            RegionFiles(tmp_path, head, done=["a"])


def test_files_of_somebody_else_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / REGIONS_FILE
    path.write_bytes(b"mine")
    with pytest.raises(RunError, match=r"regions\.bin"):
        ResultsFolder(tmp_path)
    RunRecord(tmp_path, {})
    with pytest.raises(RunError, match=r"regions\.bin: its index regions\.jsonl is missing"):
        RegionFiles(tmp_path, HEAD, done=["a"])
    forget_regions(tmp_path)
    assert path.read_bytes() == b"mine"


def test_a_backup_made_of_links_keeps_its_content(tmp_path: Path) -> None:
    write(tmp_path, "a")
    (tmp_path / "backup").hardlink_to(tmp_path / REGIONS_FILE)
    before = (tmp_path / "backup").read_bytes()
    write(tmp_path, "bb", done=("a",))
    assert (tmp_path / "backup").read_bytes() == before
    assert list(read_regions(tmp_path)) == ["a", "bb"]


class Whole:
    """Proposes the whole photo and its left half."""

    name = "whole"
    parameters: dict[str, Any] = {}  # noqa: RUF012

    def __call__(self, image: Image) -> Proposals:
        height, width = image.shape[:2]
        boxes = as_boxes([*whole_image((height, width)).tolist(), [0, 0, width // 2, height]])
        return Proposals(boxes, np.ones(2, np.float32), (height, width))


class Bright:
    """Calls the brighter regions cats, and gives their mean as a feature where asked."""

    classes = CLASSES

    def __init__(self, feature_count: int) -> None:
        self.feature_count = feature_count

    def __call__(self, image: Image, boxes: Boxes) -> Floats:
        means = np.array([image[int(b[1]) : int(b[3]), int(b[0]) : int(b[2])].mean() / 255 for b in boxes], np.float32)
        return np.stack([means, 0 * means, 1 - means, *([means] * self.feature_count)], axis=1)


@pytest.fixture
def detecting(
    monkeypatch: pytest.MonkeyPatch, rcnn: Callable[..., int], tmp_path: Path
) -> Callable[..., tuple[int, Path]]:
    """Run `rcnn detect` on two photos with a detector whose answers are known."""

    def load(weights: Any, proposals: str, *, keep_features: bool, **options: Any) -> Detector:
        changes = {name: options[name] for name in ("max_boxes", "score_floor")}
        return Detector(Whole(), Bright(2 * keep_features), **changes)  # type: ignore[arg-type]

    monkeypatch.setattr(detect.detector.Detector, "load", load)
    (tmp_path / "weights").write_bytes(b"")
    (tmp_path / "photos").mkdir()
    for name, level in (("a.png", 255), ("b.png", 51)):
        PIL.Image.new("RGB", (40, 30), (level, level, level)).save(tmp_path / "photos" / name)
    command = ["detect", tmp_path / "photos", "--out", tmp_path / "out", "--weights", tmp_path / "weights"]
    return lambda *words: (rcnn(*command, *words), tmp_path / "out")


def test_the_command_keeps_what_was_cut_too(detecting: Callable[..., tuple[int, Path]]) -> None:
    code, out = detecting("--keep", "features", "--max-boxes", 1)
    kept = read_regions(out)
    assert (code, list(kept)) == (0, ["a.png", "b.png"])
    first = kept["a.png"]
    assert first.boxes.tolist() == [[0, 0, 40, 30]]
    assert first.proposals.left_out is not None
    assert first.proposals.left_out.boxes.tolist() == [[0, 0, 20, 30]]
    assert (first.probabilities.tolist(), first.features.tolist()) == ([[1, 0, 0]], [[1, 1]])
    assert kept.rules is not None
    assert kept.rules.score_floor == 0.05


def test_photos_that_are_done_are_kept_later_without_a_second_line(
    detecting: Callable[..., tuple[int, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, out = detecting()
    lines = (out / "detections.jsonl").read_text()
    assert not (out / INDEX_FILE).exists()
    assert detecting("--keep", "scores")[0] == 0
    assert list(read_regions(out)) == ["a.png", "b.png"]
    assert detecting("--keep", "features")[0] == 0
    assert read_regions(out)["b.png"].features.shape == (2, 2)
    capsys.readouterr()
    assert detecting("--keep", "scores")[0] == 0
    assert "2 of 2 photos done already" in capsys.readouterr().err
    assert (out / "detections.jsonl").read_text() == lines


def test_a_killed_run_goes_on(detecting: Callable[..., tuple[int, Path]]) -> None:
    _, out = detecting("--keep", "scores")
    lines, index = (out / "detections.jsonl").read_text(), read_regions(out)["b.png"]
    (out / "detections.jsonl").write_text(lines.splitlines(keepends=True)[0])  # b.png has regions, but no line yet
    assert detecting("--keep", "scores")[0] == 0
    assert (out / "detections.jsonl").read_text() == lines
    assert_same(read_regions(out)["b.png"], index)


def test_overwriting_forgets_regions(detecting: Callable[..., tuple[int, Path]]) -> None:
    _, out = detecting("--keep", "scores")
    assert detecting("--overwrite", "--score", 0.5)[0] == 0
    assert not (out / INDEX_FILE).exists()
    assert not (out / REGIONS_FILE).exists()
