"""Where to put the labels of boxes: next to or in their box, inside the picture, with as little overlap as possible."""

from collections.abc import Iterator, Sequence

import numpy as np

from structures.boxes import Boxes, Floats

STEPS = 6  # how far a label may move along its box, in label heights


def place_labels(boxes: Boxes, sizes: Sequence[tuple[int, int]], picture: tuple[int, int]) -> Boxes:
    """Return a place for each label.

    Labels are placed one at a time, each where it covers least of the labels before it; of equally good places the
    first one of `places` is taken.

    Args:
        boxes: (N, 4) xyxy in pixels, the most important first.
        sizes: width and height of each label in pixels.
        picture: width and height of the picture; only a label that is larger reaches beyond it.

    Returns:
        (N, 4) xyxy of the labels, in whole pixels.
    """
    placed = np.zeros((len(sizes), 4), np.float32)
    for row, (box, size) in enumerate(zip(boxes.tolist(), sizes, strict=True)):
        candidates = places(box, size, picture)
        placed[row] = candidates[int(covered(candidates, placed[:row]).argmin())]
    return placed


def places(box: Sequence[float], size: tuple[int, int], picture: tuple[int, int]) -> Boxes:
    """Return (M, 4) places for the label of one box, the best first: above its top left corner."""
    width, height = size
    corners = np.array(list(_corners(box, width, height)), np.float32).round()
    most = np.maximum(np.array(picture, np.float32) - size, 0)
    corners = np.clip(corners, 0, most)
    return np.concatenate([corners, corners + np.array(size, np.float32)], axis=1)


def _corners(box: Sequence[float], width: int, height: int) -> Iterator[tuple[float, float]]:
    x1, y1, x2, y2 = box
    if y1 >= height:
        yield x1, y1 - height
    for y in (y1, y1 - height, y2 - height, y2):
        for x in (x1, x2 - width, (x1 + x2 - width) / 2):
            yield x, y
    for step in range(STEPS):
        for x in (x1, x2 - width, x1 - width, x2):
            yield x, y1 + step * height
            yield x, y2 - (step + 1) * height
            yield x, y1 - (step + 2) * height
            yield x, y2 + (step + 1) * height


def covered(places: Boxes, others: Boxes) -> Floats:
    """Return (M,) the area of each place that others cover, in pixels; what several cover counts once for each."""
    low = np.maximum(places[:, None, :2], others[None, :, :2])
    high = np.minimum(places[:, None, 2:], others[None, :, 2:])
    areas: Floats = np.clip(high - low, 0, None).prod(axis=2).sum(axis=1)
    return areas
