"""The detector in a separate process: a photo that crashes or hangs it does not bring down the server."""

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from detect.serving.jobs import Answer, Job, Offer, failure
from structures.child_process import end_with_parent
from structures.errors import InputError

LOADING_SECONDS = 600.0  # networks are converted at the first start
END_SECONDS = 5.0  # for the process to end by itself
END = None  # sent instead of jobs, to end the process

Loader = Callable[[], Any]  # returns a `detect.serving.jobs.Worker` with an offer


class Lost(Exception):
    """The process ended, or did not answer in time.

    Args:
        hung: whether it did not answer in time.
    """

    def __init__(self, *, hung: bool = False) -> None:
        super().__init__("the detector does not answer" if hung else "the detector's process ended")
        self.hung = hung


class Child:
    """Does `detect.serving.jobs.Worker` in a separate process. A photo on which the process ends is tried twice.

    Args:
        load: loads the detector; must be a module's function or a record, to be sent to the process.
        seconds: time for a photo, after which the process counts as hanging and is killed.

    Raises:
        InputError: `load` raised an error.
    """

    def __init__(self, load: Loader, *, seconds: float) -> None:
        self._load, self._seconds, self.restarts = load, seconds, 0
        self._process: Any = None
        self._pipe: Connection | None = None
        self.offer: Offer = self._start()

    @property
    def ready(self) -> bool:
        """Whether the process is running and has loaded the detector."""
        return self._pipe is not None and self._process.exitcode is None

    def look_after(self) -> None:
        """Restart the process if it has ended."""
        if not self.ready:
            self._restart()

    def close(self) -> None:
        """End the process."""
        if self._pipe is not None:
            with suppress(OSError):
                self._pipe.send(END)
            self._process.join(END_SECONDS)
        self._end()

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Answer]:
        """Yield an answer to each job, in order."""
        answered = 0
        try:
            for answer in self._ask(jobs):
                yield answer
                answered += 1
            return
        except Lost as lost:
            hung = lost.hung
        self._restart()
        if hung:
            yield self._too_long()
            answered += 1
        for place, job in enumerate(jobs[answered:]):
            suspect = place == 0 and not hung
            yield self._alone(job, tries=1 if suspect else 2)

    def _alone(self, job: Job, *, tries: int) -> Answer:
        for _ in range(tries):
            try:
                return next(self._ask([job]))
            except Lost as lost:
                self._restart()
                if lost.hung:
                    return self._too_long()
        return failure(500, "the detector's process ended on this photo, twice")

    def _too_long(self) -> Answer:
        return failure(504, f"detecting on this photo took longer than {self._seconds:g} s; it was given up")

    def _ask(self, jobs: Sequence[Job]) -> Iterator[Answer]:
        if self._pipe is None:
            self._start()
        assert self._pipe is not None, "the process is started"
        try:
            self._pipe.send(list(jobs))
            for _ in jobs:
                if not self._pipe.poll(self._seconds):
                    raise Lost(hung=True)
                yield self._pipe.recv()
        except (EOFError, OSError):
            raise Lost from None

    def _restart(self) -> None:
        self._end()
        self.restarts += 1
        print("rcnn: the detector's process ended or hung, and is restarted", file=sys.stderr)
        self._start()

    def _start(self) -> Offer:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._load), name="detect", daemon=True)
        self._process.start()
        theirs.close()  # so that reading ends with the process
        try:
            offer = self._first_words(ours)
        except BaseException:  # a stop among them, which must not wait until the detector is loaded
            ours.close()
            self._end()
            raise
        self._pipe = ours
        return offer

    def _first_words(self, pipe: Connection) -> Offer:
        try:
            hello = pipe.recv() if pipe.poll(LOADING_SECONDS) else "this takes too long"
        except (EOFError, OSError):
            hello = f"its process ended with exit code {self._exit_code()}"
        if not isinstance(hello, Offer):
            raise InputError(f"the detector cannot be loaded: {hello}")
        return hello

    def _exit_code(self) -> object:
        self._process.join(END_SECONDS)
        return self._process.exitcode

    def _end(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection, load: Loader) -> None:
    """Run in the process: load the detector, send its offer, and answer jobs until the parent ends."""
    end_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # is sent to the whole process group; the parent ends this process
    with suppress(EOFError, BrokenPipeError):  # the parent is gone
        try:
            work = load()
        except (InputError, OSError) as error:
            pipe.send(str(error))
            return
        pipe.send(work.offer)
        while (jobs := pipe.recv()) is not END:
            for answer in work(jobs):
                pipe.send(answer)
