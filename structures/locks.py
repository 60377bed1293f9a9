"""One writer per folder: a lock that the system releases when the process ends, however it ends."""

import errno
from pathlib import Path
from typing import Protocol

from structures.errors import InputError
from structures.files import naming

LOCK_FILE = ".rcnn.lock"  # hidden, so that searches for photos skip it
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}  # flock(2), where a file system has none


class FolderInUse(InputError):
    """Another run writes into a folder; the message names it."""


class Lock(Protocol):
    """A lock that is held."""

    def release(self) -> None:
        """Give it up."""


class _NoLock:
    def release(self) -> None:
        pass


def lock_folder(folder: Path) -> Lock:
    """Lock a folder for this process alone, without waiting; child processes do not inherit the lock.

    The lock is an empty file in the folder, LOCK_FILE. It stays there: if it were removed, two runs could each lock a
    file of that name. On a file system without locks, or without the package filelock, nothing is locked, and runs are
    not kept apart.

    Args:
        folder: must exist.

    Returns:
        The lock; `release()` ends it, and so does deleting the object.

    Raises:
        FolderInUse: another run holds it.
        OSError: the file cannot be written.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as name:
    ...     lock = lock_folder(Path(name))
    ...     lock_folder(Path(name))
    Traceback (most recent call last):
        ...
    structures.locks.FolderInUse: ...: another run is writing here; wait for it or name another folder
    """
    try:
        from filelock import FileLock, Timeout
    except ImportError:
        return _NoLock()
    lock = FileLock(folder / LOCK_FILE, thread_local=False, fallback_to_soft=False)  # a soft lock outlives its process
    try:
        with naming(folder / LOCK_FILE):
            lock.acquire(blocking=False)
    except Timeout:
        raise FolderInUse(f"{folder}: another run is writing here; wait for it or name another folder") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return lock
