"""Small networks with random weights that say different things of different regions, and photos to show them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from classifier.crops import RegionCrops, normalise
from classifier.googlenet import GoogLeNet, Variant
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.preprocessing import CAFFE, Preprocessing
from detect.networks.shared import SharedNetwork, to_checkpoint
from proposals.multibox.samples import random_view
from proposals.multibox.views import whole_photo
from structures.records import Image

CLASSES = ("cat", "cup", "person")
SMALL = replace(CAFFE, size=64, context=5)


QUARTER = ((192, 256), (256, 192))
TINY = ((64, 128), (128, 64))


@contextmanager
def quarter_canvases(canvases: tuple[tuple[int, int], ...] = QUARTER) -> Iterator[tuple[tuple[int, int], ...]]:
    """Have whole photos drawn with a quarter of the usual pixels or less, where what is proven needs no more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(whole_photo.__kwdefaults__, "canvases", canvases)
        patch.setattr(random_view, "__defaults__", (canvases,))
        yield canvases


def make(variant: Variant = "paper", preprocessing: Preprocessing = SMALL, seed: int = 0) -> Checkpoint:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = GoogLeNet(len(CLASSES) + 1, variant=variant).eval()
    crops = RegionCrops(normalise(photo(), preprocessing), size=preprocessing.size, context=preprocessing.context)
    with torch.no_grad():  # a random network says the same of everything: let it say what sets these regions apart
        spread, mean = torch.std_mean(network(crops(torch.from_numpy(some_boxes(8)))), dim=0)
        network.fc.weight /= spread[:, None]
        network.fc.bias.copy_((network.fc.bias - mean) / spread)
    return Checkpoint(network.state_dict(), CLASSES, preprocessing, variant, "regions")


def make_shared(classes: tuple[str, ...], *, crops: bool = False) -> Checkpoint:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shapes = torch.tensor([[[20.0, 24.0]], [[50.0, 60.0]], [[120.0, 110.0]], [[250.0, 260.0]]])
        start = Checkpoint(state={}, classes=())
        network = SharedNetwork(shapes, start.preprocessing, len(classes) + 1, width=16)
        for layer in (network.regions.parts, network.regions.predict):
            torch.nn.init.normal_(layer.weight, std=0.05)
        if crops:
            network.begin_crops()
        return to_checkpoint(network, start, classes, network.state_dict(), {"data": "noise"})


def photo(height: int = 60, width: int = 80, seed: int = 0) -> Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.ascontiguousarray(np.kron(coarse, np.ones((height // 6, width // 8, 1), np.uint8)))


def some_boxes(count: int, seed: int = 0) -> np.ndarray:
    corners = np.sort(np.random.default_rng(seed).integers(0, 60, (count, 2, 2)), axis=1).reshape(-1, 4)
    return (corners + np.array([0, 0, 9, 9])).astype(np.float32)
