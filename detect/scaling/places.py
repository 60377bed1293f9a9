"""Paths and addresses: files on the local file system, or at addresses that fsspec supports."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from structures.errors import InputError
from structures.extras import installed
from structures.files import regular_file

ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
HERE = re.compile(r"(?:file|local)://", re.IGNORECASE)  # this file system, as fsspec calls it
EXTRA = "ray"


def is_address(place: str) -> bool:
    """Return whether a place is an address such as s3://bucket/photos; file:// means the local file system.

    >>> is_address("s3://bucket/photos"), is_address("photos"), is_address("file:///photos")
    (True, False, False)
    """
    return ADDRESS.match(place) is not None and HERE.match(place) is None


def local(place: str) -> str:
    """Return a local path without file:// in front."""
    return HERE.sub("", place, count=1) if HERE.match(place) else place


def in_folder(folder: str, name: str) -> str:
    """Return the place of a file in a folder; names have forward slashes.

    >>> in_folder("s3://bucket/photos/", "a/b.jpg")
    's3://bucket/photos/a/b.jpg'
    """
    return f"{folder.rstrip('/')}/{name}" if is_address(folder) else os.path.join(folder, name)


def file_system(address: str) -> tuple[Any, str]:
    """Return the fsspec file system of an address, and the path there.

    Raises:
        InputError: such addresses are not supported, or the package for them is not installed.
    """
    scheme = str(address).partition("://")[0]
    fs = _file_system(scheme, address.partition("://")[2].partition("/")[0])
    return fs, fs._strip_protocol(address)


@lru_cache
def _file_system(scheme: str, host: str) -> Any:
    """Open a file system, with one connection per host."""
    core = installed("fsspec.core", extra=EXTRA)
    try:
        return core.url_to_fs(f"{scheme}://{host}")[0]
    except ImportError as error:
        raise InputError(f"{scheme}://: {' '.join(str(error).split())}") from None
    except ValueError as error:
        raise InputError(f"{scheme}://: {error}") from None


def open_file(place: str) -> Any:
    """Open a local or remote file for reading bytes.

    Raises:
        InputError: such addresses are not supported.
        OSError: it cannot be read.
    """
    if not is_address(place):
        return regular_file(local(place)).open("rb")
    fs, path = file_system(place)
    return fs.open(path, "rb")


def _rows(metadata: Any) -> int:
    """Return the most rows that any part of the metadata claims; every photo has a name, and so at least a byte."""
    groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    return -1 if min(groups, default=0) < 0 else max(metadata.num_rows, sum(groups))


@contextmanager
def open_parquet(place: str, refusal: Callable[[str], InputError]) -> Iterator[Any]:
    """Open a Parquet file, wherever it lies; damage that shows only when the block reads it is noticed, too.

    Args:
        place: path or address.
        refusal: makes the error that says so, from the reason.

    Raises:
        InputError: it is damaged, or not Parquet.
        OSError: it cannot be opened.
    """
    arrow, parquet = installed("pyarrow", extra=EXTRA), installed("pyarrow.parquet", extra=EXTRA)
    try:
        with open_file(place) as stream:
            size = stream.seek(0, os.SEEK_END)
            file = parquet.ParquetFile(stream, page_checksum_verification=True)
            rows = _rows(file.metadata)
            if not 0 <= rows <= size:
                raise refusal(f"it claims to have {rows} rows in {size} bytes")
            yield file
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the system; Arrow's own have no number
            raise
        raise refusal(" ".join(str(error).split())) from None
