"""Columns of region logits for new classes, learned from a few examples while those of the old classes stay.

A softmax over old and new columns, of which only the new ones learn. To a new column all old ones together are a
constant of each region, its log-sum-exp: so an example says "this is of the new class" or "this is of no new class",
and never that an object of an old class is background. Objects of old classes that nobody annotated do no harm.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from classifier.region_columns import Columns
from structures.boxes import Floats
from structures.errors import InputError
from structures.records import Labels

RAMP = (0.4, 0.8)  # a region has none of its object's class up to the first IoU, and all of it from the second on
# Weight of the squared weights against the mean loss; divided by the objects of a class (benchmarks/LOG.md).
DECAY = 1e-3
POSITIVE_WEIGHT = 0.3  # of all examples of a class together, however many classes; all regions without one weigh 1
ITERATIONS = 100  # L-BFGS, at most
# Regions without an object on the photos that are learned from, 220 MB of inputs, and regions of objects, 740 MB.
MOST_ROWS, MOST_OF_OBJECTS = 6_000, 20_000


@dataclass(frozen=True, eq=False)
class Examples:
    """Regions to learn from, as columns.

    Attributes:
        inputs: (N, D) of `classifier.region_columns.part_means`.
        rest: (N,) log-sum-exp of the columns that stay.
        labels: (N,) new class, or -1 for none.
        shares: (N,) of that class in the region, 0 to 1; the rest is none of the new classes.
        weights: (N,) how often each counts.
        objects: that the regions are of, of all new classes.
    """

    inputs: Floats | npt.NDArray[np.float16]
    rest: Floats
    labels: Labels
    shares: Floats
    weights: Floats
    objects: int

    def __len__(self) -> int:
        return len(self.labels)

    @staticmethod
    def join(parts: "Sequence[Examples]") -> "Examples":
        """Return the rows of all parts, in order."""
        names = [field.name for field in fields(Examples) if field.name != "objects"]
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return Examples(**columns, objects=sum(part.objects for part in parts))


def log_sum_exp(logits: Floats) -> Floats:
    """Return (N,) the logarithm of the sum of the exponentials of (N, C) logits."""
    found: Floats = torch.from_numpy(logits).logsumexp(dim=1).numpy()
    return found


def ramp(overlap: Floats) -> Floats:
    """Return the share of its object's class that a region of an IoU has.

    >>> ramp(np.array([0.3, 0.6, 0.9], np.float32)).round(2).tolist()
    [0.0, 0.5, 1.0]
    """
    low, high = RAMP
    return np.asarray(np.clip((overlap - low) / (high - low), 0, 1), np.float32)


def learn_columns(examples: Examples, names: Sequence[str]) -> Columns:
    """Learn a column for each new class.

    Args:
        examples: of all classes; the same rows give the same columns, on one machine.
        names: of the classes, in the order of the labels.

    Raises:
        InputError: a class has no example; names it.
    """
    of_new = examples.labels >= 0
    shares = examples.shares * examples.weights
    masses = np.bincount(examples.labels[of_new], shares[of_new], len(names)).astype(np.float64)
    if not masses.all():
        raise InputError(f"no example of {names[int(masses.argmin())]} to learn from")
    inputs = torch.from_numpy(examples.inputs.astype(np.float32))
    centre = inputs.mean(dim=0)
    inputs -= centre
    scale = inputs.square().sum(dim=1).mean().sqrt() + 1e-6  # rows get a norm of about 1
    weight, bias = _fit(inputs.div_(scale), examples, masses)
    weight = weight / scale
    return Columns(tuple(names), weight, bias - weight @ centre)


def _fit(inputs: Tensor, examples: Examples, masses: npt.NDArray[np.floating]) -> tuple[Tensor, Tensor]:
    """Return weights (C, D) and biases (C,) for standardised inputs."""
    count = len(masses)
    decay = DECAY / max(1.0, examples.objects / count)
    labels, shares = torch.from_numpy(examples.labels), torch.from_numpy(examples.shares)
    rest = torch.from_numpy(examples.rest)[:, None]
    target = functional.one_hot(labels.clamp(min=0), count) * (shares * (labels >= 0))[:, None]
    target = torch.cat([target, 1 - target.sum(dim=1, keepdim=True)], dim=1)
    target *= torch.from_numpy(examples.weights)[:, None]
    totals = torch.cat([torch.from_numpy(masses).float(), target[:, -1:].sum(dim=0)])
    importance = target * torch.tensor([POSITIVE_WEIGHT] * count + [1.0]) / totals
    weight, bias = (torch.zeros(shape, requires_grad=True) for shape in ((count, inputs.shape[1]), (count,)))
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = torch.cat([functional.linear(inputs, weight, bias), rest], dim=1)
        total = decay * weight.square().sum() - (importance * logits.log_softmax(dim=1)).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
