"""The detector by hand: what reaches the classifier, what is suppressed, what is reported, and how it is loaded."""

import copy
import dataclasses
import inspect
import json
import pickle
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from classifier.googlenet import GoogLeNet
from classifier.placement import Placement, place
from classifier.regions import Ensemble, GoogLeNetRegions
from classifier.weights.checkpoint import Checkpoint, save_checkpoint
from classifier.weights.fitting import WeightsError
from classifier.weights.preprocessing import CAFFE
from detect import classifiers
from detect.detector import Detector
from detect.settings import DetectorSettings, SettingChanges
from detect.weights import weights_file
from proposals.baselines import Random
from structures.boxes import Boxes, Floats, as_boxes
from structures.errors import InputError
from structures.records import Image, Proposals

PHOTO = np.zeros((100, 200, 3), np.uint8)
BOXES = [[0, 0, 50, 50], [0, 0, 50, 40], [100, 0, 150, 50], [0, 0, 200, 100]]
ROWS = [[0.9, 0.05, 0.05], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.04, 0.01, 0.95]]


class Proposer:
    name = "by hand"
    parameters: Mapping[str, Any] = {"boxes": 4}

    def __init__(self, boxes: Any = BOXES, scores: Any = (1, 0.5, 0.25, 0)) -> None:
        self.boxes, self.scores = as_boxes(boxes), np.array(scores, np.float32)[: len(boxes)]

    def __call__(self, image: Image) -> Proposals:
        source = np.arange(len(self.boxes), dtype=np.uint8) % 2
        return Proposals(self.boxes, self.scores, image.shape[:2], source, ("trees", "learned"))  # type: ignore[arg-type]


class Answers:
    classes = ("cat", "dog")

    def __init__(self) -> None:
        self.seen: list[Boxes] = []

    def __call__(self, image: Image, boxes: Boxes) -> Floats:
        self.seen.append(boxes)
        return np.array(ROWS, np.float32).reshape(-1, 3)[: len(boxes)]


def detector(**options: Any) -> Detector:
    return Detector(Proposer(), Answers(), **options)


def test_detections_by_hand() -> None:
    found = detector(vote_threshold=None)(PHOTO)
    # The second box overlaps the first by 0.8: as a cat it goes, as a dog nothing better lies there.
    assert found.boxes.tolist() == [BOXES[0], BOXES[2], BOXES[1], BOXES[2]]
    assert found.labels.tolist() == [0, 1, 1, 0]
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.3, 0.2])
    assert found.image_size == (100, 200)


def test_boxes_around_a_detection_move_it_by_their_votes() -> None:
    found, still = detector(vote_power=1)(PHOTO), detector(vote_threshold=None)(PHOTO)
    assert [BOXES[0], BOXES[1]] == [[0, 0, 50, 50], [0, 0, 50, 40]]
    assert found.boxes[0].tolist() == pytest.approx([0, 0, 50, (0.9 * 50 + 0.6 * 40) / 1.5])
    assert found.boxes[[1, 3]].tolist() == [BOXES[2], BOXES[2]]  # alone
    for name in ("labels", "scores", "source"):
        assert getattr(found, name).tolist() == getattr(still, name).tolist()
    squared = detector(vote_power=2)(PHOTO)
    assert squared.boxes[0].tolist() == pytest.approx([0, 0, 50, (0.81 * 50 + 0.36 * 40) / 1.17])
    assert detector(vote_threshold=0.81)(PHOTO).boxes.tolist() == still.boxes.tolist()


def test_the_source_of_each_box_is_kept() -> None:
    found = detector()(PHOTO)
    assert [found.source_names[source] for source in found.source] == ["trees", "trees", "learned", "trees"]


def test_the_floor_the_threshold_and_the_limit() -> None:
    assert detector(score_floor=0.5)(PHOTO).scores.tolist() == pytest.approx([0.9, 0.7])
    assert detector(score_floor=0.001)(PHOTO).scores.min() == pytest.approx(0.01)
    assert len(detector(score_floor=1)(PHOTO)) == 0
    tolerant = detector(nms_threshold=0.8)(PHOTO)  # an IoU of the threshold itself does not suppress
    assert tolerant.scores.tolist() == pytest.approx([0.9, 0.7, 0.6, 0.3, 0.2, 0.05])
    assert detector(max_per_class=1)(PHOTO).scores.tolist() == pytest.approx([0.9, 0.7])


