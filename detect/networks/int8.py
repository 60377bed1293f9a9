"""Shared features in 8 bits: where the network rounds, and the ranges, measured on photos and kept in the weights."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from classifier.googlenet import TABLE_1
from classifier.rounding import Point, find_ranges, rounded
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.fitting import WeightsError
from structures.errors import InputError
from structures.records import Image

RECORD = "int8"  # key of the ranges in the metadata of weights
RANGE_PHOTOS = 100  # to measure ranges on; with more they hardly change
NOT_ROUNDED = ("head.predict", "regions.roots")  # MultiBox's confidences and residuals; what reads roots


def points() -> list[Point]:
    """Return the places where a `detect.networks.shared.SharedNetwork` rounds.

    The branches of an Inception module share a grid, so that their concatenation is in integers, too. Normalisation
    (LRN, GroupNorm) is not rounded.
    """
    stem = [Point(name, outputs=(f"trunk.{name}",)) for name in ("lrn1", "conv2", "lrn2")]
    return [
        Point("pixels", inputs=("trunk.conv1.conv",), signed=True),
        *stem,
        *(point for name in TABLE_1 for point in _inception(name)),
        *(Point(f"level{n}", inputs=(f"head.smooth.{n}.0",), signed=True) for n in range(3)),
        Point("coarse", inputs=("head.coarse.0",)),
        *(Point(f"shared{n}", inputs=(f"head.shared.{n}.0",)) for n in range(2)),
    ]


def _inception(name: str) -> list[Point]:
    inside = [Point(f"{name}.{branch}", outputs=(f"trunk.{name}.{branch}.0",)) for branch in ("branch2", "branch3")]
    return [*inside, Point(name, outputs=tuple(f"trunk.{name}.branch{number}" for number in (1, 2, 3, 4)))]


def calibrated(checkpoint: Checkpoint, network: nn.Module, canvases: Iterable[Image]) -> Checkpoint:
    """Return a checkpoint with the ranges that `network_in_int8` needs.

    Args:
        checkpoint: checkpoint of shared features.
        network: network of the checkpoint, in float32 on the CPU.
        canvases: RGB uint8 (H, W, 3), photos as the network sees them.

    Raises:
        InputError: there are no photos.
    """
    pixels = (torch.from_numpy(np.ascontiguousarray(each))[None].permute(0, 3, 1, 2).float() for each in canvases)
    ranges = {name: float(f"{reach:.4g}") for name, reach in find_ranges(network, points(), pixels).items()}
    return replace(checkpoint, training={**checkpoint.training, RECORD: ranges})


def has_ranges(checkpoint: Checkpoint) -> bool:
    """Return whether the network of a checkpoint can run in int8."""
    return isinstance(checkpoint.training.get(RECORD), dict)


def network_in_int8(checkpoint: Checkpoint, network: nn.Module) -> nn.Module:
    """Return the network of a checkpoint, rounded to 8 bits.

    Raises:
        WeightsError: the checkpoint has no ranges, or invalid ones.
    """
    if not has_ranges(checkpoint):
        raise WeightsError(
            'these weights have no ranges for `dtype="int8"`; `rcnn weights calibrate` measures them on photos'
        )
    try:
        return rounded(network, points(), checkpoint.training[RECORD], exact=NOT_ROUNDED)
    except InputError as error:
        raise WeightsError(f"ranges for int8: {error}") from None
