"""Whole photos with several classes: what is learned, what counts, the classifier that comes of it, its figures."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier.googlenet import GoogLeNet
from classifier.images import ImageClassifier
from classifier.placement import place
from classifier.weights.checkpoint import Checkpoint, save_checkpoint
from classifier.weights.fitting import WeightsError
from classifier.weights.on_trunk import photo_classifier
from classifier.whole_photos import (
    ABSENT,
    PRESENT,
    UNCLEAR,
    fit_layer,
    photo_features,
    photo_layer,
    presence,
    with_photo_layer,
)
from detect.runs.classify import load_image_classifier, score_annotated
from eval.classification import presence_precision
from eval.voc import VocDataset
from structures.boxes import as_boxes
from structures.errors import InputError
from structures.records import GroundTruth
from tests.shapes import write_voc

TORCH = place(device="cpu", engine="torch", dtype="float32")


@pytest.fixture(scope="module")
def weights() -> Checkpoint:
    """Shared weights as far as their trunk goes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = GoogLeNet(1).state_dict()
    state = {f"trunk.{name}": value for name, value in trunk.items() if not name.startswith("fc.")}
    return Checkpoint(state, ("cat", "dog"), task="shared")


def truth(labels: list[int], ignore: list[bool]) -> GroundTruth:
    boxes = as_boxes([[0, 0, 9, 9]] * len(labels))
    area = np.full(len(labels), 81, np.float32)
    return GroundTruth("a", boxes, np.array(labels, np.int64), np.array(ignore, bool), area, (20, 30))


def test_presence_of_plain_and_ignored_objects() -> None:
    assert presence(truth([1, 1, 2], [False, True, True]), 4).tolist() == [ABSENT, PRESENT, UNCLEAR, ABSENT]
    assert presence(truth([], []), 2).tolist() == [ABSENT, ABSENT]


def test_the_layer_tells_apart_what_can_be_told_apart() -> None:
    rng = np.random.default_rng(0)
    present = rng.integers(0, 2, (200, 3)).astype(np.int8)
    features = (rng.normal(0, 0.1, (200, 5)) + present @ rng.normal(0, 1, (3, 5)) + 7).astype(np.float32)
    weight, bias = fit_layer(features, present, decay=1e-4)
    logits = torch.from_numpy(features) @ weight.T + bias
    assert ((logits > 0).numpy() == present).mean() > 0.98


def test_what_is_unclear_does_not_count() -> None:
    features = np.float32([[0], [1], [2], [3]])
    present = np.array([[0], [0], [1], [1]], np.int8)
    more, unclear = np.vstack([features, [[50]]]).astype(np.float32), np.vstack([present, [[UNCLEAR]]]).astype(np.int8)
    # The mean is over all rows: five instead of four make the decay count more.
    weight, bias = fit_layer(more, unclear, decay=0.08)
    expected = fit_layer(features, present, decay=0.1)
    torch.testing.assert_close(weight, expected[0], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(bias, expected[1], atol=1e-4, rtol=1e-3)


def test_the_solution_has_no_slope() -> None:
    rng = np.random.default_rng(1)
    features, present = rng.normal(3, 1, (40, 4)).astype(np.float32), rng.integers(0, 2, (40, 2)).astype(np.int8)
    weight, bias = (each.double().requires_grad_() for each in fit_layer(features, present, decay=0.01))
    logits = torch.from_numpy(features).double() @ weight.T + bias
    wrong = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(present).double())
    (2 * wrong + 0.01 * weight.square().sum()).backward()  # two classes: the loss sums over them
    for each in (weight, bias):
        assert each.grad is not None
        assert each.grad.abs().max() < 1e-4


def test_no_photo_to_learn_from() -> None:
    with pytest.raises(InputError, match="no photo"):
        fit_layer(np.zeros((0, 4), np.float32), np.zeros((0, 2), np.int8))


