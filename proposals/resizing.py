"""Photos to the size that Selective Search works at, and boxes back to the photo."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from structures.boxes import Boxes, ImageSize, scale
from structures.errors import InputError
from structures.images import from_16_bits
from structures.records import Image

SEARCH_WIDTH = 500  # R-CNN's selective_search_boxes.m: the method is not scale invariant, so all photos get one width
TALLEST = 4  # Differs: a narrow photo grows to at most this many search widths in height, not without bound


@dataclass(frozen=True, eq=False)
class Resized:
    """A photo at search size, and the (height, width) that it had before."""

    image: Image
    original_size: ImageSize

    def to_original(self, boxes: Boxes) -> Boxes:
        """Return the boxes in pixels of the original photo, not rounded."""
        height, width = self.original_size
        return scale(boxes, width / self.image.shape[1], height / self.image.shape[0])


def as_rgb(image: npt.NDArray[Any]) -> Image:
    """Return an RGB uint8 (H, W, 3) photo; grey (H, W) or (H, W, 1) and 16-bit arrays are converted.

    Raises:
        InputError: any other shape or type, or no pixels.

    >>> as_rgb(np.full((1, 1), 65535, np.uint16)).tolist()
    [[[255, 255, 255]]]
    """
    pixels = image[:, :, None] if image.ndim == 2 else image
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise InputError(f"expected an RGB uint8 (H, W, 3) photo, got {image.dtype} {image.shape}")
    if pixels.size == 0:
        raise InputError(f"the photo has no pixels: its shape is {image.shape}")
    if pixels.dtype == np.uint16:
        pixels = from_16_bits(pixels)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def resize(image: npt.NDArray[Any], width: int | None) -> Resized:
    """Resize a photo to a width; None keeps its size. See `as_rgb` for what is accepted."""
    photo = as_rgb(image)
    size = (photo.shape[0], photo.shape[1])
    if width is None:
        return Resized(photo, size)
    factor = min(width / size[1], TALLEST * width / size[0])
    target = (max(1, round(size[1] * factor)), max(1, round(size[0] * factor)))
    if target == (size[1], size[0]):
        return Resized(photo, size)
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return Resized(np.asarray(cv2.resize(photo, target, interpolation=method), np.uint8), size)
