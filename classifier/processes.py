"""Several processes, or GPUs, on one training: each takes its part of every batch. `torchrun` starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class Process(NamedTuple):
    """Which of how many processes this is."""

    rank: int
    total: int


ALONE = Process(0, 1)


def current_process() -> Process:
    """Return this process's place among those that joined, or ALONE."""
    return Process(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else ALONE


@contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started, and yield the device of this one; does nothing in a lone process."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def shared(network: nn.Module) -> nn.Module:
    """Wrap a network so that its gradients are the mean over all processes."""
    return DistributedDataParallel(network) if dist.is_initialized() else network


def average_over(loss: Tensor) -> float:
    """Return the mean of a loss over all processes, the same number in each, so that all stop where one must."""
    value = loss.detach().float().clone()
    if dist.is_initialized():
        dist.all_reduce(value)
        value /= dist.get_world_size()
    return float(value)
