"""New columns of shared weights' region logits: what they are made of, and weights with some added or taken away.

A new column is a linear function of the means of inception5b's square roots over the nine parts of a region, so it is a
column of position-sensitive maps like any other, on another map. The roots are better than the map itself where few
examples are to be told apart. The hidden layers are left out: they have learned to tell the old classes apart, help new
ones little, and cost old ones (benchmarks/LOG.md, 2026-11-30).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from classifier.pooling import pool, pool_parts
from classifier.shared_regions import LAST_MAP, PARTS, RegionMaps, SharedRegionHead, parts_on_map, root
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.fitting import WeightsError
from classifier.weights.on_trunk import CROP_LAYER, crop_columns

PART_INPUTS = LAST_MAP * PARTS**2  # numbers that a column is a linear function of
ROOTS = "regions.roots.weight"  # in weights that have such columns
BY_COLUMN = ("regions.parts.weight", "regions.parts.bias", ROOTS, "regions.predict.weight", "regions.predict.bias")


@dataclass(frozen=True, eq=False)
class Columns:
    """Columns of region logits, as linear functions of what `part_means` gives.

    Attributes:
        names: of the classes.
        weight: (C, 9216).
        bias: (C,).
    """

    names: tuple[str, ...]
    weight: Tensor
    bias: Tensor

    def logits(self, five_b: Tensor, boxes: Tensor) -> Tensor:
        """Return (N, C) logits of (N, 4) xyxy boxes, in pixels of the canvas, by the (1024, H, W) map of 5b."""
        parts = nn.functional.conv2d(root(five_b.float())[None], self.by_part())[0]
        return pool_parts(parts, parts_on_map(boxes), parts=PARTS) + self.bias

    def by_part(self) -> Tensor:
        """Return (C * 9, 1024, 1, 1) weights of the layer that makes the maps of the parts."""
        nine = self.weight.reshape(-1, LAST_MAP, PARTS**2).transpose(1, 2)
        return nine.reshape(-1, LAST_MAP, 1, 1) * PARTS**2  # pooling is a mean of parts

    def each(self) -> "list[Columns]":
        """Return the column of each class alone."""
        parts = zip(self.names, self.weight[:, None], self.bias[:, None], strict=True)
        return [Columns((name,), weight, bias) for name, weight, bias in parts]


def part_means(five_b: Tensor, boxes: Tensor) -> Tensor:
    """Return (N, 9216) float32 means of the roots of the (1024, H, W) map of 5b over the parts of (N, 4) boxes."""
    return pool(root(five_b.float()), parts_on_map(boxes), cells=PARTS).flatten(1)


class LastMapHead(nn.Module):
    """A region head that leaves inception5b as it is, for new columns to be learned from.

    Args:
        head: of the trained network; it is used as it is.
    """

    def __init__(self, head: SharedRegionHead) -> None:
        super().__init__()
        self.head, self.columns = head, head.columns

    def maps(self, three_b: Tensor, four_e: Tensor, five_b: Tensor) -> RegionMaps:
        """Make the maps of N photos out of the trunk's: those of the head, with 5b in the place of its part logits."""
        return RegionMaps(*self.head.hidden_maps(three_b, four_e, five_b), five_b)

    def map_shapes(self, canvas: tuple[int, int]) -> list[tuple[int, int, int]]:
        """Return the (channels, height, width) of each of the maps of a photo of (H, W) pixels, multiples of 16."""
        fine, coarse, (_, height, width) = self.head.map_shapes(canvas)
        return [fine, coarse, (LAST_MAP, height, width)]

    def forward(self, maps: RegionMaps, boxes: Sequence[Tensor]) -> Tensor:
        """Return (sum of n, columns) logits, float32.

        Args:
            maps: of N photos.
            boxes: for each of the N photos (n, 4) xyxy in its pixels.
        """
        logits: Tensor = self.head(maps._replace(parts=self.head.part_logits(maps.parts)), boxes)
        return logits


