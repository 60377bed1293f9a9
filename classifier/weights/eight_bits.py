"""Large matrices of weights files in 8 bits: a whole number from -127 to 127 for each value, and a scale for each row.

So a matrix takes half of what it takes in float16. A value is off by 0.4% of the largest of its row at most, which
changes mAP by 0.01 points (benchmarks/LOG.md, 2026-11-30).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from classifier.weights.fitting import WeightsError

STORED = ("regions.hidden1.weight", "objects.inputs")  # the largest matrix of shared weights, and kept regions
SCALE = ".scale"  # after the name of a matrix
LARGEST = 127


def may_be_narrowed(name: str, value: Tensor) -> bool:
    """Say whether a float16 value is one of the large matrices; files may call anything by their names."""
    return name in STORED and value.ndim == 2 and value.dtype == torch.float16


def narrowed(name: str, value: Tensor) -> dict[str, Tensor]:
    """Return a finite (N, D) matrix as int8, and (N,) float32 scales of its rows, each by its name in a file."""
    rows = value.float()
    scales = rows.abs().amax(dim=1) / LARGEST if rows.numel() else rows.new_zeros(len(rows))
    codes = (rows / scales.where(scales > 0, 1)[:, None]).round()
    return {name: codes.to(torch.int8), name + SCALE: scales}


def widened(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what a file holds with all its matrices in 8 bits as float16.

    Raises:
        WeightsError: a matrix and its scales do not fit together.
    """
    found = dict(state)
    for name in [name for name in STORED if name + SCALE in state]:
        codes, scales = found.get(name), found.pop(name + SCALE)
        fits = codes is not None and codes.ndim == 2 and scales.shape == codes.shape[:1]
        if codes is None or not fits or codes.dtype != torch.int8 or scales.dtype != torch.float32:
            raise WeightsError(f"{name} and {name}{SCALE} are not 8-bit rows and their scales")
        found[name] = (codes * scales[:, None]).half()
    return found
