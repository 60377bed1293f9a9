"""Checkpoints: safetensors with the metadata that a network needs to be used rightly.

A checkpoint knows its variant, its classes and its preprocessing, so that nobody has to guess the colour order. Files
are written whole or not at all. Reading never runs code.
"""

import json
import math
import struct
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor
from torch.overrides import TorchFunctionMode

from classifier.googlenet import INPUT_SIZE, GoogLeNet, Variant
from structures.errors import InputError
from structures.files import regular_file, write_bytes
from structures.json_reader import parse_json
from structures.names import ClassNames

FORMAT = "googlenet-rcnn/1"
AUXILIARY_PREFIXES = ("aux1.", "aux2.")
LARGEST_INPUT = 4096  # pixels
PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
Task = Literal["images", "regions", "multibox", "shared", "photos"]
OWN_NETWORK = ("multibox", "shared")  # tasks whose network is more than a GoogLeNet
SHARED_PHOTOS = "photos."  # in shared weights, before the names of a layer that is not part of their network
Interpolation = Literal["bilinear", "bicubic", "nearest", "area"]


RANDOM = (
    *(torch.Tensor.normal_, torch.Tensor.uniform_, torch.nn.init.normal_, torch.nn.init.uniform_),
    *(torch.nn.init.kaiming_normal_, torch.nn.init.kaiming_uniform_, torch.nn.init.xavier_uniform_),
)


class WeightsError(InputError):
    """Weights that cannot be used; the message names the file and says why."""


