"""R-CNN's region classifier: GoogLeNet on a crop of each box; and several classifiers as one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from classifier.crops import RegionCrops, normalise
from classifier.engines import Engine, EngineAhead, in_batches, require_finite
from classifier.googlenet import GoogLeNet
from classifier.placement import Placement, place
from classifier.protocol import RegionClassifier, checked_boxes, engines_of, feature_count, in_steps, settings_of
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.fitting import WeightsError
from structures.boxes import Boxes, Floats, Indices
from structures.errors import InputError
from structures.records import Image


class Probabilities(nn.Module):
    """A GoogLeNet followed by a softmax.

    Args:
        network: in evaluation mode, or to be brought to it.
        several: the columns do not exclude each other: a sigmoid for each instead of the softmax.
        with_features: also give what the last layer sees.
    """

    def __init__(self, network: GoogLeNet, *, several: bool = False, with_features: bool = False) -> None:
        super().__init__()
        self.network, self.several, self.with_features = network, several, with_features

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, S, S) to (N, columns) probabilities, float32 from the last layer on, then the features."""
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
        batch_size: regions per batch; None takes the engine's own.
        with_features: also return the 1,024 inputs of the last layer for each region, after its probabilities.

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
        self._engine = EngineAhead(module, placement or place(), size=size, batch_size=batch_size)

    @property
    def engine(self) -> Engine:
        """The engine of the network, which is made while other things are loaded.

        Raises:
            InputError: it cannot be made as the placement says.
        """
        return self._engine.result()

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The one engine of the network."""
        return (self.engine,)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Every setting that decides the answers, apart from the weights."""
        return {"mirrored": self.mirrored}

    def __call__(self, image: Image, boxes: Boxes) -> Floats:
        """Return (N, C + 1) float32 probabilities, background last, and the features; equal boxes are computed once.

        Raises:
            InputError: boxes or photo are malformed, or what the network gives is not finite.
        """
        return self.finish([image], [boxes])[0]

    def begin(self, image: Image) -> Image:
        """Return the photo itself: its crops are cut when there is room for them."""
        return image

    def look(self, begun: Sequence[Image]) -> None:
        """Do nothing: the network sees no whole photos."""

    def finish(self, begun: Sequence[Image], boxes: Sequence[Boxes]) -> list[Floats]:
        """Return the probabilities of (N, 4) boxes of each photo; regions of several photos fill a batch."""
        pairs = [np.unique(checked_boxes(own), axis=0, return_inverse=True) for own in boxes]
        distinct = [rows for rows, _ in pairs]
        found = self._run(begun, distinct, mirrored=False)
        if self.mirrored:
            found = np.float32(0.5) * (found + self._run(begun, distinct, mirrored=True))
        require_finite(found, self.engine)
        parts = np.split(found, np.cumsum([len(rows) for rows in distinct])[:-1])
        return [rows[back.reshape(-1)] for rows, (_, back) in zip(parts, pairs, strict=True)]

    @torch.inference_mode()
    def _run(self, images: Sequence[Image], boxes: Sequence[Boxes], *, mirrored: bool) -> Floats:
        ends = np.cumsum([len(own) for own in boxes])
        cut = _Cutter(images, boxes, ends, self._crops, mirrored=mirrored)
        if not ends[-1]:
            return np.zeros((0, len(self.classes) + 1 + self.feature_count), np.float32)
        rows: Floats = in_batches(self.engine, int(ends[-1]), cut).cpu().numpy()
        return rows

    def _crops(self, image: Image) -> RegionCrops:
        photo = normalise(image, self._preprocessing, self.engine.device)
        return RegionCrops(photo, size=self._preprocessing.size, context=self._preprocessing.context)


class _Cutter:
    """Cuts crops of several photos, numbered one photo after the other; the photo that was cut last is at hand."""

    def __init__(
        self,
        images: Sequence[Image],
        boxes: Sequence[Boxes],
        ends: Indices,
        crops: Callable[[Image], RegionCrops],
        *,
        mirrored: bool,
    ) -> None:
        self._images, self._boxes, self._ends, self._crops = images, boxes, ends, crops
        self._mirrored = mirrored
        self._last: tuple[int, RegionCrops | None] = (-1, None)

    def __call__(self, rows: slice) -> Tensor:
        first, last = np.searchsorted(self._ends, (rows.start, rows.stop - 1), side="right").tolist()
        parts = []
        for photo in range(first, last + 1):
            begin = self._ends[photo] - len(self._boxes[photo])
            own = self._boxes[photo][max(0, rows.start - begin) : max(0, rows.stop - begin)]
            if len(own):
                parts.append(self._of(photo)(torch.from_numpy(own), mirrored=self._mirrored))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _of(self, photo: int) -> RegionCrops:
        number, crops = self._last
        if number != photo or crops is None:
            crops = self._crops(self._images[photo])
            self._last = photo, crops
        return crops


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
        self._steps = [in_steps(member) for member in members]

    @property
    def engines(self) -> tuple[Engine | Placement, ...]:
        """Those of all members that say where they run."""
        return engines_of(*self.members)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The settings of the members, taken to be the same in all of them."""
        return settings_of(self.members[0])

    def __call__(self, image: Image, boxes: Boxes) -> Floats:
        """Return the mean (N, C + 1) probabilities."""
        return self.finish([self.begin(image)], [boxes])[0]

    def begin(self, image: Image) -> list[Any]:
        """Begin with all members; see `classifier.protocol.ClassifiesInSteps`."""
        return [member.begin(image) for member in self._steps]

    def look(self, begun: Sequence[list[Any]]) -> None:
        """Have all members look at photos that were begun."""
        for member, own in zip(self._steps, zip(*begun, strict=True), strict=False):
            member.look(own)

    def finish(self, begun: Sequence[list[Any]], boxes: Sequence[Boxes]) -> list[Floats]:
        """Return the mean probabilities of (N, 4) boxes of each photo that was begun."""
        each = [member.finish(own, boxes) for member, own in zip(self._steps, zip(*begun, strict=True), strict=False)]
        return [np.mean(rows, axis=0, dtype=np.float32) for rows in zip(*each, strict=True)]
