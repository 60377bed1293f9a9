"""Which photos to work on: files, folders, globs and list files -> photos with stable names, in a stable order.

The name of a photo in every result (its image id) is its path, with forward slashes, relative to the deepest folder
that holds everything that was named. So a folder given alone is left out of the names, photos of equal names in
different folders stay apart, and the names do not depend on where the command runs.
"""

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path, PurePosixPath

from detect.runs.record import drew
from proposals.stored.reader import file_key
from structures.errors import InputError
from structures.files import regular_file
from structures.images import SUFFIXES
from structures.records import Dataset

PICTURES = "pictures"  # folder in that of a run, with photos that have boxes on them
LIST_PREFIX = "@"  # @photos.txt names a file with one photo, folder or glob a line
GLOB_CHARACTERS = frozenset("*?[")


class SourceError(InputError):
    """Photos that cannot be found; the message names the path."""


@dataclass(frozen=True)
class Photo:
    """One photo to work on.

    Attributes:
        image_id: its name in every result.
        path: where it lies.
    """

    image_id: str
    path: Path


def photos_of(dataset: Dataset, image_ids: Iterable[str] | None = None) -> list[Photo]:
    """Return the photos of a dataset, all or those named."""
    names = dataset.image_ids if image_ids is None else image_ids
    return [Photo(image_id, dataset.image_path(image_id)) for image_id in names]


def renamed(photos: Iterable[Photo], known: Mapping[str, str]) -> str | None:
    """Say which photo an earlier run knows by a name with more or fewer folders in front, since others were named.

    Args:
        photos: that were named now.
        known: name -> `file_key` of the photos that are known.

    Returns:
        The complaint, with what to do; None if there is no such photo.
    """
    named = {photo.image_id: photo for photo in photos}
    old = {name for name in known if name not in named}
    last = {PurePosixPath(name).name for name in old}
    for photo in named.values():
        if photo.image_id in known or PurePosixPath(photo.image_id).name not in last:
            continue
        for name in old:
            ends = f"/{photo.image_id}".endswith(f"/{name}") or f"/{name}".endswith(f"/{photo.image_id}")
            if ends and known[name] and known[name] == key_of(photo.path):
                return (
                    f"holds {photo.path} by the name {name}, which would be {photo.image_id} now: names begin at the "
                    "deepest folder that holds all that is named; name the same folders again, or another `out`"
                )
    return None


def is_changed(photo: Photo, key: str | None) -> bool:
    """Return whether another photo lies where one of this `file_key` did; not where none can be read any more."""
    now = key_of(photo.path)
    return bool(key) and bool(now) and now != key


def root_of(photos: Sequence[Photo]) -> str | None:
    """Return the folder that the names of photos begin at, as an absolute path; None where there are no photos."""
    if not photos:
        return None
    path, name = Path(os.path.abspath(photos[0].path)), PurePosixPath(photos[0].image_id)
    return str(path.parents[len(name.parts) - 1])


def key_of(path: Path) -> str:
    """Return `proposals.stored.reader.file_key` of a photo, or of the film of a frame; "" if it cannot be read."""
    try:
        if path.parent.is_file():
            stat = path.parent.stat()
            return _key_of_film(path.parent, stat.st_size, stat.st_mtime_ns)
        return file_key(path)
    except OSError:  # it will be reported when it is read
        return ""


@lru_cache
def _key_of_film(path: Path, size: int, changed: int) -> str:
    return file_key(path)


@dataclass(frozen=True)
class _Found:
    base: str  # what names are relative to: the folder that was named, or the folder of the file that was named
    files: list[str]


def find_photos(
    paths: Sequence[str], *, lists: Sequence[str | Path] = (), leave_out: Path | None = None
) -> list[Photo]:
    """Find all photos that were named, sorted by image id, each once.

    Args:
        paths: files (taken whatever their suffix), folders (searched through for pictures, hidden ones passed over),
            globs that the shell left alone (`**` goes through folders), and list files as `@photos.txt`. The folders at
            the front of a glob that are there by that very name are no part of the pattern.
        lists: more list files. A relative line is looked for in the working folder, then beside the list.
        leave_out: a folder that is not searched. Pictures of runs, which are photos with boxes, are passed over anyway,
            unless their folder is named.

    Returns:
        The photos, and as one that cannot be read each folder that cannot be searched, to be reported like one.

    Raises:
        SourceError: nothing was named, a path is not there, a glob matches nothing, or a folder holds no pictures.
    """
    found = [_find(argument, leave_out) for argument in _arguments(paths, lists, leave_out)]
    if not found:
        raise SourceError("no photos were named: give files, folders, globs or @list.txt")
    root = os.path.commonpath([part.base for part in found])
    files = {file for part in found for file in part.files}
    photos = [Photo(Path(os.path.relpath(file, root)).as_posix(), Path(file)) for file in files]
    return sorted(photos, key=lambda photo: photo.image_id)


