"""The only place that uses numba: typed, cached on disk, free of Python's lock, and compiled at the first call only.

No function here allocates memory: arrays come from the caller, so that no references are counted. The first call of a
new installation compiles everything, which takes seconds (benchmarks/LOG.md). So few functions can be called from
Python, and helpers get numbers of one type each: every type of argument is compiled by itself.

The compiled code lies in the user's cache, since the folder of the package may be read-only; without that cache, where
numba has it by itself. Numba unpickles what it finds there, which can run code: it must be a folder that no one else
can write to.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar, cast

import numba
import numpy.typing as npt
from numba.core.caching import FunctionCache

from structures.cache import cache_folder

Function = TypeVar("Function", bound=Callable[..., object])
Array = npt.NDArray[Any]

OPTIONS = {"nogil": True, "_nrt": False, "no_cfunc_wrapper": True}
REORDERED = {"reassoc", "nsz"}  # sums may be

_placing = threading.Lock()  # numba has one setting for the whole process


def compiled(function: Function) -> Function:
    """Compile a function that Python calls, at the first call; later processes read the result from disk.

    Sums may be reordered, so that they run on several numbers at once. Infinities and NaN keep their meaning.
    """
    options: dict[str, Any] = {**OPTIONS, "fastmath": REORDERED}
    with _in_the_users_cache():
        made = numba.njit(function, **options)
        with suppress(RuntimeError):  # numba finds no folder that it can write to
            made._cache = _Cache(function)
        return cast(Function, made)


class _Cache(FunctionCache):  # type: ignore[misc]  # numba has no types
    """Numba's cache of a function, without which the work continues: the disk may be full, or a file damaged."""

    def load_overload(self, *given: Any) -> Any:
        """Return the compiled code for a signature; None where there is none that can be read."""
        try:
            return super().load_overload(*given)
        except Exception:  # numba unpickles: anything may be raised
            with suppress(OSError):
                self.flush()  # else what is compiled now could not be kept
            return None

    def save_overload(self, *given: Any) -> None:
        """Keep the compiled code for a signature, if that can be done."""
        with suppress(OSError):
            super().save_overload(*given)


def helper(function: Function) -> Function:
    """Compile a function that only compiled ones call."""
    return cast(Function, numba.njit(function, fastmath=REORDERED, no_cpython_wrapper=True, **OPTIONS))


def inlined(function: Function) -> Function:
    """Compile a small function into each of its callers, which are compiled ones."""
    settings: dict[str, Any] = {**OPTIONS, "no_cpython_wrapper": True, "forceinline": True}
    return cast(Function, numba.njit(function, fastmath=REORDERED, **settings))


def in_order(function: Function) -> Function:
    """Compile as `inlined` does, but keep the order of sums, so that all callers get the same to the last bit."""
    settings: dict[str, Any] = {**OPTIONS, "no_cpython_wrapper": True, "forceinline": True}
    return cast(Function, numba.njit(function, **settings))


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
