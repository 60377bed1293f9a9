"""Regions of objects that shared weights have learned, in the same file: examples of no new class.

Photos of a new class rarely show the old ones, whose objects are then detected as the new class: a horse as a cow. So
weights bring regions of what they know (benchmarks/LOG.md, 2026-11-30).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from classifier.few_examples import Examples
from classifier.region_columns import PART_INPUTS, Columns
from classifier.weights.checkpoint import KNOWN_OBJECTS, Checkpoint
from classifier.weights.fitting import WeightsError
from structures.boxes import Floats, Indices
from structures.records import Labels

# A region of a known object counts as often as KNOWN_WEIGHT others, all of them at most as often as KNOWN_TOTAL:
# measured with 300 and 400 objects of 15 and 20 classes (benchmarks/LOG.md, 2026-11-30).
KNOWN_WEIGHT, KNOWN_TOTAL = 60.0, 24_000.0


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
        """Return the regions of all parts, in order; none if there are no parts."""
        if not parts:
            return KnownObjects(np.zeros((0, PART_INPUTS), np.float16), np.zeros(0, np.float32), np.zeros(0, np.int64))
        return KnownObjects(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(KnownObjects)))

    def with_columns(self, new: Columns) -> "KnownObjects":
        """Return the same regions for weights that have further columns."""
        inputs = torch.from_numpy(self.inputs.astype(np.float32))
        logits = torch.cat([inputs @ new.weight.T + new.bias, torch.from_numpy(self.rest)[:, None]], dim=1)
        return replace(self, rest=logits.logsumexp(dim=1).numpy())

    def as_examples(self) -> Examples:
        """Return the regions as examples of no new class."""
        count = len(self)
        none = np.full(count, -1, np.int64)
        weights = np.full(count, min(KNOWN_WEIGHT, KNOWN_TOTAL / max(1, count)), np.float32)
        return Examples(self.inputs, self.rest, none, np.zeros(count, np.float32), weights, objects=0)


def known_objects(checkpoint: Checkpoint) -> KnownObjects | None:
    """Return the regions that weights bring; None if they bring none.

    Raises:
        WeightsError: they are damaged.
    """
    found = {n.removeprefix(KNOWN_OBJECTS): v for n, v in checkpoint.state.items() if n.startswith(KNOWN_OBJECTS)}
    if not found:
        return None
    if found.keys() != {field.name for field in fields(KnownObjects)} or not _fit(**found, checkpoint=checkpoint):
        raise WeightsError("the regions of known objects do not fit together, or a label is no class of the weights")
    return KnownObjects(found["inputs"].half().numpy(), found["rest"].float().numpy(), found["labels"].numpy())


def _fit(inputs: Tensor, rest: Tensor, labels: Tensor, *, checkpoint: Checkpoint) -> bool:
    if labels.dtype != torch.int64 or labels.ndim != 1 or rest.shape != labels.shape:
        return False
    if inputs.shape != (len(labels), PART_INPUTS) or not all(each.is_floating_point() for each in (inputs, rest)):
        return False
    known = (labels >= 0) & (labels < len(checkpoint.classes))
    return bool(known.all()) and bool(inputs.half().isfinite().all())


def with_known_objects(checkpoint: Checkpoint, known: KnownObjects) -> Checkpoint:
    """Return shared weights that bring these regions instead of others."""
    values = {"inputs": known.inputs, "rest": known.rest, "labels": known.labels}
    own = {KNOWN_OBJECTS + name: torch.from_numpy(value) for name, value in values.items()}
    return replace(checkpoint, state={**checkpoint.state, **own})
