"""Any picture file to RGB uint8 (H, W, 3). The only place that opens pictures.

Policy: EXIF orientation is applied, so that boxes refer to the photo as displayed; `exif="ignore"` reads the stored
pixels. Transparent pixels are laid over white. 16-bit and float pictures are brought to 8 bits by range, not clipped,
but for values below 0, which are black. Of an animation the first frame counts. A truncated or damaged file is an
error, never a half-grey photo.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import PIL.Image

from structures.boxes import ImageSize
from structures.records import Image

ExifPolicy = Literal["apply", "ignore"]
MAX_PIXELS = 2 * 89_478_485  # Pillow's own limit, against files that are small and unpack to gigabytes
# What a folder is searched for. Formats that Pillow cannot read here are listed too: such photos are to be reported.
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


class ImageError(ValueError):
    """A picture that cannot be read; the message names the file and says why."""


def read_image(path: str | Path, *, exif: ExifPolicy = "apply") -> Image:
    """Read one picture.

    Args:
        path: the file; its content decides the format, not its name.
        exif: "apply" turns the photo as displayed, "ignore" keeps the stored pixels.

    Returns:
        RGB uint8 (H, W, 3), C-contiguous, owned by the caller.

    Raises:
        ImageError: missing, empty, not a picture, truncated or too large; names the file.
    """
    try:
        return _decode(Path(path), exif)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except PIL.UnidentifiedImageError:
        raise ImageError(f"{path}: {_unidentified(Path(path))}") from None
    except PIL.Image.DecompressionBombError:
        raise ImageError(f"{path}: more than {MAX_PIXELS} pixels") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ValueError and more
        raise ImageError(f"{path}: cannot be decoded: {error}") from error


def read_size(path: str | Path) -> ImageSize:
    """Read (height, width) of a picture as `read_image` gives it, without decoding its pixels where that can be helped.

    Raises:
        ImageError: missing, empty, not a picture or too large; names the file.
    """
    try:
        with PIL.Image.open(path) as picture:
            turned = _orientation(picture)
            width, height = picture.size
        if turned == 1 or turned not in TURN:
            return height, width
    except Exception:  # whatever it is, reading says it better
        pass
    return read_image(path).shape[:2]


def _unidentified(path: Path) -> str:
    return "the file is empty" if path.stat().st_size == 0 else "not a picture in a known format"


def _decode(path: Path, exif: ExifPolicy) -> Image:
    with PIL.Image.open(path) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise PIL.Image.DecompressionBombError
        stored = _orientation(picture)
        picture.load()
        left = _orientation(picture)  # Pillow turns TIFF by itself while loading, other formats not
        turn = TURN.get(left) if exif == "apply" else TURN_BACK.get(stored) if left != stored else None
        upright = picture if turn is None else picture.transpose(turn)
        return np.array(_to_rgb(upright), dtype=np.uint8, order="C")


def _orientation(picture: PIL.Image.Image) -> int:
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # broken EXIF beside sound pixels: show them as they are, as viewers do
        return 1


def _to_rgb(picture: PIL.Image.Image) -> PIL.Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = _to_8_bits(picture)
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        white = PIL.Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return PIL.Image.alpha_composite(white, layer).convert("RGB")
    return picture.convert("RGB")


def _to_8_bits(picture: PIL.Image.Image) -> PIL.Image.Image:
    values = np.asarray(picture)
    if picture.mode.startswith("I;16"):  # by a table: an eighth of the memory
        table = np.rint(np.arange(65536) * (255 / 65535)).astype(np.uint8)
        return PIL.Image.fromarray(table[values])
    if not np.isfinite(values).all():
        raise ValueError("holds values that are not finite")
    white = _white(picture.mode, float(values.max(initial=0)))
    return PIL.Image.fromarray(np.clip(np.rint(values * np.float64(255 / white)), 0, 255).astype(np.uint8))


def _white(mode: str, brightest: float) -> float:
    """Return the value that stands for white: the end of the smallest usual range that holds all values."""
    ranges = (1, 255, 65535) if mode == "F" else (255, 65535)
    return next((end for end in ranges if brightest <= end), brightest)
