"""Box arithmetic, and the one box convention of the project.

A box is (x1, y1, x2, y2) in absolute pixels of the original image as displayed: float32, 0-based and half-open, so that
width = x2 - x1. The first pixel alone is [0, 0, 1, 1]. An image size is (height, width), as NumPy has it.
"""

import numpy as np
import numpy.typing as npt

from structures.errors import InputError

Boxes = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
ImageSize = tuple[int, int]
ImageSizes = tuple[Indices, Indices]
"""Heights and widths, one of each per box."""


def as_boxes(values: npt.ArrayLike) -> Boxes:
    """Turn anything box-like into a float32 (N, 4) array; an empty list becomes (0, 4).

    Raises:
        InputError: the values do not form rows of four.

    >>> as_boxes([]).shape
    (0, 4)
    """
    boxes = np.asarray(values, dtype=np.float32)
    if boxes.size == 0:
        return np.zeros((0, 4), np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"boxes must have shape (N, 4), got {boxes.shape}")
    return boxes


def whole_image(image_size: ImageSize) -> Boxes:
    """Return the box of the whole image, shape (1, 4)."""
    height, width = image_size
    return np.array([[0, 0, width, height]], np.float32)


def reach(boxes: Boxes) -> ImageSize:
    """Return the size of the smallest image that holds the boxes, at least one pixel.

    >>> reach(as_boxes([[0, 0, 2, 3], [5, 1, 5.5, 2]]))
    (3, 6)
    """
    width, height = np.ceil(boxes[:, 2:].max(axis=0, initial=1)).astype(int).tolist()
    return height, width


def area(boxes: Boxes) -> Floats:
    """Return the (N,) areas in square pixels; boxes turned inside out have area 0.

    >>> area(as_boxes([[0, 0, 2, 3], [5, 5, 4, 9]])).tolist()
    [6.0, 0.0]
    """
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    product: Floats = sides[:, 0] * sides[:, 1]
    return product


def intersection(a: Boxes, b: Boxes) -> Floats:
    """Return the (N, M) areas shared by every pair of a (N, 4) and b (M, 4)."""
    width = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
    height = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
    shared: Floats = np.maximum(width, 0) * np.maximum(height, 0)
    return shared


def iou(a: Boxes, b: Boxes) -> Floats:
    """Return the (N, M) intersection over union of a (N, 4) and b (M, 4), in [0, 1].

    A pair of boxes without area has IoU 0, never NaN.

    >>> iou(as_boxes([[0, 0, 2, 2]]), as_boxes([[1, 0, 3, 2], [0, 0, 0, 0]])).round(3).tolist()
    [[0.333..., 0.0]]
    """
    shared = intersection(a, b)
    union = area(a)[:, None] + area(b)[None, :] - shared
    ratio: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio


def paired_iou(a: Boxes, b: Boxes) -> Floats:
    """Return the (N,) intersection over union of each box of a (N, 4) with the box in the same row of b (N, 4).

    >>> paired_iou(as_boxes([[0, 0, 2, 2], [0, 0, 0, 0]]), as_boxes([[1, 0, 3, 2], [0, 0, 0, 0]])).round(3).tolist()
    [0.333..., 0.0]
    """
    shared = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    both: Floats = np.maximum(shared[:, 0], 0) * np.maximum(shared[:, 1], 0)
    union = area(a) + area(b) - both
    ratio: Floats = np.divide(both, union, out=np.zeros_like(both), where=union > 0)
    return ratio


def clip(boxes: Boxes, image_size: ImageSize | ImageSizes) -> Boxes:
    """Return new boxes cut to the image, or each to its own; a box outside it ends up without area."""
    height, width = image_size
    limits = np.array([width, height, width, height], np.float32).T
    return np.clip(boxes, 0, limits).astype(np.float32)


def scale(boxes: Boxes, factor_x: float, factor_y: float) -> Boxes:
    """Return the boxes in an image resized by the two factors.

    >>> scale(as_boxes([[1, 2, 3, 4]]), 2, 10).tolist()
    [[2.0, 20.0, 6.0, 40.0]]
    """
    return (boxes * np.array([factor_x, factor_y, factor_x, factor_y], np.float32)).astype(np.float32)


def expand(boxes: Boxes, factor: float) -> Boxes:
    """Return the boxes grown (or shrunk) about their centres by a factor of their sides; not clipped.

    >>> expand(as_boxes([[2, 2, 4, 4]]), 2).tolist()
    [[1.0, 1.0, 5.0, 5.0]]
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) * (factor / 2)
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


def mirror(boxes: Boxes, image_size: ImageSize) -> Boxes:
    """Return the boxes of the left-right mirrored image.

    >>> mirror(as_boxes([[0, 0, 2, 3]]), (3, 10)).tolist()
    [[8.0, 0.0, 10.0, 3.0]]
    """
    width = image_size[1]
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1).astype(np.float32)


def large_enough(boxes: Boxes, min_side: float) -> Mask:
    """Return the (N,) mask of boxes whose both sides are finite and at least min_side pixels."""
    sides = boxes[:, 2:] - boxes[:, :2]
    mask: Mask = np.logical_and(np.isfinite(boxes).all(axis=1), (sides >= min_side).all(axis=1))
    return mask


def unique_rows(boxes: Boxes) -> Indices:
    """Return the indices of the first of every group of equal boxes, in input order.

    >>> unique_rows(as_boxes([[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 1, 1]])).tolist()
    [0, 1]
    """
    if len(boxes) == 0:
        return np.zeros(0, np.int64)
    whole = np.ascontiguousarray(boxes + np.float32(0))  # -0 becomes 0
    corners = whole.view(np.uint64)  # two numbers to compare instead of four
    order = np.lexsort(corners.T)  # stable: equal boxes stay in input order
    new = np.concatenate([[True], (corners[order[1:]] != corners[order[:-1]]).any(axis=1)])
    return np.sort(order[new]).astype(np.int64)
