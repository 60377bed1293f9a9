"""Any picture file to RGB uint8 (H, W, 3). The only place that opens pictures.

Policy: EXIF orientation is applied, so that boxes refer to the photo as displayed; `exif="ignore"` reads the stored
pixels. Transparent pixels are laid over white. 16-bit and float pictures are scaled to 8 bits by range, not clipped,
except for values below 0, which become black. Of an animation the first frame is read. A truncated or damaged file is
an error, never a half-grey photo, as far as its format can tell (`structures.soundness`). Memory and time are bounded
by `max_pixels`: about 7 bytes per pixel, `MOST_SCANS` scans of a picture of that size, and processor time
(`most_seconds`), which is checked whenever a decoder asks for more bytes.
"""

import io
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import PIL.Image

from structures.boxes import ImageSize
from structures.deadline import Deadline, TimedReader
from structures.errors import InputError
from structures.files import regular_file
from structures.records import Image
from structures.soundness import RAISED_BY, require_sound

ExifPolicy = Literal["apply", "ignore"]
MAX_PIXELS = 2 * 89_478_485  # Pillow's own limit, against small files that unpack to gigabytes
FILE_BYTES = 8  # of a file, per pixel of max_pixels: uncompressed 16-bit RGBA
SECONDS, MEGAPIXELS_PER_SECOND = 5.0, 7.0  # of processor time, per photo; the slowest sound ones take a fifth of it
MOST_SCANS = 10  # scans of a progressive JPEG of max_pixels, as many as libjpeg writes; a smaller one may have more
STRIP = 2**20  # pixels that are converted at a time
# All formats that are decoded, whatever the file's name: no documents, whose plugins run programs (EPS), no rare ones.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "HEIF", "JPEG2000")
# What a folder is searched for. Formats that Pillow cannot read here are included, so that such photos are reported.
SUFFIXES = frozenset(".jpg .jpeg .jpe .jfif .mpo .png .bmp .gif .tif .tiff .webp .ppm .pgm .avif .heic .heif".split())

ORIENTATION = 0x0112  # EXIF tag
TURN = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}  # EXIF 2.32, table 4: how to turn the stored pixels for display
TURN_BACK = TURN | {6: TURN[8], 8: TURN[6]}


class ImageError(InputError):
    """A picture that cannot be read; the message names the file and says why."""


class ImageTooLarge(ImageError):
    """A picture with more pixels, or a file with more bytes, than the caller allows."""


def read_image(path: str | Path, *, exif: ExifPolicy = "apply", max_pixels: int = MAX_PIXELS) -> Image:
    """Read one picture.

    Args:
        path: the file; its content determines the format, not its name.
        exif: "apply" turns the photo as displayed, "ignore" keeps the stored pixels.
        max_pixels: a larger picture is refused, as is a file of more than 8 times that in bytes, a progressive JPEG
            with more than 10 times that in scans times pixels, or a file that takes more than `most_seconds`. Above the
            default it raises Pillow's own limit, too, for the whole process.

    Returns:
        RGB uint8 (H, W, 3), C-contiguous, owned by the caller.

    Raises:
        ImageError: missing, empty, not a regular file, not a picture, truncated, damaged, too large or too slow; names
            the file.
    """
    return decode_image(photo_bytes(path, max_pixels=max_pixels), name=path, exif=exif, max_pixels=max_pixels)


