"""Cuts detections out of their photos: OUT/crops/CLASS/PHOTO.NUMBER.jpg."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image

from detect.drawing.picture import JPEG_QUALITY
from detect.runs.draw import Drawing
from detect.runs.exports import with_labels_of
from detect.runs.photos import Photo, names_of
from detect.runs.reading import PhotoReader
from eval.results import ResultLines
from structures.errors import InputError
from structures.images import ImageError
from structures.own_files import OwnFiles
from structures.records import Detections, Image

CROPS_FOLDER = "crops"
UNSAFE = re.compile(r"[^\w .+-]|^\.+$")  # in a class name that becomes a folder name


@dataclass(frozen=True)
class Crops:
    """The crops of a run.

    Attributes:
        files: our files in the folder of results.
        drawing: which detections to crop.
    """

    files: OwnFiles
    drawing: Drawing

    def names(self, image_id: str, found: Detections, classes: Sequence[str]) -> list[str]:
        """Return the names of the crops of a photo, one for each chosen detection, best first."""
        labels = self.drawing.chosen(found, classes).labels
        folders = [UNSAFE.sub("_", classes[label]) or "_" for label in labels.tolist()]
        return [f"{CROPS_FOLDER}/{folder}/{image_id}.{number}.jpg" for number, folder in enumerate(folders)]

    def add(self, image_id: str, image: Image, found: Detections, classes: Sequence[str]) -> None:
        """Cut out the detections of one photo.

        Raises:
            FileRefused: a crop would replace a file that is not ours.
            OSError: a crop cannot be written.
        """
        boxes = self.drawing.chosen(found, classes).boxes
        height, width = image.shape[:2]
        for name, (x1, y1, x2, y2) in zip(self.names(image_id, found, classes), boxes.tolist(), strict=True):
            left, top = min(int(x1), width - 1), min(int(y1), height - 1)
            right, bottom = max(int(np.ceil(x2)), left + 1), max(int(np.ceil(y2)), top + 1)
            with self.files.writing(name) as partial:
                PIL.Image.fromarray(image[top:bottom, left:right]).save(partial, "JPEG", quality=JPEG_QUALITY)

    def add_missing(
        self, photos: Sequence[Photo], lines: Path, classes: Sequence[str], read: PhotoReader
    ) -> dict[str, str]:
        """Make the crops that earlier runs did not make; return image id -> reason for photos where this fails."""
        places = {name: place for place, name in enumerate(names_of(photos))}
        complaints = dict[str, str]()
        for line in ResultLines(lines):
            if line.image not in places:
                continue
            photo = photos[places[line.image]]
            found = with_labels_of(line, classes)
            if all(self.files.owns(name) for name in self.names(line.image, found, classes)):
                continue
            try:
                self.add(line.image, read(photo), found, classes)
            except ImageError as error:
                complaints[line.image] = str(error)
            except (OSError, InputError, ValueError) as error:
                complaints[line.image] = f"{photo.path}: its crops cannot be written: {error}"
        return complaints
