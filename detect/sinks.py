"""Results on disk: OUT/detections.jsonl and OUT/skipped.jsonl, one line a photo, written as soon as it is done.

A killed run leaves at worst half a line at the end. The next run cuts that off, passes over the photos that are done,
and tries the skipped ones again.
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from detect.runs import RunError
from structures.files import naming
from structures.json_reader import JsonError, parse_json
from structures.locks import lock_folder
from structures.records import Detections

DETECTIONS_FILE = "detections.jsonl"
SKIPPED_FILE = "skipped.jsonl"
SYNC_SECONDS = 1.0  # a power cut loses at most this much; a killed process loses nothing


class Results:
    """The results in one folder, to be added to.

    Args:
        folder: made if it is missing.
        overwrite: throw away what is there.

    Attributes:
        folder: where they lie.
        done: image ids with detections, of this run and earlier ones -> `proposals.store.file_key` of the photo; empty
            where it was not noted.
        skipped: image ids that could not be worked on -> why.

    Raises:
        RunError: a file in the folder is damaged.
        FolderInUse: another run writes into it.
    """

    def __init__(self, folder: Path, *, overwrite: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._lock = lock_folder(folder)
        self._detections = _Lines(folder / DETECTIONS_FILE, overwrite)
        self._skips = _Lines(folder / SKIPPED_FILE, overwrite)
        self.done = {str(entry["image"]): str(entry.get("file_key") or "") for entry in self._detections.entries}
        reasons = {str(entry["image"]): str(entry.get("reason")) for entry in self._skips.entries}
        self.skipped = {image_id: reason for image_id, reason in reasons.items() if image_id not in self.done}

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._detections.close()
            self._skips.replace([{"image": image_id, "reason": reason} for image_id, reason in self.skipped.items()])
            self._skips.close(keep_empty=False)
        finally:
            self._lock.release()

    def write(self, image_id: str, found: Detections, classes: Sequence[str], key: str = "") -> None:
        """Add the detections of a photo, with the key of its file."""
        self._detections.add(as_entry(image_id, found, classes) | ({"file_key": key} if key else {}))
        self.done[image_id] = key
        self.skipped.pop(image_id, None)

    def skip(self, image_id: str, reason: str) -> None:
        """Add a photo that could not be worked on."""
        if self.skipped.get(image_id) != reason:
            self._skips.add({"image": image_id, "reason": reason})
        self.skipped[image_id] = reason


def as_entry(image_id: str, found: Detections, classes: Sequence[str]) -> dict[str, Any]:
    """Return the line of a photo: boxes as x1, y1, x2, y2 in pixels, labels as names, who proposed each box."""
    height, width = found.image_size
    return {
        "image": image_id,
        "width": int(width),
        "height": int(height),
        "boxes": [_numbers(box) for box in found.boxes],
        "labels": [classes[label] for label in found.labels],
        "scores": _numbers(found.scores),
        "sources": [found.source_names[source] for source in found.source],
    }


def _numbers(values: npt.NDArray[np.float32]) -> list[float]:
    return [float(f"{value:.9g}") for value in values.tolist()]  # 9 digits give a float32 back exactly


class _Lines:
    """A file of JSON objects, one a line, read once and then added to by one process."""

    def __init__(self, path: Path, overwrite: bool) -> None:
        self._path = path
        self._file: IO[bytes] = path.open("a+b")
        try:
            if overwrite:
                self._file.truncate(0)
            self._file.seek(0)
            self.entries = _read_entries(self._file, path)
        except BaseException:
            self._file.close()
            raise
        self._synced = time.monotonic()

    def add(self, entry: Mapping[str, Any]) -> None:
        with naming(self._path):
            self._file.write(json.dumps(entry).encode() + b"\n")
            self._file.flush()
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def replace(self, entries: Sequence[Mapping[str, Any]]) -> None:
        self._file.truncate(0)
        for entry in entries:
            self.add(entry)

    def close(self, *, keep_empty: bool = True) -> None:
        with naming(self._path):
            self._file.flush()
        os.fsync(self._file.fileno())
        if not keep_empty and self._path.stat().st_size == 0:
            self._path.unlink()
        self._file.close()


def _read_entries(file: IO[bytes], path: Path) -> list[dict[str, Any]]:
    """Read all lines; a last one that is torn is cut off."""
    entries: list[dict[str, Any]] = []
    sound, torn = 0, None
    for number, line in enumerate(file, start=1):
        if torn is not None:
            raise RunError(f"{path}: line {torn} is damaged; repair it, name another --out, or add --overwrite")
        entry = _parse(line, path)
        if entry is None:
            torn = number
        else:
            entries.append(entry)
            sound += len(line)
    file.truncate(sound)
    return entries


def _parse(line: bytes, path: Path) -> dict[str, Any] | None:
    try:
        entry = parse_json(line, path)
    except JsonError:
        return None
    whole = line.endswith(b"\n") and isinstance(entry, dict) and "image" in entry
    return {name: entry.get(name) for name in ("image", "file_key", "reason")} if whole else None  # not the boxes
