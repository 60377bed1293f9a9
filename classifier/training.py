"""One plain training loop, resumable to the bit.

Everything random in iteration i comes from (seed, i): which examples, which features are dropped. So a run that was
killed and goes on from its last checkpoint gives the same losses as one that was not. The recipe is stochastic gradient
descent with momentum; the rate warms up and then falls as half a cosine (Differs: R-CNN divides it by 10 every 20k
iterations) or in GoogLeNet's steps. Where several processes were started together, each works on its part of every
batch.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import get_ema_multi_avg_fn

from classifier.googlenet import AUXILIARY_WEIGHT, TrainingLogits
from classifier.processes import average_over, current_process, share_of, shared
from classifier.training_state import read_state, require_same_start, write_state
from classifier.weights import WeightsError, load_state
from structures.seeds import check_seed

State = dict[str, Tensor]  # parameter name -> values
RATE_FACTOR = 0.96  # GoogLeNet, section 6: the rate falls by 4% every 8 epochs


class BatchSource(Protocol):
    """Where batches come from."""

    def __call__(self, iteration: int) -> tuple[Tensor, Tensor]:
        """Return inputs and labels of one iteration, on the training device: (N,) int64, or (N, columns) shares."""


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        iterations: batches in all.
        rate: highest learning rate.
        last_layer_rate: the rate of the fresh last layer is so many times that.
        warmup: iterations over which the rate rises from 0, at most half of all.
        momentum: of the gradient.
        decay: weight decay.
        smoothing: share of the label spread over all classes.
        average: decay of the running average of the weights, which is the result; 0 takes the last weights, 1 is the
            plain mean of all, which is Polyak's average in GoogLeNet's paper.
        hard_examples: of each batch, learn only from so many rows with the greatest loss; 0 learns from all. Of several
            processes each takes its share of them from its part of the batch.
        dtype: precision of the forward pass; weights are float32 always.
        seed: of everything random.
        step: iterations between two falls of the rate by 4%; 0 takes the cosine.
        average_from: iteration at which the average begins; before it the last weights are the result.
    """

    iterations: int
    rate: float = 0.01
    last_layer_rate: float = 1.0
    warmup: int = 100
    momentum: float = 0.9
    decay: float = 5e-4
    smoothing: float = 0.0
    average: float = 0.998
    hard_examples: int = 0
    dtype: str = "bfloat16"
    seed: int = 0
    step: int = 0
    average_from: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)


class NonFiniteLoss(ValueError):
    """The loss became infinite or not a number; the message says at which iteration."""


@dataclass(frozen=True)
class Progress:
    """What the loop reports after an iteration."""

    iteration: int
    loss: float
    rate: float


def train(
    network: nn.Module,
    batches: BatchSource,
    recipe: Recipe,
    *,
    state_file: Path,
    save_every: int = 500,
    report: Callable[[Progress], None] = lambda progress: None,
    judge: Callable[[int, State], None] | None = None,
) -> State:
    """Train the parameters that ask for gradients; go on from state_file if it is there.

    Args:
        network: maps inputs to logits (or TrainingLogits); already on its device.
        batches: inputs and labels of each iteration.
        recipe: how.
        state_file: where the whole state is kept, written atomically every save_every iterations and at the end.
        save_every: iterations between.
        report: called after every iteration.
        judge: called after every iteration with its number and the average so far, before the state is written: what
            it has to say about an iteration is said again when a killed run comes there once more.

    Returns:
        The averaged state dict of the network.

    Raises:
        NonFiniteLoss: at once; the state file still holds the last good state.
        WeightsError: the state file belongs to another recipe or network, is damaged, or processes see different ones.
    """
    run = TrainingRun(network, recipe)
    start = run.load(state_file) if state_file.exists() else 0
    require_same_start(state_file, start)
    for iteration in range(start, recipe.iterations):
        loss = run.step(iteration, *batches(iteration))
        report(Progress(iteration + 1, loss, run.rate))
        if judge is not None:
            judge(iteration + 1, run.average)
        if (iteration + 1) % save_every == 0 or iteration + 1 == recipe.iterations:
            run.save(state_file, iteration + 1)
    return run.average


def iterations_done(state_file: Path, recipe: Recipe) -> int:
    """Return how many iterations of a recipe a state file has behind it; 0 if there is none.

    Raises:
        WeightsError: it is damaged, or belongs to another recipe.
    """
    return int(read_state(state_file, recipe)["iteration"]) if state_file.exists() else 0


