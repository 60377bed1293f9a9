"""The learned part of MultiBox: heads that turn maps of a trunk into confidences and residuals of priors.

`DenseHead` is convolutional: a small pyramid over three maps of the trunk, with the same few priors at every cell.
`RefineHead` looks again at single boxes. No head knows the trunk; each takes its maps. The papers' head is in
`proposals.multibox.paper`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from proposals.operators import clip_boxes, paired_iou, roi_align

STRIDES = (8, 16, 32, 64)  # of the pyramid's levels: three maps of the trunk and one more
POOLED_LEVELS = 3  # RefineHead pools from strides 8 to 32
VARIANCES = (0.1, 0.2)  # units of the residuals of centres and of log sides (SSD, Caffe's PriorBox layer)
LARGEST_GROWTH = math.log(1000 / 16)  # a residual can make a prior this many times larger (torchvision's BoxCoder)
FIRST_CONFIDENCE = 0.01  # before training nearly everything is background (Lin et al., arXiv 1708.02002)
POOLED = 7  # side of the map cut out for one box (Fast R-CNN for VGG and GoogLeNet alike)
FINEST_SIDE = 112.0  # boxes up to this many pixels are cut from the finest level: 7 cells of 16 pixels


class DenseOutput(NamedTuple):
    """The outputs of the dense head for N canvases with M priors each.

    Attributes:
        pyramid: maps (N, width, H / s, W / s) for the strides 8, 16, 32 and 64.
        logits: (N, M) confidences before the sigmoid.
        residuals: (N, M, 4) see `decode`.
    """

    pyramid: tuple[Tensor, ...]
    logits: Tensor
    residuals: Tensor


def encode(boxes: Tensor, priors: Tensor) -> Tensor:
    """Return the (..., 4) residuals that turn priors into boxes: centre by the prior's sides, log of the sides."""
    prior_sides = priors[..., 2:] - priors[..., :2]
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-3)
    centre = (boxes[..., :2] + boxes[..., 2:] - priors[..., :2] - priors[..., 2:]) / 2 / prior_sides
    return torch.cat([centre / VARIANCES[0], (sides / prior_sides).log() / VARIANCES[1]], dim=-1)


def decode(residuals: Tensor, priors: Tensor) -> Tensor:
    """Return the (..., 4) xyxy boxes that residuals make of priors; not clipped."""
    prior_sides = priors[..., 2:] - priors[..., :2]
    centre = (priors[..., :2] + priors[..., 2:]) / 2 + residuals[..., :2] * VARIANCES[0] * prior_sides
    half = (residuals[..., 2:] * VARIANCES[1]).clamp(max=LARGEST_GROWTH).exp() * prior_sides / 2
    return torch.cat([centre - half, centre + half], dim=-1)


