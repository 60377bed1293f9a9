"""A damaged photo is an error or changes no pixel; where a format cannot tell, only ImageError is raised."""

import io
import os
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from structures.images import FILE_BYTES, MOST_SCANS, ImageError, read_image
from structures.soundness import START_OF_SCAN, _jpeg_segments


def coded(format_: str, *, side: int = 64, **options: Any) -> bytes:
    """Return a file with a photo of random blocks: hardly two of its bytes are alike."""
    blocks = np.random.default_rng(0).integers(0, 256, (side // 4, side // 4, 3)).repeat(4, 0).repeat(4, 1)
    noise = np.random.default_rng(1).integers(0, 40, blocks.shape)
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.clip(blocks + noise, 0, 255).astype(np.uint8)).save(buffer, format_, **options)
    return buffer.getvalue()


FILES = {
    "png": coded("PNG"),
    "jpeg": coded("JPEG"),
    "progressive": coded("JPEG", progressive=True),
    "webp": coded("WEBP"),
    "lossless webp": coded("WEBP", lossless=True),
    "tiff": coded("TIFF", compression="tiff_adobe_deflate"),
    "gif": coded("GIF"),
}


def read(content: bytes, **options: Any) -> np.ndarray[Any, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.jpg"
        path.write_bytes(content)
        return read_image(path, **options)


def read_or_none(content: bytes) -> np.ndarray[Any, Any] | None:
    try:
        return read(content)
    except ImageError:
        return None


def assert_refused_or_unchanged(kind: str, content: bytes) -> None:
    found = read_or_none(content)
    assert found is None or np.array_equal(found, read(FILES[kind]))


def zeroed(content: bytes, begin: int, count: int) -> bytes:
    return content[:begin] + bytes(min(count, len(content) - begin)) + content[begin + count :]


def flipped(content: bytes, place: int, bit: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


positions = st.floats(0, 1, exclude_max=True)


@settings(max_examples=60, deadline=None)
@given(place=positions, bit=st.integers(0, 7), count=st.integers(1, 500))
def test_any_damage_to_a_png_is_seen(place: float, bit: int, count: int) -> None:
    begin = int(place * len(FILES["png"]))
    assert_refused_or_unchanged("png", flipped(FILES["png"], begin, bit))
    assert_refused_or_unchanged("png", zeroed(FILES["png"], begin, count))


@pytest.mark.parametrize("kind", FILES)
@settings(max_examples=40, deadline=None)
@given(place=positions)
def test_a_file_that_ends_early_is_seen(kind: str, place: float) -> None:
    assert_refused_or_unchanged(kind, FILES[kind][: int(place * len(FILES[kind]))])


@settings(max_examples=40, deadline=None)
@given(place=positions)
def test_a_jpeg_that_was_cut_and_closed_is_seen(place: float) -> None:
    header = FILES["jpeg"].index(b"\xff\xda") + 14
    cut = header + int(place * (len(FILES["jpeg"]) - 2 - header))
    assert_refused_or_unchanged("jpeg", FILES["jpeg"][:cut] + b"\xff\xd9")


@pytest.mark.parametrize("kind", FILES)
@settings(max_examples=40, deadline=None)
@given(place=positions, bit=st.integers(0, 7), count=st.integers(1, 200))
def test_damage_raises_nothing_but_an_error_of_images(kind: str, place: float, bit: int, count: int) -> None:
    begin = int(place * len(FILES[kind]))
    for content in (flipped(FILES[kind], begin, bit), zeroed(FILES[kind], begin, count)):
        found = read_or_none(content)
        assert found is None or (found.ndim, found.shape[2:], found.dtype) == (3, (3,), np.uint8)


@pytest.mark.parametrize("kind", ["jpeg", "progressive", "webp", "lossless webp"])
def test_most_runs_of_zeros_are_seen_where_there_are_no_checksums(kind: str) -> None:
    """A weak test: most, since a decoder may find its way again."""
    content = FILES[kind]
    places = np.linspace(len(content) * 0.5, len(content) * 0.9, 20).astype(int)
    assert sum(read_or_none(zeroed(content, place, 200)) is None for place in places) >= 17


@pytest.mark.parametrize("options", [{}, {"quality": 0}, {"lossless": True}, {"method": 6}, {"quality": 100}])
@pytest.mark.parametrize("side", [1, 5, 16, 300])
@pytest.mark.parametrize("colour", ["white", "black", "#1236ab"])
def test_a_plain_webp_is_not_taken_for_damaged(side: int, colour: str, options: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (side, side), colour).save(buffer, "WEBP", **options)
    assert read(buffer.getvalue()).shape == (side, side, 3)


def test_a_webp_with_transparency_and_a_moving_one_are_read() -> None:
    buffer = io.BytesIO()
    frames = [PIL.Image.new("RGBA", (30, 20), (200, 0, 0, alpha)) for alpha in (255, 0)]
    frames[0].save(buffer, "WEBP", lossless=True)
    assert (read(buffer.getvalue()) == (200, 0, 0)).all()
    frames[0].save(buffer, "WEBP", lossless=True, save_all=True, append_images=frames[1:])
    assert (read(buffer.getvalue()) == (200, 0, 0)).all()


@pytest.mark.parametrize("kind", ["png", "jpeg", "progressive"])
def test_bytes_after_the_end_and_odd_headers_are_harmless(kind: str) -> None:
    assert np.array_equal(read(FILES[kind] + b"more \xff\xda of something else" * 9), read(FILES[kind]))
    if kind != "png":
        odd = FILES[kind].replace(b"JFIF\0\x01", b"JFIF\0\x09")
        assert odd != FILES[kind]
        assert np.array_equal(read(odd), read(FILES[kind]))
        note = b"\xff\xe1" + struct.pack(">H", 40) + b"Exif\0\0" + b"\xff\xda\xff\xd9" * 8
        assert np.array_equal(read(FILES[kind][:2] + note + FILES[kind][2:]), read(FILES[kind]))


def test_an_interlaced_png_and_one_of_each_depth_are_whole(tmp_path: Path) -> None:
    pixels = bytes([0b10110100, 0b01100000])  # 3 x 2 pixels of one bit: passes 1, 6 and 7 of Adam7, and others empty
    rows = [b"\0\x80", b"\0\x80", b"\0\x00", b"\0\x60"]
    assert read(png(3, 2, 1, b"\0" + pixels[:1] + b"\0" + pixels[1:])).shape == (2, 3, 3)
    assert read(png(3, 2, 1, b"".join(rows), interlaced=1)).shape == (2, 3, 3)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        PIL.Image.new(mode, (13, 7)).save(tmp_path / "photo.png")
        assert read_image(tmp_path / "photo.png").shape == (7, 13, 3)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, rows: bytes, *, interlaced: int = 0, packed: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, interlaced)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", packed or zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_a_png_with_right_checksums_and_missing_rows_is_damaged() -> None:
    rows = bytes(3) * 4
    assert read(png(2, 4, 8, rows)).shape == (4, 2, 3)
    with pytest.raises(ImageError, match=r"damaged: 9 of 12 bytes"):
        read(png(2, 4, 8, rows[:-3]))
    with pytest.raises(ImageError, match=r"damaged: 12 of 12 bytes of pixels, or no checksum"):
        read(png(2, 4, 8, b"", packed=zlib.compress(rows)[:-4]))
    with pytest.raises(ImageError, match="decoded"):
        read(png(2, 4, 8, b"", packed=zlib.compress(rows)[:-1] + b"?"))
    with pytest.raises(ImageError, match="cut off"):
        read(png(2, 4, 8, rows)[:-12])


def test_a_text_that_unpacks_to_megabytes_is_refused() -> None:
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**25)))
    content = png(2, 4, 8, bytes(12))
    with pytest.raises(ImageError, match=r"(?i)too large"):
        read(content[:33] + bomb + content[33:])


