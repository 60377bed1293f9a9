"""A bounded queue of jobs and the one thread that works on them: what does not fit is refused at once."""

import math
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Condition, Thread

from detect.serving.jobs import Answer, Job, Limits, Work, failure

IDLE_SECONDS = 1.0  # between two looks after the detector while there is nothing to do
NEWEST = 0.2  # weight of the last photo in the mean time per photo
LONGEST_WAIT = 60  # seconds that a client is asked to wait before it tries again

Waiting = tuple[Job, "Future[Answer]"]


class Full(Exception):
    """A request that there is no place for now.

    Args:
        retry_after: seconds after which to try again.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"busy; try again in {retry_after} s")
        self.retry_after = retry_after


class Queue:
    """Hands jobs to the detector, several together where several wait.

    Args:
        work: answers them.
        limits: how many may wait, and how long.

    Attributes:
        taken: requests that have a place.
        groups: sizes of the groups that were handed over, since they were last asked for.
    """

    def __init__(self, work: Work, limits: Limits) -> None:
        self.work, self._limits = work, limits
        self.taken, self.groups = 0, deque[int](maxlen=1000)
        self._waiting, self._changed = deque[Waiting](), Condition()
        self._pace, self._closed = 0.0, False
        self._thread = Thread(target=self._run, name="detect", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Say whether jobs are worked on."""
        return self._thread.is_alive() and not self._closed and self.work.ready

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place for one request, before anything of it is read.

        Raises:
            Full: all are taken, or those before it would let it wait for too long.
        """
        with self._changed:
            soon = self.taken * self._pace
            in_vain = self.taken > 0 and soon + self._pace > self._limits.seconds
            if self._closed or self.taken >= self._limits.waiting or in_vain:
                raise Full(min(LONGEST_WAIT, max(1, math.ceil(soon / 2))))
            self.taken += 1
        try:
            yield
        finally:
            with self._changed:
                self.taken -= 1

    def put(self, job: Job) -> "Future[Answer]":
        """Hand over a job of a request that has a place; its answer may be cancelled while it waits."""
        future = Future[Answer]()
        with self._changed:
            self._waiting.append((job, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Take nothing more, finish what was taken, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while (group := self._next()) is not None:
            try:
                self._do(group) if group else self.work.look_after()
            except Exception:  # nothing may end this thread; the detector is started again when it is next needed
                traceback.print_exc()

    def _next(self) -> list[Waiting] | None:
        """Return the next jobs; none after a second without any, and None at the end."""
        with self._changed:
            if not self._waiting and not self._closed:
                self._changed.wait(IDLE_SECONDS)
            if not self._waiting:
                return None if self._closed else []
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._limits.together))]
        return [each for each in group if each[1].set_running_or_notify_cancel()]

    def _do(self, group: Sequence[Waiting]) -> None:
        self.groups.append(len(group))
        before, left = time.monotonic(), deque(group)
        try:
            for answer in self.work([job for job, _ in group]):
                before = self._note_pace(before)
                left.popleft()[1].set_result(answer)
        finally:
            for _, future in left:
                future.set_result(failure(500, "the detector failed"))

    def _note_pace(self, before: float) -> float:
        now = time.monotonic()
        self._pace = now - before if not self._pace else self._pace + NEWEST * (now - before - self._pace)
        return now
