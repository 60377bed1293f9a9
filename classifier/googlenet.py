"""GoogLeNet on one page: Table 1 of Szegedy et al. (arXiv 1409.4842) as data, in two variants of one network.

`paper` is the network of the paper as BVLC trained it in Caffe: 5x5 convolutions, biases, local response normalisation,
ceil-mode pooling. `batchnorm` is torchvision's: batch normalisation, 3x3 instead of 5x5, no LRN; its parameter
names are the names here, so its state dict loads unchanged.
"""

import math
from functools import partial
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from structures.errors import InputError
from structures.names import not_one_of

Variant = Literal["paper", "batchnorm"]
AUXILIARY_WEIGHT = 0.3  # GoogLeNet, section 5
DROPOUT = {"paper": 0.4, "batchnorm": 0.2}  # GoogLeNet, table 1; torchvision trained with 0.2
INPUT_SIZE = 224


class Widths(NamedTuple):
    """One row of Table 1: the filters of an Inception module."""

    inputs: int
    one: int
    three_reduce: int
    three: int
    five_reduce: int
    five: int
    pool: int

    @property
    def outputs(self) -> int:
        """Channels after the four branches are joined."""
        return self.one + self.three + self.five + self.pool


TABLE_1 = {
    "inception3a": Widths(192, 64, 96, 128, 16, 32, 32),
    "inception3b": Widths(256, 128, 128, 192, 32, 96, 64),
    "inception4a": Widths(480, 192, 96, 208, 16, 48, 64),
    "inception4b": Widths(512, 160, 112, 224, 24, 64, 64),
    "inception4c": Widths(512, 128, 128, 256, 24, 64, 64),
    "inception4d": Widths(512, 112, 144, 288, 32, 64, 64),
    "inception4e": Widths(528, 256, 160, 320, 32, 128, 128),
    "inception5a": Widths(832, 256, 160, 320, 32, 128, 128),
    "inception5b": Widths(832, 384, 192, 384, 48, 128, 128),
}

LAYERS = (  # output of each layer for a (N, 3, 224, 224) input
    "conv1",  # (N, 64, 112, 112)
    "maxpool1",  # (N, 64, 56, 56)
    "lrn1",  # paper only
    "conv2",  # (N, 64, 56, 56)
    "conv3",  # (N, 192, 56, 56)
    "lrn2",  # paper only
    "maxpool2",  # (N, 192, 28, 28)
    "inception3a",  # (N, 256, 28, 28)
    "inception3b",  # (N, 480, 28, 28)
    "maxpool3",  # (N, 480, 14, 14)
    "inception4a",  # (N, 512, 14, 14)
    "inception4b",  # (N, 512, 14, 14)
    "inception4c",  # (N, 512, 14, 14)
    "inception4d",  # (N, 528, 14, 14)
    "inception4e",  # (N, 832, 14, 14)
    "maxpool4",  # (N, 832, 7, 7)
    "inception5a",  # (N, 832, 7, 7)
    "inception5b",  # (N, 1024, 7, 7)
)


class Convolution(nn.Module):
    """Convolution, batch normalisation in the variant that has it, ReLU."""

    def __init__(self, inputs: int, outputs: int, *, size: int, stride: int = 1, variant: Variant) -> None:
        super().__init__()
        normalised = variant == "batchnorm"
        self.conv = nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=not normalised)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001) if normalised else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations, same height and width divided by the stride."""
        return functional.relu(self.bn(self.conv(x)), inplace=True)


class Inception(nn.Module):
    """The module of Figure 2b: four branches side by side, joined by channels."""

    def __init__(self, widths: Widths, variant: Variant) -> None:
        super().__init__()
        five = 5 if variant == "paper" else 3  # Differs: torchvision's weights were trained with 3x3 here
        conv = partial(Convolution, variant=variant)
        self.branch1 = conv(widths.inputs, widths.one, size=1)
        self.branch2 = nn.Sequential(
            conv(widths.inputs, widths.three_reduce, size=1), conv(widths.three_reduce, widths.three, size=3)
        )
        self.branch3 = nn.Sequential(
            conv(widths.inputs, widths.five_reduce, size=1), conv(widths.five_reduce, widths.five, size=five)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True), conv(widths.inputs, widths.pool, size=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W)."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)


class DilatedMaxPool(nn.Module):
    """Max pooling 3x3 with stride 1 and a dilation of 2, of maps that are nowhere negative.

    The maximum of shifted maps, first down, then across: OpenVINO has nothing quick for dilated pooling, and spent two
    thirds of the network's time there (benchmarks/LOG.md).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W), 0 or more everywhere, to the same shape."""
        x = functional.pad(x, (2, 2, 2, 2))
        x = torch.maximum(torch.maximum(x[:, :, :-4], x[:, :, 2:-2]), x[:, :, 4:])
        return torch.maximum(torch.maximum(x[..., :-4], x[..., 2:-2]), x[..., 4:])


