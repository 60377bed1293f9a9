"""The user's cache: files that cost time to make again and may go at any moment, such as converted networks.

Each user has a folder of their own in it, and what others could have written to is not used. RCNN_CACHE names another
place, or is "off". If anything goes wrong here, the work continues without a cache.
"""

import os
import stat
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from structures.files import UNFINISHED, regular_file, write_bytes

CACHE_VARIABLE = "RCNN_CACHE"
OFF = "off"
APPLICATION = "googlenet-rcnn"
MOST_BYTES = 10**9  # of all files together; beyond it those that were used least recently go
LARGEST = MOST_BYTES // 2  # of one file
MAGIC = b"googlenet-rcnn's cache"  # our files begin with it: where RCNN_CACHE names a place, there may be others
DIGEST_BYTES = 32
HEAD_BYTES = len(MAGIC) + DIGEST_BYTES
OF_NUMBA = (".nbi", ".nbc")


def cache_folder(name: str) -> Path | None:
    """Return a private folder for files of one kind, made if it is missing; None where there is to be no cache.

    Args:
        name: of the kind.
    """
    try:
        root = _root()
        if root is None:
            return None
        folder = root / name
        return folder if _is_private(root) and _is_private(folder) else None
    except (ImportError, OSError, RuntimeError, ValueError):  # no platformdirs, home, room or right; a NUL in the name
        return None


def _root() -> Path | None:
    """Return the user's folder; the number keeps users apart who share a place, as with sudo."""
    named = os.environ.get(CACHE_VARIABLE)
    if named == OFF:
        return None
    if named:
        place = Path(named).expanduser().absolute()
    else:
        from platformdirs import user_cache_path

        place = user_cache_path(APPLICATION, appauthor=False)
    return place / (f"user-{os.getuid()}" if hasattr(os, "getuid") else "user")


def _is_private(folder: Path) -> bool:
    """Make a folder, and say whether it is the user's alone to write to."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not hasattr(os, "getuid"):  # on Windows the folder of the user is private
        return folder.is_dir()
    found = folder.lstat()
    others = stat.S_IWGRP | stat.S_IWOTH
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & others


def read_kept(kind: str, name: str) -> bytes | None:
    """Return what was kept by a name; None if there is nothing, or it is damaged."""
    folder = cache_folder(kind)
    if folder is None:
        return None
    try:
        path = regular_file(folder / name)
        if path.stat().st_size > LARGEST:
            return None
        content = path.read_bytes()
    except (OSError, MemoryError):
        return None
    kept = content[HEAD_BYTES:]
    if content[:HEAD_BYTES] != _head(kept):
        return None
    with suppress(OSError):
        os.utime(path)  # used just now
    return kept


def keep(kind: str, name: str, content: bytes) -> None:
    """Keep bytes by a name, if that can be done, and make room for them."""
    folder = cache_folder(kind)
    if folder is None or len(content) + HEAD_BYTES > LARGEST:
        return
    with suppress(OSError):
        write_bytes(folder / name, _head(content) + content)
        _sweep(folder.parent)


def _head(content: bytes) -> bytes:
    return MAGIC + blake2b(content, digest_size=DIGEST_BYTES).digest()


def _sweep(root: Path) -> None:
    """Remove our files, the least recently used first, until the rest is small enough."""
    files = []
    for folder, _, names in os.walk(root):  # does not follow links
        for name in names:
            path = Path(folder, name)
            with suppress(OSError):  # another process sweeps, too
                found = path.lstat()
                used = _last_used(path, found)
                if used is not None:
                    files.append((used, found.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= MOST_BYTES:
            return
        with suppress(OSError):
            path.unlink()
            total -= size


def _last_used(path: Path, found: os.stat_result) -> float | None:
    """Return when a file was last used; None for one of others."""
    if not stat.S_ISREG(found.st_mode):
        return None
    if path.suffix in OF_NUMBA or UNFINISHED.fullmatch(path.name):
        return max(found.st_atime, found.st_mtime)
    with path.open("rb") as file:
        return found.st_mtime if file.read(len(MAGIC)) == MAGIC else None
