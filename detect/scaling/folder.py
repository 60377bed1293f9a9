"""The folder of results: shards and the record of the runs, on a local file system or in object storage.

A local folder is locked, and `structures.own_files` decides what may be overwritten. Object storage has no locks, but a
shard of a given name has the same content whoever writes it.
"""

import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from detect.runs.record import RUN_FILE, read_run
from detect.scaling.places import file_system, in_folder, is_address, local
from detect.scaling.plan import SHARD
from structures.files import PARTIAL, FileRefused
from structures.locks import lock_folder
from structures.own_files import OwnFiles, not_ours

REMEDY = "remove this folder"  # what helps where its results are of another kind


class Folder(Protocol):
    """A folder of shards.

    Attributes:
        place: path or address.
        record: local folder with run.json; `publish` copies it to the folder of shards.
    """

    place: str
    record: Path

    def shards(self) -> frozenset[str]:
        """Return the names of the existing shards.

        Raises:
            FileRefused: a file with such a name is not ours.
        """

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole, or not at all."""

    def publish(self) -> None:
        """Copy the record of the runs to the folder of shards."""


@contextmanager
def open_folder(place: str, inputs: Iterable[str | Path] = ()) -> Iterator[Folder]:
    """Open a folder for writing; it is made if it is missing.

    Args:
        place: path or address.
        inputs: files that the run reads.

    Raises:
        InputError: another run is writing there, it has other files with our names, or such addresses are not
            supported.
    """
    with ExitStack() as stack:
        if is_address(place):
            yield _Stored(place, Path(stack.enter_context(TemporaryDirectory(prefix="rcnn-"))))
            return
        path = Path(local(place))
        path.mkdir(parents=True, exist_ok=True)
        stack.callback(lock_folder(path).release)
        yield _Local(path, stack.enter_context(OwnFiles(path, inputs)))


class _Local:
    def __init__(self, folder: Path, files: OwnFiles) -> None:
        self.place, self.record, self._files = str(folder), folder, files
        left = (name[1:].rpartition(".")[0].rpartition(".")[0] for name in _names(folder) if name.endswith(PARTIAL))
        files.sweep([RUN_FILE, *filter(SHARD.fullmatch, left)])

    def shards(self) -> frozenset[str]:
        found, ours = frozenset(filter(SHARD.fullmatch, _names(self.record))), frozenset(self._files)
        for name in sorted(found - ours):
            raise FileRefused(not_ours(self.record / name))
        return found

    def write(self, name: str, content: bytes) -> None:
        with self._files.writing(name) as partial:
            partial.write_bytes(content)

    def publish(self) -> None:
        pass


class _Stored:
    def __init__(self, address: str, record: Path) -> None:
        self.place, self.record = address, record
        self._fs, self._path = file_system(address)
        if RUN_FILE in self._names():
            (record / RUN_FILE).write_bytes(self._fs.cat_file(posixpath.join(self._path, RUN_FILE)))

    def shards(self) -> frozenset[str]:
        found = frozenset(filter(SHARD.fullmatch, self._names()))
        if found and read_run(self.record) is None:
            raise FileRefused(f"{self.place}: has shards, but no {RUN_FILE} that says how they were made")
        return found

    def write(self, name: str, content: bytes) -> None:
        """Write under another name first, since not every storage writes files whole."""
        partial = posixpath.join(self._path, f".{name}.{os.getpid()}{PARTIAL}")
        self._fs.makedirs(self._path, exist_ok=True)
        self._fs.pipe_file(partial, content)
        self._fs.mv(partial, posixpath.join(self._path, name))

    def publish(self) -> None:
        self.write(RUN_FILE, (self.record / RUN_FILE).read_bytes())

    def _names(self) -> list[str]:
        self._fs.invalidate_cache()
        try:
            return [posixpath.basename(str(each).rstrip("/")) for each in self._fs.ls(self._path, detail=False)]
        except FileNotFoundError:
            return []


def _names(folder: Path) -> Sequence[str]:
    return sorted(os.listdir(folder))


@contextmanager
def look_into(place: str) -> Iterator[tuple[Path, list[str]]]:
    """Yield the local folder with the record of a run, and the places of its shards in order; nothing is written.

    Raises:
        FileRefused: there is no record.
    """
    with ExitStack() as stack:
        if is_address(place):
            folder = _Stored(place, Path(stack.enter_context(TemporaryDirectory(prefix="rcnn-"))))
            record, names = folder.record, sorted(folder.shards())
        else:
            record = Path(local(place))
            names = sorted(filter(SHARD.fullmatch, _names(record)))
        if read_run(record) is None:
            raise FileRefused(f"{place}: there is no {RUN_FILE}; this folder was not written by rcnn scale")
        yield record, [in_folder(place if is_address(place) else str(record), name) for name in names]
