"""Which files are ours to write over or to remove? The one place that decides it, for every command.

We write and remove only inside the folder that was named for it, never through a link or a name that leads out of it,
never over an input, and of what lies there already only what a record of our own proves to be ours. The record is a
file of lines in the folder itself, each with a digest of what was written: what others have changed since is theirs.
"""

import glob
import os
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import chain
from pathlib import Path, PureWindowsPath
from typing import Any

from structures.files import PARTIAL, UNFINISHED, FileRefused, file_digest, replacing, sweep
from structures.line_files import LineFile
from structures.photo_names import possible

RECORD = "written.jsonl"
NEVER_READ = (".html", ".safetensors")  # suffixes of what is no photo and no annotation, in a folder of these


def inside(folder: Path, name: str) -> Path:
    """Return the place of a file in a folder, if its name leads nowhere else.

    Args:
        folder: may be a link itself, and may be missing.
        name: relative to it, with forward slashes.

    Raises:
        FileRefused: an absolute name, one with `..`, a backslash or a drive of Windows, one that no file can have, or a
            link on the way.

    >>> inside(Path("out"), "pictures/a.jpg").as_posix()
    'out/pictures/a.jpg'
    >>> inside(Path("out"), "../a.jpg")
    Traceback (most recent call last):
    structures.files.FileRefused: out: the name '../a.jpg' leads out of this folder
    """
    complaint = complaint_about(name)
    if complaint:
        raise FileRefused(f"{folder}: the name {name!r} {complaint}")
    parts = name.split("/")
    path = folder.joinpath(*parts)
    if os.path.realpath(path) != os.path.join(os.path.realpath(folder), *parts):
        raise FileRefused(f"{path}: a link leads from here to another place; nothing is written through it")
    return path


def complaint_about(name: str) -> str | None:
    r"""Say what is wrong with a name, relative to a folder, for a file in it that is to be written; None if it can be.

    >>> complaint_about("labels/a.txt"), complaint_about("../a.txt")
    (None, 'leads out of this folder')
    >>> complaint_about(r"a\b.txt")
    'has a backslash or a drive of Windows, where it would lead elsewhere'
    """
    parts = name.split("/")
    if any("\\" in part or PureWindowsPath(part).drive for part in parts):
        return "has a backslash or a drive of Windows, where it would lead elsewhere"
    if any(part in ("", ".", "..") for part in parts):
        return "leads out of this folder"
    return None if possible(name) else "is one that no file can have"


def check_outputs(outputs: Iterable[Path | None], inputs: Iterable[str | Path | None]) -> None:
    """Refuse, before any work, a file that cannot be written, is an input, lies in a folder of inputs, or comes twice.

    In a folder of inputs, pages and weights are none, so those of an earlier run may be there. What killed runs left
    unfinished of these files is removed.

    Args:
        outputs: the files to be; None for those that were not asked for.
        inputs: files and folders that are read; None likewise, and what there is no file for, such as a built-in name.

    Raises:
        FileRefused: names the file, and the input.
    """
    read, seen = [Path(each) for each in inputs if each is not None], set[Path]()
    for path in outputs:
        if path is None:
            continue
        real = Path(os.path.realpath(path))
        over = next((each for each in read if _is_over(path, real, each)), None)
        if over is not None:
            raise FileRefused(f"{path}: would be written over an input ({over}); name another file")
        alike = real.with_name(unicodedata.normalize("NFC", real.name).casefold())  # one file on some file systems
        if alike in seen:
            raise FileRefused(f"{path}: is to be written twice; name two files")
        _require_place(path, real)
        seen.add(alike)
        _sweep_killed(real)


def _is_over(path: Path, real: Path, read: Path) -> bool:
    if real == Path(os.path.realpath(read)):
        return True
    if not path.exists() or not read.exists():
        return False
    in_it = read.is_dir() and real.is_relative_to(os.path.realpath(read))
    return path.samefile(read) or (in_it and real.suffix not in NEVER_READ)


def _require_place(path: Path, real: Path) -> None:
    if path.is_dir():
        raise FileRefused(f"{path}: is a folder; name a file")
    if path.exists() and not path.is_file():  # such as /dev/stdout
        return
    folder = next(parent for parent in real.parents if os.path.lexists(parent))
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise FileRefused(f"{path}: cannot be written, since {folder} is not a folder that you may write to")


def _sweep_killed(target: Path) -> None:
    """Remove what processes that do not run any more left unfinished of a file; other processes may be writing it."""
    for partial in target.parent.glob(f".{glob.escape(target.name)}.*{PARTIAL}"):
        match = UNFINISHED.fullmatch(partial.name)
        if match and match["name"] == target.name and not _runs(int(match["process"])):
            partial.unlink(missing_ok=True)


class _Same(Exception):
    """What is to be written is there already, and is not ours."""


