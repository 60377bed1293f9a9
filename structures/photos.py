"""Whatever holds one photo -> RGB uint8 (H, W, 3): a path, a Pillow image, an array, a tensor.

Files and Pillow images are converted by `structures.images`: EXIF is applied, transparent pixels are laid over white.
Arrays and tensors are taken as they are displayed: grey ones become RGB, and a fourth channel is opacity, over white as
well. Their values are 8 bits, 16 bits (uint16, 65,535 is white), or fractions from 0 to 1.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import PIL.Image

from structures.images import MAX_PIXELS, ExifPolicy, ImageError, from_16_bits, read_image, to_pixels
from structures.records import Image

if TYPE_CHECKING:
    from torch import Tensor

PhotoLike: TypeAlias = "str | Path | PIL.Image.Image | npt.NDArray[Any] | Tensor"
CHANNELS = (1, 3, 4)  # grey, RGB, RGB with opacity
EXPECTED = "a path (str or Path), a PIL image, a NumPy array (H, W, 3) or a torch tensor (3, H, W)"


def as_image(photo: "PhotoLike", *, exif: ExifPolicy = "apply", max_pixels: int = MAX_PIXELS) -> Image:
    """Return a photo as the pixels that everything here works on.

    Args:
        photo: a path; a Pillow image; a NumPy array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); or a torch tensor
            (H, W), (1, H, W), (3, H, W) or (4, H, W) on any device. Values are uint8, uint16, or floats from 0 to 1.
        exif: of paths and of pictures that still have it: "apply" turns the photo as displayed, "ignore" does not.
        max_pixels: of a path, see `structures.images.read_image`.

    Returns:
        RGB uint8 (H, W, 3), C-contiguous; not a copy where the array is that already.

    Raises:
        ImageError: a file that cannot be read, values or a shape that cannot be a photo, or another type; says what
            was expected.
    """
    if isinstance(photo, str | Path):
        return read_image(photo, exif=exif, max_pixels=max_pixels)
    if isinstance(photo, PIL.Image.Image):
        return _from_picture(photo, exif)
    if isinstance(photo, np.ndarray):
        return _from_array(photo, f"a NumPy array {photo.shape} of {photo.dtype}")
    if _is_tensor(photo):
        return _from_tensor(photo)
    one = "; pass several photos one at a time" if isinstance(photo, list | tuple) else ""
    raise ImageError(f"a photo is {EXPECTED}, not {type(photo).__name__}{one}")


def several(photos: "Iterable[PhotoLike]") -> "Iterable[PhotoLike]":
    """Return photos as they are if they are several: an iterable, but not a path, a Pillow image or a single array.

    Raises:
        ImageError: they are not; says what was expected.
    """
    if isinstance(photos, str | Path | PIL.Image.Image) or not isinstance(photos, Iterable):
        raise ImageError(f"`photos` must be a list or another iterable of photos, not {type(photos).__name__}")
    shape: Any = getattr(photos, "shape", None)
    if (isinstance(photos, np.ndarray) or _is_tensor(photos)) and len(shape) != 4:
        raise ImageError(f"`photos` must be several photos, not an array or tensor of shape {tuple(shape)}")
    return photos


def _is_tensor(photo: object) -> bool:
    """Say whether something is a tensor of torch, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(photo, torch.Tensor)


def name_of(photo: "PhotoLike") -> str:
    """Return the path of a photo with forward slashes, where it has one; else ""."""
    path = getattr(photo, "filename", "") if isinstance(photo, PIL.Image.Image) else photo
    return Path(path).as_posix() if isinstance(path, str | Path) and path else ""


def _from_picture(picture: PIL.Image.Image, exif: ExifPolicy) -> Image:
    what = f"{name_of(picture) or 'a PIL image'} ({picture.width} x {picture.height}, mode {picture.mode})"
    if not picture.width or not picture.height:
        raise ImageError(f"{what}: holds no pixels")
    try:
        return to_pixels(picture, exif=exif)
    except Exception as error:  # its file is read only now, and decoders raise whatever they like
        raise ImageError(f"{what}: cannot be decoded: {error}") from error


def _from_tensor(tensor: Any) -> Image:
    what = f"a torch tensor {tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"
    values = tensor.detach().cpu()
    array = (values.float() if values.is_floating_point() else values).numpy()  # NumPy has no bfloat16
    if array.ndim == 3:
        if array.shape[0] not in CHANNELS:
            turned = array.shape[2] in CHANNELS
            hint = "; photo.permute(2, 0, 1) puts the channels first" if turned else ""
            raise ImageError(f"{what} is not a photo: expected (3, H, W){hint}")
        array = np.moveaxis(array, 0, 2)
    return _from_array(array, what)


def _from_array(values: npt.NDArray[Any], what: str) -> Image:
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in CHANNELS):
        raise ImageError(f"{what} is not a photo: expected (H, W, 3){_hint(values)}")
    if values.size == 0:
        raise ImageError(f"{what} holds no pixels")
    pixels = _to_8_bits(values, what).reshape(*values.shape[:2], -1)
    if pixels.shape[2] == 4:
        return to_pixels(PIL.Image.fromarray(np.ascontiguousarray(pixels)))
    return np.ascontiguousarray(np.broadcast_to(pixels, (*values.shape[:2], 3)))


def _hint(values: npt.NDArray[Any]) -> str:
    if values.ndim == 4:
        return "; pass several photos one at a time"
    if values.ndim == 3 and values.shape[0] in CHANNELS:
        return "; np.moveaxis(photo, 0, 2) puts the channels last"
    return ""


def _to_8_bits(values: npt.NDArray[Any], what: str) -> npt.NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16:
        return from_16_bits(values)
    if not np.issubdtype(values.dtype, np.floating):
        raise ImageError(f"{what}: expected uint8 from 0 to 255, uint16 from 0 to 65535, or floats from 0 to 1")
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 1:  # nan is not, either
        raise ImageError(f"{what}: floats must be from 0 (black) to 1 (white), these are from {low:.6g} to {high:.6g}")
    return np.rint(values * np.float32(255)).astype(np.uint8)
