"""One pass of the network per photo: GoogLeNet's trunk, MultiBox's heads on it, and the head that classifies regions.

The photo is drawn on a canvas, the trunk runs over it once, and proposals, their order and the classes of regions are
all read from its maps. Regions of any other generator are classified from the same maps.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from classifier.engines import Placement, place
from classifier.shared_regions import WIDTH, RegionMaps, SharedRegionHead
from classifier.weights.checkpoint import SHARED_PHOTOS, Checkpoint, Preprocessing, WeightsError, load_state
from detect.multibox import (
    MAX_WIDTH,
    SCALES,
    CanvasRunner,
    DenseMultiBox,
    head_shapes,
    head_width,
    multibox_of,
    weights_facts,
)
from proposals.multibox.generator import MultiBox
from proposals.multibox.predictor import DensePredictor
from proposals.multibox.views import whole_photo
from structures.boxes import Boxes, Floats, as_boxes, mirror
from structures.errors import InputError
from structures.records import Image

KEPT = 16  # canvases whose maps are kept, 4 MB each: photos that are proposed for ahead of their classification


class TrunkMaps(NamedTuple):
    """What the heads read: inception3b at stride 8, 4e at 16, and 5b at 16, too, since it is dilated."""

    three_b: Tensor
    four_e: Tensor
    five_b: Tensor

    def for_multibox(self, offset: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the maps at strides 8, 16 and 32; the last has the cells of 5b that an undilated trunk has."""
        return self.three_b, self.four_e, self.five_b[:, :, offset::2, offset::2]


class SharedNetwork(DenseMultiBox):
    """MultiBox's network, whose trunk also serves a region classifier.

    Args:
        shapes: (4, A, 2) priors of each level, in pixels of the canvas.
        preprocessing: of the trunk.
        columns: of the classifier: the classes, and background last.
        variant: of GoogLeNet.
        width: channels of MultiBox's pyramid.
        region_width: of the region head's hidden layers.
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
        """Run the stages behind `frozen` on what the stem gave."""
        return TrunkMaps(*self.from_stem(found, frozen))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (N, 3, H, W) RGB pixels 0..255 to one tensor (N, values), as engines want it; see `split`."""
        maps = TrunkMaps(*self.stem(pixels, "inception5b"))
        joined = self.head.joined(maps.for_multibox(self.offset))
        return torch.cat([part.flatten(1) for part in (joined, *self.regions.maps(*maps))], dim=1)

    def split(self, flat: Tensor, canvas: tuple[int, int]) -> tuple[Tensor, RegionMaps]:
        """Split what `forward` gives for canvases of (H, W): MultiBox's joined outputs, and the maps of regions."""
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
    """Build the network of a checkpoint of the task "shared", float32, in evaluation mode.

    Raises:
        WeightsError: the checkpoint is of another task, or its parts do not fit together.
    """
    if checkpoint.task != "shared":
        raise WeightsError(f"these weights are for {checkpoint.task}, weights of shared features are needed")
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
    """Return the width of the region head's hidden layers; what does not fit it is found when weights are loaded."""
    bias = checkpoint.state.get("regions.hidden1.bias")
    return WIDTH if bias is None or not 0 < bias.numel() <= MAX_WIDTH else bias.numel()


def to_checkpoint(
    network: SharedNetwork, start: Checkpoint, classes: tuple[str, ...], state: Mapping[str, Tensor], training: Any
) -> Checkpoint:
    """Make a checkpoint of a trained network."""
    settings = {"width": network.head.width, "head": "dense"}
    record = {"multibox": settings, "classes": list(classes), **training}
    return replace(start, state=state, classes=classes, task="shared", training=record)


class PhotoMaps(NamedTuple):
    """What one pass gives for one canvas.

    Attributes:
        joined: (1, width + 5 A, cells) MultiBox's pyramid and outputs.
        regions: what regions are pooled from.
    """

    joined: Tensor
    regions: RegionMaps


