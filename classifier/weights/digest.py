"""A short digest of arrays, tensors and texts: whether something is the same as before."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor


def digest(values: Any) -> str:
    """Return a short digest of arrays, tensors or texts, in a list or by name.

    >>> digest(["a", "b"]) == digest(["a", "b"]) != digest(["ab", ""])
    True
    """
    total = hashlib.sha256()
    items = values.items() if isinstance(values, Mapping) else enumerate(values)
    for name, value in items:
        content = value.encode(errors="surrogateescape") if isinstance(value, str) else _bytes(value)
        total.update(f"{name} {len(content)} ".encode() + content)
    return total.hexdigest()[:16]


def _bytes(value: Tensor | np.ndarray) -> bytes:
    array = value.detach().float().cpu().numpy() if isinstance(value, Tensor) else value
    return np.ascontiguousarray(array).tobytes()