def photo_bytes(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> bytes:
    """Return the bytes of a picture's file, for `decode_image`.

    Raises:
        ImageError: missing, not a regular file, or larger than a picture of max_pixels may be; names the file.
    """
    try:
        size = regular_file(path).stat().st_size
        if size > most_bytes(max_pixels):
            raise too_many_bytes(path, max_pixels)
        return Path(path).read_bytes()
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: {_folder(Path(path))}") from None
    except Exception as error:
        raise ImageError(f"{path}: {_reason(error)}") from error


def most_bytes(max_pixels: int) -> int:
    """Return how large the file of a picture may be."""
    return FILE_BYTES * max_pixels


def too_many_bytes(path: str | Path, max_pixels: int) -> "ImageTooLarge":
    """Return the error for a file that is larger than `most_bytes`."""
    return ImageTooLarge(f"{path}: {_limit(f'{most_bytes(max_pixels)} bytes')}")


def decode_image(
    content: bytes, *, name: str | Path = "the photo", exif: ExifPolicy = "apply", max_pixels: int = MAX_PIXELS
) -> Image:
    """Read one picture from the bytes of its file, as `read_image` does.

    Args:
        content: of the whole file.
        name: for messages.
        exif: see `read_image`.
        max_pixels: see `read_image`; how many bytes there may be is for the caller to check.

    Raises:
        ImageError: empty, not a picture, truncated, damaged, too slow or, as `ImageTooLarge`, too large.
    """
    try:
        return _decode(content, exif, max_pixels)
    except PIL.UnidentifiedImageError:
        raise ImageError(f"{name}: {'not a picture in a known format' if content else 'the file is empty'}") from None
    except PIL.Image.DecompressionBombError:
        raise ImageTooLarge(f"{name}: {_limit(f'{max_pixels} pixels')}") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ValueError and more
        raise ImageError(f"{name}: {_reason(error)}") from error


def most_seconds(max_pixels: int) -> float:
    """Return how many seconds of processor time one picture may take.

    >>> round(most_seconds(MAX_PIXELS)), round(most_seconds(1_000_000), 1)
    (31, 5.1)
    """
    return SECONDS + max_pixels / 1e6 / MEGAPIXELS_PER_SECOND


def _deadline(max_pixels: int) -> Deadline:
    return Deadline(most_seconds(max_pixels), RAISED_BY)


def read_size(path: str | Path) -> ImageSize:
    """Read (height, width) of a picture as `read_image` gives it, if possible without decoding its pixels.

    Raises:
        ImageError: missing, empty, not a picture or too large; names the file.
    """
    try:
        with (
            TimedReader(io.FileIO(regular_file(path)), _deadline(MAX_PIXELS)) as file,
            PIL.Image.open(file, formats=_formats()) as picture,
        ):
            turned = _orientation(picture)
            width, height = picture.size
        if turned == 1 or turned not in TURN:
            return height, width
    except Exception:  # whatever it is, read_image has the better message
        pass
    return read_image(path).shape[:2]


def _formats() -> list[str]:
    PIL.Image.init()
    return [name for name in FORMATS if name in PIL.Image.OPEN]  # no AVIF in older Pillows, HEIF by pillow-heif only


def _folder(path: Path) -> str:
    try:
        next(path.iterdir(), None)
    except OSError as error:
        return f"the folder cannot be searched: {error.strerror}"
    return "a directory, not a picture"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:  # of the system, not of a decoder
        return f"cannot be read: {error.strerror}"
    return f"cannot be decoded: {error}"


def _limit(what: str) -> str:
    return f"more than {what}, the limit ({RAISED_BY})"


def _decode(content: bytes, exif: ExifPolicy, max_pixels: int) -> Image:
    if max_pixels > MAX_PIXELS and PIL.Image.MAX_IMAGE_PIXELS is not None:
        PIL.Image.MAX_IMAGE_PIXELS = max(PIL.Image.MAX_IMAGE_PIXELS, max_pixels // 2 + 1)  # Pillow's errors: from twice
    deadline = _deadline(max_pixels)
    with PIL.Image.open(TimedReader(io.BytesIO(content), deadline), formats=_formats()) as picture:
        pixels = picture.width * picture.height
        if pixels > max_pixels:
            raise PIL.Image.DecompressionBombError
        require_sound(picture, content, deadline, most_scans=MOST_SCANS * max_pixels // max(1, pixels))
        return to_pixels(picture, exif=exif)


def to_pixels(picture: PIL.Image.Image, *, exif: ExifPolicy = "apply") -> Image:
    """Return the pixels of a Pillow image as RGB uint8 (H, W, 3), as `read_image` gives those of its file.

    Raises:
        Exception: whatever Pillow raises where the picture was not loaded yet, and cannot be.
    """
    stored = _orientation(picture)
    picture.load()
    left = _orientation(picture)  # Pillow turns TIFF by itself while loading, other formats not
    turn = TURN.get(left) if exif == "apply" else TURN_BACK.get(stored) if left != stored else None
    return _to_array(picture if turn is None else picture.transpose(turn))


def _orientation(picture: PIL.Image.Image) -> int:
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # broken EXIF but sound pixels: show them as they are, as viewers do
        return 1


def _to_array(picture: PIL.Image.Image) -> Image:
    """Convert in strips of rows: Pillow's conversions take several times the memory of the picture."""
    image = np.empty((picture.height, picture.width, 3), np.uint8)
    white = _white(picture) if picture.mode in ("I", "F") else 0
    rows = max(1, STRIP // picture.width)
    for top in range(0, picture.height, rows):
        bottom = min(top + rows, picture.height)
        image[top:bottom] = np.asarray(_to_rgb(picture.crop((0, top, picture.width, bottom)), white))
    return image


def _to_rgb(picture: PIL.Image.Image, white: float) -> PIL.Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = _to_8_bits(picture, white)
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        paper = PIL.Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return PIL.Image.alpha_composite(paper, layer).convert("RGB")
    return picture.convert("RGB")


def _to_8_bits(picture: PIL.Image.Image, white: float) -> PIL.Image.Image:
    values = np.asarray(picture)
    if picture.mode.startswith("I;16"):  # by a table: an eighth of the memory
        return PIL.Image.fromarray(from_16_bits(values))
    return PIL.Image.fromarray(np.clip(np.rint(values * np.float64(255 / white)), 0, 255).astype(np.uint8))


def from_16_bits(values: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Bring 16-bit values of any shape to 8 bits: 65,535, which is white, becomes 255."""
    table = np.rint(np.arange(65536) * (255 / 65535)).astype(np.uint8)
    eight: npt.NDArray[np.uint8] = table[values]
    return eight


def _white(picture: PIL.Image.Image) -> float:
    """Return the value of white: the end of the smallest usual range that holds all values."""
    values = np.asarray(picture)
    if not np.isfinite(values).all():
        raise InputError("holds values that are not finite")
    brightest = float(values.max(initial=0))
    ranges = (1, 255, 65535) if picture.mode == "F" else (255, 65535)
    return next((end for end in ranges if brightest <= end), brightest)