class LocalResponseNorm(nn.Module):
    """Across-channel normalisation as Caffe has it: x / (1 + alpha / n * sum of n squares) ** 0.75.

    The sum over neighbours is a 1x1 convolution with a banded matrix, and the power two rsqrt: the same values as
    torch.nn.LocalResponseNorm at several times the speed on a CPU (benchmarks/LOG.md). Values are scaled before they
    are squared: activations reach thousands, whose squares are infinite in float16.
    """

    def __init__(self, channels: int, *, size: int = 5, alpha: float = 1e-4) -> None:
        super().__init__()
        self.root = math.sqrt(alpha / size)
        offset = np.arange(channels)  # on the device "meta" torch's imports its compiler, which takes a second
        band = (np.abs(offset[:, None] - offset[None, :]) <= size // 2).astype(np.float32)
        self.register_buffer("band", torch.from_numpy(band[:, :, None, None]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalised, same shape."""
        assert isinstance(self.band, Tensor)
        scaled = x * self.root
        inverse_root = torch.rsqrt(functional.conv2d(scaled * scaled, self.band.to(x.dtype)) + 1)
        return x * (inverse_root * torch.sqrt(inverse_root))


class Auxiliary(nn.Module):
    """The side classifier on 4a or 4d (section 5): pool 5x5/3, 1x1 conv 128, linear 1024, dropout 70%, linear."""

    def __init__(self, inputs: int, num_classes: int, variant: Variant) -> None:
        super().__init__()
        # Differs: torchvision pools adaptively to 4x4, which is the same shape from 14x14 but other windows.
        self.pool = nn.AvgPool2d(5, stride=3) if variant == "paper" else nn.AdaptiveAvgPool2d(4)
        self.conv = Convolution(inputs, 128, size=1, variant=variant)
        self.fc1 = nn.Linear(2048, 1024)
        self.fc2 = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, 14, 14) to (N, num_classes) logits."""
        x = torch.flatten(self.conv(self.pool(x)), 1)  # (N, 2048)
        x = functional.dropout(functional.relu(self.fc1(x)), 0.7, self.training)
        logits: Tensor = self.fc2(x)
        return logits


class TrainingLogits(NamedTuple):
    """What a network with auxiliary classifiers returns in training: three times (N, num_classes)."""

    main: Tensor
    auxiliary_4a: Tensor
    auxiliary_4d: Tensor


class GoogLeNet(nn.Module):
    """The network of Table 1.

    Args:
        num_classes: columns of the last layer.
        variant: "paper" or "batchnorm".
        auxiliary: with the classifiers on 4a and 4d, which are computed in training only.

    Raises:
        InputError: no such variant.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        variant: Variant = "paper",
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        if variant not in get_args(Variant):
            raise InputError(f"variant {not_one_of(variant, get_args(Variant))}")
        paper = variant == "paper"
        self.variant, self.num_classes = variant, num_classes
        self.conv1 = Convolution(3, 64, size=7, stride=2, variant=variant)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.lrn1 = LocalResponseNorm(64) if paper else nn.Identity()
        self.conv2 = Convolution(64, 64, size=1, variant=variant)
        self.conv3 = Convolution(64, 192, size=3, variant=variant)
        self.lrn2 = LocalResponseNorm(192) if paper else nn.Identity()
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.maxpool4 = nn.MaxPool2d(3 if paper else 2, stride=2, ceil_mode=True)
        for name, widths in TABLE_1.items():
            self.add_module(name, Inception(widths, variant))
        self.aux1 = Auxiliary(TABLE_1["inception4a"].outputs, num_classes, variant) if auxiliary else None
        self.aux2 = Auxiliary(TABLE_1["inception4d"].outputs, num_classes, variant) if auxiliary else None
        self.dropout = nn.Dropout(DROPOUT[variant])
        self.fc = nn.Linear(TABLE_1["inception5b"].outputs, num_classes)
        self.apply(_initialise)

    def dilate(self) -> int:
        """Have 5a and 5b keep the stride of 4e: dilated, they give at every second cell what they gave before.

        Returns:
            The offset of these cells: what was at (i, j) is at (2 i + offset, 2 j + offset).
        """
        paper = self.variant == "paper"
        pad, size = (nn.ZeroPad2d(1), 3) if paper else (nn.ZeroPad2d((0, 1, 0, 1)), 2)  # all maps are positive or 0
        self.maxpool4 = nn.Sequential(pad, nn.MaxPool2d(size, stride=1))  # type: ignore[assignment]
        for module in (self.inception5a, self.inception5b):
            assert isinstance(module, Inception)
            module.branch4[0] = DilatedMaxPool()
            for layer in module.modules():
                if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1):
                    layer.padding, layer.dilation = tuple(2 * int(p) for p in layer.padding), (2, 2)
        return 1 if paper else 0

    def forward(self, x: Tensor) -> Tensor | TrainingLogits:
        """Map (N, 3, 224, 224) normalised pixels to (N, num_classes) logits, or to TrainingLogits in training."""
        if self.aux1 is None or self.aux2 is None or not self.training:
            return self.classify(self.trunk(x))
        x = self.trunk(x, last="inception4a")
        auxiliary_4a = self.aux1(x)
        x = self.trunk(x, after="inception4a", last="inception4d")
        auxiliary_4d = self.aux2(x)
        return TrainingLogits(self.classify(self.trunk(x, after="inception4d")), auxiliary_4a, auxiliary_4d)

    def trunk(self, x: Tensor, *, after: str | None = None, last: str = LAYERS[-1]) -> Tensor:
        """Run the layers after `after` (None: from the pixels) up to and including `last`.

        Raises:
            InputError: no such layer.
        """
        for name in layers_between(after, last):
            x = getattr(self, name)(x)  # torch 2.5 compiles and exports this, but not get_submodule
        return x

    def classify(self, features: Tensor) -> Tensor:
        """Map (N, 1024, h, w) features of 5b to (N, num_classes) logits: average pool, dropout, linear.

        In float32 whatever the precision of the rest (autocast aside): a logit of 10 in bfloat16 is rounded to 1/16.
        """
        return self.last_layer(self.pooled(features))

    def pooled(self, features: Tensor) -> Tensor:
        """Map (N, 1024, h, w) features of 5b to the (N, 1024) that the last layer sees, float32."""
        return features.float().mean(dim=(2, 3))

    def last_layer(self, pooled: Tensor) -> Tensor:
        """Map (N, 1024) pooled features to (N, num_classes) logits."""
        return functional.linear(self.dropout(pooled), self.fc.weight.float(), self.fc.bias.float())


def layers_between(after: str | None, last: str) -> tuple[str, ...]:
    """Return the names of the layers after `after` up to and including `last`.

    >>> layers_between("inception4e", "inception5a")
    ('maxpool4', 'inception5a')
    """
    for name in (after, last):
        if name is not None and name not in LAYERS:
            raise InputError(f"layer {not_one_of(name, LAYERS)}")
    start = 0 if after is None else LAYERS.index(after) + 1
    return LAYERS[start : LAYERS.index(last) + 1]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)  # the paper gives none; BVLC's replica spreads by the inputs alone
        if module.bias is not None:
            nn.init.constant_(module.bias, 0.0)
