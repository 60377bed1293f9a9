"""MultiBox on GoogLeNet: the network, its checkpoints, and the generator."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from classifier.googlenet import TABLE_1, GoogLeNet, layers_between
from classifier.placement import Placement, place
from classifier.weights.checkpoint import Checkpoint, read_checkpoint
from classifier.weights.digest import digest
from classifier.weights.fitting import WeightsError, load_state, naming, weights_unset
from classifier.weights.preprocessing import Preprocessing
from detect.networks.canvas_runner import CanvasRunner
from proposals.multibox.generator import MultiBox, Predictor
from proposals.multibox.heads import DenseHead, RefineHead
from proposals.multibox.memory import CanvasMemory
from proposals.multibox.predictor import DensePredictor
from proposals.multibox.views import CanvasView, whole_photo
from structures.boxes import ImageSize

MAPS = ("inception3b", "inception4e", "inception5b")  # strides 8, 16 and 32
BEFORE_INCEPTION = 192  # channels of maxpool2
LAST_FROZEN = ("maxpool2", *TABLE_1)  # layers that can be the last frozen one in a training
SCALES = (1.0,)
MAX_WIDTH = 1024  # most channels of the head; ours has 128
MAX_SHAPES = 100  # most shapes of priors per level; ours has 3


class Normalise(nn.Module):
    """The first layer: turns RGB pixels 0..255 into the network's input."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.reverse = preprocessing.channels == "BGR"
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(preprocessing.scale).view(3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (N, 3, H, W) RGB pixels to normalised channels in network order."""
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.scale, Tensor)
        return ((pixels.flip(1) if self.reverse else pixels) - self.mean) * self.scale


class DenseMultiBox(nn.Module):
    """GoogLeNet's trunk, the dense head on three of its maps, and the refining head.

    Args:
        shapes: (4, A, 2) priors of each level, in pixels of the canvas.
        preprocessing: preprocessing of the trunk.
        variant: variant of GoogLeNet.
        width: channels of the pyramid.
    """

    def __init__(
        self, shapes: Tensor, preprocessing: Preprocessing, *, variant: Any = "paper", width: int = 128
    ) -> None:
        super().__init__()
        self.normalise, self.mean_colour = Normalise(preprocessing), preprocessing.mean_colour
        self.trunk = GoogLeNet(1, variant=variant)
        self.trunk.fc = nn.Identity()  # type: ignore[assignment]
        self.head = DenseHead(shapes, inputs=[TABLE_1[name].outputs for name in MAPS], width=width)
        self.refine = RefineHead(width)

    def view(self, image_size: ImageSize, scale: float = 1.0) -> CanvasView:
        """Return how the network sees a whole photo of (height, width); see `whole_photo`."""
        return whole_photo(image_size, scale=scale, fill=self.mean_colour)

    def stem(self, pixels: Tensor, frozen: str) -> list[Tensor]:
        """Return the needed maps up to the layer `frozen`, the last of them, for (N, 3, H, W) RGB pixels 0..255."""
        found: list[Tensor] = []
        features, last = self.normalise(pixels), None
        for name in kept_layers(frozen):
            features = self.trunk.trunk(features, after=last, last=name)
            found.append(features)
            last = name
        return found

    def from_stem(self, found: list[Tensor], frozen: str) -> list[Tensor]:
        """Run the layers after `frozen`, and return the three maps of the trunk."""
        maps = [features for features, name in zip(found, kept_layers(frozen), strict=True) if name in MAPS]
        features, last = found[-1], frozen
        for name in MAPS[len(maps) :]:
            features = self.trunk.trunk(features, after=last, last=name)
            maps.append(features)
            last = name
        return maps

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (N, 3, H, W) RGB pixels 0..255 to (N, width + 5 A, cells): pyramid and raw outputs of all levels."""
        joined: Tensor = self.head.joined(self.stem(pixels, MAPS[-1]))
        return joined


class Stem(nn.Module):
    """The frozen layers in a form for engines, with one output tensor: (N, all values of all maps)."""

    def __init__(self, network: DenseMultiBox, frozen: str) -> None:
        super().__init__()
        self._network, self._frozen = network, frozen

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (N, 3, H, W) RGB pixels 0..255 to flattened maps; `unflatten` restores their shapes."""
        return torch.cat([features.flatten(1) for features in self._network.stem(pixels, self._frozen)], dim=1)


def kept_layers(frozen: str) -> list[str]:
    """Return the layers whose outputs are needed if the layers up to `frozen` are not trained.

    >>> kept_layers("inception4e"), kept_layers("maxpool2")
    (['inception3b', 'inception4e'], ['maxpool2'])
    """
    before = layers_between(None, frozen)
    return [*(name for name in MAPS if name in before and name != frozen), frozen]


def unflatten(flat: Tensor, canvas: ImageSize, frozen: str) -> list[Tensor]:
    """Split the output of `Stem` into its maps (N, C, h, w)."""
    shapes = []
    for name in kept_layers(frozen):
        stride = 2 ** (2 + sum(layer.startswith("maxpool") for layer in layers_between("maxpool1", name)))
        channels = TABLE_1[name].outputs if name in TABLE_1 else BEFORE_INCEPTION
        shapes.append((channels, canvas[0] // stride, canvas[1] // stride))
    parts = torch.split(flat, [c * h * w for c, h, w in shapes], dim=1)
    return [part.reshape(len(flat), *shape) for part, shape in zip(parts, shapes, strict=True)]


def start_network(trunk: Checkpoint, shapes: Tensor, *, width: int = 128, seed: int = 0) -> DenseMultiBox:
    """Put new heads on the trunk of any GoogLeNet checkpoint, such as an image or region classifier."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DenseMultiBox(shapes, trunk.preprocessing, variant=trunk.variant, width=width)
    features = {name: value.float() for name, value in trunk.state.items() if not name.startswith(("aux", "fc."))}
    load_state(network.trunk, features)
    return network


def to_checkpoint(network: DenseMultiBox, start: Checkpoint, state: dict[str, Tensor], training: Any) -> Checkpoint:
    """Make a checkpoint of a trained network."""
    settings = {"width": network.head.width, "head": "dense"}
    return replace(start, state=state, classes=(), task="multibox", training={"multibox": settings, **training})


def learned_classes(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return the classes that MultiBox weights learned from; none if they do not say, or are not MultiBox weights."""
    classes = checkpoint.training.get("classes") if checkpoint.task in ("multibox", "shared") else None
    ignored = checkpoint.training.get("ignored", ())
    without = set(map(str, ignored)) if isinstance(ignored, list | tuple) else set()
    return tuple(name for name in map(str, classes) if name not in without) if isinstance(classes, list | tuple) else ()


def from_checkpoint(checkpoint: Checkpoint) -> DenseMultiBox:
    """Build the network of a MultiBox checkpoint, in float32 and evaluation mode.

    Raises:
        WeightsError: the checkpoint is not MultiBox's, or its parts do not fit together.
    """
    if checkpoint.task != "multibox":
        raise WeightsError(f"these weights are for {checkpoint.task}, MultiBox weights are needed")
    shapes, width = head_shapes(checkpoint), head_width(checkpoint)
    with weights_unset():
        network = DenseMultiBox(shapes, checkpoint.preprocessing, variant=checkpoint.variant, width=width)
    load_state(network, checkpoint.state)
    return network.eval()


def head_shapes(checkpoint: Checkpoint) -> Tensor:
    """Return the (4, A, 2) priors of MultiBox's head in a checkpoint.

    Raises:
        WeightsError: it has none, or invalid ones.
    """
    if "head.shapes" not in checkpoint.state:
        raise WeightsError(f"these weights are for {checkpoint.task}, without the priors of MultiBox (head.shapes)")
    shapes = checkpoint.state["head.shapes"].float()
    if shapes.ndim != 3 or shapes.shape[2] != 2 or not 0 < shapes.shape[1] <= MAX_SHAPES:
        raise WeightsError(f"head.shapes has the shape {tuple(shapes.shape)}, expected (4, 1 to {MAX_SHAPES}, 2)")
    return shapes


def head_width(checkpoint: Checkpoint) -> int:
    """Return the channels of MultiBox's pyramid in a checkpoint.

    Raises:
        WeightsError: the metadata do not say, or are invalid.
    """
    settings = checkpoint.training.get("multibox")
    width = settings.get("width") if isinstance(settings, Mapping) else None
    if type(width) is not int or not 0 < width <= MAX_WIDTH:
        raise WeightsError(f"the width of MultiBox's head must be from 1 to {MAX_WIDTH}, got {width!r:.60}")
    return width


def make_multibox(
    checkpoint: Checkpoint, placement: Placement | None = None, *, scales: Sequence[float] = SCALES, **options: Any
) -> MultiBox:
    """Make a generator from a checkpoint.

    Args:
        checkpoint: checkpoint of the task "multibox".
        placement: device, engine and precision; None chooses.
        scales: factors on the size of the canvas; the whole photo is seen once at each.
        **options: max_boxes, nms_threshold, mirrored and name of `proposals.multibox.MultiBox`.
    """
    network, where = from_checkpoint(checkpoint), placement or place()
    memory = CanvasMemory(CanvasRunner(network, where), device=where.device)
    predict = DensePredictor(memory, network.head, network.refine, device=where.device)
    facts, learned = weights_facts(checkpoint), learned_classes(checkpoint)
    return multibox_of(network, predict, facts, scales=scales, learned_classes=learned, **options)


def multibox_of(
    network: DenseMultiBox,
    predict: Predictor,
    weights: Mapping[str, Any],
    *,
    scales: Sequence[float] = SCALES,
    **options: Any,
) -> MultiBox:
    """Make a generator that sees whole photos through a predictor; see `make_multibox`."""
    views: Callable[[ImageSize], list[CanvasView]] = partial(_views, network, tuple(scales))
    return MultiBox(predict, views, parameters={"scales": list(scales), "weights": dict(weights)}, **options)


def weights_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return facts that distinguish weights, as JSON values."""
    facts = {name: checkpoint.training.get(name) for name in ("data", "split", "commit")}
    return {**facts, "digest": digest(checkpoint.of_network())}


def _views(network: DenseMultiBox, scales: Sequence[float], image_size: ImageSize) -> list[CanvasView]:
    return [network.view(image_size, scale) for scale in scales]


def load_multibox(path: str | Path, placement: Placement | None = None, **options: Any) -> MultiBox:
    """Read weights and make a generator, see `make_multibox`.

    Raises:
        WeightsError: the weights cannot be used; the message names the file.
    """
    checkpoint = read_checkpoint(path)
    with naming(path):
        return make_multibox(checkpoint, placement, **options)