@dataclass(frozen=True)
class Preprocessing:
    """From RGB uint8 pixels to the network's input: (pixel - mean) * scale, in the network's own channel order.

    Attributes:
        channels: order in which the network takes the colours.
        mean: subtracted from 0..255 pixel values, in network order.
        scale: multiplied after that, in network order.
        size: side of the square input, in pixels.
        resize: short side (or, for a warp, both sides) to which a whole photo is brought before a centre crop.
        interpolation: how pictures are resized.
        antialias: whether shrinking averages over the pixels left out.
        context: pixels of context around a region's box, at the network's scale (R-CNN, appendix A).

    Raises:
        InputError: a value that has no meaning; says which.
    """

    channels: Literal["RGB", "BGR"] = "BGR"
    mean: tuple[float, float, float] = (104.0, 117.0, 123.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    size: int = INPUT_SIZE
    resize: int = 256
    interpolation: Interpolation = "bilinear"
    antialias: bool = False
    context: int = 16

    def __post_init__(self) -> None:
        for name in ("mean", "scale"):
            values = getattr(self, name)
            if len(values) != 3 or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
                raise InputError(f"{name} must be three finite numbers, got {values!r}")
        for name, known in (("channels", ("RGB", "BGR")), ("interpolation", get_args(Interpolation))):
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name in ("size", "resize"):
            if type(getattr(self, name)) is not int or not 0 < getattr(self, name) <= LARGEST_INPUT:
                given = f"got {getattr(self, name)!r:.60}"
                raise InputError(f"{name} must be a whole number of pixels from 1 to {LARGEST_INPUT}, {given}")
        if type(self.context) is not int or self.context < 0:
            raise InputError(f"context must be a whole number of pixels, 0 or more, got {self.context!r:.60}")
        if not isinstance(self.antialias, bool):
            raise InputError(f"antialias must be true or false, got {self.antialias!r:.60}")

    @property
    def mean_colour(self) -> tuple[int, int, int]:
        """RGB pixel that the network sees as zero, or as nearly zero as whole numbers are.

        >>> CAFFE.mean_colour, TORCHVISION.mean_colour
        ((123, 117, 104), (124, 116, 104))
        """
        first, green, last = (round(min(max(value, 0), 255)) for value in self.mean)
        return (first, green, last) if self.channels == "RGB" else (last, green, first)


CAFFE = Preprocessing()  # BVLC's train_val.prototxt
TORCHVISION = Preprocessing(
    channels="RGB",
    mean=(123.675, 116.28, 103.53),
    scale=(1 / 58.395, 1 / 57.12, 1 / 57.375),
    antialias=True,
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights and all that is needed to use them.

    Attributes:
        state: parameter name -> tensor, names as in GoogLeNet.
        classes: column names of the last layer, without background.
        preprocessing: how pixels become input.
        variant: which GoogLeNet.
        task: "images" (C columns, one of them right), "regions" (C + 1 columns, background last), "multibox",
            "shared": MultiBox and a region classifier on one trunk, or "photos" (C columns, each right or not).
        training: free-form JSON values: data, split, command, commit, mAP and the like.
    """

    state: Mapping[str, Tensor]
    classes: tuple[str, ...]
    preprocessing: Preprocessing = CAFFE
    variant: Variant = "paper"
    task: Task = "images"
    training: Mapping[str, Any] = field(default_factory=dict)

    def network(self, *, auxiliary: bool = False) -> GoogLeNet:
        """Build the GoogLeNet of this checkpoint, float32, in evaluation mode; auxiliary weights only if asked for.

        Raises:
            WeightsError: names or shapes do not fit the variant.
        """
        with nullcontext() if auxiliary else weights_unset():
            network = self._untrained(auxiliary=auxiliary)
        load_state(network, self.state, allow_missing=AUXILIARY_PREFIXES)
        return network.eval()

    def check(self) -> None:
        """Compare the weights with their network, without building it; OWN_NETWORK is left to those who build it.

        Raises:
            WeightsError: names, shapes or types do not fit, or a weight is not finite.
        """
        for name, value in self.state.items():
            require_plain(name, value)
        context, size = self.preprocessing.context, self.preprocessing.size
        if self.task == "regions" and 2 * context >= size:
            raise WeightsError(f"a context of {context} pixels on each side leaves nothing of a region in {size}")
        if self.task not in OWN_NETWORK:
            with torch.device("meta"):
                network = self._untrained(auxiliary=any(name.startswith(AUXILIARY_PREFIXES) for name in self.state))
            fitting_state(network, self.state, allow_missing=AUXILIARY_PREFIXES)
        for name, value in self.state.items():
            if value.is_floating_point() and not _is_finite(value):
                raise WeightsError(f"{name} holds values that are not finite")

    def _untrained(self, *, auxiliary: bool = False) -> GoogLeNet:
        columns = len(self.classes) + (self.task == "regions")
        return GoogLeNet(columns, variant=self.variant, auxiliary=auxiliary)


def _is_finite(values: Tensor) -> bool:
    """Say whether all values are finite; their sum tells it sooner, unless it overflows."""
    return bool(torch.isfinite(values.sum(dtype=torch.float64))) or bool(torch.isfinite(values).all())


def weights_unset() -> TorchFunctionMode:
    """Return a context in which networks are built without weights, all of which are to be loaded.

    Drawing millions of numbers at random takes a tenth of a second, and changes the state of torch's generator.
    """
    return _NothingAtRandom()


class _NothingAtRandom(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if func in RANDOM:
            return args[0] if args else named["tensor"]
        return func(*args, **named)


def require_plain(name: str, value: Tensor) -> None:
    """Refuse what is not a plain array of numbers that a network computes with.

    Raises:
        WeightsError: sparse, quantised, without values, or of an odd type.
    """
    plain = value.layout == torch.strided and not value.is_quantized and not value.is_meta
    if not plain or (value.is_floating_point() and value.dtype not in PRECISIONS) or value.is_complex():
        raise WeightsError(f"{name} is not a plain array of numbers ({value.dtype}, {value.layout}, {value.device})")


def load_state(network: torch.nn.Module, state: Mapping[str, Tensor], *, allow_missing: tuple[str, ...] = ()) -> None:
    """Load float weights of any precision; auxiliary weights that the network does not have are left out.

    Raises:
        WeightsError: a name is missing or unknown, or a shape is wrong; the message names it.
    """
    network.load_state_dict(fitting_state(network, state, allow_missing=allow_missing), strict=False)


def fitting_state(
    network: torch.nn.Module, state: Mapping[str, Tensor], *, allow_missing: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Return the part of a state that a network takes, in the network's precision.

    Raises:
        WeightsError: a name is missing or unknown, or a shape is wrong; the message names it.
    """
    own = network.state_dict()
    wanted = {name: value for name, value in state.items() if name in own}
    unknown = [name for name in state if name not in own and not name.startswith(AUXILIARY_PREFIXES)]
    missing = [name for name in own if name not in state and not name.startswith(allow_missing)]
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]  # old files of torch have none
    wrong = [
        f"{n} {tuple(v.shape)} instead of {tuple(own[n].shape)}" for n, v in wanted.items() if v.shape != own[n].shape
    ]
    for problem, names in (("missing", missing), ("unknown", unknown), ("of wrong shape", wrong)):
        if names:
            raise WeightsError(f"{len(names)} weights are {problem}, the first is {names[0]}")
    return {name: value.to(own[name].dtype) for name, value in wanted.items()}  # now: a few bytes may claim any shape


def save_checkpoint(checkpoint: Checkpoint, path: str | Path, *, dtype: torch.dtype | None = torch.float16) -> None:
    """Write a checkpoint atomically as safetensors.

    Floats are stored in dtype, or as they are where it is too narrow; None stores all as they are.

    Raises:
        WeightsError: a weight is not finite.
    """
    stored = {}
    for name, value in checkpoint.state.items():
        kept = value.detach().cpu().contiguous()
        if kept.is_floating_point():
            if not torch.isfinite(kept).all():
                raise WeightsError(f"{path}: {name} is not finite")
            narrow = kept.to(dtype or kept.dtype)
            kept = narrow if torch.isfinite(narrow).all() else kept
        stored[name] = kept
    write_bytes(Path(path), serialise(stored, _to_metadata(checkpoint)))


def _to_metadata(checkpoint: Checkpoint) -> dict[str, str]:
    values = {
        "variant": checkpoint.variant,
        "task": checkpoint.task,
        "classes": list(checkpoint.classes),
        "preprocessing": asdict(checkpoint.preprocessing),
        "training": dict(checkpoint.training),
    }
    return {"format": FORMAT} | {name: json.dumps(value) for name, value in values.items()}


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read one of our safetensors files; tensors keep the precision of the file.

    Raises:
        WeightsError: missing, damaged, or written by something else.
    """
    try:
        with safe_open(regular_file(path), framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file") from None
    except (SafetensorError, OSError, struct.error) as error:
        raise WeightsError(f"{path}: not a readable safetensors file: {error}") from error
    return _from_metadata(metadata, state, path)


def _from_metadata(metadata: Mapping[str, str], state: Mapping[str, Tensor], path: str | Path) -> Checkpoint:
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path}: safetensors without our metadata (format {metadata.get('format')!r})")
    try:
        values = {name: parse_json(text, name) for name, text in metadata.items() if name != "format"}
        record = values.pop("preprocessing")
        for name in ("mean", "scale"):
            record[name] = tuple(record[name])
        return Checkpoint(state=state, preprocessing=Preprocessing(**record), **_checked(values))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise WeightsError(f"{path}: damaged metadata: {error}") from error


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    for name, known in (("task", get_args(Task)), ("variant", get_args(Variant))):
        if values[name] not in known:
            raise InputError(f"{name} {values[name]!r:.60} is not one of {', '.join(known)}")
    if not isinstance(values["classes"], list) or not all(isinstance(name, str) for name in values["classes"]):
        raise InputError("classes must be a list of names")
    if not isinstance(values["training"], dict):
        raise InputError("training must be an object")
    return values | {"classes": tuple(values["classes"])}


def for_regions(checkpoint: Checkpoint, classes: tuple[str, ...]) -> Checkpoint:
    """Give a checkpoint of a classifier a last layer of C + 1 columns (R-CNN, section 2.3).

    A region classifier keeps its columns of classes that it knows by these names, see `ClassNames`, and its background;
    all other columns are fresh.
    """
    return _with_last_layer(checkpoint, classes, "regions", len(classes) + 1)


def for_images(checkpoint: Checkpoint, classes: tuple[str, ...]) -> Checkpoint:
    """Give a checkpoint a last layer of C columns: an image classifier of other classes.

    An image classifier keeps its columns of classes that it knows by these names, see `ClassNames`.
    """
    return _with_last_layer(checkpoint, classes, "images", len(classes))


def _with_last_layer(checkpoint: Checkpoint, classes: tuple[str, ...], task: Task, columns: int) -> Checkpoint:
    if checkpoint.task in OWN_NETWORK:
        raise WeightsError(
            f"weights of the task {checkpoint.task} are not those of a classifier, which this starts from"
        )
    state = {name: value.float() for name, value in checkpoint.state.items() if not name.startswith(("aux", "fc."))}
    features = checkpoint.state["fc.weight"].shape[1]
    generator = torch.Generator().manual_seed(0)
    state["fc.weight"] = torch.randn((columns, features), generator=generator) * 0.01
    state["fc.bias"] = torch.zeros(columns)
    if checkpoint.task == task:
        background = [(len(classes), len(checkpoint.classes))] if task == "regions" else []
        for new, old in known_columns(checkpoint.classes, classes) + background:
            for name in ("fc.weight", "fc.bias"):
                state[name][new] = checkpoint.state[name][old].float()
    return replace(checkpoint, state=state, classes=classes, task=task, training={})


def known_columns(before: tuple[str, ...], after: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return (new column, old column) of the classes that stay."""
    known = ClassNames(before)
    return [(column, known.find(name)) for column, name in enumerate(after) if known.find(name) >= 0]
