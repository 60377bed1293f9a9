"""One writer at a time: a lock that the system takes back when the process ends, however it ends."""

import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def lock(file: IO[Any] | int) -> bool:
    """Lock an open file or folder for this process, without waiting.

    Returns:
        False if another run holds it. True also where the system knows no such locks: Windows, some network folders.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def lock_folder(folder: Path, owner: object) -> Callable[[], Any] | None:
    """Lock a folder for as long as its owner lives, without waiting.

    Returns:
        Unlocks earlier than that; None if another run holds the folder.
    """
    if os.name == "nt":  # folders cannot be opened there
        return lambda: None
    descriptor = os.open(folder, os.O_RDONLY)
    unlock = weakref.finalize(owner, os.close, descriptor)
    if lock(descriptor):
        return unlock
    unlock()
    return None
