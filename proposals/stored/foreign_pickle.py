"""Detectron2's pickles of proposals, read without running any code from them.

The opcodes are looked through first: a memo index or a length beyond what the file's size allows would make
Python reserve gigabytes for a few bytes. Then the file is read with stand-ins for the few things that arrays and
plain values need; they check every shape against the bytes that are there.
"""

import io
import math
import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from proposals.stored.foreign_entries import Entries, ForeignError, add_entry, as_they_are, brief, from_sides

XYXY, XYWH = 0, 1  # Detectron2's BoxMode.XYXY_ABS and BoxMode.XYWH_ABS
MEMO = ("PUT", "BINPUT", "LONG_BINPUT")
KEYS = (("ids", "indexes"), ("boxes",), ("objectness_logits", "scores"))
DTYPE = re.compile(r"b1|[iu][1248]|f[248]|O8?|[SU][1-9]\d{0,4}")  # as pickles name the types of plain arrays
ORDERS = ("<", ">", "|", "=")
BYTES_PER_BOX = 4  # at least, in a file that holds each box once


def read_pickle(path: Path) -> Entries:
    """Read `ids`, `boxes` and `objectness_logits`, an entry per photo; older files say `indexes` and `scores`.

    Raises:
        ForeignError: damaged, hostile, or not such a file.
    """
    content = path.read_bytes()
    try:
        scan(content)
        found = SafeUnpickler(io.BytesIO(content), encoding="latin1").load()
    except ForeignError as error:
        raise ForeignError(f"{path}: {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise ForeignError(f"{path}: cannot be read as a pickle: {error}") from None
    if not isinstance(found, dict):
        raise ForeignError(f"{path}: holds a {type(found).__name__}, not Detectron2's dictionary")
    return _entries(found, path, len(content) // BYTES_PER_BOX)


def scan(content: bytes) -> None:
    """Check the opcodes of a pickle; none is executed.

    Raises:
        ForeignError: a memo index or a frame beyond what the size of the file allows.
        InputError: a length that reaches beyond the end, or not a pickle.
    """
    for opcode, argument, position in pickletools.genops(content):
        if position is None:
            continue
        if opcode.name in MEMO and not 0 <= int(argument or 0) <= position:
            raise ForeignError(f"the pickle asks for more memory than its size allows (byte {position})")
        if opcode.name == "FRAME" and int(argument or 0) > len(content) - position:
            raise ForeignError(f"the pickle has a frame that reaches beyond its end (byte {position})")


class Dtype:
    """Replaces NumPy's dtype: the name and the byte order of a plain type."""

    def __init__(self, name: Any = "", *_: Any) -> None:
        self.name, self.order = name, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def real(self) -> np.dtype[Any]:
        """Return the dtype; ForeignError if it is not one of a plain array."""
        known = isinstance(self.name, str) and DTYPE.fullmatch(self.name) and self.order in ORDERS
        if not known:
            raise ForeignError(f"the pickle holds an array of {brief(self.name)}, not of plain numbers or names")
        plain: np.dtype[Any] = np.dtype(self.name).newbyteorder(self.order)
        return plain


class Array(np.ndarray[Any, Any]):
    """An array that checks its shape against its bytes before it takes them from a pickle."""

    def __setstate__(self, state: Any, /) -> None:
        _, shape, dtype, fortran, raw = state
        real, held = dtype.real(), raw.encode("latin1") if isinstance(raw, str) else raw  # str: from Python 2
        _require_fit(shape, held, real)
        super().__setstate__((1, shape, real, bool(fortran), held))  # type: ignore[arg-type]  # NumPy takes no other bool


def _require_fit(shape: Any, held: Any, dtype: np.dtype[Any]) -> None:
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise ForeignError("the pickle holds an array without a proper shape")
    kind, each = (list, 1) if dtype.hasobject else (bytes | bytearray, dtype.itemsize)
    if not isinstance(held, kind) or len(held) != math.prod(shape) * each:
        raise ForeignError("the pickle holds an array that is larger or smaller than its values")


def _reconstruct(*_: Any) -> Array:
    return np.ndarray.__new__(Array, (0,), "b")  # its state brings shape and values


def _scalar(dtype: Dtype, raw: Any) -> Any:
    return _array(raw, dtype, ())[()]


def _from_buffer(raw: Any, dtype: Dtype, shape: Any, order: str = "C", axes: Any = None) -> npt.NDArray[Any]:
    if order == "K" and axes is not None:  # neither C nor Fortran: how NumPy 2.3 and later write such arrays
        return _array(raw, dtype, shape).transpose(axes)
    return _array(raw, dtype, shape, order)


def _array(raw: Any, dtype: Dtype, shape: Any, order: Any = "C") -> npt.NDArray[Any]:
    real, held = dtype.real(), raw.encode("latin1") if isinstance(raw, str) else raw
    if real.hasobject:
        raise ForeignError("the pickle holds objects where numbers belong")
    _require_fit(shape, held, real)
    return np.ndarray(shape, real, buffer=bytes(held), order=order)


def _encode(text: str, encoding: str = "") -> bytes:
    """Return bytes as protocols before 3 write them."""
    if encoding != "latin1":
        raise ForeignError("the pickle holds bytes in an encoding that proposals do not need")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


def _box_mode(value: Any) -> int:
    return value if type(value) is int else -1


def _type_only(*_: Any) -> None:  # stands where a pickle names the class of arrays, and is never called
    raise ForeignError("the pickle makes an array in a way that proposals do not need")


STAND_INS: Mapping[tuple[str, str], Callable[..., Any]] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    ("numpy", "ndarray"): _type_only,
    ("numpy", "dtype"): Dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,  # an empty array of Python 2's protocol
    ("collections", "OrderedDict"): OrderedDict,
    ("detectron2.structures.boxes", "BoxMode"): _box_mode,
}


class SafeUnpickler(pickle.Unpickler):
    """Reads arrays and plain values; anything else in a pickle is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the replacement for a callable that a pickle may name."""
        if (module, name) not in STAND_INS:
            raise ForeignError(f"the pickle asks for {module}.{name}, which proposals do not need; it was not run")
        return STAND_INS[module, name]


def _entries(content: Mapping[Any, Any], path: Path, most_boxes: int) -> Entries:
    ids, boxes, scores = (_first(content, path, *names) for names in KEYS)
    if not len(ids) == len(boxes) == len(scores):
        raise ForeignError(f"{path}: {len(ids)} ids, {len(boxes)} entries of boxes, {len(scores)} of scores")
    mode = content.get("bbox_mode", XYXY)
    if not isinstance(mode, int | np.integer) or mode not in (XYXY, XYWH):
        raise ForeignError(f"{path}: bbox_mode {brief(mode)} is not known; 0 (xyxy) and 1 (xywh) are")
    corners = from_sides if mode == XYWH else as_they_are
    entries: Entries = {}
    for number, (name, rows, column) in enumerate(zip(ids, boxes, scores, strict=True), start=1):
        add_entry(entries, name, rows, column, f"{path}: photo {number} ({brief(name)})", corners)
        most_boxes -= np.size(rows) // 4
        if most_boxes < 0:
            raise ForeignError(f"{path}: holds more boxes than its size allows: photos share them")
    return entries


def _first(content: Mapping[Any, Any], path: Path, *names: str) -> Any:
    for name in names:
        if isinstance(content.get(name), list | tuple | np.ndarray) and np.ndim(_outer(content[name])):
            return content[name]
    raise ForeignError(f"{path}: has no list {' or '.join(map(repr, names))}")


def _outer(values: Any) -> Any:
    """Return an array as it is, and of a list something of one axis: its contents may be endless."""
    return values if isinstance(values, np.ndarray) else [0]
