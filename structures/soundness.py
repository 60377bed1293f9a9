"""Is a picture file whole, and no more work than its size suggests? What Pillow's decoders do not check.

JPEG has no checksums: libjpeg's warnings are errors here, so most damage is found, but a changed bit that gives other
valid codes is not. PNG has them and is checked throughout. WebP has none either: damage mostly makes the decoder use
fewer or more bytes than there are. Other formats are left to their decoders.
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator

import PIL.Image

from structures.deadline import Deadline
from structures.errors import InputError

MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")  # those that stand alone or inside coded data left out
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
WITHOUT_PIXELS = frozenset([*range(0xE0, 0xF0), 0xFE])  # APPn and COM; libjpeg warns of oddities in them
WARNINGS = ("Corrupt JPEG data", "Premature end", "Inconsistent progression")  # libjpeg's, of damage to the pixels
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of PNG's colour types
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
ONE_PASS = ((0, 0, 1, 1),)  # x and y of the first pixel, steps to the next
RAISED_BY = "a higher `max_pixels` raises it"
PIECE = 2**20  # bytes that are unpacked at a time
CODER_LEAD = 16  # bytes: WebP's coders end at most this far before the end of their data, by trial at most 5


def require_sound(picture: PIL.Image.Image, content: bytes, deadline: Deadline, *, most_scans: int) -> None:
    """Refuse a file that is damaged, or a JPEG that would take too long to decode.

    Args:
        picture: the opened picture, not loaded yet.
        content: of the whole file.
        deadline: of all work on the file.
        most_scans: through a progressive JPEG; each costs as much as a photo.

    Raises:
        InputError: says what is wrong, without the name of the file.
    """
    if picture.format in ("JPEG", "MPO"):
        _check_jpeg(content, "CMYK" if picture.mode == "CMYK" else "GRAY", deadline, most_scans)
    elif picture.format == "PNG":
        _check_png(content, deadline)
    elif picture.format == "WEBP":
        _check_webp(content, deadline)


def _check_jpeg(content: bytes, colours: str, deadline: Deadline, most_scans: int) -> None:
    bare, scans = [content[:2]], 0
    for marker, start, end in _jpeg_segments(content):
        deadline.check()
        scans += marker == START_OF_SCAN
        if scans > most_scans:
            raise InputError(f"more than {most_scans} progressive scans, the limit for its size ({RAISED_BY})")
        if marker not in WITHOUT_PIXELS:
            bare.append(content[start:end])
    try:
        import simplejpeg  # here, since the rest works where it is missing; Pillow notices missing data itself
    except ImportError:
        return
    try:  # at an eighth of the size, since only the codes matter
        simplejpeg.decode_jpeg(b"".join(bare), colours, min_height=1, min_width=1, min_factor=8)
    except ValueError as error:  # a stream that is sound but odd, such as in its subsampling, is left to Pillow
        if str(error).startswith(WARNINGS):
            raise InputError(f"damaged: {error}") from None


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment of the first picture, a scan with its coded data."""
    found = MARKER.search(content, 2)
    while found:
        marker, start = found[1][0], found.start()
        header_end = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
        found = None if marker == END_OF_IMAGE else MARKER.search(content, header_end)
        within = marker == START_OF_SCAN and found is not None
        end = start + 2 if marker == END_OF_IMAGE else found.start() if within and found else header_end
        yield marker, start, end if found or marker == END_OF_IMAGE else len(content)


def _check_png(content: bytes, deadline: Deadline) -> None:
    unpacker, unpacked, expected = zlib.decompressobj(), 0, _png_bytes(content[16:29])
    for kind, start, stop in _png_chunks(content):
        deadline.check()
        for first in range(start, stop, PIECE) if kind == b"IDAT" else ():  # of a whole chunk the rest is copied again
            data = content[first : min(first + PIECE, stop)]
            while data and unpacked <= expected and not unpacker.eof:
                try:
                    unpacked += len(unpacker.decompress(data, PIECE))
                except zlib.error as error:
                    raise InputError(f"damaged: {error}") from None
                data = unpacker.unconsumed_tail
    if unpacked < expected or not (unpacker.eof or unpacked > expected):
        raise InputError(f"damaged: {unpacked} of {expected} bytes of pixels, or no checksum after them")


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each chunk, and where its data begin and end; its checksum is right."""
    at, kind = 8, b""
    while kind != b"IEND":
        start, stop = at + 8, at + 8 + int.from_bytes(content[at : at + 4], "big")
        kind, checksum = content[at + 4 : start], content[stop : stop + 4]
        if len(checksum) < 4:
            raise InputError("damaged: cut off")
        if zlib.crc32(memoryview(content)[at + 4 : stop]) != int.from_bytes(checksum, "big"):
            raise InputError(f"damaged: wrong checksum of chunk {kind!r}")
        yield kind, start, stop
        at = stop + 4


def _png_bytes(header: bytes) -> int:
    """Return how many bytes the pixels take unpacked, with the byte before each row (PNG, section 7.2)."""
    width, height, depth, colours, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    total = 0
    for x, y, step_x, step_y in ADAM7 if interlaced else ONE_PASS:
        columns, rows = -(-(width - x) // step_x), -(-(height - y) // step_y)
        total += rows * (1 + (columns * depth * CHANNELS[colours] + 7) // 8) if columns > 0 and rows > 0 else 0
    return total


def _check_webp(content: bytes, deadline: Deadline) -> None:
    """Refuse a still picture that decodes as well without its last bytes: the decoder has lost its way in it."""
    for kind, data in _webp_chunks(content):
        deadline.check()
        if kind not in (b"VP8 ", b"VP8L"):
            continue
        shorter = data[:-CODER_LEAD]
        chunk = kind + struct.pack("<I", len(shorter)) + shorter + b"\0" * (len(shorter) % 2)
        with io.BytesIO(b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk) as file:
            if _decodes(file):
                raise InputError("damaged: data is left over after the last pixel")
        return  # a still picture has one; further ones are not decoded, but would be here


def _webp_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        yield content[at : at + 4], content[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _decodes(file: io.BytesIO) -> bool:
    try:
        with PIL.Image.open(file, formats=["WEBP"]) as picture:
            picture.load()
    except Exception:  # as it should, whatever the decoder calls it
        return False
    return True
