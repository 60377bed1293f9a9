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

import cv2
import numpy as np

from proposals.segmentation import Channels
from structures.records import Image


def _rgb(image: Image) -> Channels:
    return image.astype(np.float32)


def _intensity(image: Image) -> Channels:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)[:, :, None]


def _lab(image: Image) -> Channels:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2Lab), np.float32)


def _hsv(image: Image) -> Channels:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL), np.float32)


def _hue(image: Image) -> Channels:
    return np.ascontiguousarray(_hsv(image)[:, :, :1])


def _normalised(image: Image) -> Channels:
    total = np.maximum(image.sum(axis=2, dtype=np.float32, keepdims=True), 1)  # black stays black
    shares: Channels = np.minimum(_rgb(image) * (np.float32(255) / total), np.float32(255))
    return shares


def _normalised_and_intensity(image: Image) -> Channels:
    return np.concatenate([_normalised(image)[:, :, :2], _intensity(image)], axis=2)


def _opponent(image: Image) -> Channels:
    """Divide O1 = (R - G) / sqrt 2 and O2 = (R + G - 2B) / sqrt 6 by O3 = (R + G + B) / sqrt 3, spread over 0..255."""
    red, green, blue = np.moveaxis(_rgb(image), 2, 0)
    intensity = np.maximum(red + green + blue, 1) / np.sqrt(3)
    first = (red - green) / np.sqrt(2) / intensity  # -1.225 .. 1.225
    second = (red + green - 2 * blue) / np.sqrt(6) / intensity  # -1.414 .. 0.707
    spread = np.stack([first / np.sqrt(1.5) + 1, second / np.sqrt(1.125) + 4 / 3], axis=2)
    return np.clip(spread * 127.5, 0, 255).astype(np.float32)


COLOUR_SPACES: Mapping[str, Callable[[Image], Channels]] = {
    "RGB": _rgb,
    "I": _intensity,
    "Lab": _lab,
    "rgI": _normalised_and_intensity,
    "HSV": _hsv,
    "rgb": _normalised,
    "C": _opponent,
    "H": _hue,
}


def convert(image: Image, colour_space: str) -> Channels:
    """Return the float32 (H, W, C) channels of an RGB uint8 photo in one of COLOUR_SPACES, each in 0..255.

    Raises:
        ValueError: unknown colour space.

    >>> convert(np.full((1, 1, 3), 50, np.uint8), "rgb").tolist()
    [[[85.0, 85.0, 85.0]]]
    """
    if colour_space not in COLOUR_SPACES:
        raise ValueError(f"unknown colour space {colour_space!r}; known: {', '.join(COLOUR_SPACES)}")
    return COLOUR_SPACES[colour_space](image)
