"""Proposals that other programs wrote: Fast R-CNN's .mat, Detectron2's pickles, COCO's result lists.

None of them knows the photos' pixels, so boxes are found by the photo's name: as it is, without its suffix, without its
folders, or as a number where the name is one. Boxes come out in our convention, best first.
"""

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from structures.boxes import Boxes, Floats, as_boxes
from structures.files import regular_file
from structures.nms import best_first

COCO_DIGITS = 12  # of the file names of COCO, 000000000139.jpg, which say the photo's number
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


Entries = dict[str | int, tuple[Boxes, Floats]]


class OutsideError(ValueError):
    """A proposal file that cannot be used; the message names the file and the entry."""


class OutsideBoxes:
    """The boxes of a file, by the name of the photo.

    Args:
        place: the file, for messages.
        entries: name or number of each photo -> boxes (N, 4) xyxy and scores (N,), in any order.
    """

    def __init__(self, place: Path, entries: Mapping[str | int, tuple[Boxes, Floats]]) -> None:
        self.place, self._entries = place, dict(entries)

    @property
    def image_ids(self) -> Sequence[str]:
        """Names of the photos, as the file has them."""
        return tuple(map(str, self._entries))

    def boxes_of(self, image_id: str) -> tuple[Boxes, Floats]:
        """Return the boxes (N, 4) and scores (N,) of a photo, best first.

        Raises:
            OutsideError: the file has no photo of this name.
        """
        boxes, scores = self._entries[self.entry_of(image_id)]
        order = best_first(scores)
        return boxes[order], scores[order]

    def entry_of(self, image_id: str) -> str | int:
        """Return under which name or number the file lists a photo.

        Raises:
            OutsideError: the file has no photo of this name.
        """
        number = number_of(image_id)
        for name in [*names_for(image_id), *([] if number is None else [number, str(number)])]:
            if name in self._entries:
                return name
        numbers = any(isinstance(name, int) for name in self._entries)
        why = "; its numbers mean photos that are named as COCO's (000000000139.jpg), others need their names"
        seen = f"it names photos like {self.image_ids[:3]}{why if numbers else ''}"
        raise OutsideError(f"{self.place}: has no photo {image_id!r}; {seen}")


def names_for(image_id: str) -> list[str]:
    """Return under which names a photo may be listed, the most exact first.

    >>> names_for("val/000000000139.jpg")
    ['val/000000000139.jpg', 'val/000000000139', '000000000139.jpg', '000000000139']
    """
    path = PurePosixPath(image_id)
    return list(dict.fromkeys([image_id, str(path.with_suffix("")), path.name, path.stem]))


def number_of(image_id: str) -> int | None:
    """Return the number of a photo: its whole name, or that of a file of COCO.

    Of other files, such as 7.jpg, nobody knows whether they are numbered as the boxes are.

    >>> number_of("val/000000000139.jpg"), number_of("0139"), number_of("7.jpg")
    (139, 139, None)
    """
    stem = PurePosixPath(image_id).stem
    numbered = stem == image_id or len(stem) == COCO_DIGITS
    return int(stem) if numbered and stem.isascii() and stem.isdecimal() else None


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
    return OutsideBoxes(path, readers[path.suffix.lower()](regular_file(path)))


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


def _add(entries: Entries, name: Any, entry: tuple[Boxes, Floats], path: Path) -> None:
    key = _key(name, path)
    if key in entries:
        raise OutsideError(f"{path}: photo {key} is there twice")
    entries[key] = entry


def _key(name: Any, path: Path) -> str | int:
    """Return the name or the number of a photo; 139.0 is a number, too."""
    if isinstance(name, str):
        return str(name)
    whole = isinstance(name, float | np.floating) and float(name).is_integer()
    if whole or (isinstance(name, int | np.integer) and not isinstance(name, bool)):
        return int(name)
    raise OutsideError(f"{path}: {name!r:.60} is neither the name nor the number of a photo")


def _falling(count: int) -> Floats:
    return np.linspace(1, 0, count, endpoint=False).astype(np.float32)


def _read_mat(path: Path) -> Entries:
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
    entries: Entries = {}
    for number, (name, cell) in enumerate(zip(names, boxes, strict=True), start=1):
        raw = _entry(f"{path}: cell {number} ({name})", cell, np.zeros(np.size(cell) // 4))[0]
        corners = raw[:, [1, 0, 3, 2]] - np.array([1, 1, 0, 0], np.float32)  # half-open: the far corner stays
        _add(entries, name, (corners.astype(np.float32), _falling(len(corners))), path)
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


def _read_pickle(path: Path) -> Entries:
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
    if not isinstance(mode, int | np.integer) or mode not in (XYXY, XYWH):
        raise OutsideError(f"{path}: bbox_mode {mode!r:.60} is not known; 0 (xyxy) and 1 (xywh) are")
    entries: Entries = {}
    for name, rows, column in zip(ids, boxes, scores, strict=True):
        corners, values = _entry(f"{path}: photo {name}", rows, column)
        _add(entries, name, (_corners(corners) if mode == XYWH else corners, values), path)
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


def _read_json(path: Path) -> Entries:
    """COCO results: a list of {"image_id", "bbox": [x, y, width, height], "score"}."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise OutsideError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, list):
        raise OutsideError(f"{path}: not a list of COCO results")
    found: dict[str | int, tuple[list[Any], list[Any]]] = {}
    for number, entry in enumerate(content):
        if not isinstance(entry, dict) or "image_id" not in entry or "bbox" not in entry:
            raise OutsideError(f"{path}: entry {number} has no image_id and bbox")
        if not isinstance(entry["bbox"], list) or len(entry["bbox"]) != 4:
            raise OutsideError(f"{path}: entry {number}: bbox must hold four numbers, got {entry['bbox']!r:.60}")
        boxes, scores = found.setdefault(_key(entry["image_id"], path), ([], []))
        boxes.append(entry["bbox"])
        scores.append(entry.get("score", 1.0))
    entries: Entries = {}
    for name, (boxes, scores) in found.items():
        rows, values = _entry(f"{path}: image {name}", boxes, scores)
        entries[name] = (_corners(rows), values)
    return entries
