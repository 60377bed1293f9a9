"""Judging a training while it runs: when, what is kept, what a killed run keeps, and that the figure is rcnn eval's."""

import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from rich.console import Console

from classifier.placement import place
from classifier.regions import GoogLeNetRegions
from classifier.training import NonFiniteLoss
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.fitting import WeightsError
from classifier.weights.last_layer import for_regions
from detect.detector import Detector
from detect.training.data import open_dataset, open_validation, summary, unreadable
from detect.training.multibox_measure import MultiBoxMeasure
from detect.training.progress import read_curve
from detect.training.region_measure import RegionMeasure
from detect.training.validation import Validation
from eval.coco import CocoDataset
from eval.ground_truth import has_crowds
from eval.protocols import voc07
from eval.selection import Selection
from eval.voc import VocDataset
from proposals.baselines import Random
from proposals.ranking import Ranked
from structures.boxes import as_boxes
from structures.images import read_image
from structures.records import Detections
from tests.shapes import SIDE, random_start, write_coco, write_voc

PLAIN = place(device="cpu", engine="torch", dtype="float32")
NOTHING = Detections(as_boxes([]), np.zeros(0, np.int64), np.zeros(0, np.float32), (SIDE, SIDE))
SCORES = {3: 0.5, 6: 0.75, 8: 0.75, 9: 0.25}  # by step


class Noted:
    """Stands for a training: weights that know their step, and a record of who was asked what."""

    def __init__(self, work: Path, scores: dict[int, float] = SCORES, **changes: Any) -> None:
        self.asked: list[int] = []
        self.said: list[str] = []
        options: dict[str, Any] = {"every": 3, "steps": 8, "about": {"photos": 4}} | changes
        self.validation = Validation(
            work,
            "mAP",
            partial(self._measure, scores),
            with_origin=lambda weights: replace(weights, training={**weights.training, "by": "me"}),
            tell=lambda words, seconds: self.said.append(words),
            **options,
        )

    def _measure(self, scores: dict[int, float], weights: Checkpoint) -> float:
        self.asked.append(int(weights.state["step"]))
        return scores[self.asked[-1]]

    def run(self, first: int, last: int) -> None:
        for step in range(first, last + 1):
            self.validation(step, partial(at, step))


def at(step: int, value: float = 0.0) -> Checkpoint:
    return Checkpoint({"step": torch.tensor(step), "value": torch.tensor(value)}, ("a",), task="multibox")


def test_weights_are_judged_on_the_schedule_and_at_the_end_and_the_best_are_kept(tmp_path: Path) -> None:
    """The first of two equal ones is the best."""
    training = Noted(tmp_path)
    training.run(1, 8)
    best, last = training.validation.finish(at(8))
    assert training.asked == [3, 6, 8]
    assert best.state["step"] == 6
    record = {"figure": "mAP", "photos": 4}
    assert best.training == {"by": "me", "validation": {"step": 6, "value": 0.75, **record}}
    assert last.state["step"] == 8
    assert last.training == {"by": "me", "validation": {"step": 8, "value": 0.75, **record}}
    assert [row[:2] for row in read_curve(tmp_path / "val.csv")] == [["3", "0.5"], ["6", "0.75"], ["8", "0.75"]]
    assert (tmp_path / "val.csv").read_text().startswith("step,mAP,seconds")
    assert training.said[0] == "mAP 50.00 after 3"
    assert training.said[2] == "mAP 75.00 (best 75.00 at 6) after 8"


@pytest.mark.parametrize("killed_after", [3, 4, 6, 7])
def test_a_killed_run_goes_on_with_the_right_best(tmp_path: Path, killed_after: int) -> None:
    """The state on disk is of step 2: what came after it is judged again."""
    (tmp_path / "state.pt").touch()
    Noted(tmp_path).run(1, killed_after)
    again = Noted(tmp_path)
    again.run(3, 8)
    best, _ = again.validation.finish(at(8))
    assert again.asked == [3, 6, 8]
    assert best.state["step"] == 6
    assert [int(row[0]) for row in read_curve(tmp_path / "val.csv")] == [3, 6, 8]


