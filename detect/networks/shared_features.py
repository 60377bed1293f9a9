"""One pass of the network per photo at work: MultiBox's proposals and the classes of regions from the same maps."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from classifier.engines import require_finite
from classifier.placement import Placement, place
from classifier.protocol import checked_boxes
from classifier.region_columns import LastMapHead
from classifier.shared_regions import RegionMaps, SharedRegionHead
from classifier.weights.checkpoint import Checkpoint
from detect.networks.canvas_runner import CanvasRunner
from detect.networks.int8 import network_in_int8
from detect.networks.multibox import SCALES, learned_classes, multibox_of, weights_facts
from detect.networks.shared import from_checkpoint
from proposals.multibox.generator import Look, MultiBox, drawn
from proposals.multibox.memory import CanvasMemory
from proposals.multibox.predictor import DensePredictor
from structures.boxes import Boxes, Floats, ImageSize
from structures.records import Image
from structures.shared_lock import MODULES


class PhotoMaps(NamedTuple):
    """The output of one pass for one canvas.

    Attributes:
        joined: (1, width + 5 A, cells) MultiBox's pyramid and raw outputs.
        regions: maps to pool regions from.
    """

    joined: Tensor
    regions: RegionMaps


class SharedFeatures:
    """Runs the network once per canvas, and keeps its output for recent canvases; can be used from any thread.

    Args:
        checkpoint: checkpoint of the task "shared".
        placement: device, engine and precision; None chooses.
        batch_size: canvases of one size per batch; None chooses for the device.
        last_map: whether the maps hold inception5b, to learn new columns from; see
            `classifier.region_columns.LastMapHead`.

    Raises:
        WeightsError: the checkpoint is of another task, or has no ranges although int8 is requested.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        placement: Placement | None = None,
        *,
        batch_size: int | None = None,
        last_map: bool = False,
    ) -> None:
        self.classes, self.network = checkpoint.classes, from_checkpoint(checkpoint)
        self._learned = learned_classes(checkpoint) or checkpoint.classes
        if last_map:
            stands_in = LastMapHead(self.network.regions)  # has the methods of the head that are used here
            self.network.regions = cast(SharedRegionHead, stands_in)
        self.placement = placement or place()
        in_int8 = self.placement.dtype == "int8"
        network = network_in_int8(checkpoint, self.network) if in_int8 else self.network
        self.run = CanvasRunner(network, self.placement, batch_size=batch_size)
        self.memory = CanvasMemory(self.run, device=self.placement.device)
        self.head = self.network.regions.to(self.placement.device)
        self._facts = weights_facts(checkpoint)

    def __call__(self, canvases: Sequence[Image]) -> PhotoMaps:
        """Return the maps of RGB uint8 (H, W, 3) canvases of one size, on the device of the placement."""
        rows, size = self.memory(canvases), (canvases[0].shape[0], canvases[0].shape[1])
        return PhotoMaps(*self.network.split(rows[0][None] if len(rows) == 1 else torch.stack(rows), size))

    def expect(self, image_size: ImageSize) -> None:
        """Begin to make the engine for photos of (height, width), where that takes long."""
        self.run.expect(self.network.view(image_size).canvas)

    def multibox(self, *, scales: tuple[float, ...] = SCALES, **options: Any) -> MultiBox:
        """Return the proposal generator on these features; options as for `detect.networks.multibox.make_multibox`."""
        predict = DensePredictor(self._joined, self.network.head, self.network.refine, device=self.placement.device)
        return multibox_of(self.network, predict, self._facts, scales=scales, learned_classes=self._learned, **options)

    def _joined(self, canvases: Sequence[Image]) -> list[Tensor]:
        """Return the joined pyramid and outputs of each canvas, for DensePredictor."""
        rows = self.memory(canvases)
        sizes = [(canvas.shape[0], canvas.shape[1]) for canvas in canvases]
        return [self.network.split(row[None], size)[0][0] for row, size in zip(rows, sizes, strict=True)]


