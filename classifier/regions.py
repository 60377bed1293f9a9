"""RegionClassifier: a photo and boxes in, class probabilities out."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from classifier.crops import RegionCrops, normalise
from classifier.engines import Engine, Placement, make_engine, place
from classifier.googlenet import GoogLeNet
from classifier.weights.checkpoint import Checkpoint, WeightsError
from structures.boxes import Boxes, Floats, as_boxes
from structures.errors import InputError
from structures.records import Image


class RegionClassifier(Protocol):
    """Says what every box of a photo holds.

    A classifier that has settings which decide its answers, beside its weights, has an attribute parameters: a mapping
    of JSON values, for the record of a run. One that was asked for features, what its last layer sees of a region, has
    an attribute feature_count with their number D, and they stand behind the probabilities: (N, C + 1 + D). See
    `feature_count`.
    """

    @property
    def classes(self) -> Sequence[str]:
        """The C object classes; background is the column behind them."""

    def __call__(self, image: Image, boxes: Boxes) -> Floats:
        """Return (N, C + 1) probabilities for (N, 4) boxes in pixels of the RGB uint8 photo; rows sum to 1."""


def feature_count(classify: object) -> int:
    """Return how many features of each region a classifier gives behind its probabilities; most give none."""
    return int(getattr(classify, "feature_count", 0))


@runtime_checkable
class RunsInEngines(Protocol):
    """A classifier of regions that says where its networks run."""

    @property
    def engines(self) -> Sequence[Engine | Placement]:
        """One engine per network, or where it is placed if its engines are made later."""


class Probabilities(nn.Module):
    """A GoogLeNet with softmax behind it.

    Args:
        network: in evaluation mode, or to be brought to it.
        several: the columns do not exclude each other: a sigmoid for each in the place of the softmax.
        with_features: also give what the last layer sees.
    """

    def __init__(self, network: GoogLeNet, *, several: bool = False, with_features: bool = False) -> None:
        super().__init__()
        self.network, self.several, self.with_features = network, several, with_features

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, S, S) to (N, columns) probabilities, float32 from the last layer on; features behind them."""
        pooled = self.network.pooled(self.network.trunk(x))
        logits = self.network.last_layer(pooled)
        probabilities = logits.sigmoid() if self.several else logits.softmax(dim=1)
        return torch.cat([probabilities, pooled], dim=1) if self.with_features else probabilities


class GoogLeNetRegions:
    """R-CNN's classifier: each box warped with its context and sent through GoogLeNet.

    Args:
        checkpoint: weights of a region classifier.
        placement: where to run; None chooses.
        mirrored: also classify the mirrored crops and take the mean of the two.
        batch_size: regions a batch; None takes the engine's own.
        with_features: also give the 1,024 numbers that the last layer sees of each region, behind its probabilities.

    Raises:
        WeightsError: the checkpoint is not one of a region classifier.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        placement: Placement | None = None,
        *,
        mirrored: bool = False,
        batch_size: int | None = None,
        with_features: bool = False,
    ) -> None:
        if checkpoint.task != "regions":
            raise WeightsError(f"these weights are for {checkpoint.task}, a region classifier is needed")
        self.classes, self.mirrored = checkpoint.classes, mirrored
        self._preprocessing = checkpoint.preprocessing
        network = checkpoint.network()
        self.feature_count = network.fc.in_features if with_features else 0
        module = Probabilities(network, with_features=with_features)
        size = checkpoint.preprocessing.size
        self.engine = make_engine(module, placement or place(), size=size, batch_size=batch_size)

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The one engine of the network."""
        return (self.engine,)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Every setting that decides the answers, beside the weights."""
        return {"mirrored": self.mirrored}

    def __call__(self, image: Image, boxes: Boxes) -> Floats:
        """Return (N, C + 1) float32 probabilities, background last, and the features; equal boxes are computed once.

        Raises:
            InputError: boxes or photo are malformed, or what the network gives is not finite.
        """
        if len(boxes) == 0:
            return np.zeros((0, len(self.classes) + 1 + self.feature_count), np.float32)
        distinct, back = np.unique(_checked(boxes), axis=0, return_inverse=True)
        crops = self._crops(image)
        rows = self._run(crops, distinct, mirrored=False)
        if self.mirrored:
            rows = np.float32(0.5) * (rows + self._run(crops, distinct, mirrored=True))
        if not np.isfinite(rows).all():
            raise InputError(f'the network\'s answers are not finite in {self.engine.dtype}; try `dtype="float32"`')
        return rows[back.reshape(-1)]

    def _crops(self, image: Image) -> RegionCrops:
        photo = normalise(image, self._preprocessing, self.engine.device)
        return RegionCrops(photo, size=self._preprocessing.size, context=self._preprocessing.context)

    @torch.inference_mode()
    def _run(self, crops: RegionCrops, boxes: Boxes, *, mirrored: bool) -> Floats:
        batches = torch.split(torch.from_numpy(boxes).to(self.engine.device), self.engine.batch_size)
        rows: Floats = torch.cat([self.engine(crops(batch, mirrored=mirrored)) for batch in batches]).cpu().numpy()
        return rows


def _checked(boxes: Boxes) -> Boxes:
    checked = as_boxes(boxes)
    if not np.isfinite(checked).all():
        raise InputError("boxes hold values that are not finite")
    return checked


class Ensemble:
    """Several region classifiers on the same boxes, their probabilities averaged (GoogLeNet, section 8).

    Raises:
        InputError: no classifier, their classes differ, or one gives features: a mean of those of several networks says
            nothing.
    """

    def __init__(self, members: Sequence[RegionClassifier]) -> None:
        if not members or any(tuple(m.classes) != tuple(members[0].classes) for m in members):
            raise InputError("an ensemble needs at least one classifier, and the same classes in all of them")
        if any(map(feature_count, members)):
            raise InputError("features are kept of one network: name one `weights`")
        self.members, self.classes = tuple(members), tuple(members[0].classes)

    @property
    def engines(self) -> tuple[Engine | Placement, ...]:
        """Those of all members that say where they run."""
        return tuple(each for member in self.members if isinstance(member, RunsInEngines) for each in member.engines)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The settings of the members, taken to be the same in all of them."""
        return dict(getattr(self.members[0], "parameters", {}))

    def __call__(self, image: Image, boxes: Boxes) -> Floats:
        """Return the mean (N, C + 1) probabilities."""
        mean: Floats = np.mean([member(image, boxes) for member in self.members], axis=0, dtype=np.float32)
        return mean