def test_only_the_classes_that_are_looked_for_are_found() -> None:
    found = detector(vote_threshold=None, only=["Dog"], score_floor=0.0)(PHOTO)
    every = detector(vote_threshold=None, score_floor=0.0)(PHOTO)
    assert set(found.labels.tolist()) == {1}
    assert found.scores.tolist() == every.scores[every.labels == 1].tolist()
    assert list(detector(vote_threshold=None, only="dog", score_floor=0.0)(PHOTO)) == list(found)
    assert "only" not in detector().settings()
    assert json.loads(json.dumps(detector(only=["dog"], class_agnostic=True).settings()))["only"] == ["dog"]
    with pytest.raises(ValueError, match=r"`only` dgo: the weights know no such class; did you mean 'dog'"):
        detector(only=["dgo"])


def test_better_detections_of_other_classes_suppress_too_if_asked_for() -> None:
    found = detector(vote_threshold=None, class_agnostic=True)(PHOTO)
    assert found.boxes.tolist() == [BOXES[0], BOXES[2]]
    assert found.labels.tolist() == [0, 1]


def test_only_the_first_boxes_are_classified() -> None:
    limited = detector(max_boxes=2)
    found = limited(PHOTO)
    assert limited.classify.seen[0].tolist() == BOXES[:2]  # type: ignore[attr-defined]
    assert found.scores.tolist() == pytest.approx([0.9, 0.3])
    assert detector(max_boxes=100)(PHOTO).boxes.shape == (4, 4)


def test_a_photo_without_proposals() -> None:
    empty = Detector(Proposer([]), Answers())
    found = empty(PHOTO)
    assert found.boxes.shape == (0, 4)
    assert found.labels.shape == found.scores.shape == found.source.shape == (0,)
    assert set(empty.seconds) == {"propose", "classify", "suppress"}


def test_probabilities_are_weighed_by_fit_if_scores_tell_it() -> None:
    weighed = detector(weigh_by_fit=True, score_floor=0.1)(PHOTO)
    assert weighed.scores.tolist() == pytest.approx([0.9, 0.7 * 0.25, 0.3 * 0.5])
    assert weighed.labels.tolist() == [0, 1, 1]
    telling = Proposer()
    telling.scores_tell_fit = True  # type: ignore[attr-defined]
    told = Detector(telling, Answers(), score_floor=0.1)
    assert told.settings()["weigh_by_fit"] is True
    assert told(PHOTO).scores.tolist() == weighed.scores.tolist()
    assert len(Detector(telling, Answers(), score_floor=0.1, weigh_by_fit=False)(PHOTO)) == 4
    assert detector().settings()["weigh_by_fit"] is False


def test_settings_are_json_and_hold_every_option() -> None:
    options = {"score_floor": 0.25, "nms_threshold": 0.5, "max_boxes": 7, "max_per_class": 3, "weigh_by_fit": True}
    options |= {"vote_threshold": 0.75, "vote_power": 2}
    settings = json.loads(json.dumps(detector(**options).settings()))
    proposals = {"name": "by hand", "boxes": 4}
    assert settings == {**options, "proposals": proposals, "classes": ["cat", "dog"], "exif": "apply"}
    assert json.loads(json.dumps(detector().settings()))["max_boxes"] is None


def test_settings_come_as_a_record_as_keywords_or_as_both() -> None:
    record = DetectorSettings(score_floor=0.25, max_boxes=7)
    assert Detector(Proposer(), Answers(), record).settings() == detector(score_floor=0.25, max_boxes=7).settings()
    both = Detector(Proposer(), Answers(), record, max_boxes=3)
    assert (both.options.score_floor, both.options.max_boxes) == (0.25, 3)
    assert record.max_boxes == 7
    with pytest.raises(TypeError, match="score_flor"):
        detector(score_flor=0.25)


def test_numbers_of_numpy_become_plain_ones() -> None:
    options = DetectorSettings(score_floor=np.float32(0.5), max_boxes=np.int64(7))  # type: ignore[arg-type]
    assert json.dumps([options.score_floor, options.max_boxes]) == "[0.5, 7]"


