"""Reads the photos of a run, notes the versions of their files, and says why a photo was skipped."""

from pathlib import Path
from typing import Protocol, TypeVar

from detect.flow import Passing
from detect.runs.films import Films, Frame
from detect.runs.frames import Version, file_of, film_of, key_of
from detect.runs.photos import Photo
from proposals.stored.foreign_entries import ForeignError
from proposals.stored.reader import StoreError
from structures.file_digests import stamp_of
from structures.images import MAX_PIXELS, ExifPolicy, ImageError, read_image
from structures.records import Image


class PhotoReader:
    """Reads photos and frames, from any thread, and notes the version of each file.

    Args:
        exif: EXIF policy.
        max_pixels: largest photo, in pixels; larger ones are not read.

    Attributes:
        films: reads frames that are not decoded yet.
    """

    def __init__(self, *, exif: ExifPolicy = "apply", max_pixels: int = MAX_PIXELS) -> None:
        self._exif, self._max_pixels = exif, max_pixels
        self.films = Films(max_pixels=max_pixels)
        self._versions: dict[str, Version] = {}

    def __call__(self, photo: Photo) -> Image:
        """Return the pixels of a photo.

        Raises:
            ImageError: it cannot be read.
        """
        stamp, place = stamp_of(file_of(photo.path)), film_of(photo.path)
        if isinstance(photo, Frame):
            image = photo.image
        elif place is not None:
            image = self.films(*place)
        else:
            image = read_image(photo.path, exif=self._exif, max_pixels=self._max_pixels)
        if isinstance(image, ImageError):
            raise image
        self._versions[photo.image_id] = Version(key_of(photo.path), stamp)
        return image

    def version_of(self, photo: Photo) -> Version:
        """Return, and forget, which version of its file a photo was read from; unknown if it was not read."""
        return self._versions.pop(photo.image_id, Version())


class HasPath(Protocol):
    """An item that comes from a file."""

    @property
    def path(self) -> str | Path:
        """Path of the file."""


Located = TypeVar("Located", bound=HasPath)


def complaint(passed: Passing[Located]) -> str:
    """Return why a photo was skipped, with the name of its file."""
    error, path = passed.error, passed.item.path
    if isinstance(error, ImageError):
        return str(error)
    what = "not classified" if passed.stage in ("classify", "suppress") else "no proposals"
    kind = "" if isinstance(error, StoreError | ForeignError) else f"{type(error).__name__}: "
    return f"{path}: {what}: {kind}{error}"
