"""Proposals that other programs wrote: Fast R-CNN's .mat, Detectron2's pickles, COCO's result lists.

None of them knows the photos' pixels, so boxes are found by the photo's name: as it is, without its suffix, without its
folders, or as a number where the file numbers its photos. Boxes come out in our convention, best first.
"""

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from structures.boxes import Boxes, Floats, as_boxes
from structures.nms import best_first

SUFFIXES = (".mat", ".pkl", ".pickle", ".json")
XYXY, XYWH = 0, 1  # Detectron2's BoxMode.XYXY_ABS and BoxMode.XYWH_ABS

# All that arrays and plain values need; a pickle that names anything else is refused before it can run.
HARMLESS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("__builtin__", "bytes"),  # an empty array of Python 2's protocol
    ("collections", "OrderedDict"),
}
BOX_MODE = ("detectron2.structures.boxes", "BoxMode")


class OutsideError(ValueError):
    """A proposal file that cannot be used; the message names the file and the entry."""


class OutsideBoxes:
    """The boxes of a file, by the name of the photo.

    Args:
        place: the file, for messages.
        entries: name of each photo -> boxes (N, 4) xyxy and scores (N,), in any order.
    """

    def __init__(self, place: Path, entries: Mapping[str, tuple[Boxes, Floats]]) -> None:
        self.place, self._entries = place, dict(entries)

    @property
    def image_ids(self) -> Sequence[str]:
        """Names of the photos, as the file has them."""
        return tuple(self._entries)

    def boxes_of(self, image_id: str) -> tuple[Boxes, Floats]:
        """Return the boxes (N, 4) and scores (N,) of a photo, best first.

        Raises:
            OutsideError: the file has no photo of this name.
        """
        for name in names_for(image_id):
            if name in self._entries:
                boxes, scores = self._entries[name]
                order = best_first(scores)
                return boxes[order], scores[order]
        raise OutsideError(f"{self.place}: has no photo {image_id!r}; it names photos like {self.image_ids[:3]}")


def names_for(image_id: str) -> list[str]:
    """Return under which names a photo may be listed, the most exact first.

    >>> names_for("val/000000000139.jpg")
    ['val/000000000139.jpg', 'val/000000000139', '000000000139.jpg', '000000000139', '139']
    """
    path = PurePosixPath(image_id)
    names = [image_id, str(path.with_suffix("")), path.name, path.stem]
    if path.stem.isascii() and path.stem.isdecimal():
        names.append(str(int(path.stem)))
    return list(dict.fromkeys(names))


def read_outside(path: str | Path) -> OutsideBoxes:
    """Read a file of one of SUFFIXES.

    Raises:
        OutsideError: unknown suffix, damaged, or not such a file.
        OSError: the file cannot be opened.
    """
    path = Path(path)
    readers = {".mat": _read_mat, ".pkl": _read_pickle, ".pickle": _read_pickle, ".json": _read_json}
    if path.suffix.lower() not in readers:
        raise OutsideError(f"{path}: not a proposal file; known are {', '.join(SUFFIXES)} and folders of rcnn propose")
    return OutsideBoxes(path, readers[path.suffix.lower()](path))


