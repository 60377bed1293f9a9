"""What any proposal generator must beat: a regular grid of windows, and random boxes. No pixel is looked at."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from proposals.resizing import as_rgb
from proposals.tidy import clean_proposals, falling_scores
from structures.boxes import Boxes
from structures.errors import InputError
from structures.records import Image, Proposals
from structures.seeds import check_seed

GRID_AREAS = (0.64, 0.32, 0.16, 0.08, 0.04, 0.02)  # shares of the photo
GRID_ASPECTS = (0.5, 1.0, 2.0)  # width to height, times the photo's own
GRID_STEP = 0.4  # of a window's side


class Grid:
    """Windows of fixed areas and shapes at regular places, large ones first.

    Args:
        areas: of the windows, as shares of the photo.
        aspects: width to height of a window, times the photo's own.
        step: distance between windows, as a share of their side.

    Raises:
        InputError: a number is out of its range.
    """

    def __init__(
        self,
        *,
        areas: Sequence[float] = GRID_AREAS,
        aspects: Sequence[float] = GRID_ASPECTS,
        step: float = GRID_STEP,
    ) -> None:
        if not (step > 0 and all(0 < share <= 1 for share in areas) and all(aspect > 0 for aspect in aspects)):
            raise InputError("step and aspects must be above 0, areas above 0 and at most 1")
        self.areas, self.aspects, self.step = tuple(areas), tuple(aspects), step

    @property
    def name(self) -> str:
        """Short name, by which `proposals.generators.build` makes it."""
        return "grid"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Every setting that decides the boxes."""
        return {"areas": list(self.areas), "aspects": list(self.aspects), "step": self.step}

    def __call__(self, image: Image) -> Proposals:
        """Return the windows for the size of a photo."""
        height, width = as_rgb(image).shape[:2]
        unit = np.concatenate([self._windows(share, aspect) for share in self.areas for aspect in self.aspects])
        boxes = (unit * np.array([width, height, width, height])).astype(np.float32)
        return clean_proposals(boxes, falling_scores(len(boxes)), (height, width), self.name)

    def _windows(self, share: float, aspect: float) -> Boxes:
        """Return the (N, 4) windows of one area and shape in a photo of side 1."""
        sides = np.minimum([np.sqrt(share * aspect), np.sqrt(share / aspect)], 1)
        counts = np.ceil((1 - sides) / (sides * self.step)).astype(int) + 1
        xs, ys = (np.linspace(0, 1 - side, count) for side, count in zip(sides, counts, strict=True))
        corner = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
        return np.concatenate([corner, corner + sides], axis=1).astype(np.float32)


class Random:
    """Boxes whose two corners are drawn uniformly over the photo.

    Args:
        count: how many to draw, before duplicates are removed.
        seed: of the random numbers; photos of one size get the same boxes.

    Raises:
        InputError: a number is out of its range.
    """

    def __init__(self, *, count: int = 1200, seed: int = 0) -> None:
        if count < 0:
            raise InputError(f"count must not be negative, got {count}")
        check_seed(seed)
        self.count, self.seed = count, seed

    @property
    def name(self) -> str:
        """Short name, by which `proposals.generators.build` makes it."""
        return "random"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Every setting that decides the boxes."""
        return {"count": self.count, "seed": self.seed}

    def __call__(self, image: Image) -> Proposals:
        """Return random boxes for the size of a photo."""
        height, width = as_rgb(image).shape[:2]
        corners = np.sort(np.random.default_rng(self.seed).random((self.count, 2, 2)), axis=1)
        boxes = (corners.reshape(-1, 4) * [width, height, width, height]).astype(np.float32)
        return clean_proposals(boxes, falling_scores(len(boxes)), (height, width), self.name)
