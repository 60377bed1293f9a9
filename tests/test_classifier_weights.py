"""Checkpoints: there and back, damaged, hostile, and everybody else's formats through one door."""

import errno
import json
import os
import struct
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import GoogLeNet_Weights, googlenet

from classifier.googlenet import GoogLeNet
from classifier.weights.checkpoint import Checkpoint, _is_finite, read_checkpoint, save_checkpoint
from classifier.weights.fitting import WeightsError, load_state, weights_unset
from classifier.weights.last_layer import for_images, for_regions
from classifier.weights.load import load_weights
from classifier.weights.preprocessing import CAFFE, TORCHVISION, Preprocessing
from classifier.weights.torchvision import TRANSFORM_INPUT

CLASSES = ("cat", "dog", "ant eater")


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    preprocessing = replace(TORCHVISION, size=192, interpolation="bicubic", mean=(1.5, 2.0, 3.25))
    state = GoogLeNet(3, variant="batchnorm", auxiliary=True).state_dict()
    return Checkpoint(state, CLASSES, preprocessing, "batchnorm", training={"data": "toy", "epochs": 3})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_checkpoint_comes_back_whole(tmp_path: Path, checkpoint: Checkpoint, dtype: torch.dtype) -> None:
    save_checkpoint(checkpoint, tmp_path / "deep" / "net.safetensors", dtype=dtype)
    back = load_weights(tmp_path / "deep" / "net.safetensors")
    for name in ("classes", "preprocessing", "variant", "task", "training"):
        assert getattr(back, name) == getattr(checkpoint, name)
    assert set(back.state) == set(checkpoint.state)
    for name, value in checkpoint.state.items():
        expected = value.to(dtype) if value.is_floating_point() else value
        assert torch.equal(back.state[name], expected), name


def test_network_of_a_checkpoint_computes_the_same(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(checkpoint, tmp_path / "net.safetensors", dtype=torch.float32)
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(read_checkpoint(tmp_path / "net.safetensors").network()(x), checkpoint.network()(x))


def test_weights_that_are_not_finite_are_neither_written_nor_read(tmp_path: Path, checkpoint: Checkpoint) -> None:
    broken = replace(checkpoint, state={**checkpoint.state, "fc.bias": torch.tensor([0.0, float("nan"), 1e9])})
    with pytest.raises(WeightsError, match=r"fc\.bias is not finite$"):
        save_checkpoint(broken, tmp_path / "net.safetensors")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(WeightsError, match=r"fc\.bias holds values that are not finite"):
        broken.check()


def test_a_weight_too_large_for_float16_stays_as_it_is(tmp_path: Path, checkpoint: Checkpoint) -> None:
    large = replace(checkpoint, state={**checkpoint.state, "fc.bias": torch.tensor([0.0, 1.0, 1e9])})
    save_checkpoint(large, tmp_path / "net.safetensors")
    read = read_checkpoint(tmp_path / "net.safetensors").state
    assert read["fc.bias"].tolist() == [0, 1, 1e9]
    assert read["fc.weight"].dtype == torch.float16


def test_tensors_that_are_not_plain_numbers_are_named(checkpoint: Checkpoint) -> None:
    for odd in (torch.zeros(3, dtype=torch.complex64), torch.zeros(3).to_sparse(), torch.zeros(3, device="meta")):
        with pytest.raises(WeightsError, match=r"fc\.bias is not a plain array of numbers"):
            replace(checkpoint, state={**checkpoint.state, "fc.bias": odd}).check()
    eighth = torch.zeros(3).to(torch.float8_e4m3fn)
    with pytest.raises(WeightsError, match="not a plain array"):
        replace(checkpoint, state={**checkpoint.state, "fc.bias": eighth}).check()


def test_a_context_that_leaves_nothing_of_a_region(checkpoint: Checkpoint) -> None:
    regions = for_regions(checkpoint, ("a", "b"))
    preprocessing = replace(regions.preprocessing, size=64, context=32)
    with pytest.raises(WeightsError, match="leaves nothing of a region"):
        replace(regions, preprocessing=preprocessing).check()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, checkpoint: Checkpoint, monkeypatch) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"old")
    full = OSError(errno.ENOSPC, "disk full")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(full))
    with pytest.raises(OSError, match=r"disk full: '.*/net\.safetensors'"):
        save_checkpoint(checkpoint, path)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["net.safetensors"]


