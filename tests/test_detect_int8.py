"""Shared features in 8 bits: every layer has its point, ranges survive the file, odd ones are named."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn

from classifier.placement import DType, place
from classifier.protocol import engines_of
from classifier.region_columns import PART_INPUTS, Columns, with_columns
from classifier.rounding import RoundedConv2d
from classifier.weights.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from classifier.weights.fitting import WeightsError
from detect.classifiers import load_checkpoint, load_classifier
from detect.generators import load_proposals
from detect.networks.int8 import NOT_ROUNDED, RECORD, network_in_int8, points
from detect.networks.shared import from_checkpoint, with_ranges
from tests.networks import make_shared, photo

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")


@pytest.fixture(scope="module")
def calibrated() -> Checkpoint:
    return with_ranges(make_shared(("cat", "dog")), [photo(seed=seed) for seed in range(2)])


@pytest.mark.parametrize("new", [(), ("zebra",)])
def test_every_convolution_but_the_exact_ones_rounds_what_comes_in_and_its_weights(
    calibrated: Checkpoint, new: tuple[str, ...]
) -> None:
    weights = with_columns(calibrated, Columns(new, torch.rand(len(new), PART_INPUTS), torch.zeros(len(new))))
    network = from_checkpoint(weights if new else calibrated)
    small = network_in_int8(weights, network)
    left = [name for name, part in network.named_modules() if isinstance(part, nn.Conv2d)]
    rounded = [part for part in small.modules() if isinstance(part, RoundedConv2d)]
    assert len(left) - len(rounded) == len({*left} & {*NOT_ROUNDED}) == (2 if new else 1)
    with torch.no_grad():
        canvas = np.kron(photo(48, 64), np.ones((8, 8, 1), np.uint8))
        pixels = torch.from_numpy(canvas)[None].permute(0, 3, 1, 2).float()
        steps: list[int] = []
        for part in rounded:
            part.layer.register_forward_hook(lambda *_: pytest.fail("the exact weights were used"))
            part.grid.register_forward_hook(lambda _module, _inputs, output: steps.append(len(output.unique())))
        exact, found = network(pixels), small(pixels)
    assert len(steps) == len(rounded) + 2 * 3  # two of them look at four levels
    assert max(steps) <= 256  # of float32 values there would be thousands
    assert 0 < (found - exact).abs().mean() < 0.1 * exact.abs().mean()


def test_ranges_survive_the_file_and_the_weights_stay_as_they_are(calibrated: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(calibrated, tmp_path / "net.safetensors", dtype=None)
    read = read_checkpoint(tmp_path / "net.safetensors")
    assert read.training[RECORD] == calibrated.training[RECORD]
    assert set(read.training[RECORD]) == {point.name for point in points()}
    assert all(torch.equal(value, calibrated.state[name]) for name, value in read.state.items())


@pytest.mark.parametrize(
    ("ranges", "complaint"),
    [
        (None, "these weights have no ranges for"),
        ([], "these weights have no ranges for"),
        ({}, "ranges for int8: the range of pixels is None"),
        ({"pixels": -1}, "ranges for int8: the range of pixels is -1"),
    ],
)
def test_weights_without_sound_ranges_are_refused(calibrated: Checkpoint, ranges: Any, complaint: str) -> None:
    odd = replace(calibrated, training={**calibrated.training, RECORD: ranges})
    with pytest.raises(WeightsError, match=f"^{complaint}"):
        network_in_int8(odd, from_checkpoint(odd))


def test_the_built_in_shared_weights_have_ranges() -> None:
    checkpoint = load_checkpoint("shared")
    assert set(checkpoint.training[RECORD]) == {point.name for point in points()}


@needs_openvino
@pytest.mark.parametrize(
    "load",
    [
        partial(load_classifier, "default"),
        partial(load_classifier, None, features="both"),  # with its crops of int8's first regions mAP falls by 2 points
        partial(load_proposals, "multibox"),
    ],
)
def test_crops_with_multibox_are_refused_at_once(load: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match='`dtype="int8"` is for shared features'):
        load(place(device="cpu", dtype="int8"))


@needs_openvino
def test_weights_with_ranges_run_in_int8_where_that_is_the_quickest_and_was_not_decided(
    calibrated: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classifier.placement.native_dtype", lambda device: "float32")
    for name, weights in (("ranges", calibrated), ("none", make_shared(("cat", "dog")))):
        save_checkpoint(weights, tmp_path / f"{name}.safetensors", dtype=None)

    def precisions(*names: str, dtype: DType = "auto") -> set[str]:
        files = [tmp_path / f"{name}.safetensors" for name in names]
        return {str(engine.dtype) for engine in engines_of(load_classifier(files, place(device="cpu", dtype=dtype)))}

    assert precisions("ranges") == precisions("ranges", "ranges") == {"int8"}
    assert precisions("ranges", dtype="float32") == {"float32"}
    assert precisions("none") == precisions("ranges", "none") == {"float32"}
    both = load_classifier(None, place(device="cpu"))
    assert {engine.dtype for engine in engines_of(both)} == {"float32"}
    monkeypatch.setattr("classifier.placement.native_dtype", lambda device: "bfloat16")
    assert precisions("ranges") == {"bfloat16"}


def test_the_command_calibrates(rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(make_shared(("cat",)), tmp_path / "net.safetensors", dtype=torch.float32)
    for number in range(3):
        PIL.Image.fromarray(photo(seed=number)).save(tmp_path / f"{number}.png")
    words = ["weights", "calibrate", tmp_path / "net.safetensors"]
    assert rcnn(*words, tmp_path / "new.safetensors", "--photos", tmp_path) == 0
    assert capsys.readouterr().out.startswith("ranges from 3 photos; weights written to ")
    found = read_checkpoint(tmp_path / "new.safetensors")
    assert found.training[RECORD]["pixels"] > 100
    assert found.state["trunk.conv1.conv.weight"].dtype == torch.float32
    assert rcnn(*words, tmp_path / "new.pt", "--photos", tmp_path) == 2
    assert rcnn(*words, tmp_path / "net.safetensors", "--photos", tmp_path) == 2
    assert "net.safetensors" in capsys.readouterr().err


def test_the_command_calibrates_on_the_photos_that_can_be_read(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(make_shared(("cat",)), tmp_path / "net.safetensors", dtype=torch.float32)
    PIL.Image.fromarray(photo()).save(tmp_path / "photos.png")
    (tmp_path / "torn.png").write_bytes(b"no photo")
    words = ["weights", "calibrate", tmp_path / "net.safetensors", tmp_path / "new.safetensors", "--photos"]
    assert rcnn(*words, tmp_path / "torn.png") == 2
    assert "none of 1 photo can be read" in capsys.readouterr().err
    assert rcnn(*words, tmp_path) == 1
    said = capsys.readouterr()
    assert said.out.startswith("ranges from 1 photo")
    assert "torn.png" in said.err


def test_the_command_calibrates_over_no_list_of_photos(rcnn: Callable[..., int], tmp_path: Path) -> None:
    save_checkpoint(make_shared(("cat",)), tmp_path / "net.safetensors", dtype=torch.float32)
    PIL.Image.fromarray(photo()).save(tmp_path / "photo.png")
    (tmp_path / "list.safetensors").write_text(str(tmp_path / "photo.png"))
    words = ["weights", "calibrate", tmp_path / "net.safetensors", tmp_path / "list.safetensors"]
    assert rcnn(*words, "--photos", f"@{tmp_path / 'list.safetensors'}") == 2
    assert (tmp_path / "list.safetensors").read_text() == str(tmp_path / "photo.png")
