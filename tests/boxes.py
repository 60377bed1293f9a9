"""Boxes to measure with, made by hand or drawn, and what every proposal generator promises of its own."""

import numpy as np
import numpy.typing as npt

from structures.boxes import Boxes, ImageSize, area, as_boxes
from structures.records import GroundTruth, Proposals


def truth(
    *boxes: npt.ArrayLike,
    labels: npt.ArrayLike | None = None,
    ignore: npt.ArrayLike | None = None,
    name: str = "a",
    image_size: ImageSize = (100, 100),
) -> GroundTruth:
    """The objects of one image; where nothing else is said they are of the first class, and all count."""
    columns = as_boxes(boxes)
    labels, ignore = (np.zeros(len(columns)) if column is None else column for column in (labels, ignore))
    return GroundTruth(name, columns, labels, ignore, area(columns), image_size)


def random_boxes(count: int, extent: int, sides: tuple[int, int], seed: int = 0) -> Boxes:
    """Boxes of whole numbers: the first corner below extent, the sides from sides[0] to below sides[1]."""
    random = np.random.default_rng(seed)
    corners = random.integers(0, extent, (count, 2))
    return as_boxes(np.concatenate([corners, corners + random.integers(*sides, (count, 2))], axis=1))


def keeps_protocol(found: Proposals, image_size: ImageSize) -> None:
    """Assert what `ProposalGenerator` promises of the boxes of one photo."""
    height, width = image_size
    boxes = found.boxes
    assert found.image_size == image_size
    assert boxes.dtype == found.scores.dtype == np.float32
    assert (boxes >= 0).all()
    assert (boxes <= [width, height, width, height]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert [0, 0, width, height] in boxes.tolist()
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    assert (np.diff(found.scores) <= 0).all()
