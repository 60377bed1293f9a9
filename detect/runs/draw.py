"""The pictures of a run: their names, and the folder that they are drawn to."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import PIL.Image

from detect.drawing.picture import draw
from detect.settings import DRAW_FLOOR
from structures.files import FileRefused
from structures.images import SUFFIXES
from structures.own_files import OwnFiles
from structures.records import Detections, Image

KEPT_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})  # pictures of other formats are written as .png
MARK = ".drawn.png"  # after names with any other suffix, or none
JPEG_QUALITY = 90


def picture_name(image_id: str) -> str:
    """Return the name of a photo's picture: the photo's own where it is that of a JPEG or PNG. No two photos share one.

    So `.png` is appended to `a.tif`, and to `a.tif.png` as well, which is the name of the other's picture.

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


def _save(picture: PIL.Image.Image, path: Path, *, png: bool) -> None:
    if png:
        picture.save(path, "PNG", compress_level=1)
    else:
        picture.save(path, "JPEG", quality=JPEG_QUALITY)  # sides up to 65,500 pixels
