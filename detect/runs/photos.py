"""Finds photos: files, folders, globs and list files -> photos with stable names, in a stable order.

The name of a photo in all results (its image id) is its path, with forward slashes, relative to the deepest folder that
contains everything that was named. So the name of a single folder is not part of the names, photos of equal names in
different folders are distinct, and names do not depend on the working folder.
"""

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath, PurePosixPath
from typing import overload

from detect.runs.frames import file_of
from detect.runs.record import drew
from structures.errors import InputError
from structures.files import regular_file
from structures.images import SUFFIXES
from structures.records import Dataset

PICTURES = "pictures"  # folder of a run's drawn photos
LIST_PREFIX = "@"  # @photos.txt names a file with one photo, folder or glob per line
GLOB_CHARACTERS = frozenset("*?[")


class SourceError(InputError):
    """Photos that cannot be found; the message names the path."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo.

    Attributes:
        image_id: its name in every result.
        path: its file.
    """

    image_id: str
    path: Path


@dataclass(frozen=True)
class Photos(Sequence[Photo]):
    """Photos below one folder: millions of them take little more memory than their names.

    Attributes:
        root: folder that the names are relative to.
        names: image ids, each once.
    """

    root: str
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, place: int) -> Photo: ...
    @overload
    def __getitem__(self, place: slice) -> "Photos": ...
    def __getitem__(self, place: int | slice) -> "Photo | Photos":
        if isinstance(place, slice):
            return Photos(self.root, self.names[place])
        return Photo(self.names[place], Path(self.root, self.names[place]))

    def __iter__(self) -> Iterator[Photo]:
        return (Photo(name, Path(self.root, name)) for name in self.names)


def names_of(photos: Sequence[Photo]) -> Iterable[str]:
    """Return the image ids of photos."""
    return photos.names if isinstance(photos, Photos) else (photo.image_id for photo in photos)


def places_of(photos: Sequence[Photo]) -> Iterator[tuple[str, str | Path]]:
    """Yield the image ids of photos and their files: of a frame, its film."""
    if isinstance(photos, Photos):
        return ((name, file_of(os.path.join(photos.root, name))) for name in photos.names)
    return ((photo.image_id, file_of(photo.path)) for photo in photos)


def chosen(photos: Sequence[Photo], wanted: Callable[[str], bool]) -> Iterator[Photo]:
    """Yield the photos that are wanted, by image id; each is asked about when its turn comes."""
    if isinstance(photos, Photos):
        return (Photo(name, Path(photos.root, name)) for name in photos.names if wanted(name))
    return (photo for photo in photos if wanted(photo.image_id))


def photos_of(dataset: Dataset, image_ids: Iterable[str] | None = None) -> list[Photo]:
    """Return the photos of a dataset, all or those that are named."""
    names = dataset.image_ids if image_ids is None else image_ids
    return [Photo(image_id, dataset.image_path(image_id)) for image_id in names]


def root_of(photos: Sequence[Photo]) -> str | None:
    """Return the absolute path of the folder that the names of photos are relative to; None if there are no photos."""
    if not photos:
        return None
    path, name = Path(os.path.abspath(photos[0].path)), PurePosixPath(photos[0].image_id)
    return str(path.parents[len(name.parts) - 1])


def find_photos(paths: Sequence[str], *, lists: Sequence[str | Path] = (), leave_out: Path | None = None) -> Photos:
    """Find all named photos, sorted by image id, each once.

    Args:
        paths: files (with any suffix), folders (searched for pictures, without hidden ones), globs that the shell did
            not expand (`**` matches folders), and list files like `@photos.txt`. Leading folders of a glob that exist
            under exactly that name are not part of the pattern.
        lists: more list files. A relative path in a list is looked up in the working folder, then in the list's folder.
        leave_out: a folder to skip. Drawn pictures of runs are always skipped, unless their folder is named.

    Returns:
        The photos. A subfolder that cannot be searched is included like a photo, so that it is reported as unreadable.

    Raises:
        SourceError: nothing was named, a path does not exist, a glob matches nothing, or a folder has no pictures.
    """
    found = dict[str, list[str]]()  # base folder -> names: the base is a named folder, or that of a named file
    for argument in _arguments(paths, lists, leave_out):
        base, names = _find(argument, leave_out)
        found.setdefault(base, []).extend(names)
    if not found:
        raise SourceError("no photos were named: give files, folders, globs or @list.txt")
    root = os.path.commonpath(found)
    below = {base: PurePath(os.path.relpath(base, root)).as_posix() for base in found}
    all_names = (name if below[base] == "." else f"{below[base]}/{name}" for base in found for name in found[base])
    return Photos(root, tuple(sorted(set(all_names))))


