"""One trunk for shared features and crops: the layer for crops as a GoogLeNet, its classes, weights that do not fit."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from classifier.region_columns import PART_INPUTS, Columns, with_columns, without_columns
from classifier.weights.checkpoint import Checkpoint, save_checkpoint
from classifier.weights.fitting import WeightsError
from classifier.weights.on_trunk import classifies_crops, crop_classifier, crop_columns
from detect.networks.shared import from_checkpoint
from tests.networks import make, make_shared

OLD = ("cat", "dog", "cow")
NEW = Columns(("zebra",), torch.ones((1, PART_INPUTS)), torch.ones(1))


@pytest.fixture(scope="module")
def weights() -> Checkpoint:
    return make_shared(OLD, crops=True)


def test_the_layer_makes_a_googlenet_of_the_trunk(weights: Checkpoint) -> None:
    crops = crop_classifier(weights)
    assert (crops.task, crops.classes, crop_columns(weights)) == ("regions", OLD, 4)
    network = crops.network()
    assert torch.equal(network.fc.weight, weights.state["crops.weight"])
    shared = from_checkpoint(weights)
    pixels = torch.rand((1, 3, 64, 96)) * 255
    with torch.inference_mode():
        there = shared.stem(pixels, "inception5b")[-1][:, :, shared.offset :: 2, shared.offset :: 2]
        torch.testing.assert_close(network.trunk(shared.normalise(pixels)), there, atol=1e-4, rtol=1e-4)


def test_it_begins_as_the_mean_of_the_parts_and_stays_once_it_is_there() -> None:
    network = from_checkpoint(make_shared(OLD))
    network.begin_crops()
    assert network.crops is not None
    features = torch.rand((2, 1024, 3, 3))
    parts = network.regions.part_logits(features).mean(dim=(2, 3)).reshape(2, 4, 9).mean(dim=2)
    torch.testing.assert_close(network.crops(features.mean(dim=(2, 3))), parts, atol=1e-4, rtol=1e-4)
    nn.init.ones_(network.crops.weight)
    network.begin_crops()
    assert (network.crops.weight == 1).all()
    network.crops = nn.Linear(1024, 3)  # of fewer classes
    network.begin_crops()
    assert network.crops.out_features == 4


def test_new_classes_leave_the_layer_to_the_old_ones(weights: Checkpoint) -> None:
    more = with_columns(weights, NEW)
    assert more.classes == (*OLD, "zebra")
    assert crop_classifier(more).classes == OLD
    assert from_checkpoint(more).crops is not None
    assert not classifies_crops(with_columns(weights, NEW, keep=False))


def test_classes_that_go_take_their_columns_along(weights: Checkpoint) -> None:
    rows = weights.state["crops.weight"]
    fewer = crop_classifier(without_columns(with_columns(weights, NEW), ["dog", "zebra"]))
    assert fewer.classes == ("cat", "cow")
    assert torch.equal(fewer.state["fc.weight"], rows[[0, 2, 3]])
    assert crop_classifier(without_columns(with_columns(weights, NEW), ["cat", "dog"])).classes == ("cow",)
    assert not classifies_crops(without_columns(with_columns(weights, NEW), OLD))


def test_weights_that_do_not_fit_are_refused(weights: Checkpoint) -> None:
    with pytest.raises(WeightsError, match="no layer that classifies crops"):
        crop_classifier(make_shared(OLD))
    with pytest.raises(WeightsError, match="for regions, and have no layer"):
        crop_classifier(replace(weights, task="regions"))
    for shape in ((5, 1024), (1, 1024), (4,)):
        state = {**weights.state, "crops.weight": torch.zeros(shape)}
        for reads in (crop_classifier, from_checkpoint):
            with pytest.raises(WeightsError, match=r"crops\.weight has the shape"):
                reads(replace(weights, state=state))
    with pytest.raises(WeightsError, match=r"fc\.weight"):
        crop_classifier(replace(weights, state={**weights.state, "crops.weight": torch.zeros((4, 10))}))


def test_the_command_says_how_many_classes_are_known_on_crops(
    weights: Checkpoint, tmp_path: Path, rcnn: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = {"both": with_columns(weights, NEW), "shared": make_shared(OLD), "crops": make()}
    counts = []
    for name, each in kinds.items():
        save_checkpoint(each, tmp_path / f"{name}.safetensors")
        assert rcnn("weights", "show", tmp_path / f"{name}.safetensors", "--json") == 0
        counts.append(json.loads(capsys.readouterr().out)["classes on crops"])
    assert counts == [len(OLD), 0, len(make().classes)]
    odd = replace(weights, state={**weights.state, "crops.weight": torch.zeros((9, 1024))})
    save_checkpoint(odd, tmp_path / "odd.safetensors")
    assert rcnn("weights", "show", tmp_path / "odd.safetensors") == 2
    assert "odd.safetensors: crops.weight has the shape" in " ".join(capsys.readouterr().err.split())