def test_every_setting_is_a_keyword_of_loading_with_the_same_default() -> None:
    fields = {each.name: each.default for each in dataclasses.fields(DetectorSettings)}
    keywords = {name: each.default for name, each in inspect.signature(Detector.load).parameters.items()}
    assert {name: keywords.get(name, "missing") for name in fields} == fields
    assert SettingChanges.__annotations__.keys() == fields.keys()
    assert all(f"\n            {name}: " in str(Detector.load.__doc__) for name in keywords)


def test_the_record_of_a_run_has_the_keys_that_it_always_had(weights: Path) -> None:
    """Else folders of results from earlier versions could not be gone on with."""
    loaded = Detector.load(weights, "random", **TORCH, mirrored=True, exif="ignore")
    settings = loaded.settings()
    assert {name: settings[name] for name in settings if name not in ("proposals", "classes")} == {
        **{"score_floor": 0.05, "nms_threshold": 0.3, "max_boxes": None, "max_per_class": 100, "weigh_by_fit": False},
        **{"vote_threshold": 0.5, "vote_power": 3.0, "mirrored": True, "exif": "ignore"},
    }
    assert settings["classes"] == ["cat", "dog"]
    assert Detector(loaded.propose, Ensemble([loaded.classify] * 2), loaded.options).settings() == settings


def test_the_seconds_of_each_stage_add_up_also_over_threads() -> None:
    timed = detector()
    timed(PHOTO)
    first = dict(timed.seconds)
    assert set(first) == {"propose", "classify", "suppress"}
    assert all(spent > 0 for spent in first.values())
    with ThreadPoolExecutor(3) as pool:
        proposals = list(pool.map(timed.regions, [PHOTO] * 20))
    assert timed.seconds["propose"] > first["propose"]
    assert timed.seconds["classify"] == first["classify"]
    timed.detect(PHOTO, proposals[0])
    assert timed.seconds["classify"] > first["classify"]
    json.dumps(timed.seconds)


def test_regions_of_another_photo_are_refused() -> None:
    model = detector()
    with pytest.raises(
        ValueError, match=r"proposals for a photo of \(100, 200\) pixels, but the photo has \(200, 100\)"
    ):
        model.detect(PHOTO.swapaxes(0, 1), model.regions(PHOTO))


@pytest.mark.parametrize(
    "options",
    [
        {"score_floor": 1.5},
        {"nms_threshold": -0.1},
        {"max_boxes": 0},
        {"max_per_class": 0},
        {"vote_threshold": 0},
        {"vote_power": 0},
        {"vote_power": float("inf")},
        {"score_floor": float("nan")},
        {"score_floor": "0.5"},
        {"max_boxes": 2.5},
        {"max_per_class": None},
        {"exif": "maybe"},
        {"class_agnostic": 1},
        {"only": ()},
    ],
)
def test_settings_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^`{next(iter(options))}` .* must be "):
        detector(**options)


def test_inputs_are_left_as_they_were() -> None:
    model, image = detector(weigh_by_fit=True), np.random.default_rng(0).integers(0, 256, (100, 200, 3), np.uint8)
    before = image.copy()
    boxes = model.propose.boxes.copy()  # type: ignore[attr-defined]
    model(image)
    assert np.array_equal(image, before)
    assert np.array_equal(model.propose.boxes, boxes)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = GoogLeNet(3).state_dict()
    return Checkpoint(state, ("cat", "dog"), replace(CAFFE, size=32, context=2), "paper", "regions")


