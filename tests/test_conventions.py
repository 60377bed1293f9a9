"""The conventions that cross the rooms, pinned on a whole detector with a GoogLeNet of random weights."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from classifier.crops import normalise_pixels
from classifier.googlenet import GoogLeNet
from classifier.placement import place
from classifier.regions import GoogLeNetRegions
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.preprocessing import CAFFE, TORCHVISION, Preprocessing
from detect.detector import Detector
from detect.networks.multibox import Normalise
from proposals.generators import build
from structures.boxes import Boxes, Floats, as_boxes
from structures.records import Image, Proposals

CLASSES = ("cat", "cup", "person")


class FixedBoxes:
    """Proposes the same boxes on every photo."""

    name = "fixed"
    parameters: Mapping[str, Any] = {}

    def __init__(self, boxes: Any) -> None:
        self.boxes = as_boxes(boxes)

    def __call__(self, image: Image) -> Proposals:
        scores = np.linspace(1, 0, len(self.boxes), dtype=np.float32)
        source = np.arange(len(self.boxes)) % 2
        return Proposals(self.boxes, scores, image.shape[:2], source.astype(np.uint8), ("odd", "even"))  # type: ignore[arg-type]


class FixedProbabilities:
    """Gives every box the probabilities of its row."""

    classes = CLASSES

    def __init__(self, rows: Any) -> None:
        self.rows = np.array(rows, np.float32).reshape(-1, len(CLASSES) + 1)

    def __call__(self, image: Image, boxes: Boxes) -> Floats:
        return self.rows[: len(boxes)]


@pytest.fixture(scope="module")
def googlenet() -> GoogLeNetRegions:
    torch.manual_seed(0)
    network = GoogLeNet(len(CLASSES) + 1, auxiliary=False)
    checkpoint = Checkpoint(network.state_dict(), CLASSES, Preprocessing(), task="regions")
    return GoogLeNetRegions(checkpoint, place(device="cpu", engine="torch", dtype="float32"))


def photo(height: int = 60, width: int = 80) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


APART = [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]]


def test_convention_labels_are_columns_and_background_is_never_one() -> None:
    rows = [[0.1, 0.2, 0.6, 0.1], [0, 0, 0, 1], [0.7, 0, 0, 0.3]]
    found = Detector(FixedBoxes(APART), FixedProbabilities(rows), score_floor=0.5)(photo())
    assert [CLASSES[label] for label in found.labels] == ["cat", "person"]
    assert found.boxes.tolist() == [APART[2], APART[0]]


def test_convention_ties_of_a_detector_keep_the_order_of_the_proposals() -> None:
    found = Detector(FixedBoxes(APART), FixedProbabilities([[0.5, 0, 0, 0.5]] * 3))(photo())
    assert found.boxes.tolist() == APART


def test_convention_who_proposed_a_box_stays_with_it() -> None:
    rows = [[0.5, 0, 0, 0.5], [0.9, 0, 0, 0.1], [0.7, 0, 0, 0.3]]
    found = Detector(FixedBoxes(APART), FixedProbabilities(rows))(photo())
    assert [found.source_names[source] for source in found.source] == ["even", "odd", "odd"]


def test_convention_a_detector_without_proposals_finds_nothing(googlenet: GoogLeNetRegions) -> None:
    found = Detector(FixedBoxes([]), googlenet)(photo())
    assert (found.boxes.shape, found.labels.shape, found.scores.shape) == ((0, 4), (0,), (0,))
    assert found.image_size == (60, 80)


def test_convention_region_probabilities_have_background_last_and_sum_to_one(googlenet: GoogLeNetRegions) -> None:
    for boxes in (as_boxes([]), as_boxes([[0, 0, 80, 60]]), as_boxes([[3, 4, 5, 6], [0.5, 0.5, 79.5, 59.5]])):
        rows = googlenet(photo(), boxes)
        assert rows.shape == (len(boxes), len(CLASSES) + 1)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)


def test_convention_a_photo_is_never_changed_and_may_be_read_only(googlenet: GoogLeNetRegions) -> None:
    image = photo()
    image.setflags(write=False)
    before = image.copy()
    Detector(build("selective-search", width=60), googlenet, max_boxes=3)(image)
    np.testing.assert_array_equal(image, before)


def test_convention_the_same_photo_and_settings_give_the_same_detections(googlenet: GoogLeNetRegions) -> None:
    first, second = (
        Detector(build("selective-search", width=60), googlenet, score_floor=0.0, max_boxes=5)(photo())
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.boxes, second.boxes)
    np.testing.assert_array_equal(first.scores, second.scores)


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (19, 19)])
def test_convention_the_whole_photo_is_proposed_and_judged_however_small(
    googlenet: GoogLeNetRegions, shape: tuple[int, int]
) -> None:
    found = Detector(build("selective-search"), googlenet, score_floor=0.0, nms_threshold=1.0)(
        np.zeros((*shape, 3), np.uint8)
    )
    assert found.boxes.tolist() == [[0, 0, shape[1], shape[0]]] * len(CLASSES)


def test_convention_detections_lie_inside_the_photo_and_are_best_first(googlenet: GoogLeNetRegions) -> None:
    found = Detector(build("selective-search", width=60), googlenet, score_floor=0.0, max_boxes=8)(photo())
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [80, 60, 80, 60]).all()
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("preprocessing", [CAFFE, TORCHVISION])
def test_convention_multibox_normalises_pixels_as_a_classifier_does(preprocessing: Preprocessing) -> None:
    pixels = torch.from_numpy(photo()).permute(2, 0, 1)[None]
    assert torch.equal(Normalise(preprocessing)(pixels.float()), normalise_pixels(pixels, preprocessing))


def test_settings_are_json_values_and_tell_detectors_apart(googlenet: GoogLeNetRegions) -> None:
    settings = Detector(build("selective-search"), googlenet).settings()
    assert json.loads(json.dumps(settings)) == settings
    assert settings != Detector(build("selective-search"), googlenet, score_floor=0.1).settings()
    assert settings != Detector(build("selective-search-1x"), googlenet).settings()


def test_non_contiguous_photos_are_fine(googlenet: GoogLeNetRegions) -> None:
    """A view such as a mirrored or a BGR-turned array has negative strides, which torch refuses if nobody cares."""
    image = photo()
    detector = Detector(FixedBoxes(APART), googlenet, score_floor=0.0)
    for view in (image[:, ::-1], image[..., ::-1], image.swapaxes(0, 1)):
        np.testing.assert_array_equal(detector(view).scores, detector(view.copy()).scores)
