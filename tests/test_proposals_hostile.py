"""Hostile and odd files of proposals: one line that names the file, in bounded time and memory, and never any code."""

import io
import json
import pickle
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import proposals.stored.child_reader as apart
from proposals.stored.foreign import read_foreign
from proposals.stored.foreign_entries import ForeignError
from proposals.stored.foreign_pickle import SafeUnpickler, read_pickle, scan

BOXES = np.array([[0, 0, 10, 20], [4, 5, 8, 9]], np.float32)
WHOLE = {"ids": ["a"], "boxes": [BOXES], "objectness_logits": [np.array([2, 1], np.float32)], "bbox_mode": 0}


def pickled(**changes):
    return pickle.dumps({**WHOLE, **changes}, protocol=2)


def memo(index):
    """Return a pickle that puts its only value, None, at an index of the memo."""
    return b"\x80\x02Nr" + struct.pack("<I", index) + b"."


def array_with(shape, dtype="f4", values=b""):
    """Return a pickle of an array that claims a shape."""

    class Claim:
        def __reduce__(self):
            state = (1, shape, np.dtype(dtype), False, values)
            return np.zeros(0, "b").__reduce__()[0], (np.ndarray, (0,), b"b"), state

    return pickled(boxes=[Claim()])


class Made:
    """Pickles as a call of a harmless name with arguments of its own choice."""

    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


def laughs(levels=40):
    """Return a list that holds lists that hold lists ... ten times each, in a few hundred bytes."""
    found = [0.0]
    for _ in range(levels):
        found = [found] * 10
    return found


HOSTILE_PICKLES = {
    "a memo index of 300 million": (memo(300_000_000), "more memory than its size allows"),
    "a memo index as text": (b"Np300000000\n.", "more memory than its size allows"),
    "bytes of 16 GB": (b"\x80\x04\x8e" + struct.pack("<Q", 2**34) + b".", "cannot be read as a pickle"),
    "bytearray of 16 GB": (b"\x80\x05\x96" + struct.pack("<Q", 2**34) + b".", "cannot be read as a pickle"),
    "a frame of 16 GB": (b"\x80\x04\x95" + struct.pack("<Q", 2**34) + b"N.", "frame that reaches beyond"),
    "an array of 4 TB": (array_with((10**12,)), "larger or smaller than its values"),
    "a negative shape": (array_with((-1, 4)), "without a proper shape"),
    "an array of empty texts": (array_with((10**12,), "U0"), "array of 'U0'"),
    "a structured array": (array_with((1,), [("x", "f4")], bytes(4)), "array of 'V4'"),
    "an array of objects, in part": (array_with((3,), "O", [1, 2]), "larger or smaller than its values"),
    "an array made by its class": (pickled(boxes=[Made(np.ndarray, (10**12,))]), "in a way that proposals do not need"),
    "bytes of 100 GB": (pickled(boxes=[Made(bytes, 10**11)]), "cannot be read as a pickle"),
    "complex numbers": (pickled(boxes=[BOXES.astype(np.complex64)]), "array of 'c8'"),
    "endless lists as a mode": (pickled(bbox_mode=laughs()), "bbox_mode a value of type list"),
    "endless lists as a name": (pickled(ids=[laughs()]), "neither the name nor the number"),
    "a number of many digits": (pickled(ids=[10**5000]), "a number of many digits is neither"),
    "one photo's boxes for all": (
        pickled(ids=list(range(999)), boxes=[BOXES] * 999, objectness_logits=[[1, 2]] * 999),
        "more boxes than its size allows",
    ),
    "0-d boxes": (pickled(boxes=np.float32(3)), "no list 'boxes'"),
    "a 0-d array": (pickled(boxes=[np.array(3.0)]), r"boxes must have shape \(N, 4\)"),
    "beyond float32": (pickled(boxes=[BOXES.astype(float) * 1e300]), "not finite"),
    "beyond float32 as corners": (pickled(boxes=[np.full((2, 4), 3e38)], bbox_mode=1), "not finite"),
    "beyond int32": (pickled(boxes=[[[0, 0, 10**400, 5], [0, 0, 1, 1]]]), "int too large"),
    "texts for boxes": (pickled(boxes=[np.full((2, 4), "1")]), "must be numbers"),
    "scores of objects": (pickled(objectness_logits=[np.array([[], {}], object)]), "photo 1"),
    "not a pickle of Detectron2": (pickle.dumps(laughs()), "holds a list"),
}


