"""Cores that this process may use, and a limit for each library: PyTorch, OpenVINO, OpenCV and Selective Search.

`keep_to` sets the limit, else the environment variable OMP_NUM_THREADS does, which PyTorch reads by itself.
"""

import os

OPENMP_THREADS = "OMP_NUM_THREADS"  # of OpenMP's standard; a list is of nested levels, the outermost first

_kept: list[int] = []  # what keep_to said last


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_to(count: int) -> None:
    """Keep what asks here to a number of threads from now on, whatever the environment says."""
    _kept[:] = [count]


def thread_limit() -> int | None:
    """Return how many threads a library may use; None if nothing was said."""
    stated = os.environ.get(OPENMP_THREADS, "").partition(",")[0].strip()
    return _kept[0] if _kept else (int(stated) or None) if stated.isdecimal() else None


def within_limit(threads: int) -> int:
    """Return a number of threads, or the limit if that is lower."""
    limit = thread_limit()
    return threads if limit is None else min(threads, limit)
