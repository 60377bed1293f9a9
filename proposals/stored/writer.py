"""Writes the folders that `proposals.stored.reader` reads: shard after shard, each whole or not at all."""

import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from proposals.stored.reader import FORMAT, MANIFEST, StoredPhoto, StoreError, read_manifest, stored_photos
from structures.boxes import Boxes
from structures.file_digests import FileDigests, Stamp
from structures.files import replacing, sweep, write_json
from structures.json_reader import through_json
from structures.locks import lock_folder
from structures.own_files import inside
from structures.records import Proposals

SHARD_PHOTOS = 128  # about 2 MB of boxes: small to read for one photo, few files for many
SHARD_SECONDS = 60.0  # a slow generator loses at most this much work when it is stopped

SHARD = re.compile(r"shard-(\d+)\.npz")

LAYOUT = {
    "boxes": "x1, y1, x2, y2 in pixels of the photo, 0-based, half-open; best first, but for a union; "
    "rows offsets[i]:offsets[i + 1]",
    "pixels": "BLAKE2b (16 bytes) of the shape as three little-endian int64 and the RGB bytes",
    "files": "BLAKE2b (16 bytes) of the file",
    "sizes": "height, width",
    "source": "index into source_names: which generator made the box",
}


@dataclass(eq=False)
class _Batch:
    """Photos that wait for their shard."""

    photos: list[tuple[str, str, str]] = field(default_factory=list)
    proposals: list[Proposals] = field(default_factory=list)

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Return the shard's arrays; coordinates in the smallest type that holds them exactly."""
        ids, pixels, files = zip(*self.photos, strict=True)
        names = tuple(dict.fromkeys(name for part in self.proposals for name in part.source_names))
        translate = [np.array([names.index(name) for name in part.source_names], np.uint8) for part in self.proposals]
        boxes = np.concatenate([part.boxes for part in self.proposals])
        return {
            "ids": np.array(ids),
            "pixels": np.array(pixels, "S32"),
            "files": np.array(files, "S32"),
            "sizes": np.array([part.image_size for part in self.proposals], np.int64),
            "offsets": np.cumsum([0] + [len(part) for part in self.proposals]).astype(np.int64),
            "boxes": boxes.astype(_exact_type(boxes)),
            "scores": np.concatenate([part.scores for part in self.proposals]),
            "source": np.concatenate([t[part.source] for t, part in zip(translate, self.proposals, strict=True)]),
            "source_names": np.array(names),
        }


def _exact_type(boxes: Boxes) -> type[np.generic]:
    whole = (boxes == np.rint(boxes)).all() and boxes.min(initial=0) >= 0
    return np.uint16 if whole and boxes.max(initial=0) <= np.iinfo(np.uint16).max else np.float32


class StoreWriter:
    """Fills a folder of proposals, or continues to; a context manager that writes the last shard at its end.

    Args:
        folder: made if it is missing.
        made: what decides the boxes, as JSON values: generator, parameters, EXIF policy.
        facts: more for the manifest, such as versions and the command; they may differ from run to run.

    Attributes:
        known: the photos by name, those that wait for their shard included; without the key of their pixels.
        boxes: how many boxes these have.

    Raises:
        StoreError: the folder holds something else, or boxes that were made in another way.
        FolderInUse: another run writes there.
    """

    def __init__(self, folder: str | Path, made: Mapping[str, Any], facts: Mapping[str, Any] | None = None) -> None:
        self.folder, self._made, self._facts = Path(folder), dict(made), dict(facts or {})
        self._check()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(self.folder)  # of two shards of one number the later would replace the earlier
        self._check()  # again: another run may have begun and ended meanwhile
        sweep(self.folder, lambda name: name == MANIFEST or SHARD.fullmatch(name) is not None)
        self.known = {photo.image_id: photo for photo in stored_photos(self.folder, pixels=False)}
        self.boxes = sum(photo.boxes for photo in self.known.values())
        self._files, self._next = FileDigests(self.folder), _next_number(self.folder)
        self._batch, self._begin = _Batch(), time.monotonic()
        self._write_manifest()

    def _check(self) -> None:
        if self.folder.is_file():
            raise StoreError(f"{self.folder}: is a file; proposals are stored in a folder")
        if not self.folder.is_dir() or all(path.name.startswith(".") for path in self.folder.iterdir()):
            return  # hidden files are those of the desktop, and our own partial ones
        earlier = read_manifest(self.folder)
        made = through_json(self._made)
        changed = [name for name in made if earlier.get(name) != made[name]]
        if changed:
            raise StoreError(
                f"{self.folder}: holds boxes made in another way ({', '.join(changed)}); name another folder"
            )

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.flush()
        finally:
            self._lock.release()

    def changed(self, photos: Iterable[tuple[str, str | Path]]) -> frozenset[str]:
        """Return the image ids of photos that have boxes, and are other photos by now or gone.

        Args:
            photos: image id and place of each.
        """
        known = ((image_id, path) for image_id, path in photos if image_id in self.known)
        return frozenset(name for name, key in self._files.digests(known) if key != self.known[name].file)

    def add(self, image_id: str, pixels: str, file: str, proposals: Proposals, stamp: Stamp | None = None) -> None:
        """Take the proposals of a photo; they are on disk after a while.

        If the name is there already, the newer boxes count.

        Args:
            image_id: its name.
            pixels: its `pixel_key`.
            file: its `file_key`.
            proposals: its boxes.
            stamp: of its file before it was read, if a later run is to know it by this.
        """
        self._batch.photos.append((image_id, pixels, file))
        self._batch.proposals.append(proposals)
        before = self.known.get(image_id)
        self.boxes += len(proposals) - (before.boxes if before else 0)
        self.known[image_id] = StoredPhoto(image_id, "", file, len(proposals), "", -1)
        if file and stamp is not None:
            self._files.add(image_id, stamp, file)
        if len(self._batch.photos) >= SHARD_PHOTOS or time.monotonic() - self._begin > SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the waiting photos as one more shard, then the manifest."""
        if self._batch.photos:
            shard = inside(self.folder, f"shard-{self._next:06d}.npz")
            with replacing(shard) as partial, partial.open("wb") as file:
                np.savez(file, allow_pickle=False, **self._batch.columns())
            self._next += 1
        self._files.write()
        self._batch, self._begin = _Batch(), time.monotonic()
        self._write_manifest()

    def _write_manifest(self) -> None:
        counts = {"photos": len(self.known), "boxes": self.boxes}
        content = {"format": FORMAT, "layout": LAYOUT, **self._made, **self._facts, **counts}
        write_json(inside(self.folder, MANIFEST), content)


def _next_number(folder: Path) -> int:
    names = map(SHARD.fullmatch, os.listdir(folder))
    return max((int(name[1]) for name in names if name), default=-1) + 1
