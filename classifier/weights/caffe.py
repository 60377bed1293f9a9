"""BVLC's Caffe weights into our names: from an npz of arrays, and from an original .caffemodel."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from classifier.googlenet import TABLE_1
from classifier.weights.caffemodel import read_caffemodel
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.fitting import WeightsError
from classifier.weights.preprocessing import CAFFE
from structures.npz import NpzError, read_arrays

IMAGENET_COLUMNS = 1000
_BRANCHES = {
    "1x1": "branch1",
    "3x3_reduce": "branch2.0",
    "3x3": "branch2.1",
    "5x5_reduce": "branch3.0",
    "5x5": "branch3.1",
    "pool_proj": "branch4.1",
}
_STEM = {"conv1/7x7_s2": "conv1", "conv2/3x3_reduce": "conv2", "conv2/3x3": "conv3"}
_LAST = {"loss3/classifier": "fc"}
_AUXILIARY = {
    f"loss{number}/{caffe}": f"aux{number}.{ours}"
    for number in (1, 2)
    for caffe, ours in {"conv": "conv.conv", "fc": "fc1", "classifier": "fc2"}.items()
}


def layer_names() -> dict[str, str]:
    """Return Caffe layer name -> our module name, for every layer of the network without its auxiliary classifiers."""
    modules = [f"inception{name[-2:]}" for name in TABLE_1]
    inner = {f"{m.replace('inception', 'inception_')}/{c}": f"{m}.{b}" for m in modules for c, b in _BRANCHES.items()}
    return {caffe: f"{ours}.conv" for caffe, ours in (_STEM | inner).items()} | _LAST


def class_names(columns: int) -> tuple[str, ...]:
    """Return ImageNet's names for 1000 columns, and numbered names for any other last layer."""
    if columns != IMAGENET_COLUMNS:
        return tuple(f"class {n}" for n in range(columns))
    from torchvision.models._meta import _IMAGENET_CATEGORIES  # here, as torchvision takes long to import

    return tuple(_IMAGENET_CATEGORIES)


def from_arrays(arrays: Mapping[str, npt.NDArray[np.floating]], source: str | Path) -> Checkpoint:
    """Turn arrays named `layer/weight` and `layer/bias` into a checkpoint of the paper's variant.

    The auxiliary classifiers come along where both are there; other layers are left out.

    Raises:
        WeightsError: a layer is missing.
    """
    layers = layer_names()
    if all(f"{caffe}/weight" in arrays for caffe in _AUXILIARY):
        layers |= _AUXILIARY
    state = {}
    for caffe, ours in layers.items():
        for kind in ("weight", "bias"):
            if f"{caffe}/{kind}" not in arrays:
                raise WeightsError(f"{source}: no {caffe}/{kind} in it")
            value = _tensor(arrays[f"{caffe}/{kind}"], linear=".conv" not in ours, kind=kind)
            state[f"{ours}.{kind}"] = value
    return Checkpoint(
        state=state,
        classes=class_names(len(state["fc.bias"])),
        preprocessing=CAFFE,
        training={"source": Path(source).name},
    )


def _tensor(array: npt.NDArray[np.floating], *, linear: bool, kind: str) -> Tensor:
    """Undo Caffe's old habit of giving four axes to everything."""
    value = torch.from_numpy(np.ascontiguousarray(array))
    if kind == "bias":
        return value.reshape(-1)
    return value.reshape(value.shape[-2:]) if linear and value.shape[:-2].numel() == 1 else value


def read_npz(path: str | Path) -> Checkpoint:
    """Read BVLC's GoogLeNet from an npz file.

    Raises:
        WeightsError: missing, damaged, or not GoogLeNet.
    """
    try:
        wanted = [f"{layer}/{kind}" for layer in layer_names() | _AUXILIARY for kind in ("weight", "bias")]
        return from_arrays(read_arrays(path, wanted, allow_missing=True), path)
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}") from None
    except NpzError as error:
        raise WeightsError(str(error)) from None
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{path}: not a readable npz file: {error}") from error


def read_caffe(path: str | Path) -> Checkpoint:
    """Read GoogLeNet from an original .caffemodel, as BVLC's model zoo has it.

    Raises:
        WeightsError: missing, damaged, or not GoogLeNet.
    """
    return from_arrays(read_caffemodel(path), path)