class OwnFiles:
    """The files in one folder that are ours, such as pictures and exports; a context manager that closes the record.

    Args:
        folder: made if it is missing; no other process may write there until the record is closed.
        inputs: files that are read, which are never written over or removed, whatever the record says; gone through
            when the first file is written where one lies, or removed.

    Raises:
        FileRefused: the record was not written by us, or another process has it.
    """

    def __init__(self, folder: Path, inputs: Iterable[str | Path] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._given = inputs
        self._digests = dict[str, tuple[str, ...]]()
        self._written = set[str]()
        self._unfinished = dict[Path, set[str]]()  # of folders that were written to: what killed runs left there
        self._record = LineFile(inside(folder, RECORD), ("file", "digest"), self._read)

    def __enter__(self) -> "OwnFiles":
        return self

    def __exit__(self, *exception: object) -> None:
        self._record.close(keep_empty=False)

    def __iter__(self) -> Iterator[str]:
        """Yield the names of all files that we ever wrote."""
        return iter(tuple(self._digests))

    def owns(self, name: str) -> bool:
        """Return whether a file is there, and is as we wrote it."""
        with suppress(FileRefused, OSError):
            path = inside(self.folder, name)
            return name in self._digests and path.is_file() and file_digest(path) in self._digests[name]
        return False

    def place(self, name: str) -> Path:
        """Return where a file of this name is to be written.

        Raises:
            FileRefused: the name leads out of the folder, or is that of an input or of something that is not a file.
        """
        path = inside(self.folder, name)
        if self._is_input(path):
            raise FileRefused(f"{path}: is an input and would be written over; name another folder for the results")
        if path.exists() and not path.is_file():
            raise FileRefused(f"{path}: is in the way of a file of this name")
        return path

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Give the path of a file to write, as `structures.files.replacing` does.

        It is noted before it is put in its place: a process killed in between leaves no file that is not on record. A
        file of the same content that others wrote stays, and stays theirs.

        Raises:
            FileRefused: as `place`, or there is a file that we did not write and whose content is another.
        """
        path = self.place(name)
        self._sweep(path)
        self._written.add(name)
        with suppress(_Same), replacing(path) as partial:
            yield partial
            digest = file_digest(partial)
            if path.exists() and not self.owns(name):
                raise _Same if file_digest(path) == digest else FileRefused(not_ours(path))
            if digest not in self._digests.get(name, ()):
                self._record.add({"file": name, "digest": digest})
                self._note(name, digest)

    def remove(self, name: str) -> bool:
        """Remove a file if it is ours and no input, with the folders that are empty then; say whether none is left.

        Never raises because of the name.
        """
        if self.owns(name) and not self._is_input(path := inside(self.folder, name)):
            path.unlink()
            with suppress(OSError):  # not empty
                for _ in name.split("/")[1:]:
                    path = path.parent
                    path.rmdir()
            return True
        return not os.path.lexists(self.folder / name)

    def remove_others(self, beginnings: tuple[str, ...]) -> None:
        """Remove our files whose names begin in one of these ways, apart from those that this object has written."""
        for name in self:
            if name.startswith(beginnings) and name not in self._written:
                self.remove(name)

    def sweep(self, names: Iterable[str]) -> None:
        """Remove what killed runs left unfinished of these files, and of those that we ever wrote.

        Args:
            names: of the files; gone through only if there is something unfinished.
        """
        left = dict[str, set[str]]()
        for place, _, files in os.walk(self.folder):
            if any(file.endswith(PARTIAL) for file in files):
                below = Path(place).relative_to(self.folder)
                left["/".join(below.parts)] = set()
        for name in chain(names, self) if left else ():
            folder, _, last = name.rpartition("/")
            if folder in left:
                left[folder].add(last)
        for folder, lasts in left.items():
            with suppress(FileRefused):
                sweep(inside(self.folder, folder) if folder else self.folder, lasts.__contains__)

    def _sweep(self, path: Path) -> None:
        """Remove what killed runs left unfinished of a file; each folder is looked through once."""
        if path.parent not in self._unfinished:
            matches = map(UNFINISHED.fullmatch, os.listdir(path.parent) if path.parent.is_dir() else ())
            self._unfinished[path.parent] = {match["name"] for match in matches if match}
        if path.name in self._unfinished[path.parent]:
            sweep(path.parent, path.name.__eq__)

    def _is_input(self, path: Path) -> bool:
        return os.path.lexists(path) and os.path.realpath(path) in self._inputs

    def _read(self, entry: Any, place: str) -> None:
        name, digest = entry.get("file"), entry.get("digest")
        if not isinstance(name, str) or not isinstance(digest, str):
            raise FileRefused(f"{place}: no name and digest of a file")
        self._note(name, digest)

    def _note(self, name: str, digest: str) -> None:
        self._digests[name] = (*self._digests.get(name, ()), digest)

    @cached_property
    def _inputs(self) -> frozenset[str]:
        """Where inputs really lie, of those in the folder: nothing else could be written over."""
        inside_it = os.path.join(os.path.realpath(self.folder), "")
        return frozenset(real for _, real in real_paths(self._given) if real.startswith(inside_it))


def real_paths(paths: Iterable[str | Path]) -> Iterator[tuple[str | Path, str]]:
    """Yield paths, each with where it really leads as `os.path.realpath` has it, which is asked once per folder."""
    folders = dict[str, str]()
    for path in paths:
        folder, name = os.path.split(path)
        if name in ("", ".", "..") or os.path.islink(path):
            yield path, os.path.realpath(path)
            continue
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        yield path, os.path.join(folders[folder], name)


def not_ours(path: Path) -> str:
    """Say that a file is not replaced or removed, and what to do."""
    return f"{path}: was not written by rcnn, or changed since, and is not written over; move it away"


def _runs(process: int) -> bool:
    """Say whether a process runs here, or may do so."""
    if os.name == "nt":  # where the question would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
