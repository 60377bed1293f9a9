"""Reads the photos of a source: files, addresses, rows of Parquet."""

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from detect.scaling.places import EXTRA, file_system, is_address, open_file
from detect.scaling.sources import NOT_A_ROW, holds_bytes
from structures.errors import InputError
from structures.extras import installed
from structures.files import digest
from structures.images import ExifPolicy, ImageError, decode_image, most_bytes, photo_bytes, too_many_bytes
from structures.records import Image

TRIES = 3  # for object storage, which is sometimes busy
WAIT_SECONDS = 1.0  # before the second try, and twice that before the third


@dataclass(frozen=True)
class Placed:
    """A photo of a source.

    Attributes:
        image_id: its name in every result.
        path: file of the photo, or the Parquet file that contains it.
        row: row in the Parquet file, or NOT_A_ROW.
    """

    image_id: str
    path: str
    row: int = NOT_A_ROW


class SourceReader:
    """Reads photos, from any thread, and notes the digests of their files.

    Args:
        exif: EXIF policy.
        max_pixels: largest photo, in pixels; larger ones are not read.
    """

    def __init__(self, *, exif: ExifPolicy, max_pixels: int) -> None:
        self._exif, self._max_pixels, self._keys = exif, max_pixels, dict[str, str]()

    def __call__(self, photo: Placed) -> Image:
        """Return the pixels of a photo.

        Raises:
            ImageError: it cannot be read.
        """
        content = self._content(photo)
        name = photo.path if photo.row == NOT_A_ROW else f"{photo.path}: row {photo.row}"
        image = decode_image(content, name=name, exif=self._exif, max_pixels=self._max_pixels)
        self._keys[photo.image_id] = digest(content)
        return image

    def key_of(self, photo: Placed) -> str:
        """Return, and forget, the digest of a photo's file; "" if it could not be read."""
        return self._keys.pop(photo.image_id, "")

    def _content(self, photo: Placed) -> bytes:
        if photo.row != NOT_A_ROW:
            content = _row(photo.path, photo.row)
        elif is_address(photo.path):
            content = _fetched(photo.path, most_bytes(self._max_pixels) + 1)
        else:
            return photo_bytes(photo.path, max_pixels=self._max_pixels)
        if len(content) > most_bytes(self._max_pixels):
            raise too_many_bytes(photo.path, self._max_pixels)
        return content


def _fetched(address: str, most: int) -> bytes:
    """Return at most `most` bytes of a file at an address."""
    for left in reversed(range(TRIES)):
        try:
            fs, path = file_system(address)
            return bytes(fs.cat_file(path, end=most))
        except FileNotFoundError:
            raise ImageError(f"{address}: no such file") from None
        except Exception as error:  # every storage has its own classes
            if isinstance(error, InputError | PermissionError) or not left:
                raise ImageError(f"{address}: cannot be read: {error}") from error
            time.sleep(WAIT_SECONDS * 2 ** (TRIES - 1 - left) / 2)
    raise AssertionError("the last try returns or raises")


def _row(file: str, row: int) -> bytes:
    """Return the bytes of a photo in a Parquet file; its row group is cached."""
    try:
        ends, column = _row_groups(file)
        group = next(number for number, end in enumerate(ends) if row < end)
        values = _column(file, group, column)
        content = values[row - (ends[group - 1] if group else 0)].as_py()
    except Exception as error:  # from storage, or a damaged file
        raise ImageError(f"{file}: row {row}: cannot be read: {error}") from error
    if not isinstance(content, bytes):
        raise ImageError(f"{file}: row {row}: has no photo")
    return content


@lru_cache(16)
def _row_groups(file: str) -> tuple[tuple[int, ...], str]:
    """Return the number of the first row after each row group, and the column with the photos."""
    with open_file(file) as stream:
        metadata = installed("pyarrow.parquet", extra=EXTRA).ParquetFile(stream).metadata
    counts = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    column = holds_bytes(file)
    assert column is not None, "files with paths are read as paths"
    return tuple(sum(counts[: number + 1]) for number in range(len(counts))), column


@lru_cache(2)
def _column(file: str, group: int, column: str) -> Any:
    with open_file(file) as stream:
        table = installed("pyarrow.parquet", extra=EXTRA).ParquetFile(stream).read_row_group(group, columns=[column])
    first = table.column(0).combine_chunks()
    return first.field(column.partition(".")[2]) if "." in column else first