def test_damaged_files_are_refused(tmp_path: Path, checkpoint: Checkpoint) -> None:
    path = tmp_path / "net.safetensors"
    save_checkpoint(checkpoint, path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:4], whole[:1000], whole[:-1], struct.pack("<Q", 2**60) + whole[8:], b"\0" * 100):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"net\.safetensors: not a readable safetensors file"):
            load_weights(path)


def test_damaged_metadata_is_refused(tmp_path: Path, checkpoint: Checkpoint) -> None:
    path = tmp_path / "net.safetensors"
    state = {name: value.contiguous() for name, value in checkpoint.state.items()}
    good = {
        "format": "googlenet-rcnn/1",
        "variant": '"batchnorm"',
        "task": '"images"',
        "classes": json.dumps(CLASSES),
        "preprocessing": "{}",
        "training": "{}",
    }
    record = {"mean": [0, 0, 0], "scale": [1, 1, 1]}
    bad = [
        ({"format": "other"}, "without our metadata"),
        ({"preprocessing": "{"}, "damaged metadata"),
        ({"preprocessing": json.dumps(record | {"mean": [1, 2]})}, "mean must be three finite numbers"),
        ({"preprocessing": json.dumps(record | {"size": 0})}, "size must be a whole number of pixels"),
        ({"preprocessing": json.dumps(record | {"channels": "YUV"})}, "channels must be one of RGB, BGR"),
        ({"preprocessing": json.dumps(record | {"unknown": 1})}, "damaged metadata"),
        ({"preprocessing": json.dumps(record), "variant": '"v9"'}, "variant 'v9' is not one of"),
        ({"preprocessing": json.dumps(record), "variant": '"paper"'}, "weights missing"),
        ({"preprocessing": json.dumps(record), "task": '"foo"'}, "task 'foo' is not one of"),
        ({"preprocessing": json.dumps(record), "classes": '"abc"'}, "classes must be a list of names"),
        ({"preprocessing": json.dumps(record), "classes": "[1, 2, 3]"}, "classes must be a list of names"),
        ({"preprocessing": json.dumps(record), "training": "[1]"}, "training must be an object"),
        ({"preprocessing": "[" * 100_000}, "damaged metadata"),
        ({"preprocessing": "7"}, "damaged metadata"),
        ({"preprocessing": json.dumps(record | {"size": True})}, "size must be a whole number of pixels"),
        ({"preprocessing": json.dumps(record | {"resize": 10**9})}, "resize must be a whole number of pixels"),
        ({"preprocessing": json.dumps(record | {"context": -1})}, "context must be a whole number"),
        ({"preprocessing": json.dumps(record | {"antialias": 2})}, "antialias must be true or false"),
        ({"preprocessing": '{"mean": [1e400, 0, 0], "scale": [1, 1, 1]}'}, "mean must be three finite numbers"),
        ({"preprocessing": json.dumps(record), "classes": '["cat"]'}, "of wrong shape"),
    ]
    for change, complaint in bad:
        save_file(state, path, metadata=good | change)
        with pytest.raises(WeightsError, match=complaint):
            load_weights(path)


def test_weights_of_another_variant_or_network_are_named(checkpoint: Checkpoint) -> None:
    with pytest.raises(WeightsError, match=r"57 weights missing, the first is conv1\.conv\.bias"):
        replace(checkpoint, variant="paper").network()
    with pytest.raises(WeightsError, match=r"1 weight unknown, the first is extra"):
        replace(checkpoint, state={**checkpoint.state, "extra": torch.zeros(1)}).check()


