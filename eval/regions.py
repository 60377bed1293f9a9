"""The regions that a detection run kept in its folder, with scores or features, read photo by photo.

>>> regions = read_regions(OUT)             # doctest: +SKIP
>>> regions["a.jpg"].probabilities.shape    # doctest: +SKIP
(201, 21)
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from eval.lost import Rules
from eval.names import ImageNames
from eval.region_layout import (
    INDEX_FILE,
    REGIONS_FILE,
    Entry,
    Header,
    RegionsError,
    from_bytes,
    read_entry,
    read_header,
)
from structures.files import regular_file
from structures.json_reader import JsonError, parse_json
from structures.records import Dataset
from structures.regions import Regions


class KeptRegions(Mapping[str, Regions]):
    """The regions of photos by name, read from disk whenever one is asked for.

    Args:
        folder: of the results.
        entries: where the regions of each photo lie.
        header: what is the same for all; None where there are no photos.
        notes: what was odd about the index.
    """

    def __init__(
        self, folder: Path, entries: Mapping[str, Entry], header: Header | None, notes: Sequence[str] = ()
    ) -> None:
        self.folder, self.notes = folder, tuple(notes)
        self._entries, self._header = dict(entries), header

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the columns of the probabilities, without the background behind them."""
        return self._header.classes if self._header else ()

    @property
    def rules(self) -> Rules | None:
        """How detections were made of the regions; None where there are no photos."""
        return self._header.rules if self._header else None

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, image: object) -> bool:
        return image in self._entries

    def __getitem__(self, image: str) -> Regions:
        """Read the regions of a photo.

        Raises:
            KeyError: there are none of this photo.
            RegionsError: the file is damaged.
        """
        entry = self._entries[image]
        return from_bytes(read_bytes(self.folder / REGIONS_FILE, entry, len(self.classes)), entry, self.classes)

    def of(self, dataset: Dataset) -> "KeptRegions":
        """Return the same regions by the image ids of a dataset; photos that it lacks are left out."""
        names = ImageNames(dataset)
        found = {names.find(name): entry for name, entry in self._entries.items()}
        return KeptRegions(
            self.folder, {name: entry for name, entry in found.items() if name}, self._header, self.notes
        )


def read_regions(folder: str | Path) -> KeptRegions:
    """Open the regions that a run kept in its folder; empty where it kept none. No code in the files is run.

    Args:
        folder: of the run's results.

    Raises:
        RegionsError: the index is damaged; names the line.
    """
    index = Path(folder) / INDEX_FILE
    if not index.exists():
        return KeptRegions(Path(folder), {}, None)
    content = regular_file(index).read_bytes().split(b"\n")
    entries, notes, header = dict[str, Entry](), list[str](), None
    for number, text in enumerate(content, 1):
        place = f"{index}: line {number}"
        try:
            line = parse_json(text, place) if text.strip() else None
        except JsonError as error:
            if number != len(content):
                raise RegionsError(str(error)) from None
            notes.append(f"{place}: the last line is cut off and was left out: 1 image")
            continue
        if line is None:
            continue
        if not isinstance(line, dict):
            raise RegionsError(f"{place}: not an object of JSON")
        header = read_header(line, place) or header
        if header is None:
            raise RegionsError(f"{place}: the first line does not name the classes")
        entry = read_entry(line, place)
        entries[entry.image] = entry  # of a photo that was run again, the last entry counts
    return KeptRegions(Path(folder), entries, header, notes)


def read_bytes(path: Path, entry: Entry, classes: int) -> bytes:
    """Read the bytes of a photo.

    Raises:
        RegionsError: bytes are missing, or changed since they were written.
    """
    size = entry.size(classes)
    damaged = RegionsError(
        f"{path}: the regions of {entry.image} are damaged; start from scratch with `overwrite=True`"
    )
    try:
        with regular_file(path).open("rb") as file:
            if entry.at + size > file.seek(0, 2):  # before so much memory is taken
                raise damaged
            file.seek(entry.at)
            content = file.read(size)
    except FileNotFoundError:
        raise damaged from None
    if zlib.crc32(content) != entry.crc32:
        raise damaged
    return content
