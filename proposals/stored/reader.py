"""Proposals on disk: a folder of shards that are read and written one at a time, with a manifest of how they were made.

    FOLDER/manifest.json       generator, every parameter, EXIF policy, versions, counts
    FOLDER/shard-000000.npz    the boxes of up to 128 photos, in the generator's order

A photo is looked up by its pixels (`pixel_key`), whatever its name; the name is stored too. All boxes of a folder were
made with the same parameters. Files are written whole or not at all, so a run that was stopped continues after the last
shard.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from structures.boxes import Boxes, Floats
from structures.errors import InputError
from structures.files import file_digest, regular_file
from structures.json_reader import MAX_RECORD_BYTES, JsonError, read_json
from structures.npz import NpzError, read_arrays
from structures.photo_names import PhotoNames
from structures.records import Image, Proposals

FORMAT = "googlenet-rcnn proposals 1"
MANIFEST = "manifest.json"
CACHED_SHARDS = 4


class StoreError(InputError):
    """A folder of proposals that cannot be used; the message names it."""


def pixel_key(image: Image) -> str:
    """Return the key of a photo: 32 hexadecimal digits of its size and pixels.

    >>> pixel_key(np.zeros((2, 3, 3), np.uint8)) == pixel_key(np.zeros((3, 2, 3), np.uint8))
    False
    """
    shape = np.array(image.shape, "<i8").tobytes()
    return blake2b(shape + np.ascontiguousarray(image).tobytes(), digest_size=16).hexdigest()


def file_key(path: str | Path) -> str:
    """Return the key of a file's bytes: a photo that is known by it need not be decoded again."""
    return file_digest(regular_file(path))


@dataclass(frozen=True, slots=True)
class StoredPhoto:
    """Where the boxes of one photo are: its name, its keys, how many boxes, and shard and row."""

    image_id: str
    pixels: str
    file: str
    boxes: int
    shard: str
    row: int


