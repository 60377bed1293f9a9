"""Regions classified on features that the whole photo shares: GoogLeNet runs once, and each region is pooled out.

Two readings of the same maps add up to a region's logits. The first is GoogLeNet's own last layer: average pooling and
a linear layer on inception5b, computed once for all cells and pooled afterwards, in 3 x 3 parts of the region that each
have weights of their own (position-sensitive maps; Dai et al., arXiv 1605.06409). The second is Fast R-CNN's (Girshick,
arXiv 1504.08083): 7 x 7 cells of finer and coarser maps, and two hidden layers.

Inception5a and 5b run at stride 16 with dilated convolutions: the same weights and, at every second cell, the same
values as at stride 32.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from classifier.googlenet import TABLE_1
from classifier.pooling import expand, pool, pool_parts

PARTS = 3  # of a region, across and down, for the position-sensitive maps (R-FCN, section 3)
CELLS = 7  # across and down, of the map that is pooled for a region (Fast R-CNN for VGG and GoogLeNet alike)
GROWN = 7 / 5  # the outermost of the 7 cells lie around the box: what is beyond a border tells whether it fits
PART_GROWN = 224 / 192  # as the crops of `classifier.crops` are, with their 16 pixels of context
# How far right of and below the middle of its stride's square a cell looks, in pixels: Caffe's poolings have no padding
# in front, so each looks half a cell of its input too far; conv1 looks half a pixel too near.
SHIFT_8, SHIFT_16 = 2.5, 6.5
CHANNELS = (64, 80, 80)  # that inception3b, 4e and 5b are reduced to
WIDTH = 512  # of the hidden layers
CHUNK = 500  # regions of a photo pooled at a time: some 100 MB
DROPOUT = 0.5  # Fast R-CNN, section 2.3
LAST_MAP = TABLE_1["inception5b"].outputs
ROOT_OFFSET = 1e-4  # added below the root, whose slope has no bound at 0; 0.01 is little beside most roots


class RegionMaps(NamedTuple):
    """What regions are pooled from, for N photos of H x W pixels.

    Attributes:
        fine: (N, C, H / 8, W / 8) from inception3b.
        coarse: (N, C', H / 16, W / 16) from inception4e and 5b.
        parts: (N, 9 * columns, H / 16, W / 16) logits of each part of a region.
    """

    fine: Tensor
    coarse: Tensor
    parts: Tensor


class SharedRegionHead(nn.Module):
    """Class logits of regions, pooled from maps of the whole photo.

    Args:
        columns: of the logits: the classes, and background last.
        channels: that inception3b, 4e and 5b are reduced to.
        width: of the two hidden layers.
        roots: whether the part logits are also a function of the square roots of inception5b, as those of classes
            that were learned from a few examples are (`classifier.region_columns`).
    """

    def __init__(
        self, columns: int, *, channels: Sequence[int] = CHANNELS, width: int = WIDTH, roots: bool = False
    ) -> None:
        super().__init__()
        self.columns, self.channels = columns, tuple(channels)
        inputs = (*(TABLE_1[name].outputs for name in ("inception3b", "inception4e")), LAST_MAP)
        self.reduce = nn.ModuleList(_reduced(i, o) for i, o in zip(inputs, channels, strict=True))
        self.parts = nn.Conv2d(LAST_MAP, columns * PARTS**2, 1)
        self.roots = nn.Conv2d(LAST_MAP, columns * PARTS**2, 1, bias=False) if roots else None
        self.hidden1 = nn.Linear(sum(channels) * CELLS**2, width)
        self.hidden2 = nn.Linear(width, width)
        self.predict = nn.Linear(width, columns)
        self.dropout = nn.Dropout(DROPOUT)
        self.apply(_initialise)
        nn.init.normal_(self.predict.weight, std=0.001)  # the part logits begin as a trained layer: do not disturb them

    def start_from(self, weight: Tensor, bias: Tensor) -> None:
        """Begin with the last layer of a region classifier: (columns, 1024) and (columns,), the same for every part."""
        with torch.no_grad():
            self.parts.weight.copy_(weight.repeat_interleave(PARTS**2, dim=0)[:, :, None, None])
            self.parts.bias.copy_(bias.repeat_interleave(PARTS**2))  # type: ignore[union-attr]

    def mean_part(self) -> tuple[Tensor, Tensor]:
        """Return the mean of the nine parts, as a last layer for crops of regions: (columns, 1024) and (columns,)."""
        weight, bias = self.parts.weight.detach(), self.parts.bias.detach()  # type: ignore[union-attr]
        return weight.reshape(self.columns, PARTS**2, LAST_MAP).mean(dim=1), bias.reshape(-1, PARTS**2).mean(dim=1)

    def maps(self, three_b: Tensor, four_e: Tensor, five_b: Tensor) -> RegionMaps:
        """Make the maps of N photos out of the trunk's: 3b at stride 8, 4e and 5b at stride 16."""
        return RegionMaps(*self.hidden_maps(three_b, four_e, five_b), self.part_logits(five_b))

    def part_logits(self, five_b: Tensor) -> Tensor:
        """Return the (N, 9 * columns, H, W) logits of each part of a region for the (N, 1024, H, W) map of 5b."""
        logits: Tensor = self.parts(five_b)
        return logits if self.roots is None else logits + self.roots(root(five_b))

    def hidden_maps(self, three_b: Tensor, four_e: Tensor, five_b: Tensor) -> tuple[Tensor, Tensor]:
        """Make the maps that the hidden layers read: the fine and the coarse one."""
        fine, middle, coarse = (r(m) for r, m in zip(self.reduce, (three_b, four_e, five_b), strict=True))
        return fine, torch.cat([middle, coarse], dim=1)

    def map_shapes(self, canvas: tuple[int, int]) -> list[tuple[int, int, int]]:
        """Return the (channels, height, width) of each of the maps of a photo of (H, W) pixels, multiples of 16."""
        fine, *coarse = self.channels
        small = (canvas[0] // 16, canvas[1] // 16)
        return [(fine, canvas[0] // 8, canvas[1] // 8), (sum(coarse), *small), (self.columns * PARTS**2, *small)]

    def forward(self, maps: RegionMaps, boxes: Sequence[Tensor], *, with_hidden: bool = False) -> Tensor:
        """Return (sum of n, columns) logits, float32.

        Args:
            maps: of N photos.
            boxes: for each of the N photos (n, 4) xyxy in its pixels.
            with_hidden: also return the second hidden layer, after the logits.
        """
        columns = self.columns + (self.predict.in_features if with_hidden else 0)
        return in_chunks(partial(self._logits, with_hidden=with_hidden), maps, boxes, columns)

    def hidden(self, maps: RegionMaps, boxes: Tensor) -> Tensor:
        """Return the (N, width) numbers of the second hidden layer for (N, 4) boxes of one photo."""
        grown = expand(boxes, GROWN)
        coarse, fine = (on_map(grown, stride, shift) for stride, shift in ((16, SHIFT_16), (8, SHIFT_8)))
        pooled = [pool(maps.fine, fine, cells=CELLS), pool(maps.coarse, coarse, cells=CELLS)]
        x = self.dropout(torch.cat(pooled, dim=1).flatten(1))
        x = functional.relu(self.hidden1(x))
        return functional.relu(self.hidden2(self.dropout(x)))

    def _logits(self, maps: RegionMaps, boxes: Tensor, *, with_hidden: bool) -> Tensor:
        x = self.hidden(maps, boxes)
        parts = pool_parts(maps.parts, parts_on_map(boxes), parts=PARTS)
        logits: Tensor = parts.float() + self.predict(x).float()
        return torch.cat([logits, x.float()], dim=1) if with_hidden else logits


def root(five_b: Tensor) -> Tensor:
    """Return the square roots of inception5b: how much of a pattern is there counts less than whether it is.

    >>> root(torch.tensor([0.0, 0.25, 4.0]))
    tensor([0.0100, 0.5001, 2.0000])
    """
    return (five_b + ROOT_OFFSET).sqrt()


def in_chunks(
    answer: Callable[[RegionMaps, Tensor], Tensor], maps: RegionMaps, boxes: Sequence[Tensor], columns: int
) -> Tensor:
    """Return the (sum of n, columns) answers for the regions of N photos, a chunk of one photo's at a time.

    Args:
        answer: maps of one photo and (n, 4) boxes, float32 -> (n, columns).
        maps: of N photos.
        boxes: for each of the N photos (n, 4) xyxy in its pixels.
        columns: of the answers.
    """
    found = [
        answer(RegionMaps(*(each[number] for each in maps)), part.float())
        for number, rows in enumerate(boxes)
        for part in torch.split(rows, CHUNK)
        if len(part)
    ]
    return torch.cat(found) if found else maps.parts.new_zeros((0, columns)).float()


def on_map(boxes: Tensor, stride: int, shift: float) -> Tensor:
    """Bring boxes in pixels to the squares of a map that show them."""
    return (boxes - shift) / stride


def parts_on_map(boxes: Tensor) -> Tensor:
    """Bring (N, 4) boxes in pixels to the squares of the map of 5b that their nine parts are pooled from."""
    return on_map(expand(boxes, PART_GROWN), 16, SHIFT_16)


def _reduced(inputs: int, outputs: int) -> nn.Sequential:
    # The trunk's maps differ in scale by orders of magnitude, hence the normalisation.
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.GroupNorm(outputs // 8, outputs), nn.ReLU())


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
