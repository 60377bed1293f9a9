"""A network in 8 bits: activations and weights rounded to grids, for engines that compute with whole numbers.

A grid of activations has 256 steps and one range, found on photos; a grid of weights belongs to an output channel, and
has 128 steps only: processors without VNNI add two products in 16 bits, which would overflow with more. The rounding
is part of the network, so torch gives in float32 what an engine gives with integers, but for the order of sums.
"""

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from structures.boxes import Floats
from structures.errors import InputError

STEPS = {False: (0, 255), True: (-128, 127)}  # of activations: without and with a sign
WEIGHT_STEPS = (-64, 63)
SMALLEST = 1e-6  # reach of a grid: of layers that are always 0
KEPT_VALUES = 2_000  # of each layer and photo, drawn at random, that a range is chosen by
SHARES = np.linspace(0.1, 1, 46)  # of the largest value, that are tried as a range


class Point(NamedTuple):
    """Where values are rounded, to one grid.

    Attributes:
        name: of the grid.
        outputs: modules whose outputs are.
        inputs: convolutions that round their inputs, and that nothing else rounds.
        signed: whether values can be below 0.
    """

    name: str
    outputs: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    signed: bool = False


class Grid(nn.Module):
    """Round to evenly spaced values as far as `reach`.

    Args:
        reach: the largest value.
        signed: as far below 0 as above.
    """

    def __init__(self, reach: float, *, signed: bool = False) -> None:
        super().__init__()
        self.low, self.high = STEPS[signed]
        self.step = reach / self.high

    def forward(self, x: Tensor) -> Tensor:
        """Return x rounded, same shape."""
        return torch.fake_quantize_per_tensor_affine(x, self.step, 0, self.low, self.high)


class RoundedConv2d(nn.Module):
    """A convolution with rounded weights.

    Args:
        layer: whose weights it has.
        grid: of its input; None where that is rounded already.
    """

    def __init__(self, layer: nn.Conv2d, grid: Grid | None = None) -> None:
        super().__init__()
        self.layer, self.grid = layer, grid or nn.Identity()
        reach = layer.weight.detach().abs().amax(dim=(1, 2, 3)).clamp(min=SMALLEST)
        self.register_buffer("steps", reach / WEIGHT_STEPS[1], persistent=False)
        self.register_buffer("zeros", torch.zeros(len(reach), dtype=torch.int32), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map as the layer does."""
        assert isinstance(self.steps, Tensor)
        assert isinstance(self.zeros, Tensor)
        weight = torch.fake_quantize_per_channel_affine(self.layer.weight, self.steps, self.zeros, 0, *WEIGHT_STEPS)
        found: Tensor = self.layer._conv_forward(self.grid(x), weight, self.layer.bias)
        return found


def is_rounded(network: nn.Module) -> bool:
    """Say whether a network is one that `rounded` gave."""
    return any(isinstance(part, RoundedConv2d) for part in network.modules())


def rounded(
    network: nn.Module, points: Sequence[Point], ranges: Mapping[str, Any], *, exact: Sequence[str] = ()
) -> nn.Module:
    """Return a copy of a network that rounds at some points, and the weights of its convolutions.

    Args:
        network: in evaluation mode.
        points: where.
        ranges: the reach of each grid by its name, as `find_ranges` gives them.
        exact: convolutions that stay as they are.

    Raises:
        InputError: a range is missing, or not above 0 and finite.
    """
    network = copy.deepcopy(network)
    grids = {point.name: Grid(_reach(ranges, point.name), signed=point.signed) for point in points}
    before = {module: grids[point.name] for point in points for module in point.inputs}
    convolutions = [(name, part) for name, part in network.named_modules() if isinstance(part, nn.Conv2d)]
    for name, part in convolutions:
        if name not in exact:
            _put(network, name, RoundedConv2d(part, before.get(name)))
    for point in points:
        for name in point.outputs:
            _put(network, name, nn.Sequential(network.get_submodule(name), grids[point.name]))
    return network.eval().requires_grad_(False)


def _reach(ranges: Mapping[str, Any], name: str) -> float:
    value = ranges.get(name)
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InputError(f"the range of {name} is {value!r:.60}, not a number above 0")
    return float(value)


def _put(network: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, part)  # numbers, too: a Sequential finds its parts by these names


@torch.no_grad()
def find_ranges(network: nn.Module, points: Sequence[Point], batches: Iterable[Tensor]) -> dict[str, float]:
    """Return a range for each grid: the one that loses least, by the squares of what rounding changes.

    Args:
        network: in evaluation mode.
        points: where it is to round.
        batches: inputs such as it will see, some hundred of them.

    Raises:
        InputError: no inputs.
    """
    seen: dict[str, list[Tensor]] = {point.name: [] for point in points}
    draw = torch.Generator().manual_seed(0)
    hooks = [_watch(network.get_submodule(name), seen[p.name], draw) for p in points for name in p.outputs]
    hooks += [_watch_input(network.get_submodule(name), seen[p.name], draw) for p in points for name in p.inputs]
    try:
        for batch in batches:
            network(batch)
    finally:
        for hook in hooks:
            hook.remove()
    if not all(seen.values()):
        raise InputError("there are no photos to find the ranges on")
    return {point.name: best_reach(torch.cat(seen[point.name]).numpy(), signed=point.signed) for point in points}


def _watch(module: nn.Module, seen: list[Tensor], draw: torch.Generator) -> RemovableHandle:
    return module.register_forward_hook(lambda _module, _inputs, output: seen.append(_some_of(output, draw)))


def _watch_input(module: nn.Module, seen: list[Tensor], draw: torch.Generator) -> RemovableHandle:
    return module.register_forward_pre_hook(lambda _module, inputs: seen.append(_some_of(inputs[0], draw)))


def _some_of(values: Tensor, draw: torch.Generator) -> Tensor:
    """Return some values drawn at random, and the smallest and largest."""
    flat = values.detach().float().flatten().cpu()
    drawn = flat[torch.randint(len(flat), (KEPT_VALUES,), generator=draw)]
    return torch.cat([drawn, flat.min()[None], flat.max()[None]])


def best_reach(values: Floats, *, signed: bool) -> float:
    """Return the reach of the grid that changes values least, by the sum of squares.

    >>> best_reach(np.array([0, 1, 2, 255], np.float32), signed=False)
    255.0
    """
    low, high = STEPS[signed]
    most = max(float(np.abs(values).max()), SMALLEST)

    def lost(reach: float) -> float:
        step = reach / high
        return float(np.square(np.clip(np.round(values / step), low, high) * step - values).sum())

    return min((most * float(share) for share in reversed(SHARES)), key=lost)
