"""One writer at a time: a lock that the system takes back when the process ends, however it ends."""

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
