"""A photo with the boxes, class names and scores of what was found, in sizes that fit the photo."""

import colorsys
import zlib
from collections.abc import Sequence

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from structures.records import Detections, Image

Colour = tuple[int, int, int]

GOLDEN = 0.618034  # of the colour circle from one class to the next: neighbours in the list get hues far apart
LINE_SHARE = 1 / 200  # of the photo's mean side
TEXT_SHARE = 1 / 30
SMALLEST_TEXT = 11  # pixels; smaller letters cannot be read
DRAW_FLOOR = 0.5  # weaker detections make a picture that nobody can read


def colour(name: str, classes: Sequence[str] = ()) -> Colour:
    """Return the colour of a class: by its place among the classes, or by its name where it is not among them."""
    place = classes.index(name) if name in classes else zlib.crc32(name.encode())
    red, green, blue = colorsys.hsv_to_rgb(place * GOLDEN % 1, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw(image: Image, found: Detections, classes: Sequence[str]) -> PIL.Image.Image:
    """Draw detections on a copy of a photo, the best on top.

    Args:
        image: RGB uint8 (H, W, 3).
        found: boxes in pixels of the photo.
        classes: names of the labels.
    """
    picture = PIL.Image.fromarray(image)
    canvas = PIL.ImageDraw.Draw(picture)
    side = (picture.width + picture.height) / 2
    width = max(1, round(side * LINE_SHARE))
    font = PIL.ImageFont.load_default(max(SMALLEST_TEXT, round(side * TEXT_SHARE)))
    names = [classes[label] for label in found.labels]
    rows = list(zip(found.boxes.tolist(), names, found.scores, strict=True))[::-1]
    for (x1, y1, x2, y2), name, _ in rows:
        canvas.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour(name, classes), width=width)
    for (x1, y1, _, _), name, score in rows:  # after all boxes, so that no line crosses a text
        _label(canvas, (x1, y1), f"{name} {score:.2f}", colour(name, classes), font)
    return picture


def _label(
    canvas: PIL.ImageDraw.ImageDraw,
    corner: tuple[float, float],
    text: str,
    background: Colour,
    font: PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont,
) -> None:
    """Write a text on its background above a corner, or below where there is no room above."""
    left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
    width, height = right - left, bottom - top
    pad = height // 4
    x = max(0, min(corner[0], canvas.im.size[0] - width - 2 * pad))
    y = corner[1] - height - 2 * pad if corner[1] >= height + 2 * pad else corner[1]
    canvas.rectangle((x, y, x + width + 2 * pad, y + height + 2 * pad), fill=background)
    canvas.text((x + pad - left, y + pad - top), text, fill=_readable_on(background), font=font)


def _readable_on(background: Colour) -> Colour:
    red, green, blue = background
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R BT.601 luma
    return (0, 0, 0) if brightness > 128 else (255, 255, 255)
