"""A bounded queue of jobs, and the thread that processes them; jobs that do not fit are refused at once."""

import math
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Condition, Thread

from detect.serving.jobs import Answer, Job, Limits, Worker, failure

IDLE_SECONDS = 1.0  # between two checks of the detector while there is nothing to do
NEWEST = 0.2  # weight of the last photo in the mean time per photo
LONGEST_WAIT = 60  # most seconds that a client is asked to wait before it tries again

Waiting = tuple[Job, "Future[Answer]"]


class Full(Exception):
    """There is no place for a request now.

    Args:
        retry_after: seconds after which to try again.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"busy; try again in {retry_after} s")
        self.retry_after = retry_after


class Queue:
    """Hands jobs to the detector, several together if several are waiting.

    Args:
        work: answers jobs.
        limits: how many jobs may wait, and how long.

    Attributes:
        taken: number of requests that have a place.
        groups: sizes of the groups that were handed over since the metrics were last read.
    """

    def __init__(self, work: Worker, limits: Limits) -> None:
        self.work, self._limits = work, limits
        self.taken, self.groups = 0, deque[int](maxlen=1000)
        self._waiting, self._changed = deque[Waiting](), Condition()
        self._pace, self._closed = 0.0, False
        self._handed, self._since = deque[Waiting](), 0.0  # to the detector; when it started on the first of them
        self._thread = Thread(target=self._run, name="detect", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether jobs are processed."""
        return self._thread.is_alive() and not self._closed and self.work.ready

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place for one request, before its body is read.

        Raises:
            Full: all places are taken, or the wait would be too long.
        """
        with self._changed:
            before = self._before
            in_vain = before > 0 and (before + 1) * self._pace > self._limits.seconds
            if self._closed or self.taken >= self._limits.waiting or in_vain:
                raise self.later()
            self.taken += 1
        try:
            yield
        finally:
            with self._changed:
                self.taken -= 1

    def put(self, job: Job) -> "Future[Answer]":
        """Queue the job of a request that has a place; its future can be cancelled while it waits."""
        future = Future[Answer]()
        with self._changed:
            self._waiting.append((job, future))
            self._changed.notify()
        return future

    def give_up(self, future: "Future[Answer]") -> str:
        """Cancel a job whose time is up; return the fault of the photo, or "" if the job may be tried again."""
        future.cancel()
        try:
            first = self._handed[0][1]
        except IndexError:
            first = None
        long = time.monotonic() - self._since > self._limits.seconds / 2
        blamed = first is future and long and self.work.ready
        return f"detecting on this photo takes longer than {self._limits.seconds:g} s" if blamed else ""

    def later(self) -> Full:
        """Return the error for a request that may be tried again."""
        return Full(min(LONGEST_WAIT, max(1, math.ceil(self._before * self._pace / 2))))

    @property
    def _before(self) -> int:
        """Number of photos before the next one, including those of clients that have gone."""
        return max(self.taken, len(self._waiting) + len(self._handed))

    def close(self) -> None:
        """Accept nothing more, finish the queued jobs, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while (group := self._next()) is not None:
            try:
                self._do(group) if group else self.work.look_after()
            except Exception:  # nothing may end this thread; the detector is restarted when it is next needed
                traceback.print_exc()

    def _next(self) -> list[Waiting] | None:
        """Return the next jobs; an empty list after a second without any, and None at the end."""
        with self._changed:
            if not self._waiting and not self._closed:
                self._changed.wait(IDLE_SECONDS)
            if not self._waiting:
                return None if self._closed else []
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._limits.together))]
        return [each for each in group if each[1].set_running_or_notify_cancel()]

    def _do(self, group: Sequence[Waiting]) -> None:
        self.groups.append(len(group))
        self._since = time.monotonic()
        self._handed.extend(group)
        try:
            for answer in self.work([job for job, _ in group]):
                self._note_pace()
                self._handed.popleft()[1].set_result(answer)
        finally:
            while self._handed:
                self._handed.popleft()[1].set_result(failure(500, "the detector failed"))

    def _note_pace(self) -> None:
        now = time.monotonic()
        spent = now - self._since
        self._pace, self._since = spent if not self._pace else self._pace + NEWEST * (spent - self._pace), now