def test_weights_go_round_and_make_a_classifier(weights: Checkpoint, tmp_path: Path) -> None:
    photos = [np.random.default_rng(seed).integers(0, 256, (60, 80, 3), np.uint8) for seed in range(2)]
    layered = photo_layer(weights, photos, [np.array([1, 0], np.int8), np.array([0, 1], np.int8)], TORCH)
    save_checkpoint(layered, tmp_path / "net.safetensors", dtype=torch.float32)
    model = load_image_classifier([str(tmp_path / "net.safetensors")], crops=1, device="cpu", dtype="float32")
    assert model.several
    features = np.concatenate(list(photo_features(weights, photos, TORCH)))[::2]
    weight, bias = (layered.state[f"photos.{name}"].numpy() for name in ("weight", "bias"))
    expected = 1 / (1 + np.exp(-(features @ weight.T + bias)))
    np.testing.assert_allclose(model.many(photos), expected, atol=1e-4)


def test_weights_without_the_layer(weights: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no layer that classifies whole photos"):
        photo_classifier(weights)
    save_checkpoint(weights, tmp_path / "net.safetensors")
    with pytest.raises(WeightsError, match=r"net\.safetensors: .*no layer that classifies whole photos"):
        load_image_classifier([str(tmp_path / "net.safetensors")], crops=1)


def test_one_answer_and_several_do_not_mix(weights: Checkpoint) -> None:
    several = photo_classifier(with_photo_layer(weights, torch.zeros(2, 1024), torch.zeros(2)))
    with pytest.raises(WeightsError, match="either all networks or none"):
        ImageClassifier([several, replace(several, task="images")], placement=TORCH)


def test_precision_by_hand() -> None:
    rows = np.float32([[0.9, 0.1], [0.8, 0.1], [0.7, 0.1], [0.6, 0.1]])
    present = np.array([[-1, 0], [1, 0], [0, 0], [1, 0]], np.int8)
    scores = presence_precision(rows, present, ["cat", "dog"])
    assert scores["mAP (all points)"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["cat"] == scores["mAP (voc07)"] == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert np.isnan(scores["dog"])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_precision_does_not_depend_on_photos_that_are_unclear(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, present = rng.random((12, 2)).astype(np.float32), rng.integers(-1, 2, (12, 2)).astype(np.int8)
    moved = np.where(present < 0, rng.random((12, 2)), rows).astype(np.float32)
    first, second = (presence_precision(each, present, ["a", "b"]) for each in (rows, moved))
    np.testing.assert_equal(first, second)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"1 class$"):
        presence_precision(np.zeros((2, 2), np.float32), np.zeros((2, 2), np.int8), ["cat"])
    with pytest.raises(InputError, match="not finite"):
        presence_precision(np.float32([[np.nan]]), np.zeros((1, 1), np.int8), ["cat"])


def test_annotated_photos_are_judged_and_bad_ones_counted(weights: Checkpoint, tmp_path: Path) -> None:
    write_voc(tmp_path, "val", range(3))
    dataset = VocDataset(tmp_path, "val")
    dataset.image_path(dataset.image_ids[1]).write_bytes(b"no photo")
    classes = tuple(dataset.classes)
    layer = torch.zeros(len(classes), 1024), torch.zeros(len(classes))
    layered = with_photo_layer(replace(weights, classes=classes), *layer)
    result = score_annotated(ImageClassifier([photo_classifier(layered)], placement=TORCH), dataset)
    assert (result.photos, len(result.skipped)) == (2, 1)
    assert set(result.scores) == {"mAP (voc07)", "mAP (all points)", *dataset.classes}


def test_the_command_judges_the_photos_of_a_split(
    rcnn: Callable[..., int], weights: Checkpoint, tmp_path: Path
) -> None:
    write_voc(tmp_path, "few", range(2))
    classes = tuple(VocDataset(tmp_path, "few").classes)
    layer = torch.zeros(len(classes), 1024), torch.zeros(len(classes))
    save_checkpoint(with_photo_layer(replace(weights, classes=classes), *layer), tmp_path / "net.safetensors")
    files = ["--json", tmp_path / "scores.json", "--csv", tmp_path / "scores.csv"]
    words = ["eval", "classification", "--weights", tmp_path / "net.safetensors", "--engine", "torch", *files]
    assert rcnn(*words, "--ground-truth", tmp_path, "--split", "few") == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["photos"], scores["ground_truth"], scores["split"]) == (2, str(tmp_path), "few")
    assert f"classification,mAP (voc07),value,{scores['mAP (voc07)']:.6g}\n" in (tmp_path / "scores.csv").read_text()
    assert rcnn(*words) == 2  # neither annotated photos nor folders