def rate_at(iteration: int, recipe: Recipe) -> float:
    """Return the learning rate of an iteration.

    >>> [round(rate_at(i, Recipe(iterations=100, rate=1.0, warmup=10)), 2) for i in (0, 9, 10, 55, 99)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    >>> [round(rate_at(i, Recipe(iterations=100, rate=1.0, warmup=0, step=8)), 4) for i in (0, 7, 8, 16)]
    [1.0, 1.0, 0.96, 0.9216]
    >>> [round(rate_at(i, Recipe(iterations=8, rate=1.0, warmup=100)), 2) for i in range(8)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    warmup = min(recipe.warmup, recipe.iterations // 2)
    if iteration < warmup:
        return recipe.rate * (iteration + 1) / warmup
    if recipe.step:
        return recipe.rate * float(RATE_FACTOR ** (iteration // recipe.step))
    share = (iteration - warmup) / max(1, recipe.iterations - warmup)
    return recipe.rate * 0.5 * (1 + math.cos(math.pi * share))


class TrainingRun:
    """A network with its optimiser and its average: what a state file holds."""

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        self.network, self.recipe, self.rate = network, recipe, 0.0
        self._hard = share_of(recipe.hard_examples, current_process(), what="hard examples")
        self.shared = shared(network)
        named = {name: value for name, value in network.named_parameters() if value.requires_grad}
        last = [value for name, value in named.items() if name.split(".")[-2:-1] == ["fc"]]
        rest = [value for name, value in named.items() if name.split(".")[-2:-1] != ["fc"]]
        groups = [{"params": rest, "factor": 1.0}, {"params": last, "factor": recipe.last_layer_rate}]
        self.optimiser = torch.optim.SGD(
            [g for g in groups if g["params"]], lr=recipe.rate, momentum=recipe.momentum, weight_decay=recipe.decay
        )
        self.average = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def step(self, iteration: int, inputs: Tensor, labels: Tensor) -> float:
        """Learn from one batch and return its loss.

        Raises:
            NonFiniteLoss: before anything is learned from it.
        """
        torch.manual_seed((self.recipe.seed + 7919 * current_process().rank) * 1_000_003 + iteration)
        self.rate = rate_at(iteration, self.recipe)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * group["factor"]
        inputs, labels = self._hardest(inputs, labels)
        self.network.train()
        loss = self._loss(self.shared, inputs, labels).mean()
        value = average_over(loss)
        if not math.isfinite(value):
            raise NonFiniteLoss(f"the loss is {value} at iteration {iteration + 1}; lower the rate")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        move_average(self.average, self.network, self._share_of_new(iteration - self.recipe.average_from))
        return value

    def _loss(self, network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        with _autocast(inputs.device.type, self.recipe.dtype):
            logits = network(inputs)
        if isinstance(logits, TrainingLogits):
            main, *side = (self._cross_entropy(each, labels) for each in logits)
            return main + AUXILIARY_WEIGHT * sum(side)
        return self._cross_entropy(logits, labels)

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=self.recipe.smoothing)

    @torch.no_grad()
    def _hardest(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if not 0 < self._hard < len(labels):
            return inputs, labels
        self.network.eval()
        chosen = self._loss(self.network, inputs, labels).topk(self._hard).indices
        return inputs[chosen], labels[chosen]

    def _share_of_new(self, averaged: int) -> float:
        if averaged < 0:
            return 1.0
        if self.recipe.average == 1:
            return 1 / (averaged + 1)
        return 1 - min(self.recipe.average, (1 + averaged) / (10 + averaged))  # short runs forget their start sooner

    def save(self, path: Path, iteration: int) -> None:
        """Write the state after so many iterations, atomically; only the first of several processes does.

        Raises:
            NonFiniteLoss: a weight is not finite, though the loss still was; the earlier state stays.
        """
        require_finite(self.network.state_dict(), iteration)
        if current_process().rank != 0:
            return
        content = {"iteration": iteration, "average": self.average}
        content |= {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}
        write_state(path, self.recipe, content)

    def load(self, path: Path) -> int:
        """Read the state and return the number of iterations done.

        Raises:
            WeightsError: damaged, or of another recipe or network.
        """
        state = read_state(path, self.recipe)
        try:
            load_state(self.network, state["network"])
            self.optimiser.load_state_dict(state["optimiser"])
        except ValueError as error:
            raise WeightsError(f"{path}: of another training ({error}); remove it to start anew") from error
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        return int(state["iteration"])


def move_average(average: State, network: nn.Module, share: float) -> None:
    """Move a running average by a share of the way to the weights of a network; counters are those of the network."""
    state = network.state_dict()
    moved = [name for name, value in state.items() if value.is_floating_point()]
    towards = get_ema_multi_avg_fn(1 - share)  # type: ignore[no-untyped-call]
    towards([average[name] for name in moved], [state[name] for name in moved], 0)
    for name in state.keys() - set(moved):
        average[name].copy_(state[name])


def require_finite(state: Mapping[str, Tensor], iteration: int) -> None:
    """Stop a run whose weights are lost, though its loss still was finite.

    Raises:
        NonFiniteLoss: a weight is infinite or not a number.
    """
    if not all(torch.isfinite(value).all() for value in state.values()):
        raise NonFiniteLoss(f"weights are not finite after iteration {iteration}; lower the rate")


def _autocast(device: str, dtype: str) -> Any:
    return nullcontext() if dtype == "float32" else torch.autocast(device, dtype=getattr(torch, dtype))
