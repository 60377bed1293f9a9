"""Reads a file in a separate process, with limits on time and memory: a crash ends only that process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np

from proposals.stored.foreign_entries import Entries, ForeignError
from structures.files import regular_file
from structures.json_reader import parse_json

SECONDS, SECONDS_PER_MB = 60, 5  # a large file takes 0.2 s per MB
BYTES, BYTES_PER_BYTE = 2**29, 32  # boxes of compressed files take about ten times as much
CODE = "import sys; sys.path[:] = sys.argv[3:]; from proposals.stored.child_reader import serve; serve(*sys.argv[1:3])"


def read_apart(path: Path) -> Entries:
    """Read a .mat or .pkl file of proposals in a child process.

    Raises:
        ForeignError: the file is not one of these, or reading it crashes, or takes too long or too much memory.
        OSError: the file cannot be opened.
    """
    with regular_file(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
    limit, memory = SECONDS + SECONDS_PER_MB * size / 2**20, BYTES + BYTES_PER_BYTE * size
    command = [sys.executable, "-c", CODE, str(path), str(memory), *sys.path]
    alone = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # each thread would count as memory
    try:
        child = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=alone, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        raise ForeignError(f"{path}: reading it took longer than {limit:.0f} s and was stopped") from None
    if child.returncode:
        raise ForeignError(f"{path}: reading it crashed ({_ending(child)}): the file is damaged")
    return _unpack(child.stdout, path)


def _ending(child: "subprocess.CompletedProcess[bytes]") -> str:
    if child.returncode < 0:
        return signal.Signals(-child.returncode).name
    lines = child.stderr.decode(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line), f"exit code {child.returncode}")


def serve(path: str, memory: str) -> None:
    """Be the child: read the file within a limit of bytes, and write what was found, or what is wrong, to stdout."""
    from proposals.stored.foreign_mat import read_mat
    from proposals.stored.foreign_pickle import read_pickle

    readers: Mapping[str, Callable[[Path], Entries]] = {".mat": read_mat}
    out = sys.stdout.buffer
    try:
        if path.lower().endswith(".mat"):
            import scipy.io  # noqa: F401  # before memory is limited
        _limit_memory(int(memory))
        entries = readers.get(Path(path).suffix.lower(), read_pickle)(Path(path))
    except (ForeignError, OSError) as error:
        out.write(json.dumps({"error": str(error)}).encode())
    except MemoryError:
        out.write(json.dumps({"error": f"{path}: reading it takes far more memory than its size warrants"}).encode())
    else:
        _pack(entries, out)


def _limit_memory(more: int) -> None:
    """Have the system refuse more memory than this on top of what is in use, where it can."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError):  # not Linux
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _pack(entries: Entries, out: IO[bytes]) -> None:
    """Write names and numbers of boxes as a line of JSON, then all boxes and all scores as float32."""
    counts = [len(scores) for _, scores in entries.values()]
    out.write(json.dumps({"names": list(entries), "counts": counts}).encode() + b"\n")
    for column in (0, 1):
        for entry in entries.values():
            out.write(np.ascontiguousarray(entry[column], np.float32).tobytes())


def _unpack(content: bytes, path: Path) -> Entries:
    header, _, values = content.partition(b"\n")
    found = parse_json(header, path)
    if "error" in found:
        raise ForeignError(found["error"])
    bounds = np.cumsum([0, *found["counts"]])
    numbers = np.frombuffer(values, np.float32)
    boxes, scores = numbers[: 4 * bounds[-1]].reshape(-1, 4), numbers[4 * bounds[-1] :]
    rows = [slice(first, last) for first, last in pairwise(bounds)]
    return {name: (boxes[row], scores[row]) for name, row in zip(found["names"], rows, strict=True)}