def _arguments(paths: Iterable[str], lists: Iterable[str | Path], leave_out: Path | None) -> Iterator[str]:
    for path in paths:
        if path.startswith(LIST_PREFIX) and not os.path.lexists(path):
            yield from _read_list(path[len(LIST_PREFIX) :], leave_out)
        else:
            yield from _matches(path, leave_out)
    for list_file in lists:
        yield from _read_list(list_file, leave_out)


def _read_list(list_file: str | Path, leave_out: Path | None) -> Iterator[str]:
    folder = Path(list_file).parent
    number = 0
    with regular_file(list_file).open(encoding="utf-8-sig") as lines:
        try:
            for number, line in enumerate(lines, start=1):  # noqa: B007  # named in the error below
                if line.strip():
                    yield from _matches(_beside(line.strip(), folder), leave_out)
        except UnicodeDecodeError:
            raise SourceError(f"{list_file}: not a list of photos, one per line in UTF-8") from None
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
    """Return the leading part of a glob that is an existing folder of exactly that name, brackets and all."""
    ends = [place for place, letter in enumerate(pattern) if letter in (os.sep, os.altsep)]
    return next((pattern[: end + 1] for end in reversed(ends) if os.path.isdir(pattern[: end + 1])), "")


def _without_drawn(matches: Iterable[str], named: Path, leave_out: Path | None) -> list[str]:
    """Drop matches of a glob in the folder to skip, or among drawn pictures, unless that folder was named."""
    own = os.path.realpath(leave_out) if leave_out else None

    @cache
    def passed_over(folder: Path) -> bool:
        if folder == named or folder in named.parents:
            return False
        return os.path.realpath(folder) == own or _is_drawn(str(folder)) or passed_over(folder.parent)

    paths = {match: Path(match).absolute() for match in matches}
    return [match for match, path in paths.items() if not passed_over(path if path.is_dir() else path.parent)]


def _find(path: str, leave_out: Path | None) -> tuple[str, Iterable[str]]:
    """Return a base folder, and the names below it of the photos that a path names."""
    full = os.path.abspath(path)
    if not os.path.isdir(full):
        base, name = os.path.split(full)
        return base, [name]
    if leave_out and os.path.realpath(leave_out) == os.path.realpath(full):
        raise SourceError(f"{path}: is the folder of the results, which is not searched; name another `out`")
    names = list(_pictures(full, leave_out))
    if not names:
        raise SourceError(f"{path}: no pictures in this folder (looked for {', '.join(sorted(SUFFIXES))})")
    return full, names


def _pictures(folder: str, leave_out: Path | None) -> Iterator[str]:
    """Yield pictures in a folder and below, following links, each folder once; and subfolders that cannot be read."""
    visited = {os.path.realpath(leave_out)} if leave_out else set[str]()
    waiting = [""]  # names of folders, each followed by a slash
    while waiting:
        below = waiting.pop()
        place = os.path.join(folder, below[:-1]) if below else folder
        real = os.path.realpath(place)
        if real in visited or (below and _is_drawn(place)):
            continue
        visited.add(real)
        try:
            entries = [entry for entry in os.scandir(place) if not entry.name.startswith(".")]
        except OSError:
            if not below:
                raise
            yield below[:-1]
            continue
        yield from (f"{below}{entry.name}" for entry in entries if _is_picture(entry))
        folders = sorted(entry.name for entry in entries if _is_folder(entry))
        waiting += [f"{below}{name}/" for name in reversed(folders)]  # the first is the next


def _is_picture(entry: "os.DirEntry[str]") -> bool:
    """Return whether an entry may be a photo, by its name: dead links are kept to be reported, pipes would block."""
    if os.path.splitext(entry.name)[1].lower() not in SUFFIXES:
        return False
    return entry.is_file(follow_symlinks=False) or (entry.is_symlink() and not _is_folder(entry))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_drawn(folder: str) -> bool:
    """Return whether a folder has the drawn pictures of a run."""
    results, name = os.path.split(folder)
    return name == PICTURES and drew(Path(results))
