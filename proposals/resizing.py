"""Photos to the size that Selective Search works at, and boxes back to the photo."""

from dataclasses import dataclass

import cv2
import numpy as np

from structures.boxes import Boxes, ImageSize, clip, scale
from structures.records import Image

SEARCH_WIDTH = 500  # R-CNN's selective_search_boxes.m: the method is not scale invariant, so all photos get one width
LONGEST_SIDE = 4 * SEARCH_WIDTH  # Differs: a narrow photo is held to this height instead of growing without bound


@dataclass(frozen=True, eq=False)
class Resized:
    """A photo at search size, and the (height, width) that it had before."""

    image: Image
    original_size: ImageSize

    def to_original(self, boxes: Boxes) -> Boxes:
        """Return the boxes in whole pixels of the original photo, inside it."""
        height, width = self.original_size
        back = scale(boxes, width / self.image.shape[1], height / self.image.shape[0])
        return clip(np.rint(back), self.original_size)


def resize(image: Image, width: int | None) -> Resized:
    """Bring a photo to a width, growing or shrinking it; None keeps its size.

    Raises:
        ValueError: not an RGB uint8 (H, W, 3) array with at least one pixel.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"expected an RGB uint8 (H, W, 3) photo, got {image.dtype} {image.shape}")
    size = image.shape[:2]
    if width is None or size[1] == width:
        return Resized(np.ascontiguousarray(image), size)
    factor = min(width / size[1], max(LONGEST_SIDE, width) / size[0])
    target = (max(1, round(size[1] * factor)), max(1, round(size[0] * factor)))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return Resized(np.asarray(cv2.resize(image, target, interpolation=method), np.uint8), size)
