"""Caffe's binary weights: bytes written by hand, in the new and the old layout, whole and damaged."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier.googlenet import GoogLeNet
from classifier.weights.caffe import layer_names, read_caffe
from classifier.weights.caffemodel import MAX_AXES, parse_caffemodel, read_caffemodel
from classifier.weights.fitting import WeightsError
from classifier.weights.load import load_weights

RANDOM = np.random.default_rng(0)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def new_blob(array: np.ndarray) -> bytes:
    dims = b"".join(varint(side) for side in array.shape)
    return message(7, message(1, dims)) + message(5, array.astype("<f4").tobytes())


def old_blob(array: np.ndarray) -> bytes:
    sides = (1,) * (4 - array.ndim) + array.shape
    return b"".join(number(1 + i, side) for i, side in enumerate(sides)) + message(5, array.astype("<f4").tobytes())


def new_layer(name: str, blobs: list[bytes]) -> bytes:
    inner = message(1, name.encode()) + message(2, b"Convolution") + message(3, b"bottom")
    return message(100, inner + b"".join(message(7, blob) for blob in blobs))


def old_layer(name: str, blobs: list[bytes]) -> bytes:
    inner = message(2, b"bottom") + message(4, name.encode()) + number(5, 4)
    return message(2, inner + b"".join(message(6, blob) for blob in blobs))


def network_arrays(*, auxiliary: bool) -> dict[str, np.ndarray]:
    """Small random values in the shapes of the real network, named as Caffe names them."""
    network = GoogLeNet(auxiliary=auxiliary).state_dict()
    aux = {"conv": "conv.conv", "fc": "fc1", "classifier": "fc2"}
    names = layer_names() | (
        {f"loss{n}/{caffe}": f"aux{n}.{ours}" for n in (1, 2) for caffe, ours in aux.items()} if auxiliary else {}
    )
    return {
        f"{caffe}/{kind}": RANDOM.standard_normal(network[f"{ours}.{kind}"].shape, np.float32)
        for caffe, ours in names.items()
        for kind in ("weight", "bias")
    }


def as_file(path: Path, arrays: dict[str, np.ndarray], layer=new_layer, blob=new_blob) -> Path:
    layers = dict.fromkeys(name.rpartition("/")[0] for name in arrays)
    content = b"".join(layer(name, [blob(arrays[f"{name}/{k}"]) for k in ("weight", "bias")]) for name in layers)
    path.write_bytes(message(1, b"GoogleNet") + content)
    return path


@pytest.mark.parametrize(("layer", "blob"), [(new_layer, new_blob), (old_layer, old_blob)])
def test_both_layouts_give_the_arrays_back(tmp_path: Path, layer, blob) -> None:
    arrays = network_arrays(auxiliary=True)
    checkpoint = read_caffe(as_file(tmp_path / "net.caffemodel", arrays, layer, blob))
    state = checkpoint.network(auxiliary=True).state_dict()
    assert np.array_equal(state["inception4e.branch3.1.conv.weight"], arrays["inception_4e/5x5/weight"])
    assert np.array_equal(state["conv1.conv.bias"], arrays["conv1/7x7_s2/bias"])
    assert np.array_equal(state["fc.weight"], arrays["loss3/classifier/weight"])
    assert np.array_equal(state["aux1.fc1.weight"], arrays["loss1/fc/weight"])
    assert np.array_equal(state["aux2.conv.conv.bias"], arrays["loss2/conv/bias"])
    assert len(checkpoint.state) == len(arrays)


def test_deploy_file_without_auxiliary_classifiers(tmp_path: Path) -> None:
    checkpoint = load_weights(as_file(tmp_path / "net.caffemodel", network_arrays(auxiliary=False)))
    assert len(checkpoint.state) == 2 * 58
    assert len(checkpoint.classes) == 1000
    assert checkpoint.preprocessing.channels == "BGR"


def test_unpacked_and_double_values() -> None:
    values = np.array([1.5, -2.0], np.float32)
    shape = message(7, number(1, 2))  # dim as a lone varint, not packed
    unpacked = shape + b"".join(varint(5 << 3 | 5) + struct.pack("<f", v) for v in values)
    doubles = shape + message(8, values.astype("<f8").tobytes())
    arrays = parse_caffemodel(new_layer("a", [unpacked, doubles]))
    assert arrays["a/weight"].tolist() == arrays["a/bias"].tolist() == [1.5, -2.0]
    assert arrays["a/bias"].dtype == np.float32


def test_further_blobs_and_unknown_fields_are_stepped_over() -> None:
    blob = number(77, 2**63) + new_blob(np.ones(3)) + varint(78 << 3 | 1) + bytes(8) + message(6, bytes(12))
    arrays = parse_caffemodel(number(5, 1) + new_layer("bn", [blob, blob, blob]))
    assert {name: array.tolist() for name, array in arrays.items()} == {
        f"bn/{kind}": [1, 1, 1] for kind in ("weight", "bias", "2")
    }


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (varint(100 << 3 | 2) + varint(2**40) + b"short", "needs 1099511627776 bytes and 5 are left"),
        (varint(100 << 3 | 2) + b"\xff" * 12, "more than 64 bits"),
        (b"\x80", "ends inside a number"),
        (varint(9 << 3 | 3), "unknown wire type 3"),
        (varint(9 << 3 | 1) + b"1234", "needs 8 bytes and 4 are left"),
        (
            new_layer("a", [message(7, number(1, 3)) + message(5, bytes(8))]),
            "a/weight should hold 3 values and holds 2",
        ),
        (new_layer("a", [message(7, number(1, 2**62) + number(1, 0))]), "should hold"),
        (new_layer("a", [message(7, number(1, 2**63) * 2) + message(5, bytes(4))]), "should hold"),
        (new_layer("a", [message(7, number(1, 1) * (MAX_AXES + 1))]), "more than 32 axes"),
        (new_layer("a", [message(7, message(1, b"\x01" * 1000))]), "more than 32 axes"),
        (new_layer("a", [message(5, b"123")]), "multiple of element size"),
    ],
)
def test_hostile_bytes_are_refused_with_the_reason(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "bad.caffemodel"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a readable caffemodel") as error:
        read_caffemodel(path)
    assert str(path) in str(error.value)
    assert complaint in str(error.value)


def test_files_without_weights_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "empty.caffemodel").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"empty\.caffemodel: no layer with weights"):
        read_caffemodel(tmp_path / "empty.caffemodel")
    with pytest.raises(WeightsError, match=r"none\.caffemodel: No such file"):
        read_caffemodel(tmp_path / "none.caffemodel")
    with pytest.raises(WeightsError, match="Is a directory"):
        read_caffemodel(tmp_path)


def test_another_network_is_named_as_such(tmp_path: Path) -> None:
    arrays = network_arrays(auxiliary=False)
    renamed = {name.replace("loss3/classifier", "loss3/mine"): array for name, array in arrays.items()}
    with pytest.raises(WeightsError, match="no loss3/classifier/weight"):
        read_caffe(as_file(tmp_path / "net.caffemodel", renamed))
    arrays["conv1/7x7_s2/weight"] = np.ones((64, 3, 5, 5))
    with pytest.raises(WeightsError, match=r"conv1\.conv\.weight \(64, 3, 5, 5\) instead of \(64, 3, 7, 7\)"):
        load_weights(as_file(tmp_path / "net.caffemodel", arrays))


def test_fine_tuned_last_layer_gets_numbered_classes(tmp_path: Path) -> None:
    arrays = network_arrays(auxiliary=False)
    arrays |= {"loss3/classifier/weight": np.ones((5, 1024)), "loss3/classifier/bias": np.zeros(5)}
    checkpoint = load_weights(as_file(tmp_path / "net.caffemodel", arrays))
    assert checkpoint.classes == ("class 0", "class 1", "class 2", "class 3", "class 4")
    assert checkpoint.network()(torch.zeros(1, 3, 224, 224)).shape == (1, 5)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
def test_any_damage_gives_arrays_or_a_value_error(noise: bytes, position: int, byte: int) -> None:
    whole = bytearray(new_layer("a", [new_blob(RANDOM.standard_normal((4, 3)))]) + noise)
    whole[position % len(whole)] = byte
    try:
        parse_caffemodel(bytes(whole))
    except ValueError:
        pass


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (message(100, b"") * 2_000_000, "more than 10000 layers"),
        (number(3, 1) * 5_000, "a message of more than 2097152 fields"),
    ],
    ids=["layers", "fields"],
)
def test_endless_messages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, reason) -> None:
    if "fields" in reason:  # walking through them all takes seconds
        monkeypatch.setattr("classifier.weights.caffemodel.MAX_FIELDS", 1000)
        reason = "a message of more than 1000 fields"
    (tmp_path / "a.caffemodel").write_bytes(content)
    with pytest.raises(WeightsError, match=rf"a\.caffemodel: .*{reason}"):
        read_caffemodel(tmp_path / "a.caffemodel")
