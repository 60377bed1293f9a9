"""Archives of arrays: read as NumPy reads them, and refused where they claim more than they hold."""

import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from structures.npz import NpzError, check_archive, read_arrays

PLAIN = st.sampled_from(["<f4", ">f8", "<i8", "|u1", "|b1", "<U3", "|S2"])


def with_header(text, values=b"", version=b"\x01\x00"):
    """Return the bytes of an .npy file with any header."""
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text) + 1)
    return b"\x93NUMPY" + version + length + text.encode() + b"\n" + values


def write_zip(path, compression=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


@given(PLAIN.flatmap(lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0, min_side=0))), st.booleans())
def test_arrays_come_back(array, fortran):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        np.savez(path, a=np.array(array, order="F" if fortran else "C"))
        found = read_arrays(path)["a"]
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    np.testing.assert_array_equal(found, array)
    assert found.flags.writeable


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"),
            "should hold 40000",
        ),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1), }", b"\0" * 4), "should hold 4"),
        (with_header("{'descr': '|V0', 'fortran_order': False, 'shape': (99999999999,), }"), "not plain numbers"),
        (with_header("{'descr': '<U0', 'fortran_order': False, 'shape': (99999999999,), }"), "not plain numbers"),
        (with_header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"N."), "not plain numbers"),
        (with_header("{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (1,), }", b"\0" * 4), "not plain"),
        (with_header("(" * 9000), "header"),
        (with_header("[" * 20_000), "header"),
        (with_header("{}", version=b"\x03\x00"), "version"),
        (b"", "a.npz"),
        (b"no array", "a.npz"),
    ],
)
def test_headers_are_believed_only_as_far_as_the_bytes_reach(tmp_path, content, reason):
    path = write_zip(tmp_path / "a.npz", a=content)
    with pytest.raises(NpzError, match=reason) as caught:
        read_arrays(path)
    assert "a.npz: not a readable npz file: " in str(caught.value)


def test_a_small_file_that_unpacks_to_gigabytes_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        for _ in range(100):
            member.write(bytes(2**20))
    for read in (read_arrays, check_archive):
        with pytest.raises(NpzError, match=r"a\.npz: .* claim to unpack to 104857600"):
            read(path)


def test_other_compressions_and_missing_arrays_are_named(tmp_path):
    path = write_zip(tmp_path / "a.npz", zipfile.ZIP_LZMA, a=b"x")
    with pytest.raises(NpzError, match="compressed in a way that is not supported"):
        read_arrays(path)
    np.savez(path, b=np.zeros(1))
    with pytest.raises(NpzError, match=r"no array .*'a\.npy'|no array There is no item named 'a\.npy'"):
        read_arrays(path, ["a"])


def test_files_that_are_not_archives_pass_the_check(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"\x80\x02.")
    check_archive(tmp_path / "a.pt")
