"""EdgeBoxes through OpenCV: boxes that hold whole contours score high (Zitnick and Dollar, ECCV 2014).

Differs: the paper finds edges with a trained structured forest, whose file OpenCV's wheel lacks. Here they are the
thinned gradients of the blurred photo, so the boxes are worse than the paper's.
"""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from proposals.resizing import SEARCH_WIDTH, resize
from proposals.tidy import clean_proposals
from structures.boxes import Boxes, Floats
from structures.errors import InputError
from structures.records import Image, Proposals

MAX_BOXES = 1000  # Differs: OpenCV and the authors' code give up to 10,000, more than a classifier has time for
BLUR_SIGMA = 2.0  # grey levels of a photo are noisy: without it most edges are texture
CANNY_RANGE = (20, 60)  # of the blurred photo's gradients
Map = npt.NDArray[np.float32]


class EdgeBoxes:
    """Scores sliding windows by the contours that lie wholly inside.

    Args:
        max_boxes: the most boxes per photo.
        alpha: step of the sliding window, as IoU of neighbours.
        beta: overlap above which a weaker box is dropped.
        width: photos are resized to this width in pixels; None keeps their size.

    Raises:
        InputError: this OpenCV has no ximgproc; says what to install.
    """

    def __init__(
        self,
        *,
        max_boxes: int = MAX_BOXES,
        alpha: float = 0.65,
        beta: float = 0.75,
        width: int | None = SEARCH_WIDTH,
    ) -> None:
        if not hasattr(cv2, "ximgproc"):
            raise InputError("this OpenCV has no ximgproc: install opencv-contrib-python-headless")
        self.max_boxes, self.alpha, self.beta, self.width = max_boxes, alpha, beta, width

    @property
    def name(self) -> str:
        """Short name, by which `proposals.generators.build` makes it."""
        return "edge-boxes"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Every setting that decides the boxes."""
        return {
            "algorithm": f"edge boxes on thinned gradients, opencv {cv2.__version__}",
            "max_boxes": self.max_boxes,
            "alpha": self.alpha,
            "beta": self.beta,
            "width": self.width,
        }

    def __call__(self, image: Image) -> Proposals:
        """Return the proposals of an RGB uint8 (H, W, 3) photo; scores are OpenCV's."""
        small = resize(image, self.width)
        boxes, scores = self._search(*thin_edges(small.image))
        return clean_proposals(small.to_original(boxes), scores, small.original_size, self.name)

    def _search(self, edges: Map, orientation: Map) -> tuple[Boxes, Floats]:
        search = cv2.ximgproc.createEdgeBoxes(maxBoxes=self.max_boxes, alpha=self.alpha, beta=self.beta)
        found, scores = search.getBoundingBoxes(edges, orientation)
        if len(found) == 0:
            return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        corner, side = np.asarray(found, np.float32)[:, :2], np.asarray(found, np.float32)[:, 2:]
        return np.concatenate([corner, corner + side], axis=1), np.asarray(scores, np.float32).reshape(-1)


def thin_edges(image: Image) -> tuple[Map, Map]:
    """Return the edge strength of an RGB photo, 0..1 and 0 off the edges, and the gradient's direction in 0..pi."""
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), BLUR_SIGMA)
    gx, gy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    strength = np.hypot(gx, gy) * (cv2.Canny(grey, *CANNY_RANGE, L2gradient=True) > 0)
    top = max(float(strength.max()), 1e-6)
    direction = np.mod(np.arctan2(gy, gx), np.float32(np.pi))
    return (strength / top).astype(np.float32), direction.astype(np.float32)
