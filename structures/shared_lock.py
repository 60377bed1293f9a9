"""What many threads may do at once, but none while one does the other thing."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Lets in any number of threads together, or a single one alone, which new ones wait for.

    Neither may be entered again by a thread that is inside.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside, self._alone = 0, False

    @contextmanager
    def together(self) -> Iterator[None]:
        """Wait until nobody is alone, or wants to be."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait for those inside to leave; the next come in afterwards."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._alone = True
            self._changed.wait_for(lambda: not self._inside)
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()


MODULES = Turns()  # together: run torch modules that several threads use; alone: trace one, which changes torch for all
