"""What every training has around its loop: a folder for its state, and those who follow it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from classifier.recipes import Schedule
from classifier.running_average import State
from classifier.training import Batch, Batches, Loss, Network, StepProgress, train
from classifier.weights.checkpoint import Checkpoint
from detect.training.folder import STATE

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ShowProgress = Callable[[Iterable[int], int, str], Iterable[int]]
Judge = Callable[[int, Callable[[], Checkpoint]], None]


@dataclass(frozen=True)
class Bookkeeping:
    """Where a training keeps its state, how often, and what is called after its steps.

    Attributes:
        work: folder of the state; a killed run resumes from it.
        save_every: steps between two states on disk.
        show: shows a bar over the numbers of what is made before the first step.
        report: called after every step.
        judge: called after every step with its number and a function that returns the weights so far, before the state
            is written: what it has to say is said again when a killed run comes there once more.
    """

    work: Path
    save_every: int = 500
    show: ShowProgress = lambda items, total, name: items
    report: Callable[[StepProgress], None] = lambda progress: None
    judge: Judge | None = None

    @property
    def state_file(self) -> Path:
        """Where the state is."""
        return self.work / STATE

    def train(
        self,
        network: Network,
        loss: Loss[Network, Batch],
        batches: Batches[Batch],
        optimisers: Sequence[torch.optim.Optimizer],
        schedule: Schedule,
        *,
        recipe: "DataclassInstance",
        to_checkpoint: Callable[[State], Checkpoint],
    ) -> Checkpoint:
        """Run `classifier.training.train`, and return the running average of the weights as a checkpoint.

        Args:
            network: for this, the loss, the batches, the optimisers, the schedule and the recipe see there.
            loss: of the network on a batch.
            batches: the batch of each step.
            optimisers: hold all trained parameters.
            schedule: steps and learning rates.
            recipe: the state belongs to it.
            to_checkpoint: makes weights that can be used out of the state of the network.
        """
        judge = self.judge
        average = train(
            network,
            loss,
            batches,
            optimisers,
            schedule,
            recipe=recipe,
            state_file=self.state_file,
            save_every=self.save_every,
            report=self.report,
            judge=None if judge is None else lambda step, so_far: judge(step, partial(to_checkpoint, so_far)),
        )
        return to_checkpoint(average)
