"""Writes files whole or not at all, and checks that a file named by others is a regular one.

The only place that replaces one file by another.
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

PARTIAL = ".partial"  # suffix of files that are being written
UNFINISHED = re.compile(rf"\.(?P<name>.+)\.(?P<process>\d+){re.escape(PARTIAL)}", re.DOTALL)
CHUNK = 2**20  # bytes that are read at a time
DIGEST_BYTES = 16


class FileRefused(InputError):
    """A file that must not be written to or removed; the message names it and says why."""


def regular_file(path: str | Path) -> Path:
    """Return the path of a regular file, links followed: opening a pipe or a device could wait forever.

    Raises:
        OSError: it is missing, or a folder, pipe, socket or device; names it.
    """
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:  # a NUL, or a character that the system cannot encode
        raise OSError(errno.EINVAL, f"no file can have this name: {error}", str(path)) from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file, but a pipe, socket or device", str(path))
    return Path(path)


def file_within(path: str | Path, max_bytes: int, expected: str, problem: type[InputError]) -> Path:
    """Return the path of a regular file that is not too large to be read as a whole.

    Args:
        path: the file; links are followed.
        max_bytes: the most that it may have.
        expected: what it should be, in a few words, for the message.
        problem: the error to raise.

    Raises:
        InputError: it is larger; names it and its size.
        OSError: as `regular_file` raises it.
    """
    size = regular_file(path).stat().st_size
    if size > max_bytes:
        raise problem(f"{path}: {size} bytes, expected {expected} of at most {max_bytes}")
    return Path(path)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a file to write; it replaces the one named if all goes well, else it is removed.

    Links are followed. Anything but a regular file, such as a pipe or /dev/stdout, is yielded unchanged, and so is what
    this process is replacing already: a killed one would leave an unfinished file of an unfinished file.

    Args:
        path: the final name; its folder is made if it is missing.

    Raises:
        OSError: it cannot be written; names it.
    """
    if path.exists() and (not path.is_file() or path.is_relative_to("/dev")):
        with _naming(path):
            yield path
        return
    unfinished = UNFINISHED.fullmatch(path.name)
    if unfinished and int(unfinished["process"]) == os.getpid():
        yield path
        return
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}{PARTIAL}")
    try:
        with _naming(path, partial):
            partial.unlink(missing_ok=True)  # of a killed process of the same number; no link is written through
            yield partial
            _sync(partial)
            os.replace(partial, target)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


@contextmanager
def _naming(path: Path, partial: Path | None = None) -> Iterator[None]:
    """Let errors of writing name the path: a full disk names no file, and others the unfinished one."""
    try:
        yield
    except OSError as error:
        if error.filename in (None, str(partial)):
            error.filename = str(path)
            del error.filename2  # None would be shown
        raise


def sweep(folder: Path, ours: Callable[[str], bool]) -> None:
    """Remove unfinished files of killed processes from a folder that no other process writes to.

    Args:
        folder: may be missing.
        ours: says whether this program writes a file of this name there.
    """
    for path in folder.glob(f".*{PARTIAL}"):
        match = UNFINISHED.fullmatch(path.name)
        if match and ours(match["name"]) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def digest(content: bytes) -> str:
    """Return the digest of the bytes of a file: 32 hexadecimal digits of their BLAKE2b."""
    return blake2b(content, digest_size=DIGEST_BYTES).hexdigest()


def file_digest(path: Path) -> str:
    """Return the digest of a file's bytes; see `digest`.

    Raises:
        OSError: it cannot be read.
    """
    found = blake2b(digest_size=DIGEST_BYTES)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def _sync(path: Path) -> None:
    """Flush the content to disk: else a power cut could leave an empty file."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the name of this file to an OSError that names none, such as that of a full disk."""
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
    """Write a text as UTF-8; what UTF-8 cannot encode, such as parts of odd file names, becomes a question mark."""
    write_bytes(path, text.encode(errors="replace"))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file; the caller has replaced NaN by null."""
    write_bytes(path, as_json(content))


def as_json(content: Any) -> bytes:
    """Return what `write_json` writes."""
    return f"{json.dumps(content, indent=2, allow_nan=False)}\n".encode(errors="replace")
