"""Draws boxes, class names and scores on a photo, in sizes that suit the photo."""

import colorsys
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import PIL.Image
import PIL.ImageDraw

from detect.drawing.fonts import Font, font_for, legible
from detect.drawing.labels import place_labels
from structures.nms import best_first
from structures.records import Detections, Image
from structures.text import printable

Colour = tuple[int, int, int]

GOLDEN = 0.618034  # part of the colour circle between classes: neighbours in the list get very different hues
LINE_SHARE = 1 / 200  # width of lines, of the photo's mean side
TEXT_SHARE = 1 / 30  # height of letters, likewise
BASELINE = "ls"  # texts are anchored at the left end of their baseline, which different fonts share
JPEG_QUALITY = 90  # of everything that is drawn or cropped
SMALLEST_TEXT = 11  # pixels; smaller letters cannot be read


def colour(name: str, classes: Sequence[str] = ()) -> Colour:
    """Return the colour of a class: by its index among the classes, or else by its name."""
    place = classes.index(name) if name in classes else zlib.crc32(name.encode())
    red, green, blue = colorsys.hsv_to_rgb(place * GOLDEN % 1, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw(image: Image, found: Detections, classes: Sequence[str], *, scores: bool = True) -> PIL.Image.Image:
    """Draw detections on a copy of a photo, the best on top.

    Args:
        image: RGB uint8 (H, W, 3).
        found: boxes in pixels of the photo.
        classes: names of the labels; a name that no font can draw becomes a number, from 1.
        scores: whether to write scores after the names.
    """
    picture = PIL.Image.fromarray(image)
    canvas = PIL.ImageDraw.Draw(picture)
    side = (picture.width + picture.height) / 2
    width = max(1, round(side * LINE_SHARE))
    found = found.take(best_first(found.scores))
    colours = [colour(classes[label], classes) for label in found.labels]
    for (x1, y1, x2, y2), each in reversed(list(zip(found.boxes.tolist(), colours, strict=True))):
        canvas.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=each, width=width)
    size = max(SMALLEST_TEXT, round(side * TEXT_SHARE))
    labels = [
        _label(classes, label, score if scores else None, size)
        for label, score in zip(found.labels, found.scores, strict=True)
    ]
    taken = place_labels(found.boxes, [label.size for label in labels], picture.size)
    for (x1, y1, x2, y2), label, each in reversed(list(zip(taken.tolist(), labels, colours, strict=True))):
        canvas.rectangle((x1, y1, x2 - 1, y2 - 1), fill=each)  # after all boxes, so that no line crosses a label
        for text, font, x, y in label.parts:
            canvas.text((x1 + x, y1 + y), text, fill=_readable_on(each), font=font, anchor=BASELINE)
    return picture


@dataclass(frozen=True)
class _Label:
    """The label of a box.

    Attributes:
        parts: texts, each with its font and the start of its baseline, x and y in pixels from the corner.
        size: width and height of the background in pixels.
    """

    parts: Sequence[tuple[str, Font, float, float]]
    size: tuple[int, int]


def _label(classes: Sequence[str], label: int, score: float | None, size: int) -> _Label:
    name = printable(classes[label])
    name = name if legible(name) else f"class {label + 1}"
    number = "" if score is None else f" {score:.2f}"
    font = font_for(name + number, size)
    if font is not None:
        return _laid_out([(name + number, font)])
    apart = [(text, font_for(text, size)) for text in (name, number) if text]
    return _laid_out([(text, font) for text, font in apart if font is not None])


def _laid_out(texts: Sequence[tuple[str, Font]]) -> _Label:
    """Put texts on one line; a font for a name may lack the digits for its score."""
    bounds = [font.getbbox(text, anchor=BASELINE) for text, font in texts]
    top, bottom = min(each[1] for each in bounds), max(each[3] for each in bounds)
    pad = (bottom - top) // 4
    parts, x = [], pad
    for (text, font), (left, _, right, _) in zip(texts, bounds, strict=True):
        parts.append((text, font, x - left, pad - top))
        x += right - left
    return _Label(parts, (math.ceil(x + pad), math.ceil(bottom - top + 2 * pad)))


def _readable_on(background: Colour) -> Colour:
    red, green, blue = background
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R BT.601 luma
    return (0, 0, 0) if brightness > 128 else (255, 255, 255)
