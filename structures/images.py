"""Any picture file to RGB uint8 (H, W, 3). The only place that opens pictures.

Policy: EXIF orientation is applied, so that boxes refer to the photo as displayed; `exif="ignore"` reads the stored
pixels. Transparent pixels are laid over white. 16-bit and float pictures are brought to 8 bits by range, not clipped.
Of an animation the first frame counts. A truncated or damaged file is an error, never a half-grey photo.
"""

import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import PIL.Image
import PIL.ImageOps

from structures.records import Image

ExifPolicy = Literal["apply", "ignore"]
MAX_PIXELS = 400_000_000  # a picture above this is refused before it is decoded
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(Path(path), exif)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except PIL.UnidentifiedImageError:
        raise ImageError(f"{path}: {_unidentified(Path(path))}") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ValueError and more
        raise ImageError(f"{path}: cannot be decoded: {error}") from error


def _unidentified(path: Path) -> str:
    return "the file is empty" if path.stat().st_size == 0 else "not a picture in a known format"


def _decode(path: Path, exif: ExifPolicy) -> Image:
    with PIL.Image.open(path) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise ImageError(f"{path}: {picture.width}x{picture.height} is more than {MAX_PIXELS} pixels")
        picture.load()
        upright = PIL.ImageOps.exif_transpose(picture) if exif == "apply" else picture
        return np.array(_to_rgb(upright), dtype=np.uint8, order="C")


def _to_rgb(picture: PIL.Image.Image) -> PIL.Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = _to_8_bits(picture)
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        white = PIL.Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return PIL.Image.alpha_composite(white, layer).convert("RGB")
    return picture.convert("RGB")


def _to_8_bits(picture: PIL.Image.Image) -> PIL.Image.Image:
    values = np.asarray(picture).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("holds values that are not finite")
    top = 65535.0 if values.max(initial=0) > 255 or picture.mode.startswith("I;16") else 255.0
    if picture.mode == "F" and values.max(initial=0) <= 1:
        top = 1.0
    return PIL.Image.fromarray(np.clip(np.rint(values * (255.0 / top)), 0, 255).astype(np.uint8), "L")
