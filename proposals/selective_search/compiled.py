"""The one door to numba: typed, cached on disk, free of Python's lock, and compiled at the first call only."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy.typing as npt

Function = TypeVar("Function", bound=Callable[..., object])
Array = npt.NDArray[Any]


def compiled(function: Function) -> Function:
    """Compile a function when it is first called; later processes read the result from disk.

    Sums may be reordered, so that they run on several numbers at once. Infinities and NaN keep their meaning.
    """
    return cast(Function, numba.njit(function, nogil=True, cache=True, fastmath={"reassoc", "nsz"}))


def inlined(function: Function) -> Function:
    """Compile a small function, which allocates nothing, into each of its callers."""
    return cast(Function, numba.njit(function, nogil=True, forceinline=True, fastmath={"reassoc", "nsz"}, _nrt=False))


def in_order(function: Function) -> Function:
    """Compile as `inlined` does, but keep the order of sums, so that all callers get the same to the last bit."""
    return cast(Function, numba.njit(function, nogil=True, forceinline=True, _nrt=False))


def unmanaged(function: Function) -> Function:
    """Compile as `compiled` does, for a function that allocates nothing: then it counts no references to arrays."""
    return cast(Function, numba.njit(function, nogil=True, cache=True, fastmath={"reassoc", "nsz"}, _nrt=False))
