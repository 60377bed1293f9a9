"""How much processor time may reading one file take? Checked whenever a decoder asks for more bytes.

Only the time of its own thread counts, so that a busy machine refuses no file that an idle one reads.
"""

import io
import time

from structures.errors import InputError


class TooSlow(InputError):
    """A file on which too much time was spent."""


class Deadline:
    """The seconds of this thread that one file may take, from now on.

    Args:
        seconds: of processor time.
        remedy: what the user can do, for the message.
    """

    def __init__(self, seconds: float, remedy: str) -> None:
        self._seconds, self._remedy, self._end = seconds, remedy, time.thread_time() + seconds

    def check(self) -> None:
        """Do nothing while there is time left.

        Raises:
            TooSlow: the time is up.
        """
        if time.thread_time() > self._end:
            raise TooSlow(f"takes more than {self._seconds:.3g} s of processor time, the limit ({self._remedy})")


class TimedReader(io.BufferedReader):
    """Reads bytes or a file until a deadline: a decoder that never ends comes back for more.

    Args:
        source: `io.BytesIO` or `io.FileIO`.
        deadline: of all work on it.
    """

    def __init__(self, source: io.BytesIO | io.FileIO, deadline: Deadline) -> None:
        super().__init__(source)
        self._deadline = deadline

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does, or raise TooSlow."""
        self._deadline.check()
        return super().read(size)
