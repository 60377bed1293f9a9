"""Child processes end with their parent, however that ended: readers of photos, and those that torchrun started."""

import os
import sys
import time
from types import TracebackType

import torch.distributed as dist

from structures.child_process import end_after, end_with_parent

LOOK_SECONDS = 1.0  # between two looks whether torchrun is still there


def begin_reading(worker: int) -> None:
    """Begin a process of a DataLoader: its `worker_init_fn`.

    A reader that waits to hand over a large batch would otherwise wait forever when no one is left to take it. Ctrl-C
    goes to all processes of a terminal; it is left to the parent, which ends its readers. A parent that is stopped
    while it takes a batch leaves a connection half open, which the reader has nothing to say about.

    Args:
        worker: number of the reader.
    """
    end_with_parent()
    sys.excepthook = _report_unless_left  # in a child only the thread that hands over batches reports here


def end_with_torchrun() -> None:
    """Have this process end with the torchrun that started it, if one did."""
    if dist.is_torchelastic_launched():
        torchrun = os.getppid()
        end_after(lambda: _wait_for_end(torchrun))


def _report_unless_left(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, trace)


def _wait_for_end(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
