"""Regions of objects that shared weights have learned, kept beside their network: examples of no new class.

Who teaches a new class has photos of that class, and rarely any of the old ones, which then are found as the new class:
a cow as the new horse. So weights bring regions of what they know (benchmarks/LOG.md, 2026-11-30).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import torch

from classifier.few_examples import Examples
from classifier.region_columns import PART_INPUTS, Columns
from classifier.weights.checkpoint import KNOWN_OBJECTS, Checkpoint
from classifier.weights.fitting import WeightsError
from structures.boxes import Floats, Indices
from structures.records import Labels

KNOWN_WEIGHT = 60.0  # a region of a known object counts as often as this many others (benchmarks/LOG.md, 2026-11-30)


@dataclass(frozen=True, eq=False)
class KnownObjects:
    """Regions of objects, as columns.

    Attributes:
        inputs: (N, 9216) of `classifier.region_columns.part_means`.
        rest: (N,) log-sum-exp of all columns of the weights.
        labels: (N,) class of the weights.
    """

    inputs: Floats | npt.NDArray[np.float16]
    rest: Floats
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Indices) -> "KnownObjects":
        """Return some of the regions."""
        return KnownObjects(self.inputs[rows], self.rest[rows], self.labels[rows])

    @staticmethod
    def join(parts: "Sequence[KnownObjects]") -> "KnownObjects":
        """Return the regions of all parts, in order."""
        return KnownObjects(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(KnownObjects)))

    def beside(self, new: Columns) -> "KnownObjects":
        """Return the same regions for weights that have further columns."""
        inputs = torch.from_numpy(self.inputs.astype(np.float32))
        logits = torch.cat([inputs @ new.weight.T + new.bias, torch.from_numpy(self.rest)[:, None]], dim=1)
        return replace(self, rest=logits.logsumexp(dim=1).numpy())

    def as_examples(self) -> Examples:
        """Return the regions as examples of no new class."""
        count = len(self)
        none, weights = np.full(count, -1, np.int64), np.full(count, KNOWN_WEIGHT, np.float32)
        return Examples(self.inputs, self.rest, none, np.zeros(count, np.float32), weights, objects=0)


def known_objects(checkpoint: Checkpoint) -> KnownObjects | None:
    """Return the regions that weights bring; None if they bring none.

    Raises:
        WeightsError: they do not fit together.
    """
    inputs, rest, labels = (checkpoint.state.get(KNOWN_OBJECTS + name) for name in ("inputs", "rest", "labels"))
    if inputs is None or rest is None or labels is None:
        return None
    count, classes = len(rest), len(checkpoint.classes)
    fits = inputs.shape == (count, PART_INPUTS) and rest.shape == labels.shape == (count,)
    if not fits or not bool(((labels >= 0) & (labels < classes)).all()):
        raise WeightsError("the regions of known objects do not fit together, or name classes that there are not")
    return KnownObjects(inputs.half().numpy(), rest.float().numpy(), labels.long().numpy())


def with_known_objects(checkpoint: Checkpoint, known: KnownObjects) -> Checkpoint:
    """Return shared weights that bring these regions instead of others."""
    values = {"inputs": known.inputs, "rest": known.rest, "labels": known.labels}
    own = {KNOWN_OBJECTS + name: torch.from_numpy(value) for name, value in values.items()}
    return replace(checkpoint, state={**checkpoint.state, **own})
