"""Reads NumPy's .npz files, with limits: sizes in a header are checked against the bytes that are there."""

import math
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from structures.errors import InputError
from structures.files import regular_file

KINDS = "biufSU"  # of plain arrays: bool, int, uint, float, bytes and text; objects and records are refused
FREE_BYTES = 2**26  # a file may always unpack to this much ...
RATIO = 20  # ... or to this many times its size; trained weights and boxes pack to no less than a tenth
MAX_HEADER = 10_000  # bytes, NumPy's own limit
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class NpzError(InputError):
    """An archive that cannot be used; the message names the file."""


def read_arrays(
    path: str | Path, names: Sequence[str] | None = None, *, allow_missing: bool = False
) -> dict[str, npt.NDArray[Any]]:
    """Read arrays of an .npz file; no code in it is run.

    Args:
        path: the file.
        names: which arrays; None takes all.
        allow_missing: leave out names that the file lacks.

    Raises:
        NpzError: damaged, without such an array, or one that unpacks to far more than its size.
        OSError: the file cannot be opened.
    """
    with regular_file(path).open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                _check_members(archive.infolist(), os.fstat(file.fileno()).st_size)
                found = [member.removesuffix(".npy") for member in archive.namelist()]
                wanted = found if names is None else [name for name in names if name in found or not allow_missing]
                return {name: _read(archive, f"{name}.npy") for name in wanted}
        except Exception as error:  # zipfile, zlib and NumPy each have their own, on damaged bytes of almost any kind
            raise NpzError(f"{path}: not a readable npz file: {_reason(error)}") from None


def check_archive(path: str | Path) -> None:
    """Refuse a zip archive that unpacks to far more than its size; other files pass.

    Raises:
        NpzError: it does, or its directory is damaged.
        OSError: the file cannot be opened.
    """
    with regular_file(path).open("rb") as file:
        try:
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    _check_members(archive.infolist(), os.fstat(file.fileno()).st_size)
        except Exception as error:  # as above
            raise NpzError(f"{path}: not a readable archive: {_reason(error)}") from None


def _check_members(members: Sequence[zipfile.ZipInfo], size: int) -> None:
    unpacked = sum(member.file_size for member in members)
    if unpacked > FREE_BYTES + RATIO * size:
        raise InputError(f"its {size} bytes claim to unpack to {unpacked}")
    odd = [member for member in members if member.compress_type not in COMPRESSIONS]
    if odd:
        raise InputError(f"{odd[0].filename} is compressed in a way that is not supported ({odd[0].compress_type})")


def _read(archive: zipfile.ZipFile, member: str) -> npt.NDArray[Any]:
    size = archive.getinfo(member).file_size
    with archive.open(member) as file:
        shape, fortran, dtype = _header(file)
        if dtype.kind not in KINDS or dtype.itemsize == 0:
            raise InputError(f"{member} holds {dtype}, not plain numbers or texts")
        needed, left = math.prod(shape) * dtype.itemsize, size - file.tell()
        if needed != left or min(shape, default=0) < 0:
            raise InputError(f"{member} should hold {needed} bytes and holds {left}")
        return np.ndarray(shape, dtype, buffer=bytearray(file.read()), order="F" if fortran else "C")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        raise InputError(f"an array of version {version}, expected one of {', '.join(map(str, HEADERS))}")
    return HEADERS[version](file, max_header_size=MAX_HEADER)


def _reason(error: Exception) -> str:
    return f"no array {error.args[0]}" if isinstance(error, KeyError) else str(error) or type(error).__name__
