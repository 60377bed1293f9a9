"""Draw what Selective Search does with one photo, with the paper's superpixels above and the doubled ones below.

Usage: python benchmarks/proposal_picture.py docs/proposals.jpg [--boxes 15]

From left to right: the superpixels of one strategy; its tree of regions cut at three heights, where a region keeps the
colour of the larger of its two parts; the best boxes of all eight strategies of the paper's "fast"; and among all their
boxes those that overlap most with five objects that were marked by hand.
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from skimage import data
from skimage.segmentation import find_boundaries

from proposals.resizing import SEARCH_WIDTH, resize
from proposals.selective_search.colours import convert
from proposals.selective_search.features import Superpixels, bin_pixels, describe
from proposals.selective_search.grouping import hierarchy
from proposals.selective_search.search import SelectiveSearch
from proposals.selective_search.segmentation import LabelMap, segment, smooth, weigh_edges
from proposals.selective_search.strategy import Strategy, enlarged, fast
from structures.boxes import as_boxes, iou

STRATEGY = Strategy("Lab", "CTSF", 100, 100)
FACTORS = (1, 2)
CUTS = (60, 20, 6)  # regions that are left
WIDTH = 2.3  # inches of one picture
OBJECTS = {  # x1, y1, x2, y2 in pixels of skimage's astronaut
    "person": (16, 16, 361, 512),
    "head": (153, 16, 303, 177),
    "shuttle": (361, 0, 445, 280),
    "helmet": (270, 347, 512, 512),
    "patch": (133, 355, 210, 433),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--boxes", type=int, default=15)
    given = parser.parse_args()
    photo = data.astronaut()
    rows, columns = len(FACTORS), 3 + len(CUTS)
    size = columns * WIDTH, rows * (WIDTH * photo.shape[0] / photo.shape[1] + 0.25)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.05)
    for row, factor in zip(axes, FACTORS, strict=True):
        draw_row(row, photo, factor, given.boxes)
    figure.savefig(given.out, dpi=150, pil_kwargs={"quality": 82, "optimize": True})
    print(f"{given.out}: {given.out.stat().st_size / 1000:.0f} kB")


def draw_row(row: Any, photo: np.ndarray, factor: float, n_boxes: int) -> None:
    strategy = enlarged(STRATEGY, factor)
    small = resize(photo, SEARCH_WIDTH).image
    labels, superpixels = cut_up(small, strategy)
    n = len(superpixels.size)
    show(row[0], mean_colours(small, labels), f"{factor}x: {n} superpixels")
    _, parts = hierarchy(superpixels, strategy.similarity, labels.size)
    for axis, left in zip(row[1:-2], CUTS, strict=True):
        show(axis, in_colours(small, cut(superpixels.size, parts, left)[labels]), f"{min(left, n)} regions left")
    boxes = SelectiveSearch(fast(factor))(photo).boxes
    show(row[-2], photo, f"best {n_boxes} of {len(boxes)} boxes")
    draw_boxes(row[-2], boxes[:n_boxes])
    show(row[-1], photo, "those that fit objects, with IoU")
    draw_best(row[-1], boxes)


def cut_up(photo: np.ndarray, strategy: Strategy) -> tuple[LabelMap, Superpixels]:
    """Return the superpixels of one strategy."""
    planes = convert(photo, strategy.colour_space)
    ((labels, n),) = segment(weigh_edges(smooth(planes)), [(strategy.k, strategy.min_size)])
    return labels, describe(labels, n, bin_pixels(planes))


def cut(size: np.ndarray, parts: np.ndarray, left: int) -> np.ndarray:
    """Return the number of each superpixel's region when this many regions are left: that of its largest superpixel."""
    n, n_joins = len(size), max(0, len(size) - left)
    region, sizes, name = np.arange(n), np.r_[size, np.zeros(n - 1, np.int64)], np.arange(2 * n - 1)
    for new, (a, b) in enumerate(parts[:n_joins], start=n):
        region[(region == a) | (region == b)] = new
        sizes[new], name[new] = sizes[a] + sizes[b], name[a if sizes[a] >= sizes[b] else b]
    return name[region]


def mean_colours(photo: np.ndarray, labels: np.ndarray) -> np.ndarray:
    flat = labels.ravel()
    sums = np.stack([np.bincount(flat, photo[:, :, c].ravel()) for c in range(3)], axis=1)
    painted = (sums / np.bincount(flat)[:, None])[labels]
    painted[find_boundaries(labels, mode="inner")] *= 0.6
    return painted.astype(np.uint8)


def in_colours(photo: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Paint regions over the grey photo, each number in a colour of its own."""
    hues = plt.get_cmap("hsv")(regions * 0.618034 % 1)[:, :, :3] * 255
    painted = 0.55 * hues + 0.45 * photo.mean(axis=2, keepdims=True)
    painted[find_boundaries(regions, mode="inner")] = 255
    return painted.astype(np.uint8)


def show(axis: Any, picture: np.ndarray, title: str) -> None:
    axis.imshow(picture)
    axis.set_title(title, fontsize=9)
    axis.axis("off")


def draw_boxes(axis: Any, boxes: np.ndarray) -> None:
    """Draw boxes, the first ones bright and on top."""
    colours = plt.get_cmap("plasma")(np.linspace(1, 0, len(boxes)))
    for box, colour in reversed(list(zip(boxes, colours, strict=True))):
        draw_box(axis, box, colour)


def draw_best(axis: Any, boxes: np.ndarray) -> None:
    """Draw the box that overlaps most with each object, and say how much."""
    overlap = iou(boxes, as_boxes(list(OBJECTS.values())))
    for name, best, value in zip(OBJECTS, overlap.argmax(axis=0), overlap.max(axis=0), strict=True):
        x1, _, x2, y2 = boxes[best]
        draw_box(axis, boxes[best], "yellow")
        under = {"facecolor": "yellow", "linewidth": 0, "pad": 0.8}
        axis.text((x1 + x2) / 2, y2 - 6, f"{name} {value:.2f}", fontsize=7, ha="center", va="bottom", bbox=under)


def draw_box(axis: Any, box: np.ndarray, colour: Any) -> None:
    x1, y1, x2, y2 = box
    axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.8))


if __name__ == "__main__":
    main()