class SharedRegions:
    """A region classifier on shared features; see `classifier.protocol.RegionClassifier`.

    Args:
        features: features of photos.
        mirrored: also classify on the mirrored photo, and average the two.
        with_features: also return the region head's last hidden layer, after the probabilities.
    """

    def __init__(self, features: SharedFeatures, *, mirrored: bool = False, with_features: bool = False) -> None:
        self.features, self.classes, self.mirrored = features, features.classes, mirrored
        self.feature_count = features.head.predict.in_features if with_features else 0

    @property
    def engines(self) -> tuple[Placement, ...]:
        """The placement of the network; its engines are made when a canvas of a new shape comes."""
        return (self.features.placement,)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Every setting that decides the results, apart from the weights."""
        return {"mirrored": self.mirrored}

    def __call__(self, image: Image, boxes: Boxes) -> Floats:
        """Return (N, C + 1) float32 probabilities for (N, 4) boxes in pixels of the photo, followed by features if any.

        Raises:
            InputError: boxes or photo are malformed, or the network's output is not finite.
        """
        return self.finish([self.begin(image)], [boxes])[0]

    def begin(self, image: Image) -> list[Look]:
        """Draw a photo on its canvas and begin to make its engine; see `classifier.protocol.ClassifiesInSteps`."""
        view = self.features.network.view((image.shape[0], image.shape[1]))
        self.features.run.expect(view.canvas)
        return [drawn(image, view, mirrored) for mirrored in ((False, True) if self.mirrored else (False,))]

    def look(self, begun: Sequence[list[Look]]) -> None:
        """Run the network on drawn photos."""
        self.features.memory([look.canvas for looks in begun for look in looks])

    def finish(self, begun: Sequence[list[Look]], boxes: Sequence[Boxes]) -> list[Floats]:
        """Return the probabilities of (N, 4) boxes of each photo."""
        places = [checked_boxes(own) for own in boxes]
        plain, *turned = ([looks[side] for looks in begun] for side in range(2 if self.mirrored else 1))
        rows = self._rows(plain, places)
        for looks in turned:
            half = np.float32(0.5)
            rows = [half * (a + b) for a, b in zip(rows, self._rows(looks, places), strict=True)]
        for each in rows:
            require_finite(each, self.features.placement)
        return rows

    def _rows(self, looks: Sequence[Look], boxes: Sequence[Boxes]) -> list[Floats]:
        """Classify photo by photo on a CPU, so that the group changes nothing; else those of one canvas together."""
        alone = self.features.placement.device.type == "cpu"
        groups: dict[Any, list[int]] = {}
        for number, look in enumerate(looks):
            groups.setdefault(number if alone else look.view.canvas, []).append(number)
        found: dict[int, Floats] = {}
        for numbers in groups.values():
            found |= zip(numbers, self._group([looks[n] for n in numbers], [boxes[n] for n in numbers]), strict=True)
        return [found[number] for number in range(len(looks))]

    @torch.inference_mode()
    def _group(self, looks: Sequence[Look], boxes: Sequence[Boxes]) -> list[Floats]:
        if not any(map(len, boxes)):
            return [np.zeros((0, len(self.classes) + 1 + self.feature_count), np.float32) for _ in boxes]
        placed = [look.placed(own) for look, own in zip(looks, boxes, strict=True)]
        device = self.features.placement.device
        maps = self.features([look.canvas for look in looks]).regions
        there = [torch.from_numpy(own).to(device) for own in placed]
        with MODULES.shared():
            found = self.features.head(maps, there, with_hidden=self.feature_count > 0)
        logits, hidden = found.split([len(self.classes) + 1, self.feature_count], dim=1)
        rows: Floats = torch.cat([logits.softmax(dim=1), hidden], dim=1).cpu().numpy()
        return np.split(rows, np.cumsum([len(own) for own in boxes])[:-1])
