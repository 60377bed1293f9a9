"""An example of a proposal generator from outside: the boxes of maximally stable regions (Matas et al., BMVC 2002).

MSER finds blobs that keep their shape while a threshold moves. It is made for signs and letters, and it is fast.
"""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from proposals.resizing import SEARCH_WIDTH, resize
from proposals.tidy import clean_proposals
from structures.boxes import area
from structures.records import Image, Proposals

SMALLEST = 3  # pixels: OpenCV refuses photos with a shorter side


class MserBoxes:
    """Proposes the boxes of stable regions in each channel of Lab, the largest first.

    Args:
        delta: by how many grey levels the threshold moves; fewer give more boxes.
        min_area: regions below this, in pixels of the resized photo, are dropped.
        width: photos are resized to this many pixels; None keeps their size.
    """

    name = "mser"

    def __init__(self, *, delta: int = 2, min_area: int = 100, width: int | None = SEARCH_WIDTH) -> None:
        self.delta, self.min_area, self.width = delta, min_area, width

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Every setting that decides the boxes; they go into the manifest."""
        return {
            "algorithm": f"MSER, opencv {cv2.__version__}",
            "delta": self.delta,
            "min_area": self.min_area,
            "width": self.width,
        }

    def __call__(self, image: Image) -> Proposals:
        """Return the proposals of an RGB uint8 (H, W, 3) photo, best first."""
        small = resize(image, self.width)
        found = [self._sides(channel) for channel in cv2.split(cv2.cvtColor(small.image, cv2.COLOR_RGB2Lab))]
        sides = np.concatenate(found).astype(np.float32)
        boxes = np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], axis=1)
        return clean_proposals(small.to_original(boxes), area(boxes), small.original_size, self.name)

    def _sides(self, channel: Any) -> Any:
        """Return x, y, width, height of the stable regions of one channel."""
        if min(channel.shape) < SMALLEST:
            return np.zeros((0, 4), np.int32)
        mser = cv2.MSER_create(delta=self.delta, min_area=self.min_area, max_area=channel.size)
        return np.reshape(mser.detectRegions(channel)[1], (-1, 4))