def test_region_checkpoint_has_a_background_column(checkpoint: Checkpoint) -> None:
    regions = for_regions(checkpoint, ("a", "b"))
    assert regions.network()(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    regions.check()
    for start in (for_regions, for_images):
        with pytest.raises(WeightsError, match="of the task multibox are not those of a classifier"):
            start(replace(checkpoint, task="multibox"), ("a", "b"))


def test_a_region_classifier_keeps_the_columns_of_classes_that_it_knows(checkpoint: Checkpoint) -> None:
    regions = for_regions(checkpoint, ("ant", "bee", "cat"))
    lively = {"fc.weight": regions.state["fc.weight"] + 1, "fc.bias": torch.arange(1.0, 5.0)}
    regions = replace(regions, state={**regions.state, **lively})
    changed = for_regions(regions, ("Cat", "dog"))
    assert changed.state["fc.bias"].tolist() == [3, 0, 4]  # cat, fresh, background
    assert torch.equal(changed.state["fc.weight"][0], regions.state["fc.weight"][2])
    assert torch.equal(changed.state["fc.weight"][2], regions.state["fc.weight"][3])
    assert changed.state["fc.weight"][1].abs().max() < 0.5 < regions.state["fc.weight"].min()
    both = for_regions(replace(regions, classes=("ant", "Ant", "cat")), ("ant", "Ant", "ANT"))
    assert both.state["fc.bias"].tolist() == [1, 2, 0, 4]  # the same name goes before the same in another case
    of_photos = replace(regions, task="images")
    assert for_regions(of_photos, ("ant", "bee")).state["fc.bias"].tolist() == [0, 0, 0]


def test_a_classifier_of_photos_keeps_the_columns_of_classes_that_it_knows(checkpoint: Checkpoint) -> None:
    lively = replace(checkpoint, state={**checkpoint.state, "fc.bias": torch.tensor([1.0, 2.0, 3.0])})
    assert for_images(lively, (CLASSES[2], "new", CLASSES[0])).state["fc.bias"].tolist() == [3, 0, 1]
    assert for_images(for_regions(lively, CLASSES), CLASSES).state["fc.bias"].tolist() == [0, 0, 0]


def test_an_npz_that_is_not_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    for content in (b"", b"PK\x03\x04 cut", b"\x93NUMPY\x01\x00", os.urandom(64)):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"net\.npz: not a readable npz"):
            load_weights(path)
    np.savez(path, objects=np.array([{}], dtype=object))
    with pytest.raises(WeightsError, match="no conv1/7x7_s2/weight"):
        load_weights(path)
    np.savez(path, **{"conv1/7x7_s2/weight": np.array([{}], dtype=object)})
    with pytest.raises(WeightsError, match=r"not a readable npz file: .*not plain numbers"):
        load_weights(path)


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("exploded",))


def test_untrusted_pth_is_refused_and_not_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"fc.bias": Bomb()}, "net.pth")
    with pytest.raises(WeightsError, match=r"net\.pth: refused, for it holds more than tensors, such as \w+\.mkdir$"):
        load_weights("net.pth")
    assert not (tmp_path / "exploded").exists()