def _entry(place: str, boxes: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Boxes, Floats]:
    try:
        with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which is refused below
            rows, column = as_boxes(boxes), np.asarray(scores, np.float64).reshape(-1).astype(np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise OutsideError(f"{place}: {error}") from None
    if len(rows) != len(column):
        raise OutsideError(f"{place}: {len(rows)} boxes but {len(column)} scores")
    if not (np.isfinite(rows).all() and np.isfinite(column).all()):
        raise OutsideError(f"{place}: boxes or scores are not finite")
    return rows, column


def _falling(count: int) -> Floats:
    return np.linspace(1, 0, count, endpoint=False).astype(np.float32)


def _read_mat(path: Path) -> dict[str, tuple[Boxes, Floats]]:
    """Fast R-CNN: cells `boxes` of [y1 x1 y2 x2], 1-based and inclusive, beside cells `images` of names; no scores."""
    from scipy.io import loadmat

    with path.open("rb") as file:
        try:
            content = loadmat(file, variable_names=["boxes", "images"])
        except Exception as error:  # scipy raises many kinds; version 7.3 files are HDF5
            raise OutsideError(f"{path}: not a MATLAB file before version 7.3: {error}") from None
    if "boxes" not in content or "images" not in content:
        raise OutsideError(f"{path}: has no variables 'boxes' and 'images'")
    boxes = content["boxes"].ravel()
    names = [str(np.ravel(name)[0]) if np.size(name) else "" for name in content["images"].ravel()]
    if len(boxes) != len(names):
        raise OutsideError(f"{path}: {len(boxes)} cells of boxes but {len(names)} of images")
    entries = {}
    for number, (name, cell) in enumerate(zip(names, boxes, strict=True), start=1):
        raw = _entry(f"{path}: cell {number} ({name})", cell, np.zeros(np.size(cell) // 4))[0]
        corners = raw[:, [1, 0, 3, 2]] - np.array([1, 1, 0, 0], np.float32)  # half-open: the far corner stays
        entries[name] = (corners.astype(np.float32), _falling(len(corners)))
    return entries


class SafeUnpickler(pickle.Unpickler):
    """Reads arrays and plain values; whatever else a pickle wants to make is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle may call."""
        if (module, name) == BOX_MODE:
            return int
        if (module, name) in HARMLESS:
            return super().find_class(module, name)
        raise OutsideError(f"the pickle asks for {module}.{name}, which proposals do not need; it was not run")


def _read_pickle(path: Path) -> dict[str, tuple[Boxes, Floats]]:
    """Detectron2: `ids`, `boxes` and `objectness_logits`, one entry a photo; older files say `indexes` and `scores`."""
    with path.open("rb") as file:
        try:
            content = SafeUnpickler(file, encoding="latin1").load()
        except OutsideError as error:
            raise OutsideError(f"{path}: {error}") from None
        except Exception as error:  # a damaged pickle can raise anything
            raise OutsideError(f"{path}: cannot be read as a pickle: {error}") from None
    if not isinstance(content, dict):
        raise OutsideError(f"{path}: holds a {type(content).__name__}, not Detectron2's dictionary")
    ids, boxes, scores = (_first(content, path, *names) for names in _PICKLE_KEYS)
    if not len(ids) == len(boxes) == len(scores):
        raise OutsideError(f"{path}: {len(ids)} ids, {len(boxes)} entries of boxes, {len(scores)} of scores")
    mode = content.get("bbox_mode", XYXY)
    if mode not in (XYXY, XYWH):
        raise OutsideError(f"{path}: bbox_mode {mode} is not known; 0 (xyxy) and 1 (xywh) are")
    entries = {}
    for name, rows, column in zip(ids, boxes, scores, strict=True):
        corners, values = _entry(f"{path}: photo {name}", rows, column)
        entries[str(name)] = (_corners(corners) if mode == XYWH else corners, values)
    return entries


_PICKLE_KEYS = (("ids", "indexes"), ("boxes",), ("objectness_logits", "scores"))


def _first(content: Mapping[str, Any], path: Path, *names: str) -> Any:
    for name in names:
        if name in content and hasattr(content[name], "__len__"):
            return content[name]
    raise OutsideError(f"{path}: has no list {' or '.join(map(repr, names))}")


def _corners(sides: Boxes) -> Boxes:
    """Turn x, y, width, height into corners."""
    return np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], axis=1).astype(np.float32)


def _read_json(path: Path) -> dict[str, tuple[Boxes, Floats]]:
    """COCO results: a list of {"image_id", "bbox": [x, y, width, height], "score"}."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OutsideError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, list):
        raise OutsideError(f"{path}: not a list of COCO results")
    found: dict[str, tuple[list[Any], list[Any]]] = {}
    for number, entry in enumerate(content):
        if not isinstance(entry, dict) or "image_id" not in entry or "bbox" not in entry:
            raise OutsideError(f"{path}: entry {number} has no image_id and bbox")
        if not isinstance(entry["bbox"], list) or len(entry["bbox"]) != 4:
            raise OutsideError(f"{path}: entry {number}: bbox must hold four numbers, got {entry['bbox']!r:.60}")
        boxes, scores = found.setdefault(str(entry["image_id"]), ([], []))
        boxes.append(entry["bbox"])
        scores.append(entry.get("score", 1.0))
    entries = {}
    for name, (boxes, scores) in found.items():
        rows, values = _entry(f"{path}: image {name}", boxes, scores)
        entries[name] = (_corners(rows), values)
    return entries
