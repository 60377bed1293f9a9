"""Digests of files, kept with size and time of change: only a file where these differ is read again.

They are kept in the folder of a run, in `.rcnn.files`: a header, then 48 bytes for each file, found by a digest of its
name. It is a cache: if it is missing, damaged or another program's, files are read again, and nothing is lost.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from structures.files import file_digest, regular_file
from structures.own_files import inside

DIGESTS_FILE = ".rcnn.files"
ENTRY = np.dtype([("name", "<u8", 2), ("size", "<i8"), ("time", "<i8"), ("digest", "<u8", 2)])
PACKED = Struct("<16sqq16s")  # the same
HEADER = b"googlenet-rcnn files 1\n".ljust(ENTRY.itemsize)
DIGEST_BYTES = 16
TOGETHER = 4096  # files that are looked up at a time
WAITING = 64  # entries that are written at a time; a killed run loses at most these, which costs only time


class Stamp(NamedTuple):
    """By what a changed file is noticed.

    Attributes:
        size: in bytes.
        time: of the last change, in nanoseconds.
    """

    size: int
    time: int


def stamp_of(path: str | Path) -> Stamp | None:
    """Return the stamp of a file, None if there is none; taken before the file is read, it shows later changes."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # there is no file of an impossible name
        return None
    return Stamp(found.st_size, found.st_mtime_ns)


class FileDigests:
    """The digests kept in one folder, to which no other process may write meanwhile.

    Args:
        folder: must exist.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._waiting = inside(folder, DIGESTS_FILE), list[bytes]()
        self._latest: tuple[str | Path, Stamp, str] | None = None  # photos that are one file, a film, come in a row
        self._entries = _read(self._path)
        first = self._entries["name"][:, 0]
        self._order = np.argsort(first, kind="stable")  # of two entries for a file the later one counts
        self._first = first[self._order]

    def digests(self, files: Iterable[tuple[str, str | Path]]) -> Iterator[tuple[str, str]]:
        """Yield name and digest of each file, as `structures.files.file_digest` has it; keep those that had to be read.

        Args:
            files: name and path of each.

        Yields:
            The name, and the digest; "" for a file that cannot be read, which its reader will report.
        """
        rest = iter(files)
        while some := list(islice(rest, TOGETHER)):
            for (name, path), kept in zip(some, self._find([name for name, _ in some]), strict=True):
                stamp = stamp_of(path)
                if stamp is None:
                    yield name, ""
                else:
                    yield name, kept[1] if stamp == kept[0] else self._digest(name, path, stamp)

    def _digest(self, name: str, path: str | Path, stamp: Stamp) -> str:
        if self._latest is None or self._latest[:2] != (path, stamp):
            try:
                self._latest = path, stamp, file_digest(regular_file(path))
            except OSError:
                return ""
        digest = self._latest[2]
        self.add(name, stamp, digest)
        return digest

    def add(self, name: str, stamp: Stamp, digest: str) -> None:
        """Keep the digest of a file of this name and stamp."""
        self._waiting.append(PACKED.pack(_key(name), stamp.size, stamp.time, bytes.fromhex(digest)))
        if len(self._waiting) >= WAITING:
            self.write()

    def write(self) -> None:
        """Write the entries that wait; where that is not possible, they are forgotten."""
        waiting, self._waiting = b"".join(self._waiting), []
        with suppress(OSError):
            if waiting and _is_ours(self._path):
                with self._path.open("r+b" if self._path.exists() else "w+b") as file:
                    end = file.seek(0, os.SEEK_END)
                    file.seek(end - end % ENTRY.itemsize)  # over what a killed process left of an entry
                    file.write((HEADER if end < len(HEADER) else b"") + waiting)

    def _find(self, names: list[str]) -> list[tuple[Stamp | None, str]]:
        """Return the stamp and digest that are kept for each name."""
        keys = _numbers(b"".join(map(_key, names)))
        if not len(self._first):
            return [(None, "")] * len(names)
        rows = self._order[np.maximum(np.searchsorted(self._first, keys[:, 0], side="right") - 1, 0)]
        entries = self._entries[rows]
        known = (entries["name"] == keys).all(axis=1)
        digests = entries["digest"].tobytes().hex()
        stamps = zip(known.tolist(), entries["size"].tolist(), entries["time"].tolist(), strict=True)
        return [
            (Stamp(size, time) if there else None, digests[32 * row : 32 * row + 32])
            for row, (there, size, time) in enumerate(stamps)
        ]


def _key(name: str) -> bytes:
    return blake2b(name.encode(errors="surrogatepass"), digest_size=DIGEST_BYTES).digest()


def _numbers(digests: bytes) -> npt.NDArray[np.uint64]:
    return np.frombuffer(digests, "<u8").reshape(-1, 2)


def _read(path: Path) -> npt.NDArray[Any]:
    with suppress(OSError):
        if path.exists() and _is_ours(path):
            content = path.read_bytes()[len(HEADER) :]
            return np.frombuffer(content[: len(content) // ENTRY.itemsize * ENTRY.itemsize], ENTRY)
    return np.zeros(0, ENTRY)


def _is_ours(path: Path) -> bool:
    """Say whether a file is missing, or has our header."""
    if not path.exists():
        return True
    with regular_file(path).open("rb") as file:
        begin = file.read(len(HEADER))
    return HEADER.startswith(begin)
