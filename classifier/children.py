"""Child processes end with their parent, however that ended: readers of photos, and those that torchrun started."""

import os
import time

import torch.distributed as dist

from structures.child_process import end_after, end_with_parent

LOOK_SECONDS = 1.0  # between two looks whether torchrun is still there


def begin_reading(worker: int) -> None:
    """Begin a process of a DataLoader: its `worker_init_fn`.

    A reader that waits to hand over a large batch would otherwise wait forever when no one is left to take it. Ctrl-C
    goes to all processes of a terminal; it is left to the parent, which ends its readers.

    Args:
        worker: number of the reader.
    """
    end_with_parent()


def end_with_torchrun() -> None:
    """Have this process end with the torchrun that started it, if one did."""
    if dist.is_torchelastic_launched():
        torchrun = os.getppid()
        end_after(lambda: _wait_for_end(torchrun))


def _wait_for_end(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
