"""The one training loop, resumable to the bit: a loss, batches and optimisers are handed in.

Everything random in a step comes from (seed, process, step): the batch, what dropout drops, what a loss draws. So a run
that was killed and resumes from its last state gives the same losses as one that was not. The learning rate warms up
and then falls as half a cosine (Differs: R-CNN divides it by 10 every 20k steps) or in GoogLeNet's steps. Where several
processes were started together, each works on its part of every batch, and gradients are the mean over all.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from classifier.processes import average_over, current_process, shared
from classifier.recipes import Schedule
from classifier.running_average import RunningAverage, State
from classifier.training_state import digest_of_training, read_state, require_same_start, write_state
from classifier.weights.fitting import WeightsError, load_state
from structures.errors import InputError
from structures.seeds import step_seed

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Batch = TypeVar("Batch")
Network = TypeVar("Network", bound=nn.Module)
Parts = Mapping[str, Tensor]
"""Parts of a loss by name, scalars; what is minimised is their sum."""
Loss = Callable[[Network, Batch], Parts]
"""Run the network on a batch. Parameters that have no part in a step are fine. What must not run in the precision of
the recipe stands in `full_precision`; what the mode of the network must be, the loss sets: it is found in training."""
Batches = Callable[[int], Batch]
"""Make the batch of a step, a function of the step alone, on the device of the training."""
FACTOR = "factor"  # of a parameter group, on the learning rate


class NonFiniteLoss(InputError):
    """The loss became infinite or not a number; the message says at which step."""


@dataclass(frozen=True)
class StepProgress:
    """What the loop reports after a step.

    Attributes:
        step: steps done, this one among them.
        loss: the sum of the parts, over all processes.
        parts: of the loss, by name.
        learning_rate: of parameters whose factor is 1.
    """

    step: int
    loss: float
    parts: Mapping[str, float]
    learning_rate: float


def parameter_groups(*groups: tuple[Iterable[nn.Parameter], float]) -> list[dict[str, Any]]:
    """Return groups for an optimiser of torch, from parameters and the factors on their learning rates.

    Parameters that ask for no gradient are left out, and groups without any.
    """
    found = [{"params": [each for each in some if each.requires_grad], FACTOR: factor} for some, factor in groups]
    return [group for group in found if group["params"]]


def full_precision(device: torch.device) -> torch.autocast:
    """Return the context for a part of a loss that is to be computed in the precision of its inputs."""
    return torch.autocast(device.type, enabled=False)


def train(
    network: Network,
    loss: Loss[Network, Batch],
    batches: Batches[Batch],
    optimisers: Sequence[torch.optim.Optimizer],
    schedule: Schedule,
    *,
    recipe: "DataclassInstance",
    state_file: Path,
    save_every: int = 500,
    report: Callable[[StepProgress], None] = lambda progress: None,
    judge: Callable[[int, State], None] | None = None,
) -> State:
    """Train the parameters that require gradients; resume from state_file if it exists.

    Args:
        network: already on its device.
        loss: the network and a batch -> parts of the loss.
        batches: the batch of each step, counted from 0.
        optimisers: one or several, which together hold all trained parameters, in groups of `parameter_groups`.
        schedule: steps, learning rate, average, precision, seed.
        recipe: all that decides the training but the network and the batches; the state belongs to it.
        state_file: where the whole state is kept, written atomically every save_every steps and at the end.
        save_every: steps between two states.
        report: called after every step.
        judge: called after every step with its number and the average so far, before the state is written: what it
            has to say about a step is said again when a killed run comes there once more.

    Returns:
        The averaged state dict of the network.

    Raises:
        NonFiniteLoss: at once; the state file still holds the last good state.
        WeightsError: the state file belongs to another recipe or network, is damaged, or processes see different ones.
    """
    run = TrainingRun(network, loss, optimisers, schedule)
    start = run.load(state_file, recipe) if state_file.exists() else 0
    require_same_start(state_file, start)
    for step in range(start, schedule.steps):
        report(run.learn(step, batches(step)))
        if judge is not None:
            judge(step + 1, run.average.state)
        if (step + 1) % save_every == 0 or step + 1 == schedule.steps:
            run.save(state_file, recipe, step + 1)
    return run.average.state


def steps_done(state_file: Path, recipe: "DataclassInstance", steps: int) -> int:
    """Return how many steps of a training a state file has done; 0 if there is none.

    Raises:
        WeightsError: it is damaged, or belongs to another recipe.
    """
    return int(read_state(state_file, recipe, steps=steps)["step"]) if state_file.exists() else 0


class _LossOf(nn.Module, Generic[Network, Batch]):
    """A loss as a module: so DistributedDataParallel takes any, whichever parts of the network it calls."""

    def __init__(self, network: Network, loss: Loss[Network, Batch]) -> None:
        super().__init__()
        self.network, self._loss = network, loss

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return dict(self._loss(self.network, batch))


class TrainingRun(Generic[Network, Batch]):
    """A network with its loss, optimisers and average: what takes steps, and what a state file holds.

    Raises:
        InputError: a parameter asks for gradients, but no optimiser has it, or two have.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss[Network, Batch],
        optimisers: Sequence[torch.optim.Optimizer],
        schedule: Schedule,
    ) -> None:
        self.network, self.optimisers, self.schedule = network, optimisers, schedule
        groups = [group for optimiser in optimisers for group in optimiser.param_groups]
        self._trained = [value for group in groups for value in group["params"]]
        wanted = {id(value) for value in network.parameters() if value.requires_grad}
        if len(self._trained) != len(wanted) or {id(value) for value in self._trained} != wanted:
            raise InputError("every parameter that asks for a gradient needs one optimiser, and no other may have one")
        self.average = RunningAverage(network, decay=schedule.average, begin=schedule.average_from)
        self._device = next(network.parameters()).device
        self._loss = shared(_LossOf(network, loss))

    def learn(self, step: int, batch: Batch) -> StepProgress:
        """Learn from the batch of a step, counted from 0.

        Raises:
            NonFiniteLoss: before anything is learned from it.
        """
        torch.manual_seed(step_seed(self.schedule.seed, current_process().rank, step))
        learning_rate = self.schedule.learning_rate_at(step)
        self.network.train()
        with self._precision():
            parts = self._loss(batch)
        values = dict(zip(parts, average_over(torch.stack(list(parts.values()))), strict=True))
        total = sum(values.values())
        if not math.isfinite(total):
            raise NonFiniteLoss(f"the loss is {total} at step {step + 1}{_named(values)}; lower the learning rate")
        self._descend(torch.stack(list(parts.values())).sum(), learning_rate)
        self.average.update(step)
        return StepProgress(step + 1, total, values, learning_rate)

    def _descend(self, loss: Tensor, learning_rate: float) -> None:
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate * group.get(FACTOR, 1.0)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.schedule.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._trained, self.schedule.clip_norm)
        for optimiser in self.optimisers:
            optimiser.step()

    def _precision(self) -> torch.autocast:
        """Return the context of the forward pass.

        Weights are cast wherever they are used. Before 2026 torch kept the copy of a part without gradients, such as a
        search for hard examples, for the part that learns, which then had none either (github.com/pytorch/pytorch,
        issue 112583).
        """
        dtype = self.schedule.dtype
        low = getattr(torch, dtype) if dtype != "float32" else None
        return torch.autocast(self._device.type, dtype=low, enabled=low is not None, cache_enabled=False)

    def save(self, path: Path, recipe: "DataclassInstance", step: int) -> None:
        """Write the state after this many steps, atomically; only the first of several processes does.

        Raises:
            NonFiniteLoss: a weight is not finite, though the loss still was; the earlier state stays.
        """
        require_finite(self.network.state_dict(), step)
        if current_process().rank != 0:
            return
        content = {"steps": self.schedule.steps, "step": step, "average": self.average.state}
        content |= {
            "network": self.network.state_dict(),
            "fingerprint": digest_of_training(self.network, self.optimisers),
        }
        write_state(path, recipe, content | {"optimisers": [each.state_dict() for each in self.optimisers]})

    def load(self, path: Path, recipe: "DataclassInstance") -> int:
        """Read the state and return the number of steps done.

        Raises:
            WeightsError: damaged, or of another recipe or network.
        """
        state = read_state(path, recipe, steps=self.schedule.steps)
        if state["fingerprint"] != digest_of_training(self.network, self.optimisers):
            raise WeightsError(f"{path}: of another network, or of other trained layers; remove it to start again")
        load_state(self.network, state["network"])
        for optimiser, values in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(values)
        self.average.load(state["average"])
        return int(state["step"])


def _named(parts: Mapping[str, float]) -> str:
    """Say which parts of a loss are not finite, where it has several."""
    found = [f"{name} {value}" for name, value in parts.items() if not math.isfinite(value)]
    return f" ({', '.join(found)})" if len(parts) > 1 else ""


def require_finite(state: Mapping[str, Tensor], step: int) -> None:
    """Stop a run whose weights are lost, though its loss still was finite.

    Raises:
        NonFiniteLoss: a weight is infinite or not a number.
    """
    if not all(torch.isfinite(value).all() for value in state.values()):
        raise NonFiniteLoss(f"weights are not finite after step {step}; lower the learning rate")
