"""The colour spaces of Selective Search: an RGB photo -> float32 channels in 0..255 (Uijlings et al., section 3.2).

| name | channels | what it ignores |
|---|---|---|
| RGB | red, green, blue | |
| I | intensity | |
| Lab | CIE L*, a*, b* | |
| rgI | normalised red and green, intensity | |
| HSV | hue, saturation, value | |
| rgb | normalised red, green, blue | light intensity, shadows |
| C | opponent colours divided by intensity | light intensity, shadows |
| H | hue | light intensity, shadows, highlights |
"""

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from proposals.selective_search.segmentation import Planes
from structures.errors import InputError
from structures.records import Image


def _planes(interleaved: npt.NDArray[Any]) -> Planes:
    channels = cv2.split(interleaved)
    planes = np.empty((len(channels), *channels[0].shape), np.float32)
    for plane, channel in zip(planes, channels, strict=True):
        plane[...] = channel
    return planes


def _rgb(image: Image) -> Planes:
    return _planes(image)


def _intensity(image: Image) -> Planes:
    return _planes(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))


def _lab(image: Image) -> Planes:
    return _planes(cv2.cvtColor(image, cv2.COLOR_RGB2Lab))


def _hsv(image: Image) -> Planes:
    return _planes(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL))


def _hue(image: Image) -> Planes:
    return _hsv(image)[:1]


def _normalised(image: Image) -> Planes:
    planes = _rgb(image)
    total = np.maximum(planes.sum(axis=0), 1)  # black stays black
    shares: Planes = np.minimum(planes * (np.float32(255) / total), np.float32(255))
    return shares


def _normalised_and_intensity(image: Image) -> Planes:
    return np.concatenate([_normalised(image)[:2], _intensity(image)])


def _opponent(image: Image) -> Planes:
    """Divide O1 = (R - G) / sqrt 2 and O2 = (R + G - 2B) / sqrt 6 by O3 = (R + G + B) / sqrt 3, spread over 0..255."""
    red, green, blue = _rgb(image)
    intensity = np.maximum(red + green + blue, 1) / np.sqrt(3)
    first = (red - green) / np.sqrt(2) / intensity  # -1.225 .. 1.225
    second = (red + green - 2 * blue) / np.sqrt(6) / intensity  # -1.414 .. 0.707
    spread = np.stack([first / np.sqrt(1.5) + 1, second / np.sqrt(1.125) + 4 / 3])
    return np.clip(spread * 127.5, 0, 255).astype(np.float32)


COLOUR_SPACES: Mapping[str, Callable[[Image], Planes]] = {
    "RGB": _rgb,
    "I": _intensity,
    "Lab": _lab,
    "rgI": _normalised_and_intensity,
    "HSV": _hsv,
    "rgb": _normalised,
    "C": _opponent,
    "H": _hue,
}


def convert(image: Image, colour_space: str) -> Planes:
    """Return the float32 (C, H, W) planes of an RGB uint8 photo in one of COLOUR_SPACES, each in 0..255.

    Raises:
        InputError: unknown colour space.

    >>> convert(np.full((1, 1, 3), 50, np.uint8), "rgb").tolist()
    [[[85.0]], [[85.0]], [[85.0]]]
    """
    if colour_space not in COLOUR_SPACES:
        raise InputError(f"unknown colour space {colour_space!r}; known: {', '.join(COLOUR_SPACES)}")
    return COLOUR_SPACES[colour_space](image)
