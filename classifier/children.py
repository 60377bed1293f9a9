"""Child processes end with their parent, however that ended: readers of photos, and those that torchrun started."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from threading import Thread

import torch.distributed as dist

LOOK_SECONDS = 1.0  # between two looks whether torchrun is still there


def begin_reading(worker: int) -> None:
    """Begin a process of a DataLoader: its `worker_init_fn`.

    A reader that waits to hand over a large batch would otherwise wait for ever when nobody is left to take it. Ctrl-C
    goes to all processes of a terminal; it is left to the parent, which ends its readers.

    Args:
        worker: number of the reader.
    """
    end_with_parent()


def end_with_parent() -> None:
    """Have this process, which `multiprocessing` started, leave Ctrl-C to its parent, and end when that one has."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)  # which a fork inherits: the parent would take the child's signals for its own
    parent = multiprocessing.parent_process()
    assert parent is not None, "not a child process"
    _end_after(parent.join)


def end_with_torchrun() -> None:
    """Have this process end with the torchrun that started it, if one did."""
    if dist.is_torchelastic_launched():
        torchrun = os.getppid()
        _end_after(lambda: _wait_for_end(torchrun))


def _wait_for_end(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)


def _end_after(wait: Callable[[], object]) -> None:
    def end() -> None:
        wait()
        os._exit(1)  # at once: every file is whole or was not begun, as after kill -9

    Thread(target=end, name="ends with its parent", daemon=True).start()
