"""Priors: the boxes MultiBox starts from, found by k-means on the training boxes (Szegedy et al., arXiv 1412.1441).

Two kinds. The papers' priors are whole boxes, fixed in the frame of the photo (`corner_priors`). A convolutional head
repeats a few shapes at every cell of its maps instead (`shape_priors`, laid out by `grid_priors`).
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from structures.boxes import Boxes, Floats, Indices, iou

ROUNDS = 100  # k-means stops earlier when no box changes its prior
Points = npt.NDArray[np.float64]


def corner_priors(boxes: Boxes, count: int, *, seed: int = 0) -> Boxes:
    """Cluster boxes by their corners, as the papers do.

    Args:
        boxes: (N, 4) xyxy in units of the photo, 0..1.
        count: how many priors; with fewer different boxes than that, each of them becomes a prior.
        seed: of the first choice of centres.

    Returns:
        (K, 4) xyxy in 0..1, small to large, K at most count; values are exact in float16.

    Raises:
        ValueError: there are no boxes, or count is below one.
    """
    centres = _k_means(boxes.astype(np.float64), count, seed, _squared_distance, _mean)
    return _small_to_large(centres, (centres[:, 2] - centres[:, 0]) * (centres[:, 3] - centres[:, 1]))


def shape_priors(sides: Floats, count: int, *, seed: int = 0) -> Floats:
    """Cluster widths and heights by how badly boxes of these sides overlap when centred on each other.

    Args:
        sides: (N, 2) widths and heights in pixels.
        count: how many shapes; fewer come back where there are fewer different ones.
        seed: of the first choice of centres.

    Returns:
        (K, 2) widths and heights, small to large; values are exact in float16.

    Raises:
        ValueError: there are no boxes, or count is below one.
    """
    centres = _k_means(sides.astype(np.float64), count, seed, _shape_distance, _geometric_mean)
    return _small_to_large(centres, centres.prod(axis=1))


def spread(boxes: Boxes, priors: Boxes) -> Floats:
    """Return the (4,) standard deviations of boxes about their nearest prior: the unit of the papers' residuals."""
    nearest = _squared_distance(boxes.astype(np.float64), priors.astype(np.float64)).argmin(axis=1)
    deviation = np.sqrt(np.mean((boxes - priors[nearest]) ** 2, axis=0, dtype=np.float64))
    return np.maximum(deviation, 1e-3).astype(np.float16).astype(np.float32)


def coverage(boxes: Boxes, priors: Boxes, iou_threshold: float = 0.5) -> float:
    """Return the share of boxes that some prior overlaps at the threshold: what the priors give before any learning.

    >>> coverage(np.array([[0, 0, 1, 1]], np.float32), np.array([[0, 0, 1, 0.6]], np.float32))
    1.0
    """
    return float((iou(boxes, priors).max(axis=1, initial=0) >= iou_threshold).mean()) if len(boxes) else 0.0


def grid_priors(shapes: Floats, strides: Sequence[int], canvas: tuple[int, int]) -> Boxes:
    """Lay shapes out over the cells of several maps.

    Args:
        shapes: (levels, A, 2) widths and heights in pixels.
        strides: pixels a cell of each level, fine to coarse.
        canvas: (height, width) in pixels, multiples of the strides.

    Returns:
        (cells * A, 4) xyxy in pixels: level by level, row by row, cell by cell, the A shapes of a cell together.

    >>> grid_priors(np.full((1, 1, 2), 4, np.float32), [4], (4, 8)).tolist()
    [[0.0, 0.0, 4.0, 4.0], [4.0, 0.0, 8.0, 4.0]]
    """
    levels = []
    for sides, stride in zip(shapes, strides, strict=True):
        y, x = np.mgrid[0 : canvas[0] // stride, 0 : canvas[1] // stride]
        centre = (np.stack([x, y], axis=-1).reshape(-1, 1, 2) + 0.5) * stride
        levels.append(np.concatenate([centre - sides / 2, centre + sides / 2], axis=2).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


def _small_to_large(centres: Points, area: Points) -> Floats:
    return centres[np.argsort(area, kind="stable")].astype(np.float16).astype(np.float32)


def _squared_distance(points: Points, centres: Points) -> Points:
    squares = (points**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)[None, :]
    distance: Points = np.maximum(squares - 2 * points @ centres.T, 0)
    return distance


def _shape_distance(points: Points, centres: Points) -> Points:
    shared = np.minimum(points[:, None], centres[None]).prod(axis=2)
    distance: Points = 1 - shared / (points.prod(axis=1)[:, None] + centres.prod(axis=1)[None] - shared)
    return distance


def _mean(members: Points) -> Points:
    mean: Points = members.mean(axis=0)
    return mean


def _geometric_mean(members: Points) -> Points:
    mean: Points = np.exp(np.log(members).mean(axis=0))
    return mean


def _k_means(
    points: Points,
    count: int,
    seed: int,
    distance: Callable[[Points, Points], Points],
    centre: Callable[[Points], Points],
) -> Points:
    """Lloyd's rounds from k-means++ centres; a cluster that runs empty keeps its centre."""
    distinct = np.unique(points, axis=0)
    if len(distinct) == 0 or count < 1:
        raise ValueError(f"{count} priors cannot be found in {len(distinct)} different boxes")
    if len(distinct) <= count:
        return distinct
    centres = _spread_out(points, count, np.random.default_rng(seed), distance)
    members: Indices = np.full(len(points), -1)
    for _ in range(ROUNDS):
        nearest = distance(points, centres).argmin(axis=1)
        if np.array_equal(nearest, members):
            break
        members = nearest
        centres = np.stack([centre(points[members == k]) if (members == k).any() else centres[k] for k in range(count)])
    return centres


def _spread_out(
    points: Points, count: int, rng: np.random.Generator, distance: Callable[[Points, Points], Points]
) -> Points:
    """Choose first centres far from each other (k-means++: with a chance that grows with the distance)."""
    chosen = [int(rng.integers(len(points)))]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < count:
        nearest = np.minimum(nearest, distance(points, points[chosen[-1:]])[:, 0])
        chosen.append(int(rng.choice(len(points), p=nearest / nearest.sum())))
    return points[chosen]
