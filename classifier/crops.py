"""Boxes to context-padded, warped, normalised batches on the device (R-CNN, appendix A).

Every box is warped to a square whatever its shape. Around it lie `context` pixels of the photo at the network's scale;
what lies outside the photo is filled with the mean colour, which is 0 after normalisation. A batch is cut in one call.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from classifier.pooling import expand
from classifier.weights.preprocessing import Preprocessing
from structures.boxes import Boxes, Mask
from structures.errors import InputError
from structures.records import Image

MOST_SHRUNK = 4  # shrinking beyond this factor first halves the photo, so that no crop steps over whole pixels


def normalise(image: Image, preprocessing: Preprocessing, device: torch.device | str = "cpu") -> Tensor:
    """Bring a photo to the device as normalised float32 (3, H, W) in network order; arguments as `to_device`."""
    return normalise_pixels(to_device(image, device), preprocessing)


def to_device(image: Image, device: torch.device | str = "cpu") -> Tensor:
    """Bring an RGB uint8 (H, W, 3) photo to the device as uint8 (3, H, W).

    Raises:
        InputError: any other shape or type, or no pixels.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InputError(f"a photo must be RGB uint8 (H, W, 3), got {image.dtype} {image.shape}")
    pixels = np.require(image, requirements=("C", "W"))  # torch takes neither mirrored views nor read-only arrays
    tensor = torch.from_numpy(pixels)
    if torch.device(device).type == "cuda":  # from pinned memory the copy runs while the CPU works
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True).permute(2, 0, 1)


def normalise_pixels(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Normalise RGB pixels (..., 3, H, W) of 0 to 255 where they are; float32 in network order."""
    pixels = pixels.float()
    if preprocessing.channels == "BGR":
        pixels = pixels.flip(-3)
    mean, scale = (  # made on the CPU and sent without waiting for what the GPU is at
        torch.tensor(values).view(3, 1, 1).to(pixels.device, non_blocking=True)
        for values in (preprocessing.mean, preprocessing.scale)
    )
    return (pixels - mean).mul_(scale)  # in place: one copy of a large photo less


def with_context(boxes: Tensor, *, size: int, context: int) -> Tensor:
    """Grow boxes (N, 4) about their centres so that the box itself covers size - 2 * context of size pixels."""
    return expand(boxes, size / (size - 2 * context))


class RegionCrops:
    """Cuts batches of warped regions out of one photo.

    Args:
        photo: (3, H, W) normalised pixels, on the device where the crops are wanted.
        size: side of the square crops.
        context: pixels of context on each side of the box, at the scale of the crop.
    """

    def __init__(self, photo: Tensor, *, size: int, context: int) -> None:
        self.size, self.context = size, context
        self.height, self.width = photo.shape[1:]
        self._pyramid = [photo[None]]

    def __call__(self, boxes: Tensor, *, mirrored: bool = False) -> Tensor:
        """Return (N, 3, size, size) crops of the (N, 4) xyxy boxes in pixels; mirrored left-right if asked for.

        Boxes may reach over the photo and may be narrower than a pixel.
        """
        boxes = boxes.to("cpu", torch.float32)  # what is decided there makes no GPU wait
        grown = with_context(boxes, size=self.size, context=self.context)
        if mirrored:
            grown = grown[:, [2, 1, 0, 3]]
        shrink = (grown[:, 2:] - grown[:, :2]).abs().amax(dim=1) / self.size
        level = (shrink / MOST_SHRUNK).clamp(min=1).log2().ceil().long()
        device = self._pyramid[0].device
        crops = self._pyramid[0].new_empty((len(boxes), 3, self.size, self.size))
        for number in torch.unique(level).tolist():
            chosen = torch.nonzero(level == number)[:, 0]
            cut = self._sample(self._level(int(number)), grown[chosen].to(device, non_blocking=True))
            crops.index_copy_(0, chosen.to(device, non_blocking=True), cut)
        return crops

    def _level(self, number: int) -> Tensor:
        while len(self._pyramid) <= number:
            last = self._pyramid[-1]
            halved = [max(1, (side + 1) // 2) for side in last.shape[2:]]
            self._pyramid.append(functional.interpolate(last, size=halved, mode="area"))
        return self._pyramid[number]

    def _sample(self, photo: Tensor, grown: Tensor) -> Tensor:
        step = (torch.arange(self.size, device=grown.device) + 0.5) / self.size
        across = self._to_grid(grown[:, 0], grown[:, 2], step, self.width)
        down = self._to_grid(grown[:, 1], grown[:, 3], step, self.height)
        shape = (len(grown), self.size, self.size)
        grid = torch.stack([across[:, None, :].expand(shape), down[:, :, None].expand(shape)], dim=3)
        return functional.grid_sample(photo.expand(len(grown), -1, -1, -1), grid, align_corners=False)

    def _to_grid(self, first: Tensor, last: Tensor, step: Tensor, side: int) -> Tensor:
        return (first[:, None] + (last - first)[:, None] * step) * (2 / side) - 1


def cut_regions(
    image: Image,
    boxes: Boxes,
    mirrored: Mask,
    preprocessing: Preprocessing,
    device: torch.device | str,
    *,
    batch_size: int,
) -> Iterator[Tensor]:
    """Yield (batch_size, 3, S, S) crops of one photo, each mirrored or not as its row says."""
    photo = normalise(image, preprocessing, device)
    cut = RegionCrops(photo, size=preprocessing.size, context=preprocessing.context)
    for start in range(0, len(boxes), batch_size):
        rows = slice(start, start + batch_size)
        crops, flip = cut(torch.from_numpy(boxes[rows])), torch.from_numpy(mirrored[rows]).to(device)
        crops[flip] = crops[flip].flip(3)
        yield crops