def test_damaged_pth_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"fc.bias": torch.zeros(3)}, path)
    whole = path.read_bytes()
    noise = [np.random.default_rng(seed).bytes(100) for seed in range(50)]
    for content in [b"", whole[:500], b"]", *noise]:
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"net\.pth: (refused|not a readable \.pth file)"):
            load_weights(path)
    for content in ([1, 2], {"epoch": 3}, torch.zeros(2)):
        torch.save(content, path)
        with pytest.raises(WeightsError, match=r"net\.pth: not a state dict"):
            load_weights(path)
    torch.save({"conv1.conv.weight": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match=r"no fc\.bias of one axis in it"):
        load_weights(path)
    for odd in (torch.tensor(3.0), torch.zeros(1).expand(10**11)):  # names for so many classes would fill the memory
        torch.save({"fc.bias": odd}, path)
        with pytest.raises(WeightsError, match=r"no fc\.bias of one axis in it"):
            load_weights(path)


WRAPPED = [
    dict,
    lambda state: {"model": state, "epoch": 3},
    lambda state: {"state_dict": state},
    lambda state: {"model": state, "args": Namespace(lr=0.1, output_dir="out")},  # torchvision's own script
    lambda state: {f"_orig_mod.{name}": value for name, value in state.items()},
    lambda state: {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")},
]


@pytest.mark.parametrize("wrap", WRAPPED)
def test_pth_of_torchvision_as_training_scripts_write_it(tmp_path: Path, wrap) -> None:
    network = googlenet(weights=None, init_weights=False, num_classes=4, aux_logits=True).eval()
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save(wrap(state), tmp_path / "net.pth")
    checkpoint = load_weights(tmp_path / "net.pth")
    assert checkpoint.variant == "batchnorm"
    assert checkpoint.classes == ("class 0", "class 1", "class 2", "class 3")
    assert checkpoint.preprocessing == TRANSFORM_INPUT
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(checkpoint.network()(x), network(x), atol=1e-5)


def test_imagenet_comes_through_the_checked_download(monkeypatch) -> None:
    asked: dict[str, object] = {}
    state = googlenet(weights=None, init_weights=False, aux_logits=True).state_dict()

    def fake(self: object, **options: object) -> dict[str, torch.Tensor]:
        asked.update(options)
        return state

    monkeypatch.setattr(GoogLeNet_Weights, "get_state_dict", fake)
    checkpoint = load_weights("imagenet")
    assert asked["check_hash"] is True
    assert asked["weights_only"] is True
    assert not any(name.startswith("aux") for name in checkpoint.state)
    assert checkpoint.classes[0] == "tench"


@pytest.mark.parametrize("error", [URLError("no route"), RuntimeError("invalid hash value"), TimeoutError("slow")])
def test_imagenet_without_a_connection_says_what_to_do(monkeypatch, error: Exception) -> None:
    def fail(self: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(GoogLeNet_Weights, "get_state_dict", fail)
    with pytest.raises(WeightsError, match=r"imagenet: torchvision's weights cannot be fetched .*name a file"):
        load_weights("imagenet")


def test_a_cached_file_that_is_not_the_published_one_is_refused(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    for content in (b"", b"anything"):
        (tmp_path / "checkpoints" / "googlenet-1378be20.pth").write_bytes(content)
        with pytest.raises(WeightsError, match=r"1378be20\.pth: not the file that torchvision published; remove it"):
            load_weights("imagenet")


def test_names_come_before_files_and_unknown_ones_are_listed(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(checkpoint, tmp_path / "a.safetensors")
    assert load_weights("default", {"default": tmp_path / "a.safetensors"}).classes == CLASSES
    (tmp_path / "net.onnx").write_bytes(b"")
    for name, complaint in (
        ("none", r"no such file or name; weights are imagenet, default, a file \*\.safetensors"),
        (tmp_path / "none.npz", "no such file or name"),
        (tmp_path / "net.onnx", "not a known format"),
        (tmp_path, "a folder"),
    ):
        with pytest.raises(WeightsError, match=complaint):
            load_weights(name, {"default": tmp_path / "a.safetensors"})


def test_convention_preprocessing_of_caffe_and_torchvision() -> None:
    assert (CAFFE.channels, CAFFE.mean, CAFFE.scale) == ("BGR", (104, 117, 123), (1, 1, 1))
    mean, scale = np.array(TORCHVISION.mean), np.array(TORCHVISION.scale)
    assert np.allclose(mean / 255, [0.485, 0.456, 0.406])
    assert np.allclose(1 / scale / 255, [0.229, 0.224, 0.225])
    with pytest.raises(ValueError, match="scale must be three finite numbers"):
        Preprocessing(scale=(1.0, float("inf"), 1.0))


def test_networks_whose_weights_are_loaded_draw_none_at_random() -> None:
    state = torch.get_rng_state()
    with weights_unset():
        network = GoogLeNet(4)
    assert torch.equal(torch.get_rng_state(), state)
    expected = GoogLeNet(4)
    load_state(network, expected.state_dict())
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in expected.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_whether_weights_are_finite_is_seen_from_their_sum_or_one_by_one(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    for odd in ([], [float("inf")], [float("nan")], [float("inf"), float("-inf")]):
        values = torch.tensor([0.0, largest, largest, largest, -1.0, *odd], dtype=dtype)
        assert _is_finite(values) == bool(torch.isfinite(values).all())
    assert _is_finite(torch.zeros(0, dtype=dtype))