def test_what_a_finished_run_kept_is_its_result_again(tmp_path: Path) -> None:
    (tmp_path / "state.pt").touch()
    Noted(tmp_path).run(1, 8)
    again = Noted(tmp_path)
    best, last = again.validation.finish(at(8))
    assert again.asked == []
    assert (best.training["validation"]["step"], last.training["validation"]["value"]) == (6, 0.75)


def test_a_training_that_was_finished_without_validation_is_judged_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "state.pt").touch()
    training = Noted(tmp_path)
    best, last = training.validation.finish(at(8))
    assert training.asked == [8]
    assert best.state["step"] == last.state["step"] == 8


def test_a_new_training_in_the_folder_forgets_what_the_old_one_scored(tmp_path: Path) -> None:
    Noted(tmp_path, {3: 1.0}).run(1, 5)
    training = Noted(tmp_path, about={"photos": 5})
    training.run(1, 8)
    best, _ = training.validation.finish(at(8))
    assert best.training["validation"]["value"] == 0.75
    assert [int(row[0]) for row in read_curve(tmp_path / "val.csv")] == [3, 6, 8]


def test_scores_on_other_photos_are_not_compared(tmp_path: Path) -> None:
    (tmp_path / "state.pt").touch()
    Noted(tmp_path)
    with pytest.raises(WeightsError, match=r"val\.json: begun with other photos; name another `work`"):
        Noted(tmp_path, about={"photos": 5})


def test_a_score_of_nothing_is_better_than_none(tmp_path: Path) -> None:
    training = Noted(tmp_path, {8: 0.0}, every=100)
    training.run(1, 8)
    assert training.validation.finish(at(8))[0].training["validation"]["value"] == 0.0


def test_weights_that_are_lost_are_not_judged(tmp_path: Path) -> None:
    training = Noted(tmp_path)
    with pytest.raises(NonFiniteLoss, match="weights are not finite after step 3"):
        training.validation(3, partial(at, 3, float("nan")))
    assert training.asked == []
    assert not (tmp_path / "best.safetensors").exists()


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("voc")
    write_voc(root, "train", range(4))
    write_voc(root, "val", range(4, 12))
    write_coco(root / "val.json", range(4, 12))
    return root


@pytest.fixture(scope="module")
def weights() -> Checkpoint:
    return for_regions(random_start(size=32, context=2), ("disc", "square"))


def measure_of(dataset: Any, folder: Path, generator: Any, protocol: str = "voc07") -> RegionMeasure:
    measure = RegionMeasure(dataset, generator, folder=folder, protocol=protocol, placement=PLAIN)
    measure.prepare(Console(quiet=True))
    return measure


def fit(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) / image.shape[1], np.float32)


@pytest.mark.parametrize("ranked", [False, True])
def test_the_figure_is_that_of_the_detector_and_of_eval(
    voc: Path, weights: Checkpoint, tmp_path: Path, ranked: bool
) -> None:
    """Also where scores tell how well a box fits: kept proposals weigh classes as the generator's own do."""
    val = VocDataset(voc, "val")
    generator = Ranked(Random(count=40), fit, {"by": "width"}) if ranked else Random(count=40)
    found = measure_of(val, tmp_path, generator)(weights)

    detector = Detector(generator, GoogLeNetRegions(weights, PLAIN), score_floor=0.001)
    detections = [detector(read_image(val.image_path(name))) for name in val.image_ids]
    expected = dict(voc07(list(val), detections, val.classes))["mAP"]
    assert found == pytest.approx(expected, abs=1e-6)
    assert 0 < expected < 1


def test_proposals_are_made_once_and_kept(voc: Path, weights: Checkpoint, tmp_path: Path) -> None:
    calls = []

    class Counting(Random):
        def __call__(self, image: Any) -> Any:
            calls.append(image.shape)
            return super().__call__(image)

    val = VocDataset(voc, "val")
    for _ in range(2):
        measure = measure_of(val, tmp_path, Counting(count=5))
        assert measure(weights) == measure(weights)
    assert len(calls) == 8
    assert (tmp_path / "manifest.json").exists()


