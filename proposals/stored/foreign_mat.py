"""Fast R-CNN's MATLAB files of proposals, whose reader may crash on hostile ones: see `stored.child_reader`."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from proposals.stored.foreign_entries import Entries, ForeignError, add_entry
from structures.boxes import Doubles, Floats
from structures.files import regular_file

NEAR_CORNER = np.array([1, 1, 0, 0], np.float64)  # subtracted from MATLAB's 1-based, inclusive corners


def read_mat(path: Path) -> Entries:
    """Read cells `boxes` of [y1 x1 y2 x2], 1-based and inclusive, with cells `images` of names; no scores.

    Raises:
        ForeignError: damaged, version 7.3 (which is HDF5), or not such a file.
    """
    from scipy.io import loadmat

    with regular_file(path).open("rb") as file:
        try:
            content = loadmat(file, variable_names=["boxes", "images"])
        except MemoryError:
            raise
        except Exception as error:  # scipy raises many kinds
            raise ForeignError(f"{path}: not a MATLAB file before version 7.3: {error}") from None
    boxes, images = (_cells(content, name, path) for name in ("boxes", "images"))
    if len(boxes) != len(images):
        raise ForeignError(f"{path}: {len(boxes)} cells of boxes but {len(images)} of images")
    entries: Entries = {}
    for number, (cell, image) in enumerate(zip(boxes, images, strict=True), start=1):
        name = _name(image, f"{path}: cell {number} of images")
        place = f"{path}: cell {number} ({name})"
        if not isinstance(cell, np.ndarray):  # a sparse matrix, or a function
            raise ForeignError(f"{place}: holds a {type(cell).__name__}, not a full matrix of numbers")
        add_entry(entries, name, cell, _falling(cell.size // 4), place, _from_matlab)
    return entries


def _cells(content: Any, name: str, path: Path) -> npt.NDArray[np.object_]:
    if name not in content:
        raise ForeignError(f"{path}: has no variables 'boxes' and 'images'")
    cells = content[name]
    if not isinstance(cells, np.ndarray) or cells.dtype != np.dtype(object):
        raise ForeignError(f"{path}: {name!r} is not a cell array")
    return cells.ravel()


def _name(cell: Any, place: str) -> str:
    """Return the text in a cell; some files wrap it in one more cell."""
    while isinstance(cell, np.ndarray) and cell.dtype == np.dtype(object) and cell.size == 1:
        cell = cell.ravel()[0]
    if isinstance(cell, np.ndarray) and cell.dtype.kind == "U" and cell.size <= 1:
        return str(cell.ravel()[0]) if cell.size else ""
    raise ForeignError(f"{place}: does not hold the name of a photo")


def _from_matlab(rows: Doubles) -> Doubles:
    return rows[:, [1, 0, 3, 2]] - NEAR_CORNER  # half-open: the far corner stays


def _falling(count: int) -> Floats:
    return np.linspace(1, 0, count, endpoint=False).astype(np.float32)