class DenseHead(nn.Module):
    """Confidences and residuals for every prior at every cell of four levels.

    Args:
        shapes: (4, A, 2) widths and heights of the priors of each level, in pixels of the canvas.
        inputs: channels of the trunk's maps at strides 8, 16 and 32.
        width: channels of the pyramid.
    """

    def __init__(self, shapes: Tensor, *, inputs: Sequence[int] = (480, 832, 1024), width: int = 128) -> None:
        super().__init__()
        self.shapes: Tensor
        self.register_buffer("shapes", shapes.float())
        self.width, self.priors_per_cell = width, shapes.shape[1]
        # The trunk's maps differ in scale by orders of magnitude, hence the normalisation.
        self.lateral = nn.ModuleList(normalised(channels, width, size=1) for channels in inputs)
        self.coarse = nn.Sequential(nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU())
        self.smooth = nn.ModuleList(nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU()) for _ in inputs)
        self.shared = nn.Sequential(_active(width), _active(width))
        self.predict = nn.Conv2d(width, self.priors_per_cell * 5, 1)
        self.apply(initialise)
        with torch.no_grad():
            self.predict.weight.normal_(std=0.01)
            first = torch.zeros(self.priors_per_cell * 5)
            first[: self.priors_per_cell] = math.log(FIRST_CONFIDENCE / (1 - FIRST_CONFIDENCE))
            self.predict.bias = nn.Parameter(first)

    def forward(self, maps: Sequence[Tensor]) -> DenseOutput:
        """Map the trunk's maps at strides 8, 16, 32 to confidences and residuals in the order of `grid_priors`."""
        pyramid = self.pyramid(maps)
        outputs = [self.predict(self.shared(level)).flatten(2) for level in pyramid]  # (N, 5 A, h * w)
        return DenseOutput(pyramid, *self.split(torch.cat(outputs, dim=2)))

    def joined(self, maps: Sequence[Tensor]) -> Tensor:
        """Do the same and return one tensor (N, width + 5 A, cells), as engines want it; see `split_levels`."""
        rows = [torch.cat([level.float(), self._exact(self.shared(level))], dim=1) for level in self.pyramid(maps)]
        return torch.cat([row.flatten(2) for row in rows], dim=2)

    def _exact(self, x: Tensor) -> Tensor:
        """Do the last layer in float32, whatever the precision: among bfloat16's confidences many would be equal."""
        assert self.predict.bias is not None
        return functional.conv2d(x.float(), self.predict.weight.float(), self.predict.bias.float())

    def split(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Split (N, 5 A, cells) outputs into (N, cells * A) logits and (N, cells * A, 4) residuals."""
        count, _, cells = outputs.shape
        logits, residuals = torch.split(outputs.float(), [self.priors_per_cell, 4 * self.priors_per_cell], dim=1)
        in_order = residuals.reshape(count, self.priors_per_cell, 4, cells).permute(0, 3, 1, 2)
        return logits.transpose(1, 2).reshape(count, -1), in_order.reshape(count, -1, 4)

    def pyramid(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Join the levels from coarse to fine, as a feature pyramid does (Lin et al., arXiv 1612.03144)."""
        level: Tensor = self.lateral[-1](maps[-1])
        joined = [level]
        for lateral, finer in zip(reversed(self.lateral[:-1]), reversed(maps[:-1]), strict=True):
            level = lateral(finer) + functional.interpolate(level, scale_factor=2.0, mode="nearest")
            joined.insert(0, level)
        smoothed = [smooth(level) for smooth, level in zip(self.smooth, joined, strict=True)]
        return (*smoothed, self.coarse(smoothed[-1]))


class RefineHead(nn.Module):
    """A second look at single boxes: cut out of the pyramid, scored again and moved (Fast R-CNN without classes).

    Args:
        inputs: channels of the pyramid.
        width: of the two hidden layers.
    """

    def __init__(self, inputs: int = 128, *, width: int = 256) -> None:
        super().__init__()
        self.hidden1 = nn.Linear(inputs * POOLED**2, width)
        self.hidden2 = nn.Linear(width, width)
        self.predict = nn.Linear(width, 5)
        with torch.no_grad():
            self.predict.weight.normal_(std=0.01)
            self.predict.bias.zero_()

    def forward(self, pyramid: Sequence[Tensor], boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Look at boxes.

        Args:
            pyramid: maps at strides 8, 16, 32 and coarser, (N, inputs, h, w).
            boxes: for each of the N canvases (n, 4) xyxy in its pixels.

        Returns:
            (sum of n,) logits, and (sum of n, 4) residuals to the boxes, see `decode`.
        """
        cut, order = pool(pyramid[:POOLED_LEVELS], boxes)
        x = functional.relu(self.hidden1(cut.flatten(1)))
        x = functional.relu(self.hidden2(x))
        output = self.predict(x).float()[order.argsort()]
        return output[:, 0], output[:, 1:]


def fit(refine: RefineHead, pyramid: Sequence[Tensor], boxes: Sequence[Tensor], canvas: tuple[int, int]) -> Tensor:
    """Return the (sum of n,) estimated overlaps of boxes, as they are, with an object: 0..1.

    The head learned how well a box fits that it has moved. How far it moves it tells how loose the box is.

    Args:
        refine: the head.
        pyramid: as for the head.
        boxes: for each canvas (n, 4) xyxy in its pixels.
        canvas: height and width.
    """
    logits, residuals = refine(pyramid, boxes)
    rows = torch.cat(list(boxes))
    moved = clip_boxes(decode(residuals, rows), canvas)
    estimated: Tensor = logits.sigmoid() * paired_iou(rows, moved)
    return estimated


def pool(pyramid: Sequence[Tensor], boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Cut maps for boxes out of the level that fits their size; finer maps for smaller boxes.

    Returns:
        (sum of n, C, 7, 7), level after level, since putting megabytes in order takes time; and the (sum of n,) rows of
        the boxes that they belong to.
    """
    rows = torch.cat(list(boxes)).nan_to_num()  # torchvision would read beyond the maps, and crash
    image = torch.cat([torch.full((len(b), 1), float(i), device=b.device) for i, b in enumerate(boxes)])
    side = ((rows[:, 2:] - rows[:, :2]).clamp(min=1).prod(dim=1)).sqrt()
    level = (side / FINEST_SIDE).log2().ceil().clamp(0, len(pyramid) - 1).long()
    order = level.argsort(stable=True)
    counts: list[int] = level.bincount(minlength=len(pyramid)).tolist()  # the only wait for a GPU here
    regions = torch.split(torch.cat([image, rows], dim=1)[order], counts)
    cut = [
        roi_align(maps.float(), own, POOLED, 1 / stride)
        for maps, stride, own in zip(pyramid, STRIDES, regions, strict=False)
    ]
    return torch.cat(cut), order


def normalised(inputs: int, outputs: int, *, size: int) -> nn.Sequential:
    """Return a convolution without bias, then group normalisation."""
    convolution = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(outputs // 8, outputs))


def _active(width: int) -> nn.Sequential:
    return normalised(width, width, size=3).append(nn.ReLU())


def initialise(module: nn.Module) -> None:
    """Initialise the weights of a layer for the ReLU after it (He et al., arXiv 1502.01852)."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
