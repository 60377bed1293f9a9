"""The only place that uses numba: typed, cached on disk, free of Python's lock, and compiled at the first call only.

The compiled code lies in the user's cache, since the folder of the package may be read-only; without that cache, where
numba has it by itself. Numba unpickles what it finds there, which can run code: it must be a folder that no one else
can write to.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import numba
import numpy.typing as npt

from structures.cache import cache_folder

Function = TypeVar("Function", bound=Callable[..., object])
Array = npt.NDArray[Any]

_placing = threading.Lock()  # numba has one setting for the whole process


def compiled(function: Function) -> Function:
    """Compile a function when it is first called; later processes read the result from disk.

    Sums may be reordered, so that they run on several numbers at once. Infinities and NaN keep their meaning.
    """
    return _cached(function, fastmath={"reassoc", "nsz"})


def inlined(function: Function) -> Function:
    """Compile a small function, which allocates nothing, into each of its callers."""
    return cast(Function, numba.njit(function, nogil=True, forceinline=True, fastmath={"reassoc", "nsz"}, _nrt=False))


def in_order(function: Function) -> Function:
    """Compile as `inlined` does, but keep the order of sums, so that all callers get the same to the last bit."""
    return cast(Function, numba.njit(function, nogil=True, forceinline=True, _nrt=False))


def unmanaged(function: Function) -> Function:
    """Compile as `compiled` does, for a function that allocates nothing: then it counts no references to arrays."""
    return _cached(function, fastmath={"reassoc", "nsz"}, _nrt=False)


def _cached(function: Function, **options: Any) -> Function:
    with _in_the_users_cache():
        try:
            return cast(Function, numba.njit(function, nogil=True, cache=True, **options))
        except RuntimeError:  # numba finds no folder that it can write to
            return cast(Function, numba.njit(function, nogil=True, **options))


@contextmanager
def _in_the_users_cache() -> Iterator[None]:
    """Have numba keep functions in the user's cache, unless NUMBA_CACHE_DIR names a place for it."""
    folder = None if numba.config.CACHE_DIR else cache_folder("numba")
    if folder is None:
        yield
        return
    with _placing:
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder)
        try:
            yield
        finally:
            numba.config.CACHE_DIR = before
