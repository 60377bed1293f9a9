"""Small pictures of photos, as text that a page can hold."""

import base64
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import PIL.Image

from structures.images import ExifPolicy, ImageError, read_image

QUALITY = 70  # of JPEG: 20 kB for a photo of 320 pixels
WORKERS = 2


@dataclass(frozen=True)
class Thumbnail:
    """A small picture, or why there is none.

    Attributes:
        data: a JPEG file in base64; "" for none.
        reason: why the photo could not be read.
    """

    data: str
    reason: str = ""


def thumbnails(paths: Sequence[Path], side: int, *, exif: ExifPolicy = "apply") -> Iterator[Thumbnail]:
    """Yield a picture of each photo, in their order.

    Args:
        paths: of the photos.
        side: most pixels of the longer side.
        exif: how the photos are read.
    """
    with ThreadPoolExecutor(WORKERS) as pool:
        yield from pool.map(lambda path: _thumbnail(path, side, exif), paths)


def _thumbnail(path: Path, side: int, exif: ExifPolicy) -> Thumbnail:
    try:
        picture = PIL.Image.fromarray(read_image(path, exif=exif))
    except ImageError as error:
        return Thumbnail("", str(error))
    picture.thumbnail((side, side))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return Thumbnail(base64.b64encode(file.getvalue()).decode())
