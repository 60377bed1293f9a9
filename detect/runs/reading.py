"""Photos of a run: read, with the key of the file, and why one of them was passed over."""

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
    """Reads photos and frames, from any thread, and notes which bytes each was.

    Args:
        exif: whether photos are turned as displayed.
        max_pixels: of a photo; larger ones cannot be read.

    Attributes:
        films: frames that were not decoded before are read from here.
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
        """Return which bytes a photo was when it was read, unknown where it was not; it is forgotten then."""
        return self._versions.pop(photo.image_id, Version())


class HasPath(Protocol):
    """What passes through stages, and lies in a file."""

    @property
    def path(self) -> str | Path:
        """Of the file."""


Located = TypeVar("Located", bound=HasPath)


def complaint(passed: Passing[Located]) -> str:
    """Say why a photo was passed over, with the name of its file."""
    error, path = passed.error, passed.item.path
    if isinstance(error, ImageError):
        return str(error)
    what = "not classified" if passed.stage in ("classify", "suppress") else "no proposals"
    kind = "" if isinstance(error, StoreError | ForeignError) else f"{type(error).__name__}: "
    return f"{path}: {what}: {kind}{error}"
