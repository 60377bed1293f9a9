"""Caffe's binary `.caffemodel`: the arrays in it, read without protobuf.

A caffemodel is one NetParameter message (BVLC/caffe, src/caffe/proto/caffe.proto). Only what leads to the weights is
decoded, everything else is stepped over. A length is believed only as far as the bytes reach, so that a damaged or
hostile file ends in an error and never needs more memory than a few times its own size.
"""

import math
import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from classifier.weights.fitting import WeightsError
from structures.errors import InputError
from structures.files import file_within

VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5  # protobuf's wire types; 3 and 4 are groups, which Caffe never had
MAX_BYTES = 2**31 - 1  # a protobuf message cannot be larger
MAX_AXES = 32  # kMaxBlobAxes in Caffe's blob.hpp
MAX_LAYERS = 10_000  # GoogLeNet has 170, the deepest ResNets a few thousand
MAX_FIELDS = 2**21  # of one message; walking through them takes a few seconds
BLOB_NAMES = ("weight", "bias")

NET_LAYER, NET_V1_LAYERS = 100, 2
BLOB_OLD_SIDES, BLOB_DATA, BLOB_SHAPE, BLOB_DOUBLES = (1, 2, 3, 4), 5, 7, 8


class _LayerFields(NamedTuple):
    name: int
    blobs: int


LAYER_FIELDS = {NET_LAYER: _LayerFields(name=1, blobs=7), NET_V1_LAYERS: _LayerFields(name=4, blobs=6)}


class _Field(NamedTuple):
    number: int
    wire: int
    value: int
    content: memoryview


def read_caffemodel(path: str | Path) -> dict[str, npt.NDArray[np.float32]]:
    """Read the weights of every layer that has any.

    Returns:
        Arrays by `layer/weight` and `layer/bias`, in the shapes of the file; further blobs are `layer/2` and so on.

    Raises:
        WeightsError: missing, damaged, or not a caffemodel.
    """
    try:
        content = file_within(path, MAX_BYTES, "a caffemodel", WeightsError).read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}") from None
    try:
        arrays = parse_caffemodel(content)
    except (ValueError, struct.error) as error:
        raise WeightsError(f"{path}: not a readable caffemodel: {error}") from error
    if not arrays:
        raise WeightsError(f"{path}: no layer with weights in it")
    return arrays


def parse_caffemodel(content: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """Decode the bytes of a caffemodel; see `read_caffemodel`.

    Raises:
        InputError: the bytes are not a NetParameter message; says where.
    """
    arrays: dict[str, npt.NDArray[np.float32]] = {}
    layers = (each for each in _fields(memoryview(content)) if each.number in LAYER_FIELDS and each.wire == LENGTH)
    for number, layer in enumerate(layers):
        if number == MAX_LAYERS:
            raise InputError(f"it holds more than {MAX_LAYERS} layers")
        arrays |= _layer(layer.content, LAYER_FIELDS[layer.number])
    return arrays


def _layer(content: memoryview, known: _LayerFields) -> dict[str, npt.NDArray[np.float32]]:
    name, blobs = "", []
    for field in _fields(content):
        if field.number == known.name and field.wire == LENGTH:
            name = bytes(field.content).decode("utf-8", errors="replace")
        elif field.number == known.blobs and field.wire == LENGTH:
            blobs.append(field.content)
    kinds = BLOB_NAMES + tuple(str(number) for number in range(len(BLOB_NAMES), len(blobs)))
    return {f"{name}/{kind}": _blob(blob, f"{name}/{kind}") for kind, blob in zip(kinds, blobs, strict=False)}


def _blob(content: memoryview, name: str) -> npt.NDArray[np.float32]:
    floats, doubles = bytearray(), bytearray()  # raw bytes: a list of Python floats would need ten times the memory
    sides, shape = dict.fromkeys(BLOB_OLD_SIDES, 0), None
    for field in _fields(content):
        if field.number == BLOB_DATA and field.wire in (LENGTH, FOUR_BYTES):
            floats += field.content
        elif field.number == BLOB_DOUBLES and field.wire in (LENGTH, EIGHT_BYTES):
            doubles += field.content
        elif field.number == BLOB_SHAPE and field.wire == LENGTH:
            shape = _dims(field.content)
        elif field.number in sides and field.wire == VARINT:
            sides[field.number] = field.value
    values = np.frombuffer(doubles, "<f8").astype(np.float32) if doubles else np.frombuffer(floats, "<f4")
    return _shaped(values, tuple(sides.values()) if shape is None else shape, name)


def _shaped(values: npt.NDArray[Any], shape: tuple[int, ...], name: str) -> npt.NDArray[np.float32]:
    if math.prod(shape) != len(values) or max(shape, default=0) > len(values):
        text = "x".join(str(side) for side in shape)
        raise InputError(f"{name} should hold {text} values and holds {len(values)}")
    return values.reshape(shape).astype(np.float32)


def _dims(content: memoryview) -> tuple[int, ...]:
    dims: list[int] = []
    for field in _fields(content):
        if field.number == 1 and field.wire == VARINT:
            dims.append(field.value)
        elif field.number == 1 and field.wire == LENGTH:
            dims.extend(islice(_packed_varints(field.content), MAX_AXES + 1))
        if len(dims) > MAX_AXES:
            raise InputError(f"it holds an array of more than {MAX_AXES} axes")
    return tuple(dims)


def _packed_varints(content: memoryview) -> Iterator[int]:
    position = 0
    while position < len(content):
        value, position = _varint(content, position)
        yield value


def _fields(content: memoryview) -> Iterator[_Field]:
    """Walk through the fields of one message, each with its bytes still undecoded."""
    position, count = 0, 0
    while position < len(content):
        count += 1
        if count > MAX_FIELDS:
            raise InputError(f"it holds a message of more than {MAX_FIELDS} fields")
        key, position = _varint(content, position)
        number, wire = key >> 3, key & 7
        value, end = 0, position
        if wire == VARINT:
            value, end = _varint(content, position)
        elif wire == LENGTH:
            length, position = _varint(content, position)
            end = position + length
        elif wire in (EIGHT_BYTES, FOUR_BYTES):
            end = position + (8 if wire == EIGHT_BYTES else 4)
        else:
            raise InputError(f"field {number} has the unknown wire type {wire}")
        if end > len(content):
            raise InputError(f"field {number} needs {end - position} bytes and {len(content) - position} are left")
        yield _Field(number, wire, value, content[position:end])
        position = end


def _varint(content: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for count in range(10):  # 64 bits in groups of seven
        if position + count >= len(content):
            raise InputError("it ends inside a number")
        byte = content[position + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, position + count + 1
    raise InputError("it holds a number of more than 64 bits")
