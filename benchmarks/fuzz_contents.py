"""Files of the right format whose contents are odd, for `benchmarks/fuzz.py`: types, lengths, shapes, numbers, nesting.

Damaged bytes seldom get past the check of a format. Here a sound content, plain values and arrays nested in lists and
dicts, is changed in a few places, and then written as the format demands.
"""

import csv
import io
import json
import math
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

Content = Any  # plain values and arrays, in lists and dicts
Maker = Callable[[random.Random], bytes | None]
NUMBERS = (0, -1, 1, 255, 256, 2**31, -(2**31), 2**32, 2**63 - 1, 2**63, 2**64, 10**30, 0.5, 1e308, -1e308, 1e-320)
TEXTS = ("", " ", "\0", "..", "../x", "/etc/passwd", "a/b", "C:x", "é\n", "\ud800", "x" * 70_000, "nan", "1e999")
OTHERS = (None, True, False, math.nan, math.inf, -math.inf, -0.0, [], {}, [[]], [[[]]], {"": []}, [None] * 9)
DTYPES = ("f2", "f4", "f8", ">f4", "i1", "u1", "<i2", "i8", "u8", "?", "c8", "S3", "U5", "O", "M8[s]")
DEEP = 500  # lists in lists


def altered(content: Content, rng: random.Random) -> Content:
    """Return a copy with one to three odd places."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        content = _altered(content, rng)
    return content


def _altered(content: Content, rng: random.Random) -> Content:
    if isinstance(content, dict | list) and content and rng.random() < 0.8:
        keys: Any = list(content) if isinstance(content, dict) else range(len(content))
        chosen = rng.choice(keys)
        copied = content.copy()
        copied[chosen] = _altered(content[chosen], rng)
        return copied
    ways: dict[type, Callable[[Any, random.Random], Content]] = {dict: _dict, list: _list, np.ndarray: _array}
    return ways.get(type(content), _odd)(content, rng)


def _odd(content: Content, rng: random.Random) -> Content:
    kind = rng.randrange(8)
    if kind == 0:
        deep: Content = content
        for _ in range(rng.choice((1, 2, DEEP))):
            deep = [deep]
        return deep
    return rng.choice(NUMBERS if kind < 4 else TEXTS if kind < 6 else OTHERS)


def _dict(content: dict[Any, Content], rng: random.Random) -> Content:
    if not content or rng.random() < 0.2:
        return rng.choice((list(content), list(content.values()), _odd(content, rng)))
    chosen, other = rng.choice(list(content)), rng.choice([*content, *TEXTS])
    rest = {key: value for key, value in content.items() if key != chosen}
    return rng.choice((rest, {**rest, other: content[chosen]}, {**content, other: _odd(None, rng)}))


def _list(content: list[Content], rng: random.Random) -> Content:
    if not content or rng.random() < 0.2:
        return rng.choice(([_odd(None, rng)], {"0": content}, _odd(content, rng)))
    at = rng.randrange(len(content))
    return rng.choice(
        (
            content[:at] + content[at + 1 :],
            [*content[:at], content[at], *content[at:]],
            content * rng.choice((0, 2, 1000)),
            content[::-1],
            [*content, _odd(None, rng)],
        )
    )


def _array(content: Any, rng: random.Random) -> Content:
    flat = content.reshape(-1)
    changed = flat.copy()
    if changed.size and changed.dtype.kind in "iuf":
        values = NUMBERS if changed.dtype.kind in "iu" else (*NUMBERS, math.nan, math.inf, -math.inf)
        with np.errstate(all="ignore"):
            changed[rng.randrange(changed.size)] = np.array(float(rng.choice(values))).astype(changed.dtype)
    ways = (
        lambda: changed.reshape(content.shape),
        lambda: changed.reshape(content.shape),
        lambda: content.astype(rng.choice(DTYPES)),
        lambda: flat,
        lambda: content[None],
        lambda: content[:0],
        lambda: content[..., :-1],
        lambda: np.array(flat[0] if flat.size else 0),
        lambda: np.asfortranarray(content),
        lambda: content.T,
        lambda: np.repeat(content, 100, axis=0),
        lambda: -content,
        lambda: np.zeros((0,) * rng.randrange(1, 5)),
        lambda: np.array([(1, 2.0)], "i4,f4"),
        lambda: _odd(content, rng),
    )
    return rng.choice(ways)()


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else str(value)


def as_json(content: Content) -> bytes:
    """Write JSON."""
    return json.dumps(content, default=_plain).encode()


def as_lines(content: Content) -> bytes:
    """Write JSON lines, one per entry of a list."""
    entries = content if isinstance(content, list) else [content]
    return b"".join(as_json(entry) + b"\n" for entry in entries)


def as_npz(content: Content) -> bytes:
    """Write arrays by name, as NumPy does, with pickles if they are of objects."""
    file = io.BytesIO()
    named = content if isinstance(content, dict) else {"arr_0": content}
    with zipfile.ZipFile(file, "w") as archive:
        for name, value in named.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asanyarray(value), allow_pickle=True)
            archive.writestr(f"{name}.npy", member.getvalue())
    return file.getvalue()


def as_pickle(content: Content) -> bytes:
    """Write a pickle."""
    return pickle.dumps(content, 2 if isinstance(content, dict) and len(content) % 2 else 4)


def as_mat(content: Content) -> bytes:
    """Write MATLAB's format 5; lists become cells."""
    import scipy.io

    file = io.BytesIO()
    scipy.io.savemat(file, {name: _cells(value) for name, value in dict(content).items()})
    return file.getvalue()


