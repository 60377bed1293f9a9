"""Several processes, or GPUs, on one training: each takes its part of every batch. `torchrun` starts them."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, cast

import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from classifier.children import end_with_torchrun
from structures.errors import InputError

PATIENCE = timedelta(days=7)  # drawing the regions of many photos takes hours; torch gives up after 10 minutes


class Process(NamedTuple):
    """Which of how many processes this is."""

    rank: int
    total: int


ALONE = Process(0, 1)


def current_process() -> Process:
    """Return this process's place among those that joined, or ALONE."""
    return Process(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else ALONE


def take_own_gpu() -> None:
    """Let this one of several processes use its own GPU from now on; best before anything is put on the first GPU.

    Raises:
        InputError: there are fewer GPUs than processes.
    """
    wanted, there = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if wanted == 1 or there == 0:
        return
    if wanted > there:
        raise InputError(f'{wanted} processes, but {there} GPUs: start at most {there}, or take `device="cpu"`')
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


@contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started, and yield the device of this one; does nothing in a lone process."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    if device.type == "cuda":
        take_own_gpu()
        device = torch.device("cuda", torch.cuda.current_device())
    end_with_torchrun()
    store, rank, count = next(rendezvous("env://", timeout=PATIENCE))
    # With --standalone all attempts share a store: without a name of its own, a new one calls processes that are gone.
    attempt = f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    own = dist.PrefixStore(attempt, store)  # type: ignore[attr-defined, unused-ignore]  # from torch 2.15 on
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=own, rank=rank, world_size=count, timeout=PATIENCE)
    try:
        yield device
    finally:
        dist.destroy_process_group()


@contextmanager
def first_then_others() -> Iterator[bool]:
    """Let the first process go through a block while the others wait; then the others go through it together.

    For work that leaves its result on disk, where the others find it. The block yields whether this is the first
    process, so that `if` can guard what only that one does. If it fails or is killed, torchrun stops the others.
    """
    first = current_process().rank == 0
    if not dist.is_initialized():
        yield first
        return
    waiting = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=PATIENCE))
    if not first:
        dist.barrier(waiting)
    yield first
    if first:
        dist.barrier(waiting)
    dist.destroy_process_group(waiting)


def share_of(count: int, process: Process, *, what: str = "a batch") -> int:
    """Return how many of the rows each process gets.

    Raises:
        InputError: the processes cannot share them evenly.
    """
    if count % process.total:
        raise InputError(f"{what} of {count} cannot be shared by {process.total} processes")
    return count // process.total


def own_rows(rows: npt.NDArray[Any], process: Process) -> npt.NDArray[Any]:
    """Return those rows of a batch that fall to a process: the processes take turns at them.

    Raises:
        InputError: the processes cannot share them evenly.
    """
    share_of(len(rows), process)
    return rows[process.rank :: process.total]


def shared(module: nn.Module) -> nn.Module:
    """Wrap a module so that the gradients of what it returns are the mean over all processes.

    A parameter that had no part in it in this process counts as 0; one that had none anywhere gets no gradient, as in a
    lone process.
    """
    if not dist.is_initialized():
        return module
    unused = "find_unused_parameters=True was specified"  # torch's hint that most trainings use all parameters
    warnings.filterwarnings("ignore", f".*{unused}", UserWarning)
    return DistributedDataParallel(module, find_unused_parameters=True)


def same_everywhere(number: int) -> bool:
    """Say whether all processes have the same number here."""
    if not dist.is_initialized():
        return True
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, number)
    return len(set(found)) == 1


def average_over(values: Tensor) -> list[float]:
    """Return the means of (N,) values over all processes, the same in each, so that all stop where one must."""
    means = values.detach().float().clone()
    if dist.is_initialized():
        dist.all_reduce(means)
        means /= dist.get_world_size()
    return [float(mean) for mean in means.tolist()]