def test_a_photo_that_cannot_be_read_counts_with_its_objects_missed(weights: Checkpoint, tmp_path: Path) -> None:
    write_voc(tmp_path, "val", range(2))
    dataset, generator = VocDataset(tmp_path, "val"), Random(count=20)
    seen = Detector(generator, GoogLeNetRegions(weights, PLAIN), score_floor=0.001)
    found = [seen(read_image(dataset.image_path(name))) for name in dataset.image_ids]
    expected = [dict(voc07(list(dataset), part, dataset.classes))["mAP"] for part in (found, [found[0], NOTHING])]
    assert expected[0] != expected[1]
    (tmp_path / "JPEGImages" / "001.png").write_bytes(b"no picture")
    assert measure_of(dataset, tmp_path / "a", generator)(weights) == pytest.approx(expected[1], abs=1e-6)
    (tmp_path / "JPEGImages" / "000.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"`val_proposals`: the generator failed on all 2 .*000\.png: not"):
        measure_of(dataset, tmp_path / "b", generator)


def test_photos_to_validate_on_are_looked_at_before_anything_is_trained(tmp_path: Path) -> None:
    """A wrong folder would make every judgement 0, and the first weights the best."""
    write_voc(tmp_path, "train", range(3))
    write_voc(tmp_path, "val", range(3, 6))
    dataset = open_dataset([tmp_path])
    open_val: Callable[[], Selection | None] = partial(
        open_validation, dataset, ground_truth=[tmp_path], val="val", val_ground_truth=None, val_images=None
    )
    PIL.Image.new("RGB", (20, 10)).save(tmp_path / "JPEGImages" / "003.png")
    with pytest.raises(ValueError, match=r"photos to validate on: .*003\.png: is 20 x 10 pixels, but"):
        open_val()
    (tmp_path / "JPEGImages" / "003.png").unlink()
    judged = open_val()
    assert judged is not None
    assert "003.jpg: no such file" in " ".join(unreadable(judged).values())
    console = Console(file=io.StringIO(), width=500)
    MultiBoxMeasure(judged, PLAIN).prepare(console)
    assert "not validated on: " in console.file.getvalue()  # type: ignore[attr-defined]
    for name in ("004.png", "005.png"):
        (tmp_path / "JPEGImages" / name).write_text("no picture")
    with pytest.raises(ValueError, match=r"none of the 3 photos to validate on can be read: .*003\.jpg: no such file"):
        open_val()


def test_what_there_is_to_learn_from_is_listed_with_what_looks_wrong(tmp_path: Path) -> None:
    write_voc(tmp_path, "train", range(4))
    write_voc(tmp_path, "val", range(2, 6))
    annotation = tmp_path / "Annotations" / "000.xml"
    annotation.write_text(annotation.read_text().replace("<xmax>", "<xmax>9999"))
    dataset = open_dataset([tmp_path])
    lines = summary(
        dataset, open_validation(dataset, ground_truth=[tmp_path], val="val", val_ground_truth=None, val_images=None)
    )
    counts = Counter(dataset.classes[label] for truth in dataset for label in truth.labels)
    assert lines[0].startswith(f"4 photos with {counts.total()} objects: ")
    assert all(f"{name} {count}" in lines[0] for name, count in counts.items())
    assert lines[-1] == "warning: 2 of 4 validation photos are also learned from; the score will be too high"
    assert any("beyond" in line or "outside" in line for line in lines[1:-1])
    write_coco(tmp_path / "train.json", range(4))
    content = json.loads((tmp_path / "train.json").read_text())
    gone = content["categories"][0]
    content["annotations"] = [row for row in content["annotations"] if row["category_id"] != gone["id"]]
    (tmp_path / "train.json").write_text(json.dumps(content))
    rest = CocoDataset(tmp_path / "train.json", tmp_path / "JPEGImages")
    assert f"warning: no object of {gone['name']}, which will not be learned" in summary(rest, None)


def test_photos_with_nothing_to_find_are_refused(tmp_path: Path) -> None:
    """Neither mAP nor recall would be a number, and no weights the best."""
    write_voc(tmp_path, "train", range(3))
    write_voc(tmp_path, "val", range(3, 6))
    for path in (tmp_path / "Annotations").glob("00[345].xml"):
        path.write_text(path.read_text().replace("<difficult>0<", "<difficult>1<"))
    dataset = open_dataset([tmp_path])
    with pytest.raises(ValueError, match="no object that counts on the 3 photos to validate on"):
        open_validation(dataset, ground_truth=[tmp_path], val="val", val_ground_truth=None, val_images=None)


def test_coco_photos_are_judged_by_coco(voc: Path, weights: Checkpoint, tmp_path: Path) -> None:
    measure = measure_of(CocoDataset(voc / "val.json", voc / "JPEGImages"), tmp_path, Random(count=60), "coco")
    assert measure.figure == "AP"
    assert measure.about()["protocol"] == "coco"
    assert 0 <= measure(weights) < 0.5


@pytest.mark.parametrize(("protocol", "expected"), [("coco", 1.0), ("voc07", 0.5)])
def test_a_box_in_a_crowd_is_no_false_alarm_for_coco(
    weights: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, expected: float
) -> None:
    """A disc is found, and a quarter of a crowd of discs before it, which VOC would take for a false alarm."""
    crowd, disc = [0.0, 0, 80, 80], [90.0, 90, 96, 96]
    content = {"images": [{"id": 1, "file_name": "a.png", "width": SIDE, "height": SIDE}]}
    content["categories"] = [{"id": 1, "name": "disc"}, {"id": 2, "name": "square"}]
    rows = [(1, crowd, 1), (2, disc, 0)]
    content["annotations"] = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": c}
        for n, (x1, y1, x2, y2), c in rows
    ]
    (tmp_path / "a.json").write_text(json.dumps(content))
    labels, scores = np.zeros(2, np.int64), np.array([0.9, 0.8], np.float32)
    found = Detections(as_boxes([[0, 0, 40, 40], disc]), labels, scores, (SIDE, SIDE))
    dataset = CocoDataset(tmp_path / "a.json", tmp_path)
    measure = RegionMeasure(dataset, Random(), folder=tmp_path, protocol=protocol, placement=PLAIN)
    monkeypatch.setattr("detect.training.region_measure.detect_all", lambda *ignored: {"a.png": found})
    monkeypatch.setattr("detect.training.region_measure.StoredProposals", lambda folder: Random())
    assert measure(weights) == pytest.approx(expected)


