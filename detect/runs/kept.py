"""Writes the classified regions of a run, photo by photo: OUT/regions.bin, and its index, OUT/regions.jsonl.

The numbers of a photo are written before its entry in the index, and that before its line of detections. So a killed
run leaves at worst numbers that are not in the index, which the next run overwrites, and a photo that is done again.
`eval.regions.read_regions` reads the files.
"""

import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

from classifier.protocol import feature_count
from detect.detector import Detector
from detect.runs.record import RunError
from eval.lost import Rules
from eval.region_layout import (
    INDEX_FILE,
    KEYS,
    REGIONS_FILE,
    Entry,
    Header,
    RegionsError,
    as_bytes,
    as_line,
    read_entry,
    read_header,
)
from eval.regions import read_bytes
from structures.files import naming
from structures.line_files import SYNC_SECONDS, LineFile, unshare
from structures.own_files import inside
from structures.regions import Regions

CHECKED_BYTES = 2**26  # at the end of the file, where a power cut may have lost the last writes


class RegionFiles:
    """Adds to the kept regions in a folder; a context manager that closes the files.

    Args:
        folder: folder of results, locked by the caller.
        header: facts that are the same for all photos.
        features: number of features to keep per region.
        done: photos that have results; regions of others are kept again.

    Attributes:
        kept: photos whose regions are kept already.

    Raises:
        FileRefused: the files are not ours, or were made with other classes or rules.
    """

    def __init__(self, folder: Path, header: Header, *, features: int = 0, done: Collection[str] = ()) -> None:
        self._path, index = inside(folder, REGIONS_FILE), inside(folder, INDEX_FILE)
        if self._path.exists() and self._path.stat().st_size and not index.exists():
            raise RunError(f"{self._path}: its index {INDEX_FILE} is missing; move it away")
        self._header, self._begun, self._entries = header, False, dict[str, Entry]()
        self._index = LineFile(index, KEYS, self._read, overwrite=not done)
        try:
            unshare(self._path)
            self._file: IO[bytes] = self._path.open("r+b" if self._path.exists() else "w+b")
            self._end = max((each.at + each.size(len(header.classes)) for each in self._entries.values()), default=0)
            self._drop_torn()
            self._file.truncate(self._end)
        except BaseException:
            self._index.close()
            raise
        self._synced = time.monotonic()
        self.kept = {name for name in done if name in self._entries and self._entries[name].features >= features}

    def __enter__(self) -> "RegionFiles":
        return self

    def __exit__(self, *exception: object) -> None:
        with naming(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        self._index.close()

    def add(self, image: str, regions: Regions) -> None:
        """Write the regions of a photo; they replace earlier ones."""
        content = as_bytes(regions)
        with naming(self._path):
            self._file.seek(self._end)
            self._file.write(content)
            self._file.flush()
            if time.monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        line = as_line(image, self._end, regions, content)
        self._index.add(line if self._begun else line | self._header.as_json())
        self._begun = True
        self._end += len(content)
        self.kept.add(image)

    def _read(self, line: Any, place: str) -> None:
        header = read_header(line, place)
        if header is None and not self._begun:
            raise RegionsError(f"{place}: expected the classes in the first line")
        if header not in (None, self._header):
            raise RegionsError(f"{place}: these regions were made with other classes or rules")
        self._begun = True
        entry = read_entry(line, place)
        self._entries[entry.image] = entry

    def _drop_torn(self) -> None:
        """Forget the photos whose numbers a power cut has lost, so that they are done again."""
        checked, classes = 0, len(self._header.classes)
        for name in sorted(self._entries, key=lambda name: -self._entries[name].at):
            try:
                checked += len(read_bytes(self._path, self._entries[name], classes))
            except RegionsError:
                del self._entries[name]
            if checked > CHECKED_BYTES:
                return


def open_regions(folder: Path, detector: Detector, done: Collection[str]) -> RegionFiles:
    """Open the kept regions of a detector's run; see `RegionFiles`."""
    options = detector.options
    rules = Rules(
        score_floor=options.score_floor,
        nms_threshold=options.nms_threshold,
        max_per_class=options.max_per_class,
        weigh_by_fit=bool(options.weigh_by_fit),
        class_agnostic=options.class_agnostic,
        only=options.only,
    )
    return RegionFiles(folder, Header(detector.classes, rules), features=feature_count(detector.classify), done=done)


def forget_regions(folder: Path) -> None:
    """Remove the regions that earlier runs kept in a folder of results."""
    if inside(folder, INDEX_FILE).exists():
        for name in (REGIONS_FILE, INDEX_FILE):  # the index last: it proves that the other file is ours
            inside(folder, name).unlink(missing_ok=True)
