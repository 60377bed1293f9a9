"""BVLC's Caffe weights into our names: from an npz of arrays (and from an original .caffemodel)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torchvision.models._meta import _IMAGENET_CATEGORIES

from classifier.googlenet import TABLE_1
from classifier.weights import CAFFE, Checkpoint, WeightsError

IMAGENET_CLASSES = tuple(_IMAGENET_CATEGORIES)
_BRANCHES = {
    "1x1": "branch1",
    "3x3_reduce": "branch2.0",
    "3x3": "branch2.1",
    "5x5_reduce": "branch3.0",
    "5x5": "branch3.1",
    "pool_proj": "branch4.1",
}
_STEM = {"conv1/7x7_s2": "conv1", "conv2/3x3_reduce": "conv2", "conv2/3x3": "conv3"}


def layer_names() -> dict[str, str]:
    """Return Caffe layer name -> our module name, for every layer with weights but the last."""
    modules = [f"inception{name[-2:]}" for name in TABLE_1]
    inner = {f"{m.replace('inception', 'inception_')}/{c}": f"{m}.{b}" for m in modules for c, b in _BRANCHES.items()}
    return {caffe: f"{ours}.conv" for caffe, ours in (_STEM | inner).items()} | {"loss3/classifier": "fc"}


def from_arrays(arrays: Mapping[str, npt.NDArray[np.floating]], source: str | Path) -> Checkpoint:
    """Turn arrays named `layer/weight` and `layer/bias` into a checkpoint of the paper's variant.

    Raises:
        WeightsError: a layer is missing.
    """
    state = {}
    for caffe, ours in layer_names().items():
        for kind in ("weight", "bias"):
            if f"{caffe}/{kind}" not in arrays:
                raise WeightsError(f"{source}: no {caffe}/{kind} in it")
            value = torch.from_numpy(np.ascontiguousarray(arrays[f"{caffe}/{kind}"]))
            state[f"{ours}.{kind}"] = (
                value.reshape(value.shape[-2:])
                if caffe.startswith("loss") and kind == "weight"
                else value.squeeze()
                if kind == "bias"
                else value
            )
    return Checkpoint(
        state=state, classes=IMAGENET_CLASSES, preprocessing=CAFFE, training={"source": Path(source).name}
    )


def read_npz(path: str | Path) -> Checkpoint:
    """Read BVLC's GoogLeNet from an npz file.

    Raises:
        WeightsError: missing, damaged, or not GoogLeNet.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return from_arrays(arrays, path)
    except (OSError, ValueError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{path}: not a readable npz file: {error}") from error
