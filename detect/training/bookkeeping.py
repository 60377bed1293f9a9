"""What every training needs around its loop: a folder for its state, and callbacks."""

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
    """Where and how often a training saves its state, and its callbacks.

    Attributes:
        work: folder of the state, from which a killed run resumes.
        save_every: steps between two saved states.
        show: wraps an iterable of numbers in a progress bar, for work before the first step.
        report: called after every step.
        judge: called after every step with its number and a function that returns the weights so far. The state is
            saved afterwards, so that a resumed run calls it again.
    """

    work: Path
    save_every: int = 500
    show: ShowProgress = lambda items, total, name: items
    report: Callable[[StepProgress], None] = lambda progress: None
    judge: Judge | None = None

    @property
    def state_file(self) -> Path:
        """File of the state."""
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
        """Run `classifier.training.train`; return the running average of the weights as a checkpoint.

        Args:
            network: the network.
            loss: loss of the network on a batch.
            batches: step -> batch.
            optimisers: optimisers of all trained parameters.
            schedule: number of steps, and learning rates.
            recipe: recipe that the state belongs to.
            to_checkpoint: state of the network -> checkpoint.
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
