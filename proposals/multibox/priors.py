"""Priors: the boxes MultiBox starts from, found by k-means on the training boxes (Erhan et al., arXiv 1312.2249).

Two kinds. The papers' priors are whole boxes, fixed in the frame of the photo (`proposals.multibox.paper`). A
convolutional head repeats a few shapes at every cell of its maps instead (`shape_priors`, laid out by `grid_priors`).
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from structures.boxes import Boxes, Floats, Indices
from structures.errors import InputError

ROUNDS = 100  # k-means stops earlier when no box changes its prior
Points = npt.NDArray[np.float64]


def shape_priors(sides: Floats, count: int, *, seed: int = 0) -> Floats:
    """Cluster widths and heights by how badly boxes of these sides overlap when centred on each other.

    Args:
        sides: (N, 2) widths and heights in pixels.
        count: how many shapes; fewer come back where there are fewer different ones.
        seed: of the first choice of centres.

    Returns:
        (K, 2) widths and heights, small to large; values are exact in float16.

    Raises:
        InputError: there are no boxes, or count is below one.
    """
    centres = k_means(sides.astype(np.float64), count, seed, _shape_distance, _geometric_mean)
    return small_to_large(centres, centres.prod(axis=1))


def grid_priors(shapes: Floats, strides: Sequence[int], canvas: tuple[int, int]) -> Boxes:
    """Lay shapes out over the cells of several maps.

    Args:
        shapes: (levels, A, 2) widths and heights in pixels.
        strides: pixels per cell of each level, fine to coarse.
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


def small_to_large(centres: Points, area: Points) -> Floats:
    """Sort centres by their area, and round them to what float16 holds."""
    return centres[np.argsort(area, kind="stable")].astype(np.float16).astype(np.float32)


def _shape_distance(points: Points, centres: Points) -> Points:
    shared = np.minimum(points[:, None], centres[None]).prod(axis=2)
    distance: Points = 1 - shared / (points.prod(axis=1)[:, None] + centres.prod(axis=1)[None] - shared)
    return distance


def _geometric_mean(members: Points) -> Points:
    mean: Points = np.exp(np.log(members).mean(axis=0))
    return mean


def k_means(
    points: Points,
    count: int,
    seed: int,
    distance: Callable[[Points, Points], Points],
    centre: Callable[[Points], Points],
) -> Points:
    """Cluster points by Lloyd's rounds from k-means++ centres; a cluster that runs empty keeps its centre.

    Args:
        points: (N, D).
        count: how many clusters; with fewer different points than that, each of them is a centre.
        seed: of the first choice of centres.
        distance: (N, D) points and (K, D) centres -> (N, K).
        centre: (M, D) members of a cluster -> its centre (D,).

    Returns:
        (K, D) centres, K at most count.

    Raises:
        InputError: there are no points, or count is below one.
    """
    distinct = np.unique(points, axis=0)
    if len(distinct) == 0 or count < 1:
        raise InputError(f"{count} priors cannot be found in {len(distinct)} different boxes")
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