@pytest.fixture(scope="module")
def weights(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_checkpoint(checkpoint, path)
    return path


TORCH: Any = {"device": "cpu", "engine": "torch", "dtype": "float32"}


def test_loading_by_name_and_path(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = Detector.load(weights, "random", **TORCH, score_floor=0.0, max_boxes=5, batch_size=3)
    found = loaded(PHOTO)
    assert loaded.classes == ("cat", "dog")
    assert {tuple(box) for box in found.boxes.tolist()} <= {tuple(b) for b in loaded.propose(PHOTO).boxes[:5].tolist()}
    assert len(found) >= 2  # the best box of each class stays in any case
    assert loaded.settings()["proposals"]["name"] == "random"
    assert loaded.settings()["max_boxes"] == 5
    assert loaded.classify.engine.batch_size == 3  # type: ignore[attr-defined]
    monkeypatch.setattr("detect.weights.SHIPPED", weights.parent)
    by_name = Detector.load("w", "random", **TORCH, score_floor=0.0, max_boxes=5, batch_size=3)
    assert np.array_equal(by_name(PHOTO).scores, found.scores)
    assert np.array_equal(by_name(PHOTO).boxes, found.boxes)


def test_the_generator_runs_where_the_classifier_does(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def load(name: str, placement: Placement, **options: Any) -> Random:
        asked.update(name=name, placement=placement, **options)
        return Random()

    monkeypatch.setattr("detect.generators.load_proposals", load)
    Detector.load(weights, "multibox", **TORCH, score_floor=0.5, batch_size=3)
    assert asked == {"name": "multibox", "placement": place(**TORCH), "shared": None}


def test_names_come_before_files_and_paths_are_files(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detect.weights.SHIPPED", weights.parent)
    monkeypatch.chdir(tmp_path)
    for name in ("w", "w.safetensors"):
        (tmp_path / name).write_bytes(b"another file of that name")
    assert weights_file("w") == weights
    assert classifiers.load_checkpoint("w").classes == ("cat", "dog")
    for name in ("w.safetensors", "./w", "./w.safetensors", str(tmp_path / "w")):
        assert weights_file(name).resolve().parent == tmp_path
        with pytest.raises(WeightsError):
            classifiers.load_checkpoint(name)


def test_several_weights_make_an_ensemble(weights: Path) -> None:
    loaded = Detector.load([weights, str(weights)], "random", **TORCH, mirrored=True)
    assert isinstance(loaded.classify, Ensemble)
    assert len(loaded.classify.members) == 2
    assert all(isinstance(member, GoogLeNetRegions) and member.mirrored for member in loaded.classify.members)
    assert isinstance(Detector.load([weights], "random", **TORCH).classify, GoogLeNetRegions)


def test_weights_that_cannot_be_used_are_named(weights: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    other, torn, short = tmp_path / "other.safetensors", tmp_path / "torn.safetensors", tmp_path / "short.safetensors"
    save_checkpoint(replace(checkpoint, task="images", classes=("a", "b", "c")), other)
    torn.write_bytes(weights.read_bytes()[:1000])
    save_checkpoint(replace(checkpoint, classes=("cat", "dog", "cow")), short)
    for path, complaint in [
        (other, r"`weights` .*other\.safetensors: these are for images, a region classifier is needed"),
        (torn, r"torn\.safetensors: not a readable safetensors file"),
        (short, r"short\.safetensors: .* of wrong shape"),
        (tmp_path / "none", r"`weights` .*none: no such file, and no built-in weights of that name"),
        (tmp_path, r"no such file"),
    ]:
        with pytest.raises(WeightsError, match=complaint):
            Detector.load(path, "random", **TORCH)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"proposals": "no such"}, "unknown proposal generator 'no such'"),
        ({"device": "cuda:77"}, "`device` 'cuda:77' cannot be used here"),
        ({"engine": "abacus"}, "`engine` 'abacus' is not one of"),
        ({"dtype": "float8"}, "`dtype` 'float8' is not one of"),
        ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1, got 0"),
        ({"batch_size": 2.5}, "`batch_size` must be a whole number of at least 1, got 2.5"),
        ({"score_floor": 7}, "`score_floor` 7 must be from 0 to 1"),
        ({"features": "crop"}, "`features` 'crop' is not one of auto, both, crops, shared; did you mean 'crops'?"),
        ({"features": None}, "`features` None is not one of auto"),
        ({"dtype": None}, "`dtype` None is not one of auto"),
        ({"proposals": None}, "`proposals` None must be the name of a generator"),
        ({"weights": 5}, "`weights` 5 must be a name, a file, or a list of them"),
        ({"weights": ["shared", None]}, "`weights` .* must be a name, a file, or a list of them"),
        ({"only": 7}, "`only` 7 must be names of classes, or None"),
        ({"only": [7]}, r"`only` \(7,\) must be names of classes, or None"),
        ({"only": "dgo"}, "`only` dgo: the weights know no such class"),
    ],
)
def test_options_that_cannot_be_used_are_named(weights: Path, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        Detector.load(**{"weights": weights, "proposals": "random", **TORCH, **options})


def test_a_detector_is_not_pickled_or_copied_but_its_results_are() -> None:
    for attempt in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="load one in each process"):
            attempt(detector())
    found = detector()(PHOTO)
    for again in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        assert list(again) == list(found)
        assert again.draw().size == (200, 100)
