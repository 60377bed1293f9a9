"""A child process ends with its parent, however that ended."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from threading import Thread


def end_with_parent() -> None:
    """Make this process, started by `multiprocessing`, leave Ctrl-C to its parent, and end when its parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None, "not a child process"
    end_after(parent.join)


def end_after(wait: Callable[[], object]) -> None:
    """End this process as soon as a call returns; a thread waits for it."""

    def end() -> None:
        wait()
        os._exit(1)  # at once: every file is whole or was not begun, as after kill -9

    Thread(target=end, name="ends with its parent", daemon=True).start()
