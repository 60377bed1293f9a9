"""Files of JSON objects, one per line, that one process adds to; no byte of another program's file is lost.

A killed process leaves at worst an incomplete last line. The next one cuts that off, if it can be the beginning of
a line of this program. Any other foreign line is refused by file and line number, and stays.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from structures.errors import InputError
from structures.files import FileRefused, naming, replacing
from structures.json_reader import JsonError, parse_json

SYNC_SECONDS = 1.0  # a power cut loses at most this much; a killed process loses nothing
REMEDY = "nothing was changed: repair or remove the line, or name another folder"
TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"')  # a string of JSON


class LineFile:
    """A file of JSON objects, one per line, read once and then added to by one process.

    Args:
        path: made if it is missing; its folder is locked by the caller.
        keys: the first two of every line; the first one's value is a string.
        read: takes a line and its place, for messages; raises InputError if this program did not write it.
        overwrite: discard what is there, if it begins as our lines do; damage does not matter then.

    Raises:
        FileRefused: another program wrote a line; nothing was changed.
    """

    def __init__(
        self, path: Path, keys: tuple[str, str], read: Callable[[Any, str], None], *, overwrite: bool = False
    ) -> None:
        self._path, self._keys = path, keys
        unshare(path)
        self._file: IO[bytes] = path.open("a+b")
        try:
            if overwrite:
                self._require_own_beginning()
                self._file.truncate(0)
            self._read(read)
        except BaseException:
            self._file.close()
            raise
        self._synced = time.monotonic()

    def add(self, entry: Mapping[str, Any]) -> None:
        """Add a line; it is written when this returns."""
        assert tuple(entry)[:2] == self._keys, f"a line begins with {self._keys}, not {tuple(entry)[:2]}"
        with naming(self._path):
            self._file.write(json.dumps(entry).encode() + b"\n")
            self._file.flush()
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def replace(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Replace all lines."""
        self._file.truncate(0)
        for entry in entries:
            self.add(entry)

    def close(self, *, keep_empty: bool = True) -> None:
        """Flush everything to disk, and remove the file if it is empty and not to be kept."""
        with naming(self._path):
            self._file.flush()
        os.fsync(self._file.fileno())
        if not keep_empty and self._path.stat().st_size == 0:
            self._path.unlink()
        self._file.close()

    def _read(self, read: Callable[[Any, str], None]) -> None:
        self._file.seek(0)
        whole = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n") and self._is_torn(line):
                self._file.truncate(whole)
                return
            if line.strip():
                _take(read, line, f"{self._path}: line {number}")
            whole += len(line)
            if not line.endswith(b"\n"):  # as some editors leave it
                self._file.write(b"\n")

    def _require_own_beginning(self) -> None:
        """Refuse to discard a file whose first line, complete or not, is not one of ours."""
        first = b"{" + json.dumps(self._keys[0]).encode() + b": "
        self._file.seek(0)
        begin = self._file.read(len(first)).rstrip(b"\0")  # which a power cut leaves
        if not _begin_alike(begin, first):
            raise FileRefused(f"{self._path}: line 1: written by another program; {REMEDY}")

    def _is_torn(self, line: bytes) -> bool:
        """Return whether an incomplete last line may begin one that we wrote; a power cut leaves zeros."""
        begun = line.rstrip(b"\0")
        try:
            parse_json(begun, self._path)
        except JsonError:
            first, second = (json.dumps(key).encode() + b": " for key in self._keys)
            if not _begin_alike(begun, b"{" + first):
                return False
            rest = begun[len(first) + 1 :]
            text = TEXT.match(rest)
            if text is None:
                return not rest or rest.startswith(b'"')
            return _begin_alike(rest[text.end() :], b", " + second)
        return False


def unshare(path: Path) -> None:
    """Give this name a file of its own where other names share it, as in backups made of hard links."""
    if path.is_file() and path.stat().st_nlink > 1:
        with replacing(path) as partial:
            shutil.copy(path, partial)


def _begin_alike(one: bytes, other: bytes) -> bool:
    length = min(len(one), len(other))
    return one[:length] == other[:length]


def _take(read: Callable[[Any, str], None], line: bytes, place: str) -> None:
    try:
        entry = parse_json(line, place)
        if not isinstance(entry, dict):
            raise InputError(f"{place}: not an object of JSON")
        read(entry, place)
    except JsonError as error:
        raise FileRefused(f"{error}; it is damaged, or was written by another program; {REMEDY}") from None
    except InputError as error:
        raise FileRefused(f"{error}; {REMEDY}") from None
