"""The outputs of a frozen trunk for all regions, kept on disk: computed once, photo by photo, and read by rows.

A trunk that is not trained gives the same features every time. Computing them once, with the quickest engine, and
training the layers after it is how a network is fine-tuned on a CPU in minutes.
"""

import errno
import math
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from classifier.ahead import HELD_PER_THREAD, map_ahead
from classifier.crops import cut_regions
from classifier.engines import Engine
from classifier.googlenet import GoogLeNet
from classifier.sampling import LabelledRegions
from classifier.weights.preprocessing import Preprocessing
from structures.boxes import Indices
from structures.errors import InputError
from structures.files import naming, write_json
from structures.json_reader import MAX_RECORD_BYTES, JsonError, read_json
from structures.records import Image

ReadPhoto = Callable[[int], Image]


class Trunk(nn.Module):
    """The layers of a GoogLeNet up to and including one layer."""

    def __init__(self, network: GoogLeNet, last: str) -> None:
        super().__init__()
        self.network, self.last = network, last

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, S, S) pixels to the output of layer `last`."""
        return self.network.trunk(x, last=self.last)


class Head(nn.Module):
    """The layers of a GoogLeNet after one of them, up to the logits: what is trained on kept features."""

    def __init__(self, network: GoogLeNet, after: str | None) -> None:
        super().__init__()
        self.network, self.after = network, after

    def forward(self, x: Tensor) -> Tensor:
        """Map the output of layer `after` (None: pixels) to logits."""
        return self.network.classify(self.network.trunk(x, after=self.after))


def keep_features(
    path: Path,
    regions: LabelledRegions,
    read: ReadPhoto,
    engine: Engine,
    preprocessing: Preprocessing,
    *,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> "np.memmap[Any, Any]":
    """Compute the features of all regions into a float16 .npy file, photo by photo; resumes where it stopped.

    Args:
        path: the .npy file; a small .json of the same name holds the number of photos done.
        regions: rows sorted by photo.
        read: photo index -> RGB image.
        engine: runs the trunk.
        preprocessing: of the weights.
        progress: wraps the photo indices, to show a bar.

    Returns:
        A read-only memory map (N, C, H, W) float16.

    Raises:
        OSError: there is no room for them on the disk.
        InputError: an output is too large for float16, or not finite at all.
    """
    assert (np.diff(regions.photo) >= 0).all(), "regions must be sorted by photo"
    photos, first = np.unique(regions.photo, return_index=True)
    bounds = np.append(first, len(regions))
    mark = path.with_suffix(".json")
    done = _photos_done(mark, len(photos)) if path.exists() else 0
    if not done:
        mark.unlink(missing_ok=True)  # of a file that is gone: it would count rows that are not there
    kept = _open_map(path, len(regions)) if done else _new_file(path, engine, preprocessing, len(regions))
    # Written as a file, not through the map: there a full disk would kill the process silently.
    with ThreadPoolExecutor(1) as pool, naming(path), path.open("rb+") as file:
        images = map_ahead(pool, read, photos[done:].tolist(), held=HELD_PER_THREAD)
        for i, image in zip(progress(range(done, len(photos))), images, strict=True):
            rows = slice(bounds[i], bounds[i + 1])
            boxes, mirrored = regions.boxes[rows], regions.mirrored[rows]
            batches = cut_regions(image, boxes, mirrored, preprocessing, engine.device, batch_size=engine.batch_size)
            outputs = torch.cat([engine(batch) for batch in batches]).to(torch.float16).cpu()
            if not torch.isfinite(outputs).all():
                raise InputError(f"{path}: features of photo {i + 1} of {len(photos)} are not finite in float16")
            file.seek(kept.offset + int(bounds[i]) * kept[:1].nbytes)
            file.write(outputs.numpy().tobytes())
            if i % 50 == 49 or i == len(photos) - 1:
                file.flush()
                os.fsync(file.fileno())
                write_json(mark, {"photos": i + 1})
    return _open_map(path, len(regions))


def _open_map(path: Path, rows: int) -> "np.memmap[Any, Any]":
    """Map a file of features for reading only: a map for writing would lengthen a cut file with zeros."""
    remedy = "remove it to compute the features again"
    try:
        kept = np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}); {remedy}") from None
    if kept.shape[:1] != (rows,) or kept.dtype != np.float16:
        raise InputError(f"{path}: damaged (holds {kept.shape} {kept.dtype}, not {rows} rows of features); {remedy}")
    return kept


def _photos_done(mark: Path, photos: int) -> int:
    """Return how many photos an earlier run got done; none where its record does not say."""
    try:
        record = read_json(mark, max_bytes=MAX_RECORD_BYTES)
    except (FileNotFoundError, JsonError):
        return 0
    done = record.get("photos") if isinstance(record, dict) else None
    return done if type(done) is int and 0 <= done <= photos else 0


def _new_file(path: Path, engine: Engine, preprocessing: Preprocessing, rows: int) -> "np.memmap[Any, Any]":
    path.parent.mkdir(parents=True, exist_ok=True)
    probe = engine(torch.zeros(1, 3, preprocessing.size, preprocessing.size, device=engine.device))
    shape = (rows, *probe.shape[1:])
    needed, free = math.prod(shape) * np.dtype(np.float16).itemsize, shutil.disk_usage(path.parent).free
    if needed > free:  # so that it ends now, not hours later
        raise OSError(errno.ENOSPC, f"features take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} are free", str(path))
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)


class RowReader:
    """Reads rows of a mapped .npy file from its file.

    Through the map itself every page is a fault in the kernel that stops all of Python (benchmarks/LOG.md).
    """

    def __init__(self, mapped: "np.memmap[Any, Any]") -> None:
        self._path, self._first = mapped.filename, mapped.offset
        self._shape, self._dtype = mapped.shape[1:], mapped.dtype

    def __call__(self, rows: Indices) -> np.ndarray:
        """Return the rows as an array.

        Raises:
            InputError: the file ends before a row does.
        """
        assert self._path is not None
        found = np.empty((len(rows), *self._shape), self._dtype)
        with open(self._path, "rb", buffering=0) as file:
            for row, place in zip(rows, found.reshape(len(rows), -1).view(np.uint8), strict=True):
                file.seek(self._first + int(row) * place.nbytes)
                if file.readinto(place.data) != place.nbytes:
                    raise InputError(f"{self._path}: ends in row {row}")
        return found