def with_columns(checkpoint: Checkpoint, new: Columns, *, keep: bool = True) -> Checkpoint:
    """Put columns behind those of the classes of shared weights, in front of the background.

    The layer for whole photos goes, since it does not know the new classes, and so do the regions of known objects,
    which are those of the old columns. The layer for crops goes with the others. What MultiBox learned from stays.

    Args:
        checkpoint: weights of shared features.
        new: the columns.
        keep: the others stay, to the bit; else they go, and the background is where all new logits are below 0.

    Raises:
        WeightsError: the weights are of another task.
    """
    _require_shared(checkpoint)
    state = checkpoint.of_network()
    names = (*(checkpoint.classes if keep else ()), *new.names)
    joined = _joined(_layers(state), _as_layers(new, state), keep=keep)
    found = {**state, **joined}
    return replace(checkpoint, state=found if keep else _without_crops(found), classes=names)


def without_columns(checkpoint: Checkpoint, names: Sequence[str]) -> Checkpoint:
    """Take the columns of classes out of shared weights; those of the others stay, to the bit.

    The layer for whole photos and the regions of known objects go, as in `with_columns`.

    Raises:
        WeightsError: the weights are of another task, or know no such class.
    """
    _require_shared(checkpoint)
    unknown = [name for name in names if name not in checkpoint.classes]
    if unknown:
        raise WeightsError(f"the weights know no class {unknown[0]!r}")
    classes = tuple(name for name in checkpoint.classes if name not in names)
    kept = torch.tensor([*map(checkpoint.classes.index, classes), len(checkpoint.classes)])
    state = checkpoint.of_network()
    taken = {name: _by_column(name, value)[kept].flatten(0, 1) for name, value in _layers(state).items()}
    found = {**state, **taken}
    if not taken[ROOTS].any():  # no column that stays uses them
        del found[ROOTS]
    columns = crop_columns(checkpoint)  # of the first classes, and background
    if columns:
        left = [*(number for number in kept.tolist() if number < columns - 1), columns - 1]
        cut = {name: state[name][left] for name in CROP_LAYER}
        found = {**found, **cut} if len(left) > 1 else _without_crops(found)
    return replace(checkpoint, state=found, classes=classes)


def _without_crops(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name not in CROP_LAYER}


def _require_shared(checkpoint: Checkpoint) -> None:
    if checkpoint.task != "shared":
        raise WeightsError(f"these weights are for {checkpoint.task}, weights of shared features are needed")


def _layers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the layers that have rows for each column, in float32; roots that the weights lack are zeros."""
    whole = {ROOTS: torch.zeros_like(state[BY_COLUMN[0]]), **state}
    return {name: whole[name].float() for name in BY_COLUMN}


def _by_column(name: str, value: Tensor) -> Tensor:
    """Return rows of a layer as (columns, rows of each, ...)."""
    return value.reshape(-1, 1 if ".predict." in name else PARTS**2, *value.shape[1:])


def _as_layers(new: Columns, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the rows of the layers that make the columns: the bias stands with the hidden layer's."""
    roots = new.by_part().float()
    no_hidden = torch.zeros(len(new.weight), state["regions.predict.weight"].shape[1])
    values = (torch.zeros_like(roots), torch.zeros(len(roots)), roots, no_hidden, new.bias.float())
    return dict(zip(BY_COLUMN, values, strict=True))


def _joined(old: Mapping[str, Tensor], new: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Put new rows of each layer between those of the old classes, if they are kept, and those of the background."""
    joined = {}
    for name in BY_COLUMN:
        before = _by_column(name, old[name])
        classes, background = (before[:-1], before[-1:]) if keep else (before[:0], torch.zeros_like(before[-1:]))
        joined[name] = torch.cat([classes, _by_column(name, new[name]), background]).flatten(0, 1)
    return joined
