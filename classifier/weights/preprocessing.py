"""From RGB pixels to the input of a network: what weights of each kind expect."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from classifier.googlenet import INPUT_SIZE
from structures.errors import InputError

LARGEST_INPUT = 4096  # pixels
Interpolation = Literal["bilinear", "bicubic", "nearest", "area"]


@dataclass(frozen=True)
class Preprocessing:
    """From RGB uint8 pixels to the network's input: (pixel - mean) * scale, in the network's own channel order.

    Attributes:
        channels: order in which the network takes the colours.
        mean: subtracted from 0..255 pixel values, in network order.
        scale: multiplied after that, in network order.
        size: side of the square input, in pixels.
        resize: short side (or, for a warp, both sides) to which a whole photo is brought before a centre crop.
        interpolation: how pictures are resized.
        antialias: whether shrinking averages over the pixels left out.
        context: pixels of context around a region's box, at the network's scale (R-CNN, appendix A).

    Raises:
        InputError: a value that has no meaning; says which.
    """

    channels: Literal["RGB", "BGR"] = "BGR"
    mean: tuple[float, float, float] = (104.0, 117.0, 123.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    size: int = INPUT_SIZE
    resize: int = 256
    interpolation: Interpolation = "bilinear"
    antialias: bool = False
    context: int = 16

    def __post_init__(self) -> None:
        for name in ("mean", "scale"):
            values = getattr(self, name)
            if len(values) != 3 or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
                raise InputError(f"{name} must be three finite numbers, got {values!r}")
        for name, known in (("channels", ("RGB", "BGR")), ("interpolation", get_args(Interpolation))):
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name in ("size", "resize"):
            if type(getattr(self, name)) is not int or not 0 < getattr(self, name) <= LARGEST_INPUT:
                given = f"got {getattr(self, name)!r:.60}"
                raise InputError(f"{name} must be a whole number of pixels from 1 to {LARGEST_INPUT}, {given}")
        if type(self.context) is not int or self.context < 0:
            raise InputError(f"context must be a whole number of pixels, 0 or more, got {self.context!r:.60}")
        if not isinstance(self.antialias, bool):
            raise InputError(f"antialias must be true or false, got {self.antialias!r:.60}")

    @property
    def mean_colour(self) -> tuple[int, int, int]:
        """RGB pixel that the network sees as zero, or as nearly zero as whole numbers are.

        >>> CAFFE.mean_colour, TORCHVISION.mean_colour
        ((123, 117, 104), (124, 116, 104))
        """
        first, green, last = (round(min(max(value, 0), 255)) for value in self.mean)
        return (first, green, last) if self.channels == "RGB" else (last, green, first)


CAFFE = Preprocessing()  # BVLC's train_val.prototxt
TORCHVISION = Preprocessing(
    channels="RGB",
    mean=(123.675, 116.28, 103.53),
    scale=(1 / 58.395, 1 / 57.12, 1 / 57.375),
    antialias=True,
)
