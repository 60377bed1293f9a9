"""The result of a detector on one photo: to read, to draw, to pass to other libraries."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image

from detect.drawing.picture import JPEG_QUALITY, draw
from detect.settings import DRAW_FLOOR
from structures.errors import InputError
from structures.extras import installed
from structures.images import ExifPolicy
from structures.photos import PhotoLike, as_image
from structures.records import Detections

if TYPE_CHECKING:
    import pandas
    import supervision

NOTEBOOK_SIDE = 800  # pixels: larger pictures are made smaller in a notebook


@dataclass(frozen=True, eq=False, repr=False)
class Found(Detections):
    """The detections in one photo, as `structures.records.Detections`, with the photo.

    Attributes:
        image: path of the photo, with forward slashes; "" if it had none.
        photo: the photo as it was passed, for drawing; not a copy. None if the detector did not keep it.
        exif: EXIF policy that the photo was read with.
    """

    image: str = ""
    photo: "PhotoLike | None" = None
    exif: ExifPolicy = "apply"

    def draw(self, photo: "PhotoLike | None" = None, *, score: float = DRAW_FLOOR) -> PIL.Image.Image:
        """Return a copy of the photo with boxes, class names and scores, as `rcnn detect --draw` writes it.

        Args:
            photo: in any form that a detector takes; None takes the one that was passed to the detector.
            score: lowest score to draw.

        Raises:
            InputError: the photo is not known, can no longer be read, or has another size.
        """
        given = self.photo if photo is None else photo
        if given is None:
            raise InputError("the photo of these detections is not known: pass it, as in `found.draw(photo)`")
        image = as_image(given, exif=self.exif)
        if image.shape[:2] != tuple(self.image_size):
            raise InputError(f"found in a photo of (height, width) {self.image_size}, not {image.shape[:2]}")
        return draw(image, self.where(score=score), self.classes)

    def to_dict(self, image: str | None = None) -> dict[str, Any]:
        """Return the line that `rcnn detect` writes, as JSON values, without the key of the photo's file.

        Args:
            image: name of the photo; None takes its path.
        """
        return as_entry(self.image if image is None else image, self, self.classes)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a pandas table with a row per detection: image, label, score, x1, y1, x2, y2, source.

        Raises:
            InputError: pandas is not installed.
        """
        columns = {
            "image": np.full(len(self), self.image, object),
            "label": np.array(self.names(), object),
            "score": self.scores,
            **dict(zip(("x1", "y1", "x2", "y2"), self.boxes.T, strict=True)),
            "source": np.array(self.source_names, object)[self.source],
        }
        return installed("pandas", extra="pandas").DataFrame(columns)

    def to_supervision(self) -> "supervision.Detections":
        """Return `supervision.Detections`, with class names in data["class_name"].

        Raises:
            InputError: supervision is not installed.
        """
        names = np.array(self.names(), np.str_)
        return installed("supervision", extra="supervision").Detections(
            xyxy=self.boxes.copy(),
            confidence=self.scores.copy(),
            class_id=self.labels.copy(),
            data={"class_name": names},
        )

    def _summary(self) -> str:
        return f"{self.image}: {super()._summary()}" if self.image else super()._summary()

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the photo with its boxes where it is known, and the table."""
        return f"{self._picture()}<pre>{html.escape(str(self))}</pre>"

    def _picture(self) -> str:
        try:
            picture = self.draw()
        except InputError:  # the photo is not known, or can no longer be read
            return ""
        picture.thumbnail((NOTEBOOK_SIDE, NOTEBOOK_SIDE))
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=JPEG_QUALITY)
        return f'<img src="data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}">'


def as_entry(image_id: str, found: Detections, classes: Sequence[str]) -> dict[str, Any]:
    """Return the line of a photo: boxes as x1, y1, x2, y2 in pixels, labels as names, the generator of each box."""
    height, width = found.image_size
    return {
        "image": image_id,
        "width": int(width),
        "height": int(height),
        "boxes": [_rounded(box) for box in found.boxes.tolist()],
        "labels": [classes[label] for label in found.labels.tolist()],
        "scores": _rounded(found.scores.tolist()),
        "sources": [found.source_names[source] for source in found.source.tolist()],
    }


def _rounded(values: list[float]) -> list[float]:
    return [float(f"{value:.9g}") for value in values]  # 9 digits restore a float32 exactly
