"""Ctrl-C and SIGTERM stop a command cleanly: files are closed, half-written ones removed, locks released."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
BLOCKED_SECONDS = 5.0  # how long a stop waits for a blocking call of the main thread
AGAIN_SECONDS = 1.0  # the same stop may arrive twice: timeout(1) signals the process and then its whole group
DROPPED_SECONDS = 0.01  # until a stop that was raised where Python drops exceptions is raised again
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
    usual, sys.unraisablehook = sys.unraisablehook, stop.dropped(sys.unraisablehook)
    try:
        with stop.watched():
            yield
    except BaseException as error:  # including errors caused by the stop
        if stop.number is None:
            raise
        stop.tell()
        raise Stopped(stop.number) from error
    finally:
        sys.unraisablehook = usual
        for number in caught:
            signal.signal(number, before[number])


def _leave_to_parent() -> None:
    """Give up what a fork has of its parent's handling: a signal to the fork would stop the parent, too."""
    for number in SIGNALS:
        if isinstance(getattr(signal.getsignal(number), "__self__", None), _Stop):
            signal.signal(number, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


class _Stop:
    def __init__(self, words: str) -> None:
        self._words, self._noticed, self._when, self._dropped = words, Event(), 0.0, False
        self.number: int | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self._dropped or not self._noticed.is_set():
            self._dropped = False
            self._noticed.set()
            self.number, self._when = number, time.monotonic()
            if hasattr(signal, "SIGCHLD"):  # reading processes that the same stop ended are not failures
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            raise Stopped(number)
        if time.monotonic() - self._when > AGAIN_SECONDS:
            self._end(number)

    def dropped(self, usual: Callable[[Any], object]) -> Callable[[Any], object]:
        """Return what is done with exceptions that nobody can catch: a stop is raised again, others as usual."""

        def hook(unraisable: Any) -> None:
            if not isinstance(unraisable.exc_value, Stopped):
                usual(unraisable)
                return
            self._dropped = True
            Thread(target=self._once_more, name="stops again", daemon=True).start()

        return hook

    def _once_more(self) -> None:
        time.sleep(DROPPED_SECONDS)
        main = threading.main_thread().ident
        if not self._dropped or self.number is None or main is None:
            return
        if hasattr(signal, "pthread_kill"):  # it ends a wait of the main thread, too
            signal.pthread_kill(main, self.number)
        else:
            signal.raise_signal(self.number)

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
