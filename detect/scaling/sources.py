"""Finds the photos of a source: a folder, a list, or Parquet, on the local file system or in object storage.

Names of photos are relative to the folder that contains all of them, as in `detect.runs.photos`. Photos in Parquet
files are named by the column `path`, or else by the file and the number of the row.
"""

import os
import posixpath
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from detect.runs.photos import LIST_PREFIX, SourceError, find_photos
from detect.scaling.places import EXTRA, file_system, in_folder, is_address, local, open_file, open_parquet
from structures.errors import InputError
from structures.extras import installed
from structures.images import SUFFIXES
from structures.text import number_of

PARQUET = ".parquet"
LIST_SUFFIXES = (".txt", ".lst")
BYTES, PATH, IMAGE = "bytes", "path", "image"  # columns; `image` is a struct of the other two, as in Hugging Face's
NOT_A_ROW = -1


@dataclass(frozen=True)
class Source(Sequence[str]):
    """The names of photos, each once, and their places.

    Attributes:
        root: folder or address that names are relative to; that of the Parquet files if they contain the photos.
        names: names of the photos.
        files: Parquet files that contain the photos; none if photos are files.
        ends: for each of these files, the number of the first photo after it.
    """

    root: str
    names: Sequence[str]
    files: Sequence[str] = ()
    ends: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: Any) -> Any:
        return self.names[number]

    def place(self, number: int) -> tuple[str, int]:
        """Return the place of a photo: its file and NOT_A_ROW, or a Parquet file and the row in it."""
        if not self.files:
            return in_folder(self.root, self.names[number]), NOT_A_ROW
        file = bisect_right(self.ends, number)
        return self.files[file], number - (self.ends[file - 1] if file else 0)


def find_source(source: str, *, leave_out: str) -> Source:
    """Find all photos of a source.

    Args:
        source: a folder, a glob, a list of photos (`@list`, or a name that ends with .txt) or Parquet (a file or a
            folder of them, with a column `path`, a column `bytes`, or both), each also as an address.
        leave_out: folder of the results.

    Raises:
        InputError: the source cannot be read, or has no photos.
    """
    place = local(source)
    own = None if is_address(leave_out) else Path(local(leave_out))
    if place.startswith(LIST_PREFIX) or place.endswith(LIST_SUFFIXES):
        return _in_list(place.removeprefix(LIST_PREFIX), own)
    if place.endswith(PARQUET) and not os.path.isdir(place):
        return _in_parquet([place if is_address(place) else os.path.abspath(place)], leave_out)
    if is_address(place):
        return _in_storage(place, leave_out)
    try:
        found = find_photos([place], leave_out=own)
    except InputError:
        files = _parquet_files(place)
        if not files:
            raise
        return _in_parquet(files, leave_out)
    return Source(found.root, found.names)


def _in_storage(address: str, leave_out: str) -> Source:
    fs, path = file_system(address)
    paths = [path] if address.lower().endswith(tuple(SUFFIXES)) else fs.find(path)
    root = posixpath.dirname(path) if paths == [path] else path
    names = sorted(posixpath.relpath(each, root) for each in paths if _is_picture(posixpath.relpath(each, root)))
    if names:
        return Source(str(fs.unstrip_protocol(root)), tuple(names))
    files = sorted(str(fs.unstrip_protocol(each)) for each in paths if each.endswith(PARQUET))
    if not files:
        raise SourceError(f"{address}: no pictures there (looked for {', '.join(sorted(SUFFIXES))})")
    return _in_parquet(files, leave_out)


def _is_picture(name: str) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return posixpath.splitext(name)[1].lower() in SUFFIXES and not hidden


