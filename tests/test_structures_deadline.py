"""No photo takes more processor time than a limit, whatever its file makes a decoder do."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from structures.deadline import Deadline, TimedReader, TooSlow
from structures.images import ImageError, decode_image, most_seconds, read_image, read_size

MANY = 2000  # pieces of a file that make no pixels


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Have the clock of the thread go on by some seconds whenever somebody looks at it, and at no other time."""

    def tick(seconds: float) -> None:
        now = [0.0]

        def look() -> float:
            now[0] += seconds
            return now[0]

        monkeypatch.setattr("structures.deadline.time.thread_time", look)

    return tick


def saved(kind: str) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(np.arange(24 * 24 * 3, dtype=np.uint8).reshape(24, 24, 3)).save(file, kind)
    return file.getvalue()


def slow_png() -> bytes:
    content, empty = saved("PNG"), struct.pack(">I4sI", 0, b"prVt", zlib.crc32(b"prVt"))
    return content[:33] + empty * MANY + content[33:]


def slow_jpeg() -> bytes:
    content = saved("JPEG")
    return content[:2] + b"\xff\xe5\0\2" * MANY + content[2:]


def slow_gif() -> bytes:
    content = saved("GIF")
    at = content.index(b"\x2c\0\0\0\0")
    return content[:at] + b"\x21\xfe\1a\0" * MANY + content[at:]


def slow_bmp() -> bytes:
    """Return a BMP whose rows are coded pixel by pixel."""
    coded, side, palette = b"\1\1" * MANY, 100, bytes(1024)
    start = 54 + len(palette)
    head = struct.pack("<IHHI", start + len(coded), 0, 0, start)
    about = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(coded), 0, 0, 256, 0)
    return b"BM" + head + about + palette + coded


def slow_tiff() -> bytes:
    """Return a TIFF that names its two strips again and again: a small file, as many pictures as it likes."""
    side, names, strip = 64, MANY, bytes(64 // 8 * 32)
    offsets = 8 + 2 + 9 * 12 + 4
    data = offsets + 8 * names
    fields = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 1), (259, 3, 1, 1), (262, 3, 1, 1)]
    fields += [(273, 4, names, offsets), (277, 3, 1, 1), (278, 4, 1, side // 2), (279, 4, names, offsets + 4 * names)]
    head = b"II*\0" + struct.pack("<IH", 8, len(fields)) + b"".join(struct.pack("<HHII", *each) for each in fields)
    return head + bytes(4) + struct.pack("<I", data) * names + struct.pack("<I", len(strip)) * names + strip


SLOW = {"PNG": slow_png, "JPEG": slow_jpeg, "GIF": slow_gif, "BMP": slow_bmp, "TIFF": slow_tiff}


@pytest.mark.parametrize("kind", SLOW)
def test_a_file_that_never_ends_is_refused_by_its_time(kind: str, ticking: Callable[[float], None]) -> None:
    content = SLOW[kind]()
    ticking(0.1)
    with pytest.raises(ImageError, match=r"a\.jpg: .*takes more than 30\.6 s of processor time, the limit"):
        decode_image(content, name="a.jpg")
    ticking(0.001)
    if kind == "BMP":
        with pytest.raises(ImageError, match="not enough image data"):
            decode_image(content)
    else:
        assert decode_image(content).ndim == 3


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_a_sound_file_looks_at_the_clock_a_few_times(kind: str, ticking: Callable[[float], None]) -> None:
    ticking(0.5)
    assert decode_image(saved(kind)).shape == (24, 24, 3)


def test_of_many_pictures_in_a_webp_only_the_first_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = list[int]()
    monkeypatch.setattr("structures.soundness._decodes", lambda file: tried.append(len(file.getvalue())))
    picture = saved("WEBP")[12:]
    content = b"WEBP" + picture * 40
    assert decode_image(b"RIFF" + struct.pack("<I", len(content)) + content).shape == (24, 24, 3)
    assert len(tried) == 1


def test_a_head_that_never_ends_has_no_size(tmp_path: Path, ticking: Callable[[float], None]) -> None:
    (tmp_path / "a.jpg").write_bytes(slow_jpeg())
    ticking(0.1)
    for read in (read_size, read_image):
        with pytest.raises(ImageError, match="takes more than"):
            read(tmp_path / "a.jpg")


def test_more_pixels_are_given_more_time(ticking: Callable[[float], None]) -> None:
    ticking(0.1)
    assert decode_image(slow_png(), max_pixels=10**10).shape == (24, 24, 3)
    assert most_seconds(1) < most_seconds(10**6) < most_seconds(10**9)


@given(content=st.binary(max_size=50), sizes=st.lists(st.sampled_from([None, -1, 0, 1, 7]), max_size=9))
def test_until_the_deadline_the_bytes_are_those_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, sizes: list[int | None]
) -> None:
    path = tmp_path_factory.getbasetemp() / "file"
    path.write_bytes(content)
    with (
        TimedReader(io.BytesIO(content), Deadline(60, "wait")) as timed,
        TimedReader(io.FileIO(path), Deadline(60, "wait")) as file,
        path.open("rb") as plain,
    ):
        assert [(timed.read(size), file.read(size)) for size in sizes] == [(plain.read(size),) * 2 for size in sizes]


def test_after_the_deadline_there_are_none(tmp_path: Path, ticking: Callable[[float], None]) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    ticking(1)
    for source in (io.BytesIO(b"abc"), io.FileIO(tmp_path / "file")):
        with TimedReader(source, Deadline(1.5, "wait")) as file:
            assert file.read(1) == b"a"
            with pytest.raises(TooSlow, match=r"takes more than 1\.5 s of processor time, the limit \(wait\)"):
                file.read(1)
