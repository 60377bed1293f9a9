"""`rcnn bench detect`: turns that are fair, rows that agree with the evaluation, a run that resumes."""

import csv
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import detect.bench.detection
import detect.detector
from detect.bench.detection import BenchJob
from detect.bench.timing import STAGE_TIMES, time_stages
from detect.detector import Detector
from detect.generators import load_proposals
from eval.plots import detector_plots
from eval.regions import read_regions
from eval.voc import VocDataset
from proposals.protocol import ProposalGenerator
from structures.boxes import Boxes, Floats, whole_image
from structures.records import Image, Proposals
from tests.shapes import write_cats


class Bright:
    """Calls a region a cat by its mean."""

    classes = ("cat",)

    def __call__(self, image: Image, boxes: Boxes) -> Floats:
        means = [image[int(b[1]) : int(b[3]), int(b[0]) : int(b[2])].mean() / 255 for b in boxes]
        cat = np.array(means, np.float32)
        return np.stack([cat, 1 - cat], axis=1)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Three photos with a bright object each, which the whole photo does not fit."""
    return write_cats(tmp_path / "VOC")


class Broken:
    """A generator of another package, with a fault."""

    name = "broken"
    parameters: dict[str, Any] = {}  # noqa: RUF012

    def __call__(self, image: Image) -> Proposals:
        raise KeyError("no such layer")


class Once:
    """Proposes the whole photo alone."""

    name = "once"
    parameters: dict[str, Any] = {}  # noqa: RUF012

    def __call__(self, image: Image) -> Proposals:
        size = (image.shape[0], image.shape[1])
        return Proposals(whole_image(size), np.ones(1, np.float32), size)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, rcnn: Callable[..., int], voc: Path, tmp_path: Path) -> Callable[..., int]:
    """Run `rcnn bench detect` on the three photos, with a classifier whose answers are known."""

    def load(weights: Any, proposals: str, **options: Any) -> Detector:
        known: dict[str, Callable[[], ProposalGenerator]] = {"random": Once, "edge-boxes": Broken}
        generator = known.get(proposals, lambda: load_proposals(proposals))()
        return Detector(generator, Bright(), score_floor=options["score_floor"])

    monkeypatch.setattr(detect.detector.Detector, "load", load)
    monkeypatch.setattr(detect.bench.detection, "draw_scores", _few(detect.bench.detection.draw_scores))
    (tmp_path / "weights").write_bytes(b"")
    command = ["bench", "detect", "--ground-truth", voc, "--out", tmp_path / "out", "--weights", tmp_path / "weights"]
    return lambda *words: rcnn(*command, *words)


def _few(draw: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *records, **options: draw(*records, draws=20, **options)


def test_a_row_for_each_generator_in_every_form(
    bench: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detect.consoles.PIPE_WIDTH", 80)  # as in a narrow terminal
    files = {kind: tmp_path / f"bench.{kind}" for kind in ("json", "csv", "html", "svg")}
    forms = ["--json", files["json"], "--csv", files["csv"], "--html", files["html"], "--plot", files["svg"]]
    names = ["grid", "random", "selective-search+grid"]
    assert bench(*(word for name in names for word in ("--proposals", name)), "--timed", 2, *forms) == 0
    told = capsys.readouterr().out
    assert "…" not in told
    assert max(map(len, told.splitlines())) <= 80
    assert all(name in told for name in names)
    content = json.loads(files["json"].read_text())
    assert (content["photos"], content["timed"], content["protocol"]) == (3, 1, "voc07")
    rows = content["detectors"]
    assert [row["proposals"] for row in rows] == names
    with files["csv"].open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["proposals"] for row in table] == names
    assert [float(row["boxes"]) for row in table] == [row["boxes"] for row in rows]
    assert all(name in files["html"].read_text() for name in names)
    assert b"<svg" in files["svg"].read_bytes()
    only = rows[1]  # the whole photo fits no object
    assert (only["boxes"], only["recall@0.50"], only["mAP"], only["missed"]) == (1, 0, 0, 3)
    assert only["lost, no proposal"] == 3
    assert only["mAP over the first"] == -rows[0]["mAP"]
    assert rows[0]["mAP over the first"] == rows[0]["mAP over the first, low"] == 0
    stages = [f"seconds, {stage}" for stage in STAGE_TIMES if stage != "trunk"]  # none of these has a network
    assert all(row[stage] > 0 for row in rows for stage in stages)
    assert all(row["seconds, trunk"] == 0 for row in rows)
    assert all(row["seconds, all"] == pytest.approx(sum(row[stage] for stage in stages)) for row in rows)


def test_rows_agree_with_the_evaluation(
    bench: Callable[..., int], rcnn: Callable[..., int], voc: Path, tmp_path: Path
) -> None:
    names = ["--proposals", "selective-search", "--timed", 0]
    assert bench(*names, "--json", tmp_path / "bench.json") == 0
    folder = tmp_path / "out" / "selective-search"
    assert len(read_regions(folder)) == 3
    for protocol, figure in (("voc07", "mAP"), ("coco", "AP")):
        command = ["eval", "detections", folder, "--ground-truth", voc, "--protocol", protocol]
        assert rcnn(*command, "--json", tmp_path / "eval.json") == 0
        scored = json.loads((tmp_path / "eval.json").read_text())
        (row,) = json.loads((tmp_path / "bench.json").read_text())["detectors"]
        assert row[figure] == pytest.approx(scored[figure])
        assert row["missed"] == scored["lost"]["missed"] == 0
        assert rcnn(*command, "--json", tmp_path / "eval.json", "--lost-score", 1) == 0  # no detection is as sure
        assert json.loads((tmp_path / "eval.json").read_text())["lost"]["missed"] == 3
    assert row["seconds, propose"] is None


def test_every_option_reaches_the_detectors(
    bench: Callable[..., int], voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    load = detect.detector.Detector.load
    monkeypatch.setattr(
        detect.detector.Detector,
        "load",
        lambda weights, name, **options: asked.append(options) or load(weights, name, **options),
    )
    where = ("--device", "cpu", "--engine", "torch", "--dtype", "float32", "--features", "crops", "--max-boxes", 7)
    photos = ("--split", "val", "--images", voc / "JPEGImages", "--photos", 1)
    assert bench("--proposals", "grid", "--timed", 0, *where, *photos) == 0
    expected = {"device": "cpu", "engine": "torch", "dtype": "float32", "features": "crops", "max_boxes": 7}
    assert asked
    assert all(expected.items() <= options.items() for options in asked)


def test_it_goes_on_where_it_stopped(bench: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--proposals", "grid", "--timed", 0, "--photos", 1) == 0
    capsys.readouterr()
    assert bench("--proposals", "grid", "--timed", 0) == 0
    assert "1 of 3 photos done already" in capsys.readouterr().err


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """The box of each object, in a file of another program."""
    corners = [(10, 10), (40, 20), (60, 30)]
    entries = [{"image_id": i, "category_id": 1, "bbox": [*xy, 50, 40], "score": 1} for i, xy in enumerate(corners)]
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    return tmp_path / "boxes.json"


@pytest.mark.parametrize("name", ["file:{}", "grid+file:{}"])
def test_boxes_of_another_program_are_found_by_their_names(
    bench: Callable[..., int], tmp_path: Path, boxes: Path, name: str
) -> None:
    assert bench("--proposals", name.format(boxes), "--timed", 3, "--json", tmp_path / "bench.json") == 0
    (row,) = json.loads((tmp_path / "bench.json").read_text())["detectors"]
    assert (row["proposals"], row["recall@0.70"], row["skipped"]) == (name.format(boxes), 1, 0)
    assert row["seconds, all"] > 0


def test_photos_without_boxes_in_a_file_are_named_and_the_rest_is_measured(
    bench: Callable[..., int], tmp_path: Path, boxes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes.write_text(json.dumps(json.loads(boxes.read_text())[:2]))
    names = ("--proposals", "grid", "--proposals", f"file:{boxes}")
    assert bench(*names, "--timed", 3, "--json", tmp_path / "bench.json") == 1
    told = capsys.readouterr().err
    assert f"file:{boxes}: 1 of 3 photos could not be processed, so their objects count as missed; see " in told
    grid, file = json.loads((tmp_path / "bench.json").read_text())["detectors"]
    assert (grid["skipped"], file["skipped"]) == (0, 1)
    assert grid["seconds, all"] > 0
    assert file["seconds, all"] > 0


def test_a_generator_that_fails_does_not_cost_the_others_their_rows(
    bench: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("--proposals", "edge-boxes", "--proposals", "grid")
    assert bench(*names, "--timed", 2, "--json", tmp_path / "bench.json") == 1
    told = capsys.readouterr()
    assert told.err.count("not timed on every photo: edge-boxes: KeyError: 'no such layer'") == 1
    assert "edge-boxes: left out, as it failed: KeyError: 'no such layer'" in told.err
    said = json.loads((tmp_path / "bench.json").read_text())
    assert [row["proposals"] for row in said["detectors"]] == ["grid"]
    assert said["detectors"][0]["seconds, all"] > 0
    assert said["failed"] == {"edge-boxes": "KeyError: 'no such layer'"}
    assert bench("--proposals", "edge-boxes", "--timed", 0) == 2
    assert "edge-boxes failed: KeyError: 'no such layer'" in capsys.readouterr().err


def test_weights_of_other_classes_are_refused_before_anything_is_measured(
    bench: Callable[..., int], voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (voc / "Annotations").iterdir():
        path.write_text(path.read_text().replace("cat", "lynx"))
    assert bench("--proposals", "grid", "--timed", 0) == 2
    assert "--weights know cat, but no class of the ground truth: lynx" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_read_is_not_written_over(bench: Callable[..., int], tmp_path: Path) -> None:
    assert bench("--json", tmp_path / "weights") == 2
    assert (tmp_path / "weights").read_bytes() == b""


def test_photos_that_cannot_be_read_are_counted(bench: Callable[..., int], voc: Path, tmp_path: Path) -> None:
    (voc / "JPEGImages/1.jpg").write_text("no photo")
    assert bench("--proposals", "grid", "--timed", 3, "--json", tmp_path / "bench.json") == 1
    (row,) = json.loads((tmp_path / "bench.json").read_text())["detectors"]
    assert (row["skipped"], row["lost, not searched"]) == (1, 1)


def test_stages_are_timed_on_every_photo_but_the_first() -> None:
    """Also the pass of a network, which is taken out of the stage that asks for it."""

    class Clocked(Detector):
        def regions(self, image: Image) -> Proposals:
            found = super().regions(image)
            self.seconds["propose"] += float(image[0, 0, 0])
            self.seconds["trunk"] += 5
            return found

    detectors = [Clocked(Once(), Bright()), Detector(Once(), Bright())]
    seconds = time_stages(detectors, [np.full((4, 4, 3), level, np.uint8) for level in (9, 2, 3)])
    assert seconds.shape == (2, 2, 4)
    np.testing.assert_allclose(seconds[:, 0, 0], [2, 3], atol=0.5)
    np.testing.assert_allclose(seconds[:, 0, 1], 5, atol=0.5)
    np.testing.assert_allclose(seconds[:, 1], 0, atol=0.5)


@pytest.mark.parametrize("seconds", [(0.05, 2.4), (0.29, 0.9)])
def test_numbers_at_the_axes_of_the_plot_do_not_lie_on_each_other(seconds: tuple[float, float]) -> None:
    counts = np.array([10, 20, 50, 100, 200, 500, 1000, 1361.0])
    points = {str(place): (each, 0.5, 0.03) for place, each in enumerate(seconds)}
    figure = detector_plots(points, {name: (counts, counts / 2000) for name in points})
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        labels = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        shown = [label.get_window_extent() for tick, label in labels if low <= tick <= high]
        assert len(shown) >= 3
        assert all(left.x1 < right.x0 for left, right in pairwise(shown))


def test_what_the_first_photo_of_a_shape_needs_is_not_timed() -> None:
    """What was compiled for a shape stays, and so does what was found for pixels, which may not be timed either."""
    compiled, remembered = set[tuple[int, ...]](), set[bytes]()

    class Compiled(Detector):
        def regions(self, image: Image) -> Proposals:
            found = super().regions(image)
            self.seconds["trunk"] += 100 * (image.shape not in compiled) + 5 * (image.tobytes() not in remembered)
            compiled.add(image.shape)
            remembered.add(image.tobytes())
            return found

    random = np.random.default_rng(0)
    images = [random.integers(0, 255, (4, width, 3)).astype(np.uint8) for width in (4, 5, 4)]
    seconds = time_stages([Compiled(Once(), Bright())], images)
    np.testing.assert_allclose(seconds[:, 0, 1], 5, atol=0.5)


def test_a_job_names_its_folders(voc: Path, tmp_path: Path) -> None:
    job = BenchJob(VocDataset(voc, "val"), 2, 0, tmp_path, ["a:b/c"], ["default"], {})
    assert (job.folder("a:b/c"), list(job.photos.image_ids)) == (tmp_path / "a-b-c", ["0", "1"])
    assert (job.protocol, job.crowd) == ("voc07", False)
