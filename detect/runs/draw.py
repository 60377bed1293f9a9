"""Pictures: photos with the boxes, class names and scores of what was found, in sizes that fit the photo."""

import colorsys
import math
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw

from detect.runs.fonts import Font, font_for, legible
from detect.runs.labels import place_labels
from structures.files import FileRefused
from structures.images import SUFFIXES
from structures.nms import best_first
from structures.own_files import OwnFiles
from structures.records import Detections, Image
from structures.text import printable

Colour = tuple[int, int, int]

GOLDEN = 0.618034  # of the colour circle from one class to the next: neighbours in the list get hues far apart
LINE_SHARE = 1 / 200  # of the photo's mean side
TEXT_SHARE = 1 / 30
SMALLEST_TEXT = 11  # pixels; smaller letters cannot be read
KEPT_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})  # pictures of other formats are written as .png
MARK = ".drawn.png"  # behind the names of all photos that are known for nothing else
JPEG_QUALITY = 90
DRAW_FLOOR = 0.5  # weaker detections make a picture that nobody can read


def picture_name(image_id: str) -> str:
    """Return the name of a photo's picture: the photo's own where it is that of a JPEG or PNG. No two photos share one.

    So `.png` is put behind `a.tif`, and behind `a.tif.png` as well, which is the name of the other's picture.

    >>> [picture_name(name) for name in ("a/b.jpg", "a.tif", "a.tif.png", "a", "a.drawn.png")]
    ['a/b.jpg', 'a.tif.png', 'a.tif.png.png', 'a.drawn.png', 'a.drawn.png.drawn.png']
    """
    name = image_id.lower()
    original = name
    while original.endswith(".png"):
        original = original.removesuffix(".png")
    if PurePosixPath(original).suffix in SUFFIXES - KEPT_SUFFIXES:
        return f"{image_id}.png"
    plain = PurePosixPath(name).suffix in KEPT_SUFFIXES and not name.endswith(MARK)
    return image_id if plain else image_id + MARK


@dataclass(frozen=True)
class Drawing:
    """What pictures show.

    Attributes:
        score_floor: weaker detections are not drawn.
        classes: nor are those of other classes; None draws all.
    """

    score_floor: float = DRAW_FLOOR
    classes: tuple[str, ...] | None = None

    def chosen(self, found: Detections, classes: Sequence[str]) -> Detections:
        """Return the detections that are drawn; classes are the names of their labels."""
        wanted = np.array([self.classes is None or name in self.classes for name in classes], bool)
        return found.take((found.scores >= self.score_floor) & wanted[found.labels])

    def facts(self) -> dict[str, Any]:
        """Return what the record of a run says about it, as JSON values."""
        return {"draw_score": self.score_floor, "draw_classes": None if self.classes is None else list(self.classes)}


@dataclass(frozen=True)
class Pictures:
    """Pictures with boxes, in one folder of those that are ours.

    Attributes:
        files: of the folder of results.
        folder: name of the pictures' folder in it.
        drawing: what they show.
        trusted: image ids whose pictures, where there are any, show what is asked for, whoever wrote them.
    """

    files: OwnFiles
    folder: str
    drawing: Drawing = Drawing()
    trusted: Collection[str] = ()

    def name(self, image_id: str) -> str:
        """Return where the picture of a photo goes, relative to the folder of results."""
        return f"{self.folder}/{picture_name(image_id)}"

    def has(self, image_id: str) -> bool:
        """Return whether a photo has its picture."""
        try:
            there = self.files.place(self.name(image_id)).exists()
        except (FileRefused, OSError):  # a name too long for a file
            return False
        return there and (image_id in self.trusted or self.files.owns(self.name(image_id)))

    def discard(self, image_id: str) -> None:
        """Remove the picture of a photo, if it has one that is ours."""
        self.files.remove(self.name(image_id))

    def add(self, image_id: str, image: Image, found: Detections, classes: Sequence[str]) -> None:
        """Draw one photo.

        Raises:
            FileRefused: its picture would take the place of something that is not ours.
            OSError: it cannot be written.
        """
        chosen = self.drawing.chosen(found, classes)
        with self.files.writing(self.name(image_id)) as partial:
            _save(draw(image, chosen, classes), partial, png=picture_name(image_id).lower().endswith(".png"))


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
        classes: names of the labels; one that no font here can write stands there as its number, from 1.
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
    labels = [_label(classes, label, score, size) for label, score in zip(found.labels, found.scores, strict=True)]
    taken = place_labels(found.boxes, [label.size for label in labels], picture.size)
    for (x1, y1, x2, y2), label, each in reversed(list(zip(taken.tolist(), labels, colours, strict=True))):
        canvas.rectangle((x1, y1, x2 - 1, y2 - 1), fill=each)  # after all boxes, so that no line crosses a text
        x, y = label.origin
        canvas.text((x1 + x, y1 + y), label.text, fill=_readable_on(each), font=label.font)
    return picture


@dataclass(frozen=True)
class _Label:
    """A text in a font; the size of its background, and where in this the text begins, both (x, y) in pixels."""

    text: str
    font: Font
    size: tuple[int, int]
    origin: tuple[float, float]


def _label(classes: Sequence[str], label: int, score: float, size: int) -> _Label:
    name = printable(classes[label])
    text = f"{name if legible(name) else f'class {label + 1}'} {score:.2f}"
    font = font_for(text, size)
    assert font is not None, f"{text!r} is legible"
    left, top, right, bottom = font.getbbox(text)
    pad = (bottom - top) // 4
    return _Label(
        text, font, (math.ceil(right - left + 2 * pad), math.ceil(bottom - top + 2 * pad)), (pad - left, pad - top)
    )


def _readable_on(background: Colour) -> Colour:
    red, green, blue = background
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R BT.601 luma
    return (0, 0, 0) if brightness > 128 else (255, 255, 255)


def _save(picture: PIL.Image.Image, path: Path, *, png: bool) -> None:
    if png:
        picture.save(path, "PNG", compress_level=1)
    else:
        picture.save(path, "JPEG", quality=JPEG_QUALITY)  # sides up to 65,500 pixels
