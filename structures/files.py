"""Files that appear whole or not at all, and the check before one is read that somebody else named.

The only place that puts a file in the place of another.
"""

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from structures.errors import InputError

PARTIAL = ".partial"  # the end of the names of files that are being written
UNFINISHED = re.compile(rf"\.(?P<name>.+)\.(?P<process>\d+){re.escape(PARTIAL)}", re.DOTALL)
CHUNK = 2**20  # bytes that are read at a time


class FileRefused(InputError):
    """A file that must not be written to or removed; the message names it and says why."""


def regular_file(path: str | Path) -> Path:
    """Return the path of a file to read if it is one, links followed: opening a pipe or a device may wait for ever.

    Raises:
        OSError: nothing is there, or a folder, pipe, socket or device; names it.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file, but a pipe, socket or device", str(path))
    return Path(path)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the path of a file to write; it takes the place of the one named when all went well, else it is removed.

    Links are followed. What is no plain file, such as a pipe or /dev/stdout, is given as it is.

    Args:
        path: the file to be; its folder is made if it is missing.

    Raises:
        OSError: it cannot be written; names it.
    """
    if path.exists() and (not path.is_file() or path.is_relative_to("/dev")):
        yield path
        return
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}{PARTIAL}")
    try:
        yield partial
        _sync(partial)
        os.replace(partial, target)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.filename in (None, str(partial)):  # a full disk names no file
            error.filename, error.filename2 = str(path), None
        raise


def sweep(folder: Path, ours: Callable[[str], bool]) -> None:
    """Remove what killed processes left unfinished in a folder that no other process writes to at the same time.

    Args:
        folder: which one; may be missing.
        ours: whether a file of this name is one of those that this program writes there.
    """
    for path in folder.glob(f".*{PARTIAL}"):
        match = UNFINISHED.fullmatch(path.name)
        if match and ours(match["name"]) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """Return a digest of a file's bytes: 32 hexadecimal digits of its BLAKE2b.

    Raises:
        OSError: it cannot be read.
    """
    digest = blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Have the disk take the content: else a power cut could leave the name without it."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an OSError that names no file, as that of a full disk, name this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, as `replacing` does.

    Raises:
        OSError: it cannot be written; names it.
    """
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8; what UTF-8 cannot hold, such as parts of odd file names, becomes a question mark."""
    write_bytes(path, text.encode(errors="replace"))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file; NaN must have become null before."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
