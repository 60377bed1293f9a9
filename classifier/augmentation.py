"""How training photos are varied: GoogLeNet's crops and Howard's colours (GoogLeNet, section 6; arXiv 1312.5402)."""

import PIL.Image
import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from structures.records import Image

AREA = (0.08, 1.0)  # share of the photo that a crop covers
ASPECT = (3 / 4, 4 / 3)  # Differs: the paper draws the ratio evenly, torchvision its logarithm
PHOTOMETRIC = 0.5  # brightness, contrast and colour are each multiplied by 0.5 to 1.5, in random order
INTERPOLATIONS = (  # each a quarter of the time
    InterpolationMode.BILINEAR,
    InterpolationMode.BOX,  # area
    InterpolationMode.NEAREST,
    InterpolationMode.BICUBIC,
)
LIGHTING = 0.1  # deviation of the amounts of light: Krizhevsky et al. 2012, section 4.1
EIGENVALUES = (0.2175, 0.0188, 0.0045)  # of the colours of ImageNet, in [0, 1]: fb.resnet.torch, datasets/imagenet.lua
EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


class Lighting(nn.Module):
    """Add light along the principal colours of ImageNet, the same to every pixel (Krizhevsky et al. 2012)."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return RGB uint8 (3, H, W) under another light."""
        amounts = torch.randn(3) * LIGHTING * torch.tensor(EIGENVALUES)
        light = torch.tensor(EIGENVECTORS) @ amounts * 255
        return (pixels + light.view(3, 1, 1)).round().clamp(0, 255).to(torch.uint8)


class Augmentation:
    """Turns a photo into one of its many variations.

    Args:
        size: side of the square result.
    """

    def __init__(self, size: int) -> None:
        crops = [v2.RandomResizedCrop(size, scale=AREA, ratio=ASPECT, interpolation=each) for each in INTERPOLATIONS]
        self._vary = v2.Compose(
            [
                v2.RandomChoice(crops),
                v2.RandomHorizontalFlip(),
                v2.ColorJitter(brightness=PHOTOMETRIC, contrast=PHOTOMETRIC, saturation=PHOTOMETRIC),
                v2.PILToTensor(),
                Lighting(),
            ]
        )

    def __call__(self, image: Image, seed: int) -> Tensor:
        """Return RGB uint8 (3, size, size): a function of the photo and the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            varied: Tensor = self._vary(PIL.Image.fromarray(image))
        return varied