class ProposalStore:
    """Reads a folder of proposals; only an index of its photos is held in memory.

    Args:
        folder: made by a `StoreWriter`.

    Raises:
        StoreError: not such a folder, or a damaged one.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        self._load = lru_cache(CACHED_SHARDS)(self._read_shard)
        self._by_id: dict[str, StoredPhoto] = {}
        self._by_pixels: dict[str, StoredPhoto] = {}
        self._same_pixels: dict[str, list[StoredPhoto]] = {}  # photos before the one in `_by_pixels`
        for photo in stored_photos(self.folder):
            self._by_id[photo.image_id] = photo
            before = self._by_pixels.get(photo.pixels)
            if before is not None and before.image_id != photo.image_id:
                self._same_pixels.setdefault(photo.pixels, []).append(before)
            self._by_pixels[photo.pixels] = photo

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def image_ids(self) -> Sequence[str]:
        """Names of the photos, in the order they were stored."""
        return tuple(self._by_id)

    @property
    def photos(self) -> Mapping[str, StoredPhoto]:
        """The photos by name."""
        return self._by_id

    @cached_property
    def _names(self) -> PhotoNames:
        return PhotoNames(self.image_ids)

    def find(self, image: Image) -> Proposals | None:
        """Return the proposals of a photo with these pixels; None if there are none.

        Raises:
            StoreError: several photos have these pixels, but other boxes; or a shard is damaged.
        """
        photo = self._by_pixels.get(pixel_key(image))
        if photo is None:
            return None
        found = self.proposals_at(photo)
        for other in self._same_pixels.get(photo.pixels, ()):
            if self._by_id[other.image_id] is other and not _equal(found, self.proposals_at(other)):
                raise StoreError(
                    f"{self.folder}: {other.image_id} and {photo.image_id} have the same pixels, but other boxes; "
                    "boxes are looked up by pixels here, so store one of the two photos alone"
                )
        return found

    def proposals_of(self, image_id: str) -> Proposals:
        """Return the proposals of a photo by its name, looked up with `PhotoNames`.

        Raises:
            StoreError: there is no photo of this name.
        """
        name = self._names.find(image_id)
        if name is not None:
            return self.proposals_at(self._by_id[name])
        raise StoreError(f"{self.folder}: holds no photo {image_id!r}; it names photos like {self.image_ids[:3]}")

    named = proposals_of  # the earlier name, for scripts that call it

    def boxes_of(self, image_id: str) -> tuple[Boxes, Floats]:
        """Return the boxes (N, 4) and scores (N,) of a photo by its name, best first, but for a union."""
        proposals = self.proposals_of(image_id)
        return proposals.boxes, proposals.scores

    def proposals_at(self, photo: StoredPhoto) -> Proposals:
        """Return the proposals of one of `photos`.

        Raises:
            StoreError: the shard is damaged.
        """
        shard = self._load(photo.shard)
        rows = slice(shard["offsets"][photo.row], shard["offsets"][photo.row + 1])
        height, width = (int(side) for side in shard["sizes"][photo.row])
        names = tuple(str(name) for name in shard["source_names"])
        boxes = shard["boxes"][rows].astype(np.float32)
        return Proposals(boxes, shard["scores"][rows], (height, width), shard["source"][rows], names)

    def _read_shard(self, name: str) -> dict[str, npt.NDArray[Any]]:
        path = self.folder / name
        columns = _read_columns(path, "sizes", "offsets", "boxes", "scores", "source", "source_names")
        _check_boxes(columns, path)
        return columns


def _equal(one: Proposals, other: Proposals) -> bool:
    return np.array_equal(one.boxes, other.boxes) and np.array_equal(one.scores, other.scores)


def stored_photos(folder: Path, *, pixels: bool = True) -> Iterator[StoredPhoto]:
    """Yield the photos of a folder of proposals, in the order they were stored; of one stored twice the last counts.

    Args:
        folder: may be empty.
        pixels: with the keys of their pixels, which take half of the memory; else these are empty.

    Raises:
        StoreError: a shard is damaged.
    """
    for path in sorted(folder.glob("shard-*.npz")):
        columns = _read_columns(path, "ids", "pixels", "files", "offsets")
        _check_index(columns, path)
        counts, shard = np.diff(columns["offsets"]).tolist(), path.name
        keys = columns["pixels"].astype(str).tolist() if pixels else [""] * len(counts)
        rows = zip(columns["ids"].tolist(), keys, columns["files"].astype(str).tolist(), counts, strict=True)
        yield from (StoredPhoto(*row, shard, number) for number, row in enumerate(rows))


def _read_columns(path: Path, *names: str) -> dict[str, npt.NDArray[Any]]:
    try:
        return read_arrays(path, names)
    except NpzError as error:
        raise _damaged(path, error) from None


def _check_index(columns: Mapping[str, npt.NDArray[Any]], path: Path) -> None:
    ids, offsets = columns["ids"], columns["offsets"]
    sound = ids.ndim == 1 and ids.dtype.kind == "U"
    keys = [columns["pixels"], columns["files"]]
    sound &= all(key.shape == ids.shape and key.dtype.kind == "S" for key in keys)
    sound = sound and all(key.isascii() for column in keys for key in column.tolist())
    sound &= offsets.dtype.kind in "iu" and offsets.shape == (ids.size + 1,)
    if not sound or offsets[0] != 0 or (offsets[1:] < offsets[:-1]).any():
        raise _damaged(path, "its index of photos does not fit together")


def _check_boxes(columns: Mapping[str, npt.NDArray[Any]], path: Path) -> None:
    boxes, offsets, names = columns["boxes"], columns["offsets"], columns["source_names"]
    rows = boxes.shape[:1]
    sound = boxes.shape == (*rows, 4) and boxes.dtype.kind in "uf" and columns["scores"].dtype.kind == "f"
    sound &= columns["scores"].shape == columns["source"].shape == rows and columns["source"].dtype == np.uint8
    sound &= columns["sizes"].shape == (len(offsets) - 1, 2) and columns["sizes"].dtype.kind in "iu"
    sound = sound and names.ndim == 1 and bool((columns["source"] < names.size).all())
    if not sound or offsets[-1] != len(boxes):
        raise _damaged(path, "its columns do not fit together")
    if columns["sizes"].min(initial=1) < 1 or not (np.isfinite(boxes).all() and np.isfinite(columns["scores"]).all()):
        raise _damaged(path, "its numbers are not those of boxes on photos")


def _damaged(path: Path, reason: object) -> StoreError:
    return StoreError(f"{path}: a damaged shard ({reason}); delete it and store its boxes again")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read how a folder of proposals was made.

    Raises:
        StoreError: there is no such folder, or it is not one of proposals.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise StoreError(f"{folder}: no proposals here (there is no {MANIFEST})")
    try:
        manifest = read_json(path, max_bytes=MAX_RECORD_BYTES)
    except JsonError as error:
        raise StoreError(str(error)) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise StoreError(f"{path}: not a manifest of format {FORMAT!r}")
    return manifest