def _arguments(paths: Iterable[str], lists: Iterable[str | Path], leave_out: Path | None) -> Iterator[str]:
    for path in paths:
        if path.startswith(LIST_PREFIX) and not os.path.lexists(path):
            yield from _read_list(path[len(LIST_PREFIX) :], leave_out)
        else:
            yield from _matches(path, leave_out)
    for list_file in lists:
        yield from _read_list(list_file, leave_out)


def _read_list(list_file: str | Path, leave_out: Path | None) -> Iterator[str]:
    try:
        lines = regular_file(list_file).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise SourceError(f"{list_file}: not a list of photos, one a line in UTF-8") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield from _matches(_beside(line.strip(), Path(list_file).parent), leave_out)
        except SourceError as error:
            raise SourceError(f"{list_file}: line {number}: {error}") from None


def _beside(line: str, folder: Path) -> str:
    return line if os.path.lexists(line) or _glob(line) else str(folder / line)


def _matches(path: str, leave_out: Path | None) -> list[str]:
    if os.path.exists(path):
        return [path]
    if not GLOB_CHARACTERS.intersection(path):
        raise SourceError(f"{path}: no such file or folder")
    matches = _glob(path)
    photos = _without_drawn(matches, Path(_fixed_folder(path)).absolute(), leave_out)
    if not photos:
        raise SourceError(f"{path}: matches {'only pictures of runs' if matches else 'no file'}")
    return [match for match in photos if not os.path.isdir(match)] or photos  # ** matches files and their folders


def _glob(pattern: str) -> list[str]:
    fixed = _fixed_folder(pattern)
    return glob.glob(glob.escape(fixed) + pattern[len(fixed) :], recursive=True)


def _fixed_folder(pattern: str) -> str:
    """Return the front of a glob that is a folder by that very name, brackets and all."""
    ends = [place for place, letter in enumerate(pattern) if letter in (os.sep, os.altsep)]
    return next((pattern[: end + 1] for end in reversed(ends) if os.path.isdir(pattern[: end + 1])), "")


def _without_drawn(matches: Iterable[str], named: Path, leave_out: Path | None) -> list[str]:
    """Drop matches of a glob in a folder that is left out, or of pictures of a run, unless that folder was named."""
    own = os.path.realpath(leave_out) if leave_out else None

    @cache
    def passed_over(folder: Path) -> bool:
        if folder == named or folder in named.parents:
            return False
        return os.path.realpath(folder) == own or _is_drawn(str(folder)) or passed_over(folder.parent)

    paths = {match: Path(match).absolute() for match in matches}
    return [match for match, path in paths.items() if not passed_over(path if path.is_dir() else path.parent)]


def _find(path: str, leave_out: Path | None) -> _Found:
    full = os.path.abspath(path)
    if not os.path.isdir(full):
        return _Found(os.path.dirname(full), [full])
    files = list(_pictures(full, leave_out))
    if not files:
        raise SourceError(f"{path}: the folder holds no pictures (looked for {', '.join(sorted(SUFFIXES))})")
    return _Found(full, files)


def _pictures(folder: str, leave_out: Path | None) -> Iterator[str]:
    """Walk through a folder, links to other folders included, each folder once; those that cannot be searched, too."""
    visited = {os.path.realpath(leave_out)} if leave_out else set()
    closed = list[str]()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=partial(_note_closed, folder, closed)):
        real = os.path.realpath(place)
        if real in visited or (place != folder and _is_drawn(place)):
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            path = os.path.join(place, name)
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES and _is_file_or_dead_link(path):
                yield path
    yield from closed


def _note_closed(top: str, closed: list[str], error: OSError) -> None:
    if error.filename == top:
        raise error
    closed.append(error.filename)


def _is_drawn(folder: str) -> bool:
    """Say whether a folder has the pictures of a run: photos with boxes on them."""
    results, name = os.path.split(folder)
    return name == PICTURES and drew(Path(results))


def _is_file_or_dead_link(path: str) -> bool:
    return os.path.isfile(path) or os.path.islink(path)  # a dead link shall be reported; a pipe would block for ever