class SharedFeatures:
    """Runs the network once per canvas, and keeps what it gave for the last ones; from any thread.

    Args:
        checkpoint: of the task "shared".
        placement: where to run; None chooses.

    Raises:
        WeightsError: the checkpoint is of another task.
    """

    def __init__(self, checkpoint: Checkpoint, placement: Placement | None = None) -> None:
        self.classes, self.network = checkpoint.classes, from_checkpoint(checkpoint)
        self.placement = placement or place()
        self._run = CanvasRunner(self.network, self.placement)
        self.head = self.network.regions.to(self.placement.device)
        self._facts = weights_facts(checkpoint)
        self._kept: OrderedDict[bytes, PhotoMaps] = OrderedDict()
        self._keeping = threading.Lock()

    @torch.inference_mode()
    def __call__(self, canvas: Image) -> PhotoMaps:
        """Return the maps of an RGB uint8 (H, W, 3) canvas, on the device of the placement."""
        key = blake2b(canvas.tobytes(), digest_size=16, salt=repr(canvas.shape[:2]).encode()[:16]).digest()
        with self._keeping:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        pixels = torch.from_numpy(np.ascontiguousarray(canvas)).permute(2, 0, 1)[None].float()
        maps = PhotoMaps(*self.network.split(self._run(pixels), (canvas.shape[0], canvas.shape[1])))
        with self._keeping:
            self._kept[key] = maps
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return maps

    def multibox(self, *, scales: tuple[float, ...] = SCALES, **options: Any) -> MultiBox:
        """Return the proposal generator on these features; options as for `detect.multibox.make_multibox`."""
        predict = DensePredictor(self._joined, self.network.head, self.network.refine, device=self.placement.device)
        return multibox_of(self.network, predict, self._facts, scales=scales, learned_classes=self.classes, **options)

    def _joined(self, pixels: Tensor) -> Tensor:
        """Do what DensePredictor asks of a network: (N, 3, h, w) RGB pixels -> pyramid and outputs, joined."""
        canvases = pixels.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
        return torch.cat([self(canvas).joined for canvas in canvases])


class SharedRegions:
    """A region classifier on shared features; see `classifier.regions.RegionClassifier`.

    Args:
        features: of photos.
        mirrored: also classify on the mirrored photo, and take the mean of the two.
        with_features: also give the numbers of the region head's last hidden layer, behind the probabilities.
    """

    def __init__(self, features: SharedFeatures, *, mirrored: bool = False, with_features: bool = False) -> None:
        self.features, self.classes, self.mirrored = features, features.classes, mirrored
        self.feature_count = features.head.predict.in_features if with_features else 0

    @property
    def engines(self) -> tuple[Placement, ...]:
        """Where the network is placed; its engines are made when the first canvas of their shape comes."""
        return (self.features.placement,)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Every setting that decides the answers, besides the weights."""
        return {"mirrored": self.mirrored}

    def __call__(self, image: Image, boxes: Boxes) -> Floats:
        """Return (N, C + 1) float32 probabilities for (N, 4) boxes in pixels of the photo; features behind them.

        Raises:
            InputError: boxes or photo are malformed, or what the network gives is not finite.
        """
        boxes = as_boxes(boxes)
        if not np.isfinite(boxes).all():
            raise InputError("boxes hold values that are not finite")
        if len(boxes) == 0:
            return np.zeros((0, len(self.classes) + 1 + self.feature_count), np.float32)
        view = whole_photo((image.shape[0], image.shape[1]))
        rows, places = self._look(view.draw(image), view.to_canvas(boxes)), view.to_canvas(boxes)
        if self.mirrored:
            flipped = self._look(view.draw(image, mirrored=True), mirror(places, view.canvas))
            rows = np.float32(0.5) * (rows + flipped)
        if not np.isfinite(rows).all():
            raise InputError(
                f'the network\'s answers are not finite in {self.features.placement.dtype}; try `dtype="float32"`'
            )
        return rows

    @torch.inference_mode()
    def _look(self, canvas: Image, boxes: Boxes) -> Floats:
        maps = self.features(canvas).regions
        placed, head = [torch.from_numpy(boxes).to(self.features.placement.device)], self.features.head
        logits, hidden = head(maps, placed, with_hidden=self.feature_count > 0).split(
            [len(self.classes) + 1, self.feature_count], dim=1
        )
        rows: Floats = torch.cat([logits.softmax(dim=1), hidden], dim=1).cpu().numpy()
        return rows
