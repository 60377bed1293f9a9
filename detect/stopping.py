"""Ctrl-C and SIGTERM stop a command cleanly: files are closed, half-written ones removed, locks released."""

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
BLOCKED_SECONDS = 5.0  # how long a stop waits for a blocking call of the main thread
AGAIN_SECONDS = 1.0  # the same stop may arrive twice: timeout(1) signals the process and then its whole group
DONE = b"\0"  # ends the watching thread; no signal has this number


class Stopped(SystemExit):
    """The process was asked to stop; raised in the main thread, with the exit code that shells expect."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


@contextmanager
def stoppable(words: str) -> Iterator[None]:
    """Make Ctrl-C and SIGTERM raise Stopped in this context, and print a line at the end.

    A second signal, later than AGAIN_SECONDS, ends the process at once. So does the first if the main thread is in a
    call that does not return within BLOCKED_SECONDS.

    Args:
        words: the line.
    """
    stop = _Stop(words)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    caught = [number for number in SIGNALS if before[number] is not signal.SIG_IGN]  # nohup and & ignore some
    for number in caught:
        signal.signal(number, stop.handle)
    try:
        with stop.watched():
            yield
    except BaseException as error:  # including errors caused by the stop
        if stop.number is None:
            raise
        stop.tell()
        raise Stopped(stop.number) from error
    finally:
        for number in caught:
            signal.signal(number, before[number])


class _Stop:
    def __init__(self, words: str) -> None:
        self._words, self._noticed, self._when = words, Event(), 0.0
        self.number: int | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        if not self._noticed.is_set():
            self._noticed.set()
            self.number, self._when = number, time.monotonic()
            if hasattr(signal, "SIGCHLD"):  # reading processes that the same stop ended are not failures
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            raise Stopped(number)
        if time.monotonic() - self._when > AGAIN_SECONDS:
            self._end(number)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Have a thread enforce a stop, even while the main thread cannot handle signals."""
        reading, writing = socket.socketpair()
        writing.setblocking(False)
        before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        thread = Thread(target=self._watch, args=(reading,), name="stops", daemon=True)
        thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            writing.send(DONE)
            thread.join()
            writing.close()
            reading.close()

    def _watch(self, reading: socket.socket) -> None:
        while (number := reading.recv(1)) != DONE:
            if number[0] in SIGNALS and not self._noticed.wait(BLOCKED_SECONDS):
                self._end(number[0])

    def _end(self, number: int) -> None:
        self.tell()
        os._exit(128 + number)

    def tell(self) -> None:
        if os.environ.get("RANK", "0") == "0":  # only one of several processes prints
            print(f"rcnn: {self._words}", file=sys.stderr, flush=True)
