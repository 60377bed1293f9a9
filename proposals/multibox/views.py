"""Views: which part of a photo MultiBox looks at, and at what size.

A view maps a window of the photo onto a canvas of pixels. The window may reach beyond the photo; what lies outside is
filled with the mean colour of the network that looks, which it sees as zero.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np

from structures.boxes import Boxes, ImageSize
from structures.records import Image

MEAN_COLOUR = (123, 117, 104)  # RGB; BVLC's train_val.prototxt, which most weights start from
CANVASES = ((384, 512), (448, 448), (512, 384))  # landscape, square, portrait: about the same number of pixels
CANVAS_STEP = 64  # canvas sides are multiples of it, so that the maps of all levels fit onto each other
AREA_SHRINK = 1.25  # photos are averaged down when they shrink by more than this, else interpolated

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class CanvasView:
    """A window of the photo and the canvas it is drawn on.

    Attributes:
        window: (x1, y1, x2, y2) in pixels of the photo; may reach beyond it.
        canvas: (height, width) in pixels.
        largest: side of a square, in pixels of the photo; boxes of a larger area are left to other views.
        fill: RGB colour of what lies outside the photo: the mean of the network that will look.
    """

    window: tuple[float, float, float, float]
    canvas: ImageSize
    largest: float = math.inf
    fill: Colour = MEAN_COLOUR

    def scales(self) -> tuple[float, float]:
        """Return canvas pixels per photo pixel, across and down."""
        x1, y1, x2, y2 = self.window
        return self.canvas[1] / (x2 - x1), self.canvas[0] / (y2 - y1)

    def to_canvas(self, boxes: Boxes) -> Boxes:
        """Map (N, 4) boxes of the photo to the canvas; not clipped.

        >>> CanvasView((10, 0, 30, 20), (40, 40)).to_canvas(np.array([[10, 0, 20, 20]], np.float32)).tolist()
        [[0.0, 0.0, 20.0, 40.0]]
        """
        across, down = self.scales()
        x1, y1 = self.window[:2]
        mapped = (boxes - np.array([x1, y1, x1, y1])) * np.array([across, down, across, down])
        return np.asarray(mapped, np.float32)

    def to_photo(self, boxes: Boxes) -> Boxes:
        """Map (N, 4) boxes of the canvas to the photo; not clipped."""
        across, down = self.scales()
        x1, y1 = self.window[:2]
        mapped = boxes / np.array([across, down, across, down]) + np.array([x1, y1, x1, y1])
        return np.asarray(mapped, np.float32)

    def draw(self, photo: Image, *, mirrored: bool = False) -> Image:
        """Return the canvas: RGB uint8 (height, width, 3), mirrored left-right if asked for."""
        across, down = self.scales()
        x1, y1 = self.window[:2]
        height, width = photo.shape[:2]
        if min(across, down) * AREA_SHRINK < 1:
            smaller = max(1, round(width * min(1, across))), max(1, round(height * min(1, down)))
            photo = cast(Image, cv2.resize(photo, smaller, interpolation=cv2.INTER_AREA))
            x1, y1 = x1 * smaller[0] / width, y1 * smaller[1] / height
            across, down = across * width / smaller[0], down * height / smaller[1]
        # From canvas to photo; OpenCV counts from the middle of the first pixel, we from its edge.
        matrix = np.array([[1 / across, 0, x1 + 0.5 / across - 0.5], [0, 1 / down, y1 + 0.5 / down - 0.5]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        canvas = cv2.warpAffine(photo, matrix, self.canvas[::-1], flags=flags, borderValue=self.fill)
        return np.ascontiguousarray(canvas[:, ::-1] if mirrored else canvas, np.uint8)


def whole_photo(
    image_size: ImageSize,
    *,
    scale: float = 1.0,
    canvases: Sequence[tuple[int, int]] = CANVASES,
    fill: Colour = MEAN_COLOUR,
) -> CanvasView:
    """View the whole photo, its aspect kept, on the canvas that it fills best.

    Where the canvas is larger than usual, the view is for small objects: the largest are those that would fill a usual
    canvas. Larger ones are beyond what the network was trained on, and their boxes loose (benchmarks/LOG.md).

    Args:
        image_size: (height, width) of the photo.
        scale: factor on the sides of the canvases; they are brought to multiples of 64.
        canvases: (height, width) to choose from.
        fill: RGB colour of what lies outside the photo.
    """
    sizes = [scaled_canvas(canvas, scale) for canvas in canvases]
    height, width = image_size
    zooms = [min(canvas[0] / height, canvas[1] / width) for canvas in sizes]
    filled = [zoom**2 / (canvas[0] * canvas[1]) for zoom, canvas in zip(zooms, sizes, strict=True)]
    best = int(np.argmax(filled))
    canvas, zoom = sizes[best], zooms[best]
    largest = math.sqrt(height * width) / scale if scale > 1 else math.inf
    return CanvasView((0.0, 0.0, canvas[1] / zoom, canvas[0] / zoom), canvas, largest, fill)


def scaled_canvas(canvas: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return a canvas times a factor, in whole steps of 64 pixels.

    >>> scaled_canvas((384, 512), 1.5)
    (576, 768)
    """
    height, width = (max(1, round(side * scale / CANVAS_STEP)) * CANVAS_STEP for side in canvas)
    return height, width
