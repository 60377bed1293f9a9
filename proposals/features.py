"""What grouping compares: colour and texture histograms, sizes, boxes and neighbours of superpixels.

Histograms are kept as counts: the histogram of two joined regions is then their exact sum, and dividing by size comes
last (Uijlings et al., section 3.2).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from proposals.compiled import compiled
from proposals.segmentation import Array, Channels, LabelMap, smooth

COLOUR_BINS = 25  # Uijlings et al., section 3.2: bins of a channel
TEXTURE_BINS = 10  # the same: bins of an orientation of a channel
ORIENTATIONS = 8  # the same
TEXTURE_SIGMA = 1.0  # the same: Gaussian derivatives
N_LINES = ORIENTATIONS // 2  # an orientation and its opposite share one derivative, one of them is always 0

Counts = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class PixelBins:
    """The histogram bins of every pixel of one image in one colour space; they depend on no superpixel.

    Attributes:
        colour: (H, W, C) uint8 bin of each channel.
        texture: (H, W, C * 4) uint8; 0 where the derivative is weak, else 1 + bin of the stronger side, 2..10 for the
            orientation itself and 12..20 for its opposite.
    """

    colour: npt.NDArray[np.uint8]
    texture: npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Superpixels:
    """N superpixels as columns.

    Attributes:
        size: (N,) int32 pixels.
        boxes: (N, 4) int32 xyxy, half-open.
        colour: (N, C * 25) int32 counts.
        texture: (N, C * 8 * 10) int32 counts.
        pairs: (P, 2) int32 neighbours a < b, sorted; pixels that touch by side or corner.
    """

    size: Counts
    boxes: Counts
    colour: Counts
    texture: Counts
    pairs: Counts


def bin_pixels(channels: Channels) -> PixelBins:
    """Sort every pixel of float32 (H, W, C) channels, 0..255, into its histogram bins."""
    height, width, n_channels = channels.shape
    colour = np.empty(channels.shape, np.uint8)
    texture = np.empty((height, width, n_channels * N_LINES), np.uint8)
    blurred = smooth(channels, TEXTURE_SIGMA)
    bin_colours(channels, colour)
    bin_textures(blurred, texture, strongest(blurred))
    return PixelBins(colour, texture)


def describe(labels: LabelMap, n: int, bins: PixelBins) -> Superpixels:
    """Measure the superpixels of a (H, W) label map with labels 0..n-1."""
    n_channels = bins.colour.shape[2]
    size, boxes = np.zeros(n, np.int32), np.zeros((n, 4), np.int32)
    colour = np.zeros((n, n_channels * COLOUR_BINS), np.int32)
    texture = np.zeros((n, n_channels * ORIENTATIONS * TEXTURE_BINS), np.int32)
    measure(labels, size, boxes)
    count(labels, bins.colour, bins.texture, colour, texture)
    fill_weak_bins(texture, size)
    codes = np.sort(touching(labels, np.int64(n)))
    pairs = np.stack([codes // n, codes % n], axis=1).astype(np.int32)
    return Superpixels(size, boxes, colour, texture, pairs)


@compiled
def bin_colours(channels: Array, colour: Array) -> None:
    """Write the colour bin of every value."""
    values, out = channels.ravel(), colour.ravel()
    for i in range(len(values)):
        out[i] = min(np.int32(values[i] * np.float32(COLOUR_BINS / 256)), COLOUR_BINS - 1)


@compiled
def strongest(blurred: Array) -> Array:
    """Return for each channel the strongest derivative in the image over all orientations."""
    height, width, n_channels = blurred.shape
    best = np.zeros(n_channels, np.float32)
    for y in range(height):
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            for c in range(n_channels):
                gx = abs(blurred[y, right, c] - blurred[y, left, c])
                gy = abs(blurred[below, x, c] - blurred[above, x, c])
                best[c] = max(best[c], gx, gy, (gx + gy) * np.float32(np.sqrt(0.5)))
    return best


@compiled
def bin_textures(blurred: Array, texture: Array, top: Array) -> None:
    """Write the texture bins of every pixel: derivatives along 4 lines, each sorted into 10 bins of 0..top."""
    height, width, n_channels = blurred.shape
    diagonal = np.float32(np.sqrt(0.5))
    line = np.empty(N_LINES, np.float32)
    for y in range(height):
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            for c in range(n_channels):
                scale = np.float32(TEXTURE_BINS) / max(top[c], np.float32(1e-6))
                gx = (blurred[y, right, c] - blurred[y, left, c]) * scale
                gy = (blurred[below, x, c] - blurred[above, x, c]) * scale
                line[0], line[1], line[2], line[3] = gx, (gx + gy) * diagonal, gy, (gy - gx) * diagonal
                for o in range(N_LINES):
                    strength: Any = min(np.int32(abs(line[o])), TEXTURE_BINS - 1)
                    side = TEXTURE_BINS if line[o] < 0 else 0
                    texture[y, x, c * N_LINES + o] = 0 if strength == 0 else 1 + side + strength


@compiled
def measure(labels: Array, size: Array, boxes: Array) -> None:
    """Add up the sizes and boxes of superpixels."""
    height, width = labels.shape
    boxes[:, 0], boxes[:, 1] = width, height
    for y in range(height):
        for x in range(width):
            region = labels[y, x]
            size[region] += 1
            boxes[region, 0] = min(boxes[region, 0], x)
            boxes[region, 1] = min(boxes[region, 1], y)
            boxes[region, 2] = max(boxes[region, 2], x + 1)
            boxes[region, 3] = max(boxes[region, 3], y + 1)


@compiled
def count(labels: Array, colour_bins: Array, texture_bins: Array, colour: Array, texture: Array) -> None:
    """Add up the histograms of superpixels; weak texture is left to `fill_weak_bins`."""
    height, width = labels.shape
    n_channels, n_lines = colour_bins.shape[2], texture_bins.shape[2]
    for y in range(height):
        for x in range(width):
            region = labels[y, x]
            for c in range(n_channels):
                colour[region, c * COLOUR_BINS + colour_bins[y, x, c]] += 1
            for line in range(n_lines):
                code = texture_bins[y, x, line]
                if code > 0:
                    texture[region, line * 2 * TEXTURE_BINS + code - 1] += 1


@compiled
def fill_weak_bins(texture: Array, size: Array) -> None:
    """Give the first bin of every orientation the pixels that no other bin has."""
    for region in range(len(size)):
        for first in range(0, texture.shape[1], TEXTURE_BINS):
            strong = 0
            for b in range(1, TEXTURE_BINS):
                strong += texture[region, first + b]
            texture[region, first] = size[region] - strong


@compiled
def touching(labels: Array, n: Any) -> Array:
    """Return each pair a < b of touching superpixels once, as a * n + b, in no order."""
    height, width = labels.shape
    table = np.full(1024, -1, np.int64)  # an open-addressing hash set
    used = 0
    for y in range(height):
        for x in range(width):
            here = np.int64(labels[y, x])
            for direction in range(4):
                v, u = y + (direction > 0), x + (1 if direction == 0 else direction - 2)
                if v == height or u < 0 or u == width or labels[v, u] == here:
                    continue
                there = np.int64(labels[v, u])
                code = min(here, there) * n + max(here, there)
                used += insert(table, code)
                if used * 2 > len(table):
                    table = grown(table)
    return table[table >= 0]


@compiled
def insert(table: Array, code: Any) -> int:
    """Put a code into a hash set; return 1 if it is new there, else 0."""
    mask = len(table) - 1
    slot = (code * 0x9E3779B97F4A7C1 >> 20) & mask
    while table[slot] != code:
        if table[slot] < 0:
            table[slot] = code
            return 1
        slot = (slot + 1) & mask
    return 0


@compiled
def grown(table: Array) -> Array:
    """Return a hash set with the same codes and four times the room."""
    larger = np.full(len(table) * 4, -1, np.int64)
    for code in table:
        if code >= 0:
            insert(larger, code)
    return larger
