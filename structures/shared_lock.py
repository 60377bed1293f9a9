"""A shared lock: any number of threads may hold it together, or a single one alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class SharedLock:
    """A readers-writer lock; a thread that waits to hold it alone goes before threads that come later.

    A thread that holds it must not ask for it again.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing, self._exclusive = 0, False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold it together with others: waits while a thread holds it alone, or waits to."""
        with self._changed:
            self._changed.wait_for(lambda: not self._exclusive)
            self._sharing += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharing -= 1
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold it alone: waits until all others have let go."""
        with self._changed:
            self._changed.wait_for(lambda: not self._exclusive)
            self._exclusive = True
            self._changed.wait_for(lambda: not self._sharing)
        try:
            yield
        finally:
            with self._changed:
                self._exclusive = False
                self._changed.notify_all()


MODULES = SharedLock()  # shared: run torch modules that several threads use; exclusive: trace one, which changes torch
