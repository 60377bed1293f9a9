"""One pass of the network per photo: GoogLeNet's trunk with MultiBox's heads and a head that classifies regions.

The photo is drawn on a canvas, and the trunk runs over it once. Proposals, their order and the classes of regions are
all computed from its maps. Regions of any other generator are classified from the same maps. The same trunk can have a
last layer for crops of regions, too; `classifier.weights.on_trunk.crop_classifier` makes a GoogLeNet of both.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from classifier.region_columns import ROOTS
from classifier.shared_regions import LAST_MAP, WIDTH, RegionMaps, SharedRegionHead
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.fitting import WeightsError, load_state, weights_unset
from classifier.weights.on_trunk import crop_columns
from classifier.weights.preprocessing import Preprocessing
from detect.networks.int8 import calibrated
from detect.networks.multibox import MAX_WIDTH, DenseMultiBox, head_shapes, head_width
from structures.records import Image


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
        roots: whether its part logits are also a function of the roots of inception5b.
        crop_columns: columns of the last layer for crops of regions, which the trunk classifies as well; 0: no layer.
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
        roots: bool = False,
        crop_columns: int = 0,
    ) -> None:
        super().__init__(shapes, preprocessing, variant=variant, width=width)
        self.offset = self.trunk.dilate()
        self.regions = SharedRegionHead(columns, width=region_width, roots=roots)
        self.crops = nn.Linear(LAST_MAP, crop_columns) if crop_columns else None

    def begin_crops(self) -> None:
        """Add a layer for crops, the mean of the nine parts, unless there is one that knows all classes."""
        if self.crops is None or self.crops.out_features < self.regions.columns:
            weight, bias = self.regions.mean_part()
            with weights_unset():
                self.crops = nn.Linear(LAST_MAP, self.regions.columns)
            self.crops.load_state_dict({"weight": weight, "bias": bias})

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
            roots=ROOTS in checkpoint.state,
            crop_columns=crop_columns(checkpoint),
        )
    load_state(network, checkpoint.of_network())
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
    network = from_checkpoint(checkpoint)
    canvases = (network.view((photo.shape[0], photo.shape[1])).draw(photo) for photo in photos)
    return calibrated(checkpoint, network, canvases)