@pytest.mark.parametrize("name", HOSTILE_PICKLES)
def test_hostile_pickles_are_explained(tmp_path, name):
    """Read in this process, so that the memory they ask for would show; endless ones below are read apart."""
    content, reason = HOSTILE_PICKLES[name]
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(ForeignError, match=reason) as caught:
        read_pickle(tmp_path / "a.pkl")
    assert str(caught.value).startswith(f"{tmp_path / 'a.pkl'}: ")
    assert len(str(caught.value)) < len(str(tmp_path)) + 200


def test_a_pickle_that_crashes_python_takes_only_the_child_along(tmp_path):
    """Hashing tuples that are nested 400 000 deep overflows the stack of C."""
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02}N" + b"\x85" * 400_000 + b"Ns.")
    with pytest.raises(ForeignError, match=r"a\.pkl: reading it crashed"):
        read_foreign(tmp_path / "a.pkl")


def test_a_file_that_takes_too_long_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(apart, "SECONDS", 0.01)
    (tmp_path / "a.pkl").write_bytes(pickled())
    with pytest.raises(ForeignError, match=r"a\.pkl: reading it took longer than 0 s and was stopped"):
        read_foreign(tmp_path / "a.pkl")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["f2", ">f4", "f8", "u2", "i8", "O"])
def test_every_plain_array_is_read(tmp_path, protocol, dtype):
    for rows in (BOXES.astype(dtype), np.asfortranarray(BOXES.astype(dtype)), BOXES.astype(dtype).tolist()):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps({**WHOLE, "boxes": [rows]}, protocol=protocol))
        boxes, scores = read_pickle(tmp_path / "a.pkl")["a"]
        assert boxes.tolist() == BOXES.tolist()
        assert scores.tolist() == [2, 1]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_pickles_never_raise_anything_else(data):
    """Bytes of a whole pickle are changed at random."""
    content = bytearray(pickle.dumps(WHOLE, protocol=data.draw(st.sampled_from([2, 4, 5]))))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        scan(bytes(content))
    except Exception:  # said by read_pickle; here only what comes after a sound scan is of interest
        return
    with suppress(Exception):  # damaged pickles raise anything, but never ask for more memory than they have
        try:
            SafeUnpickler(io.BytesIO(bytes(content)), encoding="latin1").load()
        except MemoryError as error:
            pytest.fail(str(error))


def element(kind, content):
    """Return a data element of a MATLAB 5 file."""
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(kind, shape, name, *parts, flags=0):
    """Return a matrix element: array flags, dimensions, name and what follows."""
    head = element(6, struct.pack("<II", kind | flags, 0)) + element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, head + element(1, name) + b"".join(parts))


def mat(*variables):
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM" + b"".join(variables)


CELL, CHAR, DOUBLE = 1, 4, 6
TEXT = matrix(CHAR, (1, 1), b"", element(4, struct.pack("<H", ord("a"))))
NAMES = matrix(CELL, (1, 1), b"images", TEXT)


def crashing():
    """Return a file whose text is of a type that is not there: SciPy 1.17 follows a null pointer."""
    text = matrix(CHAR, (1, 1), b"", struct.pack("<HH4s", 0, 1, b"a"))
    return mat(matrix(CELL, (1, 1), b"images", text))


