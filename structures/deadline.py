"""How long may reading one file keep the processor? Asked wherever a decoder wants more bytes.

Only the time of the thread counts, so that a busy machine refuses no file that an idle one reads.
"""

import io
import time
from pathlib import Path

from structures.errors import InputError


class TooSlow(InputError):
    """A file on which too much time was spent."""


class Deadline:
    """The seconds of this thread that one file may take, from now on.

    Args:
        seconds: of the processor.
        remedy: what the user can do, for the message.
    """

    def __init__(self, seconds: float, remedy: str) -> None:
        self._seconds, self._remedy, self._end = seconds, remedy, time.thread_time() + seconds

    def check(self) -> None:
        """Go on.

        Raises:
            TooSlow: the time is up.
        """
        if time.thread_time() > self._end:
            raise TooSlow(f"takes longer than {self._seconds:.3g} s of the processor, the limit ({self._remedy})")


class TimedBytes(io.BytesIO):
    """Bytes that are read until a deadline: a reader that never ends comes back for more."""

    def __init__(self, content: bytes, deadline: Deadline) -> None:
        super().__init__(content)
        self._deadline = deadline

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does, or raise TooSlow."""
        self._deadline.check()
        return super().read(size)


class TimedFile(io.FileIO):
    """The same of a file on disk, of which mostly the head is read."""

    def __init__(self, path: Path, deadline: Deadline) -> None:
        super().__init__(path)
        self._deadline = deadline

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does, or raise TooSlow."""
        self._deadline.check()
        return super().read(size) or b""
