"""Starts a training on the processes that it has."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from structures.text import printable

if TYPE_CHECKING:
    import torch

    from classifier.placement import Placement
    from eval.selection import Selection


@dataclass(frozen=True)
class TrainingProcess:
    """A process of a training.

    Attributes:
        device: its device.
        placement: where frozen layers run.
        first: whether it is the first process, which prints and writes the weights.
    """

    device: "torch.device"
    placement: "Placement"
    first: bool

    def echo(self, lines: Iterable[str], *, err: bool = False) -> None:
        """Print lines if this is the first process; to standard error if `err` is set."""
        if self.first:
            for line in lines:
                typer.echo(printable(line), err=err)


@contextmanager
def join_training(
    where: "Placement", dtype: str, dataset: "Selection", validation_set: "Selection | None"
) -> Iterator[TrainingProcess]:
    """Join the processes of a training, and print a summary of its photos.

    Args:
        where: placement of the training.
        dtype: requested precision, or "auto".
        dataset: photos to learn from.
        validation_set: photos to validate on.
    """
    from classifier.processes import current_process, joined
    from detect.training.data import summary
    from detect.training.setup import frozen_placement

    with joined(where.device) as device:
        process = TrainingProcess(device, frozen_placement(where, device, dtype), current_process().rank == 0)
        process.echo(summary(dataset, validation_set), err=True)
        yield process
