"""The pictures of a run: their names, their folder, and which detections they show."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import PIL.Image

from detect.drawing.picture import JPEG_QUALITY, draw
from detect.settings import DRAW_FLOOR
from structures.files import FileRefused
from structures.images import SUFFIXES
from structures.own_files import OwnFiles
from structures.records import Detections, Image

KEPT_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})  # pictures of other formats are written as .png
MARK = ".drawn.png"  # appended to names with any other suffix, or none


def picture_name(image_id: str) -> str:
    """Return the name of a photo's picture: for JPEG and PNG, the photo's own name. No two photos share a name.

    So `.png` is appended to `a.tif`, and also to `a.tif.png`, which would otherwise share the name of the former's
    picture.

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
    """Which detections pictures show.

    Attributes:
        score_floor: lowest score to draw.
        classes: classes to draw; None draws all.
    """

    score_floor: float = DRAW_FLOOR
    classes: tuple[str, ...] | None = None

    def chosen(self, found: Detections, classes: Sequence[str]) -> Detections:
        """Return the detections to draw; `classes` are the names of the labels."""
        wanted = np.array([self.classes is None or name in self.classes for name in classes], bool)
        return found.take((found.scores >= self.score_floor) & wanted[found.labels])

    def facts(self) -> dict[str, Any]:
        """Return it as facts for the record of a run, as JSON values."""
        return {"draw_score": self.score_floor, "draw_classes": None if self.classes is None else list(self.classes)}


@dataclass(frozen=True)
class Pictures:
    """The pictures in a folder of results.

    Attributes:
        files: our files in the folder of results.
        folder: name of the folder of pictures in it.
        drawing: which detections they show.
        trusted: image ids whose existing pictures are known to show these detections, even if no record says who wrote
            them.
    """

    files: OwnFiles
    folder: str
    drawing: Drawing = Drawing()
    trusted: Collection[str] = ()

    def name(self, image_id: str) -> str:
        """Return the name of a photo's picture, relative to the folder of results."""
        return f"{self.folder}/{picture_name(image_id)}"

    def has(self, image_id: str) -> bool:
        """Return whether a photo has its picture."""
        try:
            there = self.files.place(self.name(image_id)).exists()
        except (FileRefused, OSError):  # the name is too long for a file
            return False
        return there and (image_id in self.trusted or self.files.owns(self.name(image_id)))

    def discard(self, image_id: str) -> None:
        """Remove the picture of a photo, if it is ours."""
        self.files.remove(self.name(image_id))

    def add(self, image_id: str, image: Image, found: Detections, classes: Sequence[str]) -> None:
        """Draw one photo.

        Raises:
            FileRefused: its picture would replace a file that is not ours.
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