def _in_list(place: str, own: Path | None) -> Source:
    try:
        with open_file(place) as file:
            lines = [line.strip() for line in file.read().decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise SourceError(f"{place}: not a list of photos, one per line in UTF-8") from None
    if not lines:
        raise SourceError(f"{place}: an empty list of photos")
    if not is_address(place) and not any(map(is_address, lines)):
        found = find_photos([], lists=[place], leave_out=own)
        return Source(found.root, found.names)
    return _at(lines, posixpath.dirname(place), place)


def _at(paths: Sequence[str], folder: str, place: str) -> Source:
    """Return photos by their addresses or paths; relative ones are in the folder of the list."""
    whole = [path if is_address(path) or path.startswith("/") else in_folder(folder, path) for path in paths]
    kinds = {path.partition("://")[0] if is_address(path) else "" for path in whole}
    if len(kinds) > 1:
        raise SourceError(f"{place}: photos at {' and '.join(sorted(kinds))}; make a list for each")
    scheme = f"{kinds.pop()}://" if kinds != {""} else ""
    bare = [posixpath.normpath(path.removeprefix(scheme)) for path in whole]
    root = posixpath.commonpath([posixpath.dirname(path) for path in bare])
    return Source(scheme + root, tuple(sorted({posixpath.relpath(path, root) for path in bare})))


def _parquet_files(folder: str) -> list[str]:
    if not os.path.isdir(folder):
        return []
    there = [entry.name for entry in os.scandir(folder) if entry.name.endswith(PARQUET) and entry.is_file()]
    return [os.path.join(os.path.abspath(folder), name) for name in sorted(there)]


def _in_parquet(files: Sequence[str], leave_out: str) -> Source:
    folder = posixpath.dirname(files[0])
    if folder.rstrip("/") == (leave_out if is_address(leave_out) else os.path.abspath(local(leave_out))).rstrip("/"):
        raise SourceError(f"{folder}: results cannot go to the folder of the photos; name another `out`")
    names, ends = list[str](), list[int]()
    held = {holds_bytes(file) for file in files}
    if len(held) > 1:
        raise SourceError(f"{files[0]}: has other columns than the files next to it")
    column = held.pop()
    for file in files:
        with _opened(file) as read:
            ends.append(read.metadata.num_rows)
            names += _names_of_rows(read, column, file)
    if column is None:
        return _at(names, folder or ".", files[0])
    if len(set(names)) < len(names):
        raise SourceError(f"{files[0]}: two rows have the same path, which names the photo in the results")
    return Source(folder, tuple(names), tuple(files), tuple(accumulate(ends)))


def _opened(file: str) -> AbstractContextManager[Any]:
    return open_parquet(file, lambda reason: SourceError(f"{file}: not readable as Parquet: {reason}"))


def holds_bytes(file: str) -> str | None:
    """Return the column of a Parquet file that contains photos; None if it has their paths instead.

    Raises:
        SourceError: the file has neither, or is not a Parquet file.
    """
    arrow = installed("pyarrow", extra=EXTRA)
    with _opened(file) as read:
        kinds = {field.name: field.type for field in read.schema_arrow}
    if BYTES in kinds and _is_binary(kinds[BYTES]):
        return BYTES
    if IMAGE in kinds and arrow.types.is_struct(kinds[IMAGE]) and kinds[IMAGE].get_field_index(BYTES) >= 0:
        return f"{IMAGE}.{BYTES}"
    if PATH in kinds and _is_text(kinds[PATH]):
        return None
    there = ", ".join(kinds) or "none"
    raise SourceError(f"{file}: expected a column 'bytes' with photos, or 'path' with texts; its columns are {there}")


def _is_binary(kind: Any) -> bool:
    types = installed("pyarrow", extra=EXTRA).types
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_text(kind: Any) -> bool:
    types = installed("pyarrow", extra=EXTRA).types
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _names_of_rows(read: Any, column: str | None, file: str) -> list[str]:
    """Return the paths in a file, or the names of the photos that it contains."""
    stem = posixpath.basename(file).removesuffix(PARQUET)
    numbered = [f"{stem}/{row:09d}" for row in range(read.metadata.num_rows)]
    path = PATH if column in (None, BYTES) else f"{IMAGE}.{PATH}"
    known = path in {read.schema.column(number).path for number in range(len(read.schema.names))}
    if not known:
        return numbered
    table = read.read(columns=[path])
    values = table.column(0) if "." not in path else table.column(IMAGE).combine_chunks().field(PATH)
    if len(values) != len(numbered):
        raise SourceError(f"{file}: damaged: it states {number_of(len(numbered), 'row')}, but has {len(values)}")
    named = [value if value else other for value, other in zip(values.to_pylist(), numbered, strict=True)]
    if not all(isinstance(value, str) for value in named):
        raise SourceError(f"{file}: column `{path}` does not hold texts")
    return named
