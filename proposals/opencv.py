"""Selective Search with OpenCV's functions: a reference to compare with.

The presets of cv2.ximgproc are not used: they fix min_size at 100 and use other scales than the paper. Strategy
objects are new for every photo, because OpenCV's keep histograms of the last one. OpenCV ranks the smallest boxes
first and with random numbers that cannot be seeded, so its boxes are sorted here, the largest first; `order="native"`
shows its own order.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import cv2
import numpy as np

from proposals.resizing import SEARCH_WIDTH, resize
from proposals.selective_search.segmentation import SIGMA
from proposals.tidy import clean_proposals, falling_scores
from structures.boxes import Boxes, area
from structures.errors import InputError
from structures.records import Image, Proposals

FAST_KS = (50.0, 100.0)  # Uijlings et al., table 5, "fast"
MIN_SIDE = 20  # R-CNN's selective_search_boxes.m
SIMILARITIES = ("CTSF", "TSF")
Order = Literal["largest", "native"]


class OpenCvSelectiveSearch:
    """The paper's fast setting (HSV and Lab, CTSF and TSF, two scales) in OpenCV.

    Args:
        factor: superpixel factor; both k and min_size grow by it.
        ks: scales before the factor; min_size is k.
        width: photos are resized to this width in pixels; None keeps their size.
        min_side: boxes with a side below this, in the resized photo, are dropped.
        order: "largest" first, or "native": OpenCV's own, which differs from run to run.
        name: name of the generator.

    Raises:
        InputError: this OpenCV has no ximgproc; says what to install.
    """

    def __init__(
        self,
        *,
        factor: float = 2,
        ks: Sequence[float] = FAST_KS,
        width: int | None = SEARCH_WIDTH,
        min_side: float = MIN_SIDE,
        order: Order = "largest",
        name: str = "opencv-selective-search",
    ) -> None:
        if not hasattr(cv2, "ximgproc"):
            raise InputError("this OpenCV has no ximgproc: install opencv-contrib-python-headless")
        self._name = name
        self.ks = tuple(float(k * factor) for k in ks)
        self.width, self.min_side, self.order = width, min_side, order

    @property
    def name(self) -> str:
        """Short name, by which `proposals.generators.build` makes it."""
        return self._name

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Every setting that decides the boxes."""
        return {
            "algorithm": f"selective search, opencv {cv2.__version__}",
            "colour_spaces": ["HSV", "Lab"],
            "similarities": list(SIMILARITIES),
            "k_and_min_size": list(self.ks),
            "sigma": SIGMA,
            "width": self.width,
            "min_side": self.min_side,
            "order": self.order,
        }

    def __call__(self, image: Image) -> Proposals:
        """Return the proposals of an RGB uint8 (H, W, 3) photo; scores only say the order."""
        small = resize(image, self.width)
        boxes = self.search(small.image)
        boxes = boxes[(boxes[:, 2:] - boxes[:, :2] >= self.min_side).all(axis=1)]
        if self.order == "largest":
            boxes = boxes[np.lexsort((*boxes.T[::-1], -area(boxes)))]
        return clean_proposals(small.to_original(boxes), falling_scores(len(boxes)), small.original_size, self.name)

    def search(self, image: Image) -> Boxes:
        """Run OpenCV on a photo as it is, and return its (N, 4) xyxy boxes in its own order."""
        search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        bgr = np.ascontiguousarray(image[:, :, ::-1])
        search.setBaseImage(bgr)
        for converted in (cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV), cv2.cvtColor(bgr, cv2.COLOR_BGR2Lab)):
            search.addImage(converted)
        for k in self.ks:
            search.addGraphSegmentation(cv2.ximgproc.segmentation.createGraphSegmentation(SIGMA, k, round(k)))
        for measures in SIMILARITIES:
            search.addStrategy(_strategy(measures))
        found = np.asarray(search.process(), np.float32).reshape(-1, 4)
        return np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], axis=1).astype(np.float32)


def _strategy(measures: str) -> Any:
    """Return a new OpenCV strategy that averages similarities, such as "CTSF"."""
    segmentation = cv2.ximgproc.segmentation
    parts = {
        "C": segmentation.createSelectiveSearchSegmentationStrategyColor,
        "T": segmentation.createSelectiveSearchSegmentationStrategyTexture,
        "S": segmentation.createSelectiveSearchSegmentationStrategySize,
        "F": segmentation.createSelectiveSearchSegmentationStrategyFill,
    }
    combined = segmentation.createSelectiveSearchSegmentationStrategyMultiple()
    for letter in measures:
        combined.addStrategy(parts[letter](), 1 / len(measures))
    return combined
