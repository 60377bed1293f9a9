"""What grouping compares: colour and texture histograms, sizes, boxes and neighbours of superpixels.

Histograms are kept as counts, not shares: the histogram of two joined regions is then their exact sum, and dividing by
size comes last (Uijlings et al., section 3.2). Counts are float32, exact up to 16.7 million pixels per region.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from proposals.selective_search.buffers import Scratch
from proposals.selective_search.compiled import Array, compiled, helper, inlined
from proposals.selective_search.segmentation import LabelMap, Planes, smooth
from proposals.selective_search.tiles import N_DIRECTIONS

COLOUR_BINS = 25  # Uijlings et al., section 3.2: bins of a channel
TEXTURE_BINS = 10  # the same: bins of an orientation of a channel
ORIENTATIONS = 8  # the same
TEXTURE_SIGMA = 1.0  # the same: Gaussian derivatives
N_LINES = ORIENTATIONS // 2  # an orientation and its opposite share one derivative, one of them is always 0
DIAGONAL = np.float32(np.sqrt(0.5))
WORD = 8  # bytes that are passed over at once
FIRST_TABLE, GROWTH = 1024, 4  # places of a hash set at first, and how many times as many it gets

Counts = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class PixelBins:
    """The histogram bins of every pixel of one image in one colour space; they depend on no superpixel.

    Attributes:
        colour: (C, H * W) uint8 bin of each channel.
        strong: (M,) int32 pixels where a derivative is strong enough to leave the lowest bin.
        texture: (M,) uint8 bin of that derivative among the C * 8 * 10 of a texture histogram.
    """

    colour: npt.NDArray[np.uint8]
    strong: npt.NDArray[np.int32]
    texture: npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Superpixels:
    """N superpixels as columns.

    Attributes:
        size: (N,) int32 pixels.
        boxes: (N, 4) int32 xyxy, half-open.
        colour: (N, C * 25) counts.
        texture: (N, C * 4 * 2 * 10) counts: channel, line, side of the line, bin.
        pairs: (P, 2) int32 neighbours a < b, sorted; pixels that touch by side or corner.
    """

    size: Numbers
    boxes: Numbers
    colour: Counts
    texture: Counts
    pairs: Numbers


def bin_pixels(planes: Planes, scratch: Scratch | None = None) -> PixelBins:
    """Sort every pixel of (C, H, W) planes into its histogram bins. With scratch, the result is lent."""
    scratch = scratch or Scratch()
    n_channels, height, width = planes.shape
    colour = scratch.take("colour", (n_channels, height * width), np.uint8)
    codes = scratch.take("codes", (n_channels * N_LINES, -(-height * width // WORD) * WORD), np.uint8)
    codes[:, height * width :] = 0
    strong, texture = (
        scratch.take(name, codes.size + 1, kind) for name, kind in (("strong", np.int32), ("texture", "u1"))
    )
    blurred, lines = smooth(planes, TEXTURE_SIGMA, scratch), np.empty((3, width), np.float32)
    bin_colours(planes.reshape(-1), colour.reshape(-1))
    n = bin_textures(blurred, codes, codes.view(np.uint64), lines, strong, texture)
    return PixelBins(colour, strong[:n], texture[:n])


def describe(labels: LabelMap, n: int, bins: PixelBins) -> Superpixels:
    """Measure the superpixels of a (H, W) label map with labels 0..n-1."""
    n_channels = len(bins.colour)
    size, boxes = np.zeros(n, np.int32), np.zeros((n, 4), np.int32)
    colour = np.zeros((n, n_channels * COLOUR_BINS), np.int32)
    texture = np.zeros((n, n_channels * ORIENTATIONS * TEXTURE_BINS), np.int32)
    measure(labels, labels.reshape(-1), bins.colour, bins.strong, bins.texture, size, boxes, colour, texture)
    codes = np.sort(touching(labels, n))
    pairs = np.stack([codes // n, codes % n], axis=1).astype(np.int32)
    return Superpixels(size, boxes, colour.astype(np.float32), texture.astype(np.float32), pairs)


@compiled
def bin_colours(values: Array, bins: Array) -> None:
    """Write the colour bin of every value."""
    for i in range(len(values)):
        bins[i] = min(np.int32(values[i] * np.float32(COLOUR_BINS / 256)), np.int32(COLOUR_BINS - 1))


@inlined
def derive(above: Array, here: Array, below: Array, gx: Array, gy: Array) -> None:
    """Write the derivatives of one row, from the rows around it; the border is repeated."""
    last = len(here) - 1
    gx[0], gx[last] = here[min(1, last)] - here[0], here[last] - here[max(last - 1, 0)]
    left, right, inner = here[: last - 1], here[2:], gx[1:last]
    for x in range(len(inner)):
        inner[x] = right[x] - left[x]
    for x in range(len(here)):
        gy[x] = below[x] - above[x]


@helper
def strongest(plane: Array, gx: Array, gy: Array) -> Any:
    """Return the strongest derivative of a (H, W) plane over all orientations."""
    height = len(plane)
    best = np.float32(0)
    for y in range(height):
        derive(plane[max(y - 1, 0)], plane[y], plane[min(y + 1, height - 1)], gx, gy)
        for x in range(len(gx)):
            across, down = abs(gx[x]), abs(gy[x])
            value = max(max(across, down), (across + down) * DIAGONAL)
            best = max(best, value)
    return best


@inlined
def code_line(values: Array, out: Array) -> None:
    """Write the code of each value: 0 if it is below 1, else its bin, or TEXTURE_BINS more if it is negative."""
    for x in range(len(values)):
        strength = min(np.int32(abs(values[x])), np.int32(TEXTURE_BINS - 1))
        side = np.int32(TEXTURE_BINS) if values[x] < 0 else np.int32(0)
        out[x] = strength + side if strength > 0 else np.int32(0)


@compiled
def bin_textures(blurred: Array, codes: Array, words: Array, lines: Array, pixels: Array, bins: Array) -> Any:
    """Bin the derivatives of (C, H, W) planes along 4 lines, 10 bins each; return how many are not in the lowest bin.

    A code is 0 in the lowest bin, 1..9 for bins of an orientation and 11..19 for those of its opposite.
    The bins are of the same width in all channels, up to the strongest derivative of the photo: the paper does not say,
    and with a width for each channel the noise of a weak one, such as a* and b*, would count as texture.

    Args:
        blurred: the planes.
        codes: (C * 4, H * W and more) gets the codes.
        words: the codes, 8 in each.
        lines: (3, W) memory.
        pixels: gets the pixel of every code that is not 0.
        bins: gets its bin in the histogram.
    """
    n_channels, height, width = blurred.shape
    gx, gy, line = lines[0], lines[1], lines[2]
    top = np.float32(1e-6)
    for c in range(n_channels):
        top = max(top, strongest(blurred[c], gx, gy))
    scale = np.float32(TEXTURE_BINS) / top
    for c in range(n_channels):
        plane = blurred[c]
        for y in range(height):
            derive(plane[max(y - 1, 0)], plane[y], plane[min(y + 1, height - 1)], gx, gy)
            first = y * width
            for o in range(N_LINES):
                weigh_line(gx, gy, o, scale, line)
                code_line(line, codes[c * N_LINES + o, first : first + width])
    return gather(codes, words, pixels, bins)


@inlined
def weigh_line(gx: Array, gy: Array, line: Any, scale: Any, out: Array) -> None:
    """Write the scaled derivatives along one of the lines at 0, 45, 90 and 135 degrees."""
    turned = scale * DIAGONAL if line % 2 else scale
    across = np.float32(0) if line == 2 else (-turned if line == 3 else turned)
    down = np.float32(0) if line == 0 else turned
    for x in range(len(out)):
        out[x] = gx[x] * across + gy[x] * down


@helper
def gather(codes: Array, words: Array, pixels: Array, bins: Array) -> Any:
    """Write pixel and histogram bin of every code that is not 0, and return how many; words are 8 codes each."""
    n = np.uint32(0)
    for line in range(len(codes)):
        first = line * 2 * TEXTURE_BINS
        for w in range(words.shape[1]):
            if words[line, w] == 0:
                continue
            for i in range(w * WORD, (w + 1) * WORD):
                code = codes[line, i]
                pixels[n] = i
                bins[n] = first + code
                n += np.uint32(code != 0)
    return n


@compiled
def measure(
    labels: Array,
    flat: Array,
    colour_bins: Array,
    strong: Array,
    texture_bins: Array,
    size: Array,
    boxes: Array,
    colour: Array,
    texture: Array,
) -> None:
    """Add up sizes, boxes and histograms of superpixels.

    Args:
        labels: (H, W).
        flat: the same, (H * W,).
        colour_bins: see `PixelBins.colour`.
        strong: see `PixelBins.strong`.
        texture_bins: see `PixelBins.texture`.
        size: (N,) zeros, as all that follow.
        boxes: (N, 4).
        colour: (N, C * 25).
        texture: (N, C * 80).
    """
    measure_boxes(labels, size, boxes)
    count_colours(flat, colour_bins, colour)
    count_textures(flat, strong, texture_bins, texture)
    fill_weak_bins(texture, size)


@helper
def measure_boxes(labels: Array, size: Array, boxes: Array) -> None:
    """Add up the sizes and boxes of superpixels."""
    height, width = labels.shape
    boxes[:, 0], boxes[:, 1] = width, height
    for y in range(height):
        row = labels[y]
        x = 0
        while x < width:
            first, region = x, row[x]
            while x < width and row[x] == region:
                x += 1
            size[region] += x - first
            boxes[region, 0] = min(boxes[region, 0], first)
            boxes[region, 1] = min(boxes[region, 1], y)
            boxes[region, 2] = max(boxes[region, 2], x)
            boxes[region, 3] = y + 1


@helper
def count_colours(labels: Array, bins: Array, colour: Array) -> None:
    """Add up the colour histograms of superpixels."""
    for c in range(len(bins)):
        first = c * COLOUR_BINS
        for i in range(len(labels)):
            colour[labels[i], first + bins[c, i]] += 1


@helper
def count_textures(labels: Array, pixels: Array, bins: Array, texture: Array) -> None:
    """Add up the texture histograms of superpixels except the lowest bins, which `fill_weak_bins` does."""
    for i in range(len(pixels)):
        texture[labels[pixels[i]], bins[i]] += 1


@helper
def fill_weak_bins(texture: Array, size: Array) -> None:
    """Give the first bin of every orientation the pixels that no other bin has."""
    for region in range(len(size)):
        for first in range(0, texture.shape[1], TEXTURE_BINS):
            strong = 0
            for b in range(1, TEXTURE_BINS):
                strong += texture[region, first + b]
            texture[region, first] = size[region] - strong


def touching(labels: LabelMap, n: int) -> npt.NDArray[np.int64]:
    """Return each pair a < b of touching superpixels once, as a * n + b, in no order."""
    height, width = labels.shape
    y, used, table = 0, 0, np.full(FIRST_TABLE, -1, np.int64)
    earlier = table[:0]
    while True:
        y, used = collect_pairs(labels, n, y, used, earlier, table)
        if y == height:
            break
        room = 2 * (used + N_DIRECTIONS * width)
        earlier, table = table, np.full(GROWTH * max(len(table), 1 << room.bit_length()), -1, np.int64)
    return table[table >= 0]


@compiled
def collect_pairs(labels: Array, n: Any, y: Any, used: Any, earlier: Array, table: Array) -> tuple[int, int]:
    """Put the pairs of touching superpixels into a hash set, row by row from y on, as long as it has room.

    Args:
        labels: (H, W).
        n: superpixels.
        y: the first row.
        used: pairs that are in the set.
        earlier: a smaller set, which holds these so far; or nothing.
        table: the set with open addressing, a power of 2 of places.

    Returns:
        y and used as they are now.
    """
    height, width = labels.shape
    for code in earlier:
        if code >= 0:
            insert(table, code)
    while y < height and 2 * (used + N_DIRECTIONS * width) <= len(table):
        for direction in range(N_DIRECTIONS if y + 1 < height else 1):
            dy, dx = min(direction, 1), (1 if direction == 0 else direction - 2)
            first, end = max(-dx, 0), width - max(dx, 0)
            used += insert_borders(labels[y, first:end], labels[y + dy, first + dx : end + dx], n, table)
        y += 1
    return y, used


@helper
def insert_borders(here: Array, there: Array, n: Any, table: Array) -> int:
    """Put the pairs of two rows of labels into a hash set with room for them; return how many are new."""
    new = 0
    last_a, last_b = np.int32(-1), np.int32(-1)  # runs of one pair are common
    for x in range(len(here)):
        a, b = here[x], there[x]
        if a != b and (a != last_a or b != last_b):
            last_a, last_b = a, b
            new += insert(table, np.int64(min(a, b)) * n + np.int64(max(a, b)))
    return new


@helper
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