def bomb():
    """Return a file whose boxes are 128 MB of zeros, in 0.6 MB."""
    whole = matrix(DOUBLE, (2**22, 4), b"boxes", struct.pack("<II", 9, 2**27))
    packed = zlib.compress(whole[:4] + struct.pack("<I", len(whole) - 8 + 2**27) + whole[8:] + bytes(2**27), 1)
    return mat(NAMES, struct.pack("<II", 15, len(packed)) + packed)


CUT = mat(NAMES, matrix(CELL, (1, 1), b"boxes", TEXT[:8] + TEXT[16:]))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (crashing, "reading it crashed"),
        (bomb, "reading it takes far more memory than its size warrants"),
        (lambda: CUT, "not a MATLAB file"),
    ],
)
def test_hostile_mat_files_are_explained(tmp_path, monkeypatch, content, reason):
    monkeypatch.setattr(apart, "BYTES", 2**25)
    (tmp_path / "a.mat").write_bytes(content())
    with pytest.raises(ForeignError, match=rf"a\.mat: {reason}") as caught:
        read_foreign(tmp_path / "a.mat")
    assert str(caught.value).startswith(f"{tmp_path / 'a.mat'}: ")


def test_variables_of_other_kinds_are_explained(tmp_path):
    from scipy.io import savemat
    from scipy.sparse import csc_array

    from proposals.stored.foreign_mat import read_mat

    for boxes in (csc_array(np.eye(4)), np.eye(4), {"x": 1}, "text"):
        savemat(tmp_path / "a.mat", {"boxes": boxes, "images": np.full((1, 1), "a", object)})
        with pytest.raises(ForeignError, match="'boxes' is not a cell array"):
            read_mat(tmp_path / "a.mat")


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (None, r"cell 1 \(a\): holds a csc_(array|matrix)"),
        (np.array(3.0), r"boxes must have shape"),
        (np.array([[1e300, 1, 1, 1]]), "not finite"),
        (np.array([[1j, 1, 1, 1]]), "must be numbers"),
        ("text", "must be numbers"),
        ({"x": 1.0}, "must be numbers"),
    ],
)
def test_odd_cells_of_mat_files_are_explained(tmp_path, cell, reason):
    from scipy.io import savemat
    from scipy.sparse import csc_array

    from proposals.stored.foreign_mat import read_mat

    boxes, names = np.empty((1, 1), object), np.empty((1, 1), object)
    boxes[0, 0], names[0, 0] = csc_array(np.eye(4)) if cell is None else cell, "a"
    savemat(tmp_path / "a.mat", {"boxes": boxes, "images": names})
    with pytest.raises(ForeignError, match=reason):
        read_mat(tmp_path / "a.mat")
    boxes[0, 0], names[0, 0] = BOXES, np.eye(2)
    savemat(tmp_path / "a.mat", {"boxes": boxes, "images": names})
    with pytest.raises(ForeignError, match="cell 1 of images: does not hold the name"):
        read_mat(tmp_path / "a.mat")


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"bbox": ["1", "2", "3", "4"]}, "entry 0: bbox .* must be numbers"),
        ({"bbox": [1, 2, 3, [4]]}, "entry 0: bbox .* must be numbers"),
        ({"bbox": [3e38, 0, 3e38, 1]}, "image 1: boxes or scores are not finite"),
        ({"score": {"a": 1}}, "entry 0: bbox .* and score a value of type dict must be numbers"),
        ({"image_id": 10**30}, "entry 0: a number of many digits is neither"),
        ({"image_id": 1e300}, "entry 0: 1e\\+300 is neither"),
    ],
)
def test_odd_types_in_coco_results_are_explained(tmp_path, entry, reason):
    whole = {"image_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
    (tmp_path / "a.json").write_text(json.dumps([{**whole, **entry}]))
    with pytest.raises(ForeignError, match=rf"a\.json: {reason}"):
        read_foreign(tmp_path / "a.json")
