"""Compiles Selective Search in another process, while this one loads and converts networks.

Both take seconds, are done once per installation, and cannot be done by two threads at the same time: they need
Python's lock, and tracing a network changes Python for all threads. What the other process compiles is read from the
user's cache.
"""

import atexit
import subprocess
import sys
from contextlib import suppress
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from structures.cache import cache_folder, keep, read_kept

KIND = "compiled"
MOST_SECONDS = 120  # that are waited for it; then this process compiles by itself
BEGIN = """
import os, sys
sys.path[:] = sys.argv[1:]
from structures.child_process import end_after
end_after(lambda: os.read(0, 1))
"""
CODE = """
import numpy as np
from proposals.compiling import note_compiled
from proposals.selective_search.search import SelectiveSearch
from proposals.selective_search.strategy import fast
SelectiveSearch(fast(), threads=1)(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
note_compiled()
"""

_begun: list["subprocess.Popen[bytes]"] = []


def begin_compiling() -> None:
    """Start to compile, unless that was done before, or there is no cache."""
    if _begun or cache_folder(KIND) is None or read_kept(KIND, _key()) is not None:
        return
    command, nothing = [sys.executable, "-c", BEGIN + CODE, *sys.path], subprocess.DEVNULL
    with suppress(OSError):  # no memory for a process: then it is done here
        _begun.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=nothing, stderr=nothing))
        atexit.register(_end)


def wait_until_compiled() -> None:
    """Wait for what was begun, if anything was; whether it succeeded does not matter."""
    for child in _begun:
        with suppress(subprocess.TimeoutExpired):
            child.wait(MOST_SECONDS)
    _end()


def _end() -> None:
    """End the other process with this one: nobody waits for it any more.

    Where this one is killed, the pipe to the other one closes, and it ends by itself.
    """
    for child in _begun:
        child.kill()
        child.communicate()  # closes the pipe


def note_compiled() -> None:
    """Note that a search was done here, which has compiled everything."""
    keep(KIND, _key(), b"done")


def _key() -> str:
    """Return a name for what is compiled: by which versions, from which sources."""
    total = blake2b(sys.version.encode(), digest_size=20)
    for package in ("numba", "llvmlite", "numpy"):
        with suppress(PackageNotFoundError):
            total.update(version(package).encode())
    for path in sorted((Path(__file__).parent / "selective_search").glob("*.py")):
        with suppress(OSError):
            total.update(path.read_bytes())
    return total.hexdigest()
