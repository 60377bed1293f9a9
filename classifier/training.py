"""One plain training loop, resumable to the bit.

Everything random in iteration i comes from (seed, i): which examples, which features are dropped. So a run that was
killed and goes on from its last checkpoint gives the same losses as one that was not. The recipe is stochastic gradient
descent with momentum; the rate warms up and then falls as half a cosine (Differs: R-CNN divides it by 10 every 20k
iterations).
"""

import io
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from classifier.googlenet import AUXILIARY_WEIGHT, TrainingLogits
from classifier.weights import WeightsError, write_atomically


class BatchSource(Protocol):
    """Where batches come from."""

    def __call__(self, iteration: int) -> tuple[Tensor, Tensor]:
        """Return inputs and (N,) int64 labels of one iteration, on the training device."""


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        iterations: batches in all.
        rate: highest learning rate.
        last_layer_rate: the rate of the fresh last layer is so many times that.
        warmup: iterations over which the rate rises from 0.
        momentum: of the gradient.
        decay: weight decay.
        smoothing: share of the label spread over all classes.
        average: decay of the running average of the weights, which is the result (Differs: the paper's Polyak average
            is a plain mean); 0 takes the last weights.
        hard_examples: of each batch, learn only from so many rows with the greatest loss; 0 learns from all.
        dtype: precision of the forward pass; weights are float32 always.
        seed: of everything random.
    """

    iterations: int
    rate: float = 0.01
    last_layer_rate: float = 1.0
    warmup: int = 100
    momentum: float = 0.9
    decay: float = 5e-4
    smoothing: float = 0.0
    average: float = 0.999
    hard_examples: int = 0
    dtype: str = "bfloat16"
    seed: int = 0


class NonFiniteLoss(RuntimeError):
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
) -> dict[str, Tensor]:
    """Train the parameters that ask for gradients; go on from state_file if it is there.

    Args:
        network: maps inputs to logits (or TrainingLogits); already on its device.
        batches: inputs and labels of each iteration.
        recipe: how.
        state_file: where the whole state is kept, written atomically every save_every iterations and at the end.
        save_every: iterations between.
        report: called after every iteration.

    Returns:
        The averaged state dict of the network.

    Raises:
        NonFiniteLoss: at once; the state file still holds the last good state.
        WeightsError: the state file belongs to another recipe.
    """
    run = _Run(network, recipe)
    start = run.load(state_file) if state_file.exists() else 0
    for iteration in range(start, recipe.iterations):
        loss = run.step(iteration, *batches(iteration))
        report(Progress(iteration + 1, loss, run.rate))
        if (iteration + 1) % save_every == 0 or iteration + 1 == recipe.iterations:
            run.save(state_file, iteration + 1)
    return run.average


def rate_at(iteration: int, recipe: Recipe) -> float:
    """Return the learning rate of an iteration.

    >>> [round(rate_at(i, Recipe(iterations=100, rate=1.0, warmup=10)), 2) for i in (0, 9, 10, 55, 99)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    """
    if iteration < recipe.warmup:
        return recipe.rate * (iteration + 1) / recipe.warmup
    share = (iteration - recipe.warmup) / max(1, recipe.iterations - recipe.warmup)
    return recipe.rate * 0.5 * (1 + math.cos(math.pi * share))


class _Run:
    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        self.network, self.recipe, self.rate = network, recipe, 0.0
        named = {name: value for name, value in network.named_parameters() if value.requires_grad}
        last = [value for name, value in named.items() if name.split(".")[-2] == "fc"]
        rest = [value for name, value in named.items() if name.split(".")[-2] != "fc"]
        groups = [{"params": rest, "factor": 1.0}, {"params": last, "factor": recipe.last_layer_rate}]
        self.optimiser = torch.optim.SGD(
            [g for g in groups if g["params"]], lr=recipe.rate, momentum=recipe.momentum, weight_decay=recipe.decay
        )
        self.average = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def step(self, iteration: int, inputs: Tensor, labels: Tensor) -> float:
        torch.manual_seed(self.recipe.seed * 1_000_003 + iteration)
        self.rate = rate_at(iteration, self.recipe)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * group["factor"]
        inputs, labels = self._hardest(inputs, labels)
        self.network.train()
        loss = self._loss(inputs, labels).mean()
        if not torch.isfinite(loss):
            raise NonFiniteLoss(f"the loss is {loss.item()} at iteration {iteration + 1}; lower the rate")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self._update_average(iteration)
        return loss.item()

    def _loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        with _autocast(inputs.device.type, self.recipe.dtype):
            logits = self.network(inputs)
        if isinstance(logits, TrainingLogits):
            main, *side = (self._cross_entropy(each, labels) for each in logits)
            return main + AUXILIARY_WEIGHT * sum(side)
        return self._cross_entropy(logits, labels)

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=self.recipe.smoothing)

    @torch.no_grad()
    def _hardest(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if not 0 < self.recipe.hard_examples < len(labels):
            return inputs, labels
        self.network.eval()
        chosen = self._loss(inputs, labels).topk(self.recipe.hard_examples).indices
        return inputs[chosen], labels[chosen]

    @torch.no_grad()
    def _update_average(self, iteration: int) -> None:
        decay = min(self.recipe.average, (1 + iteration) / (10 + iteration))  # short runs forget their start sooner
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def save(self, path: Path, iteration: int) -> None:
        state = {
            "recipe": asdict(self.recipe),
            "iteration": iteration,
            "network": self.network.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
        }
        content = io.BytesIO()
        torch.save(state, content)
        write_atomically(path, content.getvalue())

    def load(self, path: Path) -> int:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        for name, value in asdict(self.recipe).items():
            if state["recipe"].get(name) != value:
                raise WeightsError(
                    f"{path}: begun with {name}={state['recipe'].get(name)}, not {value}; remove it to start anew"
                )
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        return int(state["iteration"])


def _autocast(device: str, dtype: str) -> Any:
    return nullcontext() if dtype == "float32" else torch.autocast(device, dtype=getattr(torch, dtype))