def many_scans(count: int, side: int) -> bytes:
    """Return a sound progressive JPEG with one scan for each of the first coefficients of brightness."""
    buffer = io.BytesIO()
    PIL.Image.new("L", (side, side), 128).save(buffer, "JPEG", progressive=True)
    content = buffer.getvalue()
    segments = [(marker, content[start:end]) for marker, start, end in _jpeg_segments(content)]
    first = next(n for n, (marker, _) in enumerate(segments) if marker == START_OF_SCAN)
    table, scan = segments[first + 1][1], segments[first + 2][1]
    bands = [scan[:7] + bytes([k, k, 0]) + scan[10:] for k in range(1, count)]
    return content[:2] + b"".join([part for _, part in segments[: first + 1]] + [table, *bands]) + b"\xff\xd9"


def test_more_scans_than_the_size_allows_are_refused_before_they_are_decoded() -> None:
    side = 64
    enough = side * side * 12 // MOST_SCANS + 1
    assert read(many_scans(12, side), max_pixels=enough).shape == (side, side, 3)
    with pytest.raises(ImageError, match=r"more than 12 progressive scans, .* `max_pixels`"):
        read(many_scans(13, side), max_pixels=enough)
    assert read(many_scans(60, side)).shape == (side, side, 3)


def test_larger_photos_and_files_than_allowed_are_refused_by_name() -> None:
    assert read(FILES["png"], max_pixels=64 * 64).shape == (64, 64, 3)
    with pytest.raises(ImageError, match=r"photo\.jpg: more than 4095 pixels, .* `max_pixels`"):
        read(FILES["png"], max_pixels=64 * 64 - 1)
    with pytest.raises(ImageError, match=rf"more than {10 * FILE_BYTES} bytes, .* `max_pixels`"):
        read(FILES["png"], max_pixels=10)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_limit_can_be_raised_beyond_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow refuses from twice that
    monkeypatch.setattr("structures.images.MAX_PIXELS", 2000)
    with pytest.raises(ImageError, match="more than 2000 pixels"):
        read(FILES["png"], max_pixels=2000)
    assert read(FILES["png"], max_pixels=64 * 64).shape == (64, 64, 3)


def test_a_document_by_the_name_of_a_photo_runs_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was run"))
    for document in (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", b"%PDF-1.4\n", b"8BPS\0\x01"):
        with pytest.raises(ImageError, match="not a picture in a known format"):
            read(document)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "photo.jpg").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "photo.jpg"):
        with pytest.raises(ImageError, match=f"{name}: cannot be read: not a regular file"):
            read_image(tmp_path / name)