def test_photos_of_several_formats_are_learned_from_together(voc: Path) -> None:
    dataset = open_dataset([voc, voc / "val.json"], images=voc / "JPEGImages")
    assert len(dataset) == 12
    assert list(dataset.image_ids[3:5]) == ["./003", "val.json/004.png"]
    judged = open_validation(dataset, ground_truth=[voc, voc / "val.json"], val="val")  # a list of the folder alone
    assert judged is not None
    assert len(judged) == 8
    assert (has_crowds(dataset), has_crowds(judged)) == (True, False)
    with pytest.raises(ValueError, match="is named twice"):
        open_dataset([voc, voc])


def test_photos_to_validate_on_are_named_by_one_option(voc: Path) -> None:
    learned = open_dataset([voc], classes=["square"])
    nothing: dict[str, Any] = {"ground_truth": [voc], "val": None, "val_ground_truth": None, "val_images": None}
    opened: Callable[..., Selection | None] = partial(open_validation, learned)
    assert opened(**nothing) is None
    val = opened(**{**nothing, "val": "val", "photos": 3})
    assert val is not None
    assert (len(val), val.classes) == (3, ("square",))
    again = opened(**{**nothing, "ground_truth": [voc.parent, voc], "val": "val"})  # the first has no such list
    assert again is not None
    assert len(again) == 8
    coco = opened(**{**nothing, "val_ground_truth": voc / "val.json", "val_images": voc / "JPEGImages"})
    assert coco is not None
    assert (len(coco), coco.classes) == (8, ("square",))
    for changes, complaint in [
        (
            {"val": "val", "val_ground_truth": voc / "val.json"},
            r"on \(.*val\.json\): .*lists, so `val` 'val' has",
        ),
        ({"val_ground_truth": voc / "val.json"}, "none of the 8 photos to validate on can be read"),
        ({"val_images": voc}, "`val_images` is the folder of `val_ground_truth`"),
        ({"val": "nights"}, "no such image list"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            opened(**{**nothing, **changes})
