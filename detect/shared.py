"""One pass of the network per photo: GoogLeNet's trunk with MultiBox's heads and a head that classifies regions.

The photo is drawn on a canvas, and the trunk runs over it once. Proposals, their order and the classes of regions are
all computed from its maps. Regions of any other generator are classified from the same maps.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from classifier.engines import Placement, place, require_finite
from classifier.region_columns import ColumnInputs
from classifier.regions import checked_boxes
from classifier.shared_regions import WIDTH, RegionMaps, SharedRegionHead
from classifier.weights.checkpoint import (
    SHARED_PHOTOS,
    Checkpoint,
    Preprocessing,
    WeightsError,
    load_state,
    weights_unset,
)
from detect.int8 import calibrated, network_in_int8
from detect.multibox import (
    MAX_WIDTH,
    SCALES,
    CanvasRunner,
    DenseMultiBox,
    head_shapes,
    head_width,
    learned_classes,
    multibox_of,
    weights_facts,
)
from proposals.multibox.generator import Look, MultiBox, drawn
from proposals.multibox.memory import CanvasMemory
from proposals.multibox.predictor import DensePredictor
from proposals.multibox.views import whole_photo
from structures.boxes import Boxes, Floats
from structures.records import Image
from structures.shared_lock import MODULES


class TrunkMaps(NamedTuple):
    """The maps that the heads read: inception3b at stride 8, 4e at 16, and 5b, which is dilated, also at 16."""

    three_b: Tensor
    four_e: Tensor
    five_b: Tensor

    def for_multibox(self, offset: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the maps at strides 8, 16 and 32; the last has only the cells of 5b that an undilated trunk has."""
        return self.three_b, self.four_e, self.five_b[:, :, offset::2, offset::2]


class SharedNetwork(DenseMultiBox):
    """MultiBox's network, whose trunk also serves a region classifier.

    Args:
        shapes: (4, A, 2) priors of each level, in pixels of the canvas.
        preprocessing: preprocessing of the trunk.
        columns: columns of the classifier: the classes, and background last.
        variant: variant of GoogLeNet.
        width: channels of MultiBox's pyramid.
        region_width: width of the region head's hidden layers.
    """

    def __init__(
        self,
        shapes: Tensor,
        preprocessing: Preprocessing,
        columns: int,
        *,
        variant: Any = "paper",
        width: int = 128,
        region_width: int = WIDTH,
    ) -> None:
        super().__init__(shapes, preprocessing, variant=variant, width=width)
        self.offset = self.trunk.dilate()
        self.regions = SharedRegionHead(columns, width=region_width)

    def maps_from(self, found: list[Tensor], frozen: str) -> TrunkMaps:
        """Run the layers after `frozen` on the output of the stem."""
        return TrunkMaps(*self.from_stem(found, frozen))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (N, 3, H, W) RGB pixels 0..255 to one tensor (N, values), as engines require; see `split`."""
        maps = TrunkMaps(*self.stem(pixels, "inception5b"))
        joined = self.head.joined(maps.for_multibox(self.offset))
        return torch.cat([part.flatten(1) for part in (joined, *self.regions.maps(*maps))], dim=1)

    def split(self, flat: Tensor, canvas: tuple[int, int]) -> tuple[Tensor, RegionMaps]:
        """Split the output of `forward` for (H, W) canvases into MultiBox's joined outputs and the maps for regions."""
        height, width = canvas
        shapes = self.regions.map_shapes(canvas)
        rows = self.head.width + 5 * self.head.priors_per_cell
        cells = sum((height // stride) * (width // stride) for stride in (8, 16, 32, 64))
        sizes = [rows * cells, *(c * h * w for c, h, w in shapes)]
        joined, *maps = torch.split(flat, sizes, dim=1)
        count = len(flat)
        found = (part.reshape(count, *shape) for part, shape in zip(maps, shapes, strict=True))
        return joined.reshape(count, rows, cells), RegionMaps(*found)


def from_checkpoint(checkpoint: Checkpoint) -> SharedNetwork:
    """Build the network of a checkpoint of the task "shared", in float32 and evaluation mode.

    Raises:
        WeightsError: the checkpoint is of another task, or its parts do not fit together.
    """
    if checkpoint.task != "shared":
        raise WeightsError(f"these weights are for {checkpoint.task}, weights of shared features are needed")
    with weights_unset():
        network = SharedNetwork(
            head_shapes(checkpoint),
            checkpoint.preprocessing,
            len(checkpoint.classes) + 1,
            variant=checkpoint.variant,
            width=head_width(checkpoint),
            region_width=_region_width(checkpoint),
        )
    load_state(network, {n: v for n, v in checkpoint.state.items() if not n.startswith(SHARED_PHOTOS)})
    return network.eval()


def _region_width(checkpoint: Checkpoint) -> int:
    """Return the width of the region head's hidden layers; weights that do not fit it are refused when loaded."""
    bias = checkpoint.state.get("regions.hidden1.bias")
    return WIDTH if bias is None or not 0 < bias.numel() <= MAX_WIDTH else bias.numel()


def to_checkpoint(
    network: SharedNetwork, start: Checkpoint, classes: tuple[str, ...], state: Mapping[str, Tensor], training: Any
) -> Checkpoint:
    """Make a checkpoint of a trained network."""
    settings = {"width": network.head.width, "head": "dense"}
    record = {"multibox": settings, "classes": list(classes), **training}
    return replace(start, state=state, classes=classes, task="shared", training=record)


def with_ranges(checkpoint: Checkpoint, photos: Iterable[Image]) -> Checkpoint:
    """Return a checkpoint with the ranges that int8 needs, measured on RGB uint8 photos.

    Raises:
        InputError: the checkpoint is of another task, or there are no photos.
    """
    canvases = (whole_photo((photo.shape[0], photo.shape[1])).draw(photo) for photo in photos)
    return calibrated(checkpoint, from_checkpoint(checkpoint), canvases)


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
        column_inputs: whether the head also returns the inputs of its logits, to learn new columns; see
            `classifier.region_columns.ColumnInputs`.

    Raises:
        WeightsError: the checkpoint is of another task, or has no ranges although int8 is requested.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        placement: Placement | None = None,
        *,
        batch_size: int | None = None,
        column_inputs: bool = False,
    ) -> None:
        self.classes, self.network = checkpoint.classes, from_checkpoint(checkpoint)
        self._learned = learned_classes(checkpoint) or checkpoint.classes
        if column_inputs:
            stands_in = ColumnInputs(self.network.regions)  # has the methods of the head that are used here
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

    def multibox(self, *, scales: tuple[float, ...] = SCALES, **options: Any) -> MultiBox:
        """Return the proposal generator on these features; options as for `detect.multibox.make_multibox`."""
        predict = DensePredictor(self._joined, self.network.head, self.network.refine, device=self.placement.device)
        return multibox_of(self.network, predict, self._facts, scales=scales, learned_classes=self._learned, **options)

    def _joined(self, canvases: Sequence[Image]) -> list[Tensor]:
        """Return the joined pyramid and outputs of each canvas, for DensePredictor."""
        rows = self.memory(canvases)
        sizes = [(canvas.shape[0], canvas.shape[1]) for canvas in canvases]
        return [self.network.split(row[None], size)[0][0] for row, size in zip(rows, sizes, strict=True)]


class SharedRegions:
    """A region classifier on shared features; see `classifier.regions.RegionClassifier`.

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
        """Draw a photo on its canvas and begin to make its engine; see `classifier.regions.ClassifiesInSteps`."""
        view = whole_photo((image.shape[0], image.shape[1]))
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
