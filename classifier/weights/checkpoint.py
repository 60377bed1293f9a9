"""Checkpoints: safetensors with the metadata that a network needs to be used rightly.

A checkpoint knows its variant, its classes and its preprocessing, so that nobody has to guess the colour order. Files
are written whole or not at all. Reading never runs code.
"""

import json
import struct
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from classifier.googlenet import GoogLeNet, Variant
from classifier.weights import eight_bits
from classifier.weights.fitting import (
    AUXILIARY_PREFIXES,
    WeightsError,
    fitting_state,
    load_state,
    require_plain,
    weights_unset,
)
from classifier.weights.preprocessing import CAFFE, Preprocessing
from structures.errors import InputError
from structures.files import regular_file, write_bytes
from structures.json_reader import parse_json

FORMAT = "googlenet-rcnn/1"
Task = Literal["images", "regions", "multibox", "shared", "photos"]
OWN_NETWORK = ("multibox", "shared")  # tasks whose network is more than a GoogLeNet
SHARED_PHOTOS = "photos."  # in shared weights, before the names of a layer for whole photos
KNOWN_OBJECTS = "objects."  # in shared weights, before the names of regions of what they know
NOT_IN_NETWORK = (SHARED_PHOTOS, KNOWN_OBJECTS)  # what shared weights hold that is not part of their network


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

    def of_network(self) -> dict[str, Tensor]:
        """Return the weights of the network itself, in the order of their names."""
        return {name: value for name, value in sorted(self.state.items()) if not name.startswith(NOT_IN_NETWORK)}

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
    return bool(torch.isfinite(values.sum(dtype=torch.float32))) or bool(torch.isfinite(values).all())


def save_checkpoint(checkpoint: Checkpoint, path: str | Path, *, dtype: torch.dtype | None = torch.float16) -> None:
    """Write a checkpoint atomically as safetensors.

    Floats are stored in dtype, or as they are where it is too narrow; None stores all as they are. In a float16 file
    the largest matrices take 8 bits per value; see `classifier.weights.eight_bits`.

    Raises:
        WeightsError: a weight is not finite.
    """
    stored = dict[str, Tensor]()
    for name, value in checkpoint.state.items():
        kept = value.detach().cpu().contiguous()
        if kept.is_floating_point():
            if not torch.isfinite(kept).all():
                raise WeightsError(f"{path}: {name} is not finite")
            narrow = kept.to(dtype or kept.dtype)
            kept = narrow if torch.isfinite(narrow).all() else kept
        small = dtype == torch.float16 and eight_bits.may_be_narrowed(name, kept)
        stored |= eight_bits.narrowed(name, kept) if small else {name: kept}
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
    """Read one of our safetensors files; tensors keep the precision of the file, or get float16 if it is 8 bits.

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
        checked = _checked(values)
        return Checkpoint(state=eight_bits.widened(state), preprocessing=Preprocessing(**record), **checked)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
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
