"""Large arrays that are used again from photo to photo: fresh memory costs as much as a fifth of the work in it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from proposals.selective_search.compiled import Array

BLOCK = 2**26  # bytes; large blocks lie in huge pages where the system has them, which makes scattered access cheaper
ALIGNMENT = 64  # bytes


class Scratch:
    """Lends arrays by name; the next `take` of a name gives the same memory again.

    One thread uses a Scratch at a time, and each name for one array at a time.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, npt.NDArray[np.uint8]] = {}
        self._left = np.empty(0, np.uint8)  # of the last block

    def take(self, name: str, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Return an array of this shape and type, with anything in it.

        >>> scratch = Scratch()
        >>> first = scratch.take("a", (2, 3), np.float32)
        >>> np.shares_memory(first, scratch.take("b", 4, np.int8))
        False
        >>> np.shares_memory(first, scratch.take("a", 4, np.int8))
        True
        """
        kind: np.dtype[Any] = np.dtype(dtype)
        n_bytes = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if name not in self._buffers or len(self._buffers[name]) < n_bytes:
            self._buffers[name] = self._allocate(-(-n_bytes // ALIGNMENT) * ALIGNMENT)
        return self._buffers[name][:n_bytes].view(kind).reshape(shape)

    def filled(self, name: str, shape: int | tuple[int, ...], dtype: npt.DTypeLike, value: int) -> Array:
        """Return such an array full of one value."""
        array = self.take(name, shape, dtype)
        array[...] = value
        return array

    def _allocate(self, n_bytes: int) -> npt.NDArray[np.uint8]:
        if len(self._left) < n_bytes:
            self._left = np.empty(max(n_bytes, BLOCK), np.uint8)
        taken, self._left = self._left[:n_bytes], self._left[n_bytes:]
        return taken
