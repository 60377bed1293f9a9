"""Linear layers on the trunk of shared weights: one for whole photos, one for crops of regions.

The trunk is GoogLeNet's, so that each of them turns it into a classifier like any other.
"""

from dataclasses import replace

from torch import Tensor

from classifier.weights.checkpoint import SHARED_PHOTOS, Checkpoint, Task
from classifier.weights.fitting import WeightsError

TRUNK = "trunk."  # before the names of the layers in shared weights
LAYER = ("weight", "bias")
CROPS = "crops."  # before the names of the layer for crops; it knows the first classes of the weights, and background
CROP_LAYER = tuple(CROPS + name for name in LAYER)
PHOTO_LAYER = tuple(SHARED_PHOTOS + name for name in LAYER)


def classifies_crops(checkpoint: Checkpoint) -> bool:
    """Say whether weights of shared features have a layer for crops of regions."""
    return checkpoint.task == "shared" and all(name in checkpoint.state for name in CROP_LAYER)


def crop_columns(checkpoint: Checkpoint) -> int:
    """Return the columns of the layer for crops in weights of shared features: classes and background; 0 without one.

    Raises:
        WeightsError: it has more columns than there are classes, or no shape of a layer.
    """
    if not classifies_crops(checkpoint):
        return 0
    shape, most = tuple(checkpoint.state[CROP_LAYER[0]].shape), len(checkpoint.classes) + 1
    if len(shape) != 2 or not 1 < shape[0] <= most:
        raise WeightsError(f"{CROP_LAYER[0]} has the shape {shape}, expected (2 to {most}, 1024)")
    return shape[0]


def crop_classifier(checkpoint: Checkpoint) -> Checkpoint:
    """Take the classifier of crops out of weights of shared features; it knows all their classes, or the first ones.

    Raises:
        WeightsError: the weights are of another task, or have no such layer, or one that does not fit.
    """
    columns = crop_columns(checkpoint)
    if not columns:
        raise WeightsError(f"these weights are for {checkpoint.task}, and have no layer that classifies crops")
    weight, bias = (checkpoint.state[name] for name in CROP_LAYER)
    return on_trunk(replace(checkpoint, classes=checkpoint.classes[: columns - 1]), weight, bias, "regions")


def photo_classifier(checkpoint: Checkpoint) -> Checkpoint:
    """Take the classifier of whole photos out of weights of shared features.

    Raises:
        WeightsError: the weights are of another task, or have no such layer.
    """
    if checkpoint.task != "shared" or any(name not in checkpoint.state for name in PHOTO_LAYER):
        raise WeightsError(f"these weights are for {checkpoint.task}, and have no layer that classifies whole photos")
    weight, bias = (checkpoint.state[name] for name in PHOTO_LAYER)
    return on_trunk(checkpoint, weight, bias, "photos")


def on_trunk(checkpoint: Checkpoint, weight: Tensor, bias: Tensor, task: Task) -> Checkpoint:
    """Return the GoogLeNet of shared weights with a last layer, as weights of another task.

    Raises:
        WeightsError: the parts do not fit together.
    """
    trunk = {n.removeprefix(TRUNK): value for n, value in checkpoint.state.items() if n.startswith(TRUNK)}
    found = replace(checkpoint, state={**trunk, "fc.weight": weight, "fc.bias": bias}, task=task)
    found.check()
    return found
