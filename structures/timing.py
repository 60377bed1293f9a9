"""Where time goes: seconds per part of the work, parts inside others counted apart."""

import time
from collections.abc import Callable
from threading import local


class _Running(local):
    """The timers that run in this thread, the innermost last."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []


_running = _Running()


class Timer:
    """Measures a part of the work, as a context; timers inside it, on the same thread, are not counted twice.

    Args:
        name: of the part.
        settle: waits for what the part has only begun, such as work on a GPU; None where nothing is left.

    Attributes:
        seconds: by part: of this one without those inside it, and of those.

    >>> with Timer("heads") as timer:
    ...     with Timer("trunk"):
    ...         pass
    >>> sorted(timer.seconds)
    ['heads', 'trunk']
    """

    def __init__(self, name: str, *, settle: Callable[[], object] | None = None) -> None:
        self.name, self._settle = name, settle
        self.seconds: dict[str, float] = {}
        self._inside = 0.0

    def __enter__(self) -> "Timer":
        _running.timers.append(self)
        self._begin = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._settle is not None and exception[0] is None:
            self._settle()
        total = time.perf_counter() - self._begin
        _running.timers.remove(self)
        self._add({self.name: total - self._inside})
        if _running.timers:
            outer = _running.timers[-1]
            outer._add(self.seconds)
            outer._inside += total

    def _add(self, seconds: dict[str, float]) -> None:
        for name, spent in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