def _cells(value: Content) -> Content:
    if not isinstance(value, list):
        return value
    cells = np.empty(len(value), object)
    cells[:] = [_cells(each) for each in value] if value else None
    return cells


def as_torch(content: Content) -> bytes:
    """Write torch's format; arrays become tensors, sometimes of an odd kind."""
    import torch

    file = io.BytesIO()
    torch.save(_tensors(content), file)
    return file.getvalue()


def _tensors(value: Content) -> Content:
    import torch

    if isinstance(value, dict):
        return {key: _tensors(each) for key, each in value.items()}
    if not isinstance(value, np.ndarray):
        return value
    tensor = torch.from_numpy(np.ascontiguousarray(value))
    kinds: Mapping[int, Callable[[], Any]] = {
        0: lambda: tensor.to_sparse(),
        1: lambda: tensor.bfloat16(),
        2: lambda: tensor.to("meta"),
        3: lambda: tensor[:1].expand(10**6, *tensor.shape[1:]),
        4: lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8),
        5: lambda: torch.nn.Parameter(tensor),
    }
    return kinds.get(hash(value.tobytes()) % 40, lambda: tensor)()


def as_safetensors(content: Content) -> bytes:
    """Write a header of JSON, which the content is, and zeros."""
    header = as_json(content)
    return struct.pack("<Q", len(header)) + header + bytes(200)


def as_xml(content: Content) -> bytes:
    """Write an element: [tag, text or a list of elements]."""
    return _element(content).encode(errors="surrogatepass")


def _element(content: Content) -> str:
    if not isinstance(content, list):
        return escape(str(content))
    if len(content) != 2:
        return f"<object>{''.join(map(_element, content))}</object>"
    tag, value = content
    inner = "".join(map(_element, value)) if isinstance(value, list) else escape(str(value))
    return f"<{tag}>{inner}</{tag}>"


def as_table(content: Content, delimiter: str = ",") -> bytes:
    """Write rows of fields."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    for row in content if isinstance(content, list) else [content]:
        writer.writerow(row if isinstance(row, list) else [row])
    return file.getvalue().encode(errors="surrogatepass")


def as_caffemodel(content: Content) -> bytes:
    """Write layers: [name, [[sides, values], ...]]."""
    from tests.test_classifier_weights_caffemodel import message, new_layer, number, varint

    def shape_of(sides: Content) -> bytes:
        numbers = [int(side) % 2**64 for side in sides]
        if len(sides) == 4:  # as old files have it
            return b"".join(number(1 + at, side) for at, side in enumerate(numbers))
        return message(7, message(1, b"".join(map(varint, numbers))))

    def blob_of(sides: Content, values: Content) -> bytes:
        return shape_of(sides) + message(5, np.asarray(values, "<f4").tobytes())

    return b"".join(new_layer(str(name), [blob_of(*blob) for blob in blobs]) for name, blobs in content)


def as_columns(content: Content) -> bytes:
    """Write Parquet: columns by name."""
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    names, values = list(content), [pyarrow.array(each) for each in content.values()]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(values, [str(name) for name in names]), file)
    return file.getvalue()


def as_shard(content: Content) -> bytes:
    """Write a shard of `rcnn scale` with these rows."""
    from detect.scaling.shards import to_parquet

    return to_parquet(content, "detect")


def maker(content: Content, write: Callable[[Content], bytes]) -> Maker:
    """Return what makes a file with an odd content; None for contents that cannot be written so."""

    def make(rng: random.Random) -> bytes | None:
        try:
            return write(altered(content, rng))
        except Exception:  # what a format cannot hold cannot be in a file
            return None

    return make
