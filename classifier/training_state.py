"""What a training saves to resume from: one file, written atomically, bound to its recipe and its network."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from classifier.processes import same_everywhere
from classifier.weights.fitting import WeightsError
from structures.files import regular_file, write_bytes

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FORMAT = 2  # 1, without a number in the file, knew other names, and its draws came from another formula


def write_state(path: Path, recipe: "DataclassInstance", content: Mapping[str, Any]) -> None:
    """Write tensors, optimiser states and numbers, and the recipe that they belong to.

    Raises:
        OSError: the file cannot be written; the earlier one stays.
    """
    stream = io.BytesIO()  # written by ourselves: on a full disk torch raises a RuntimeError that names nothing
    torch.save({"format": FORMAT, "recipe": asdict(recipe), **content}, stream)
    write_bytes(path, stream.getvalue())


def read_state(path: Path, recipe: "DataclassInstance", **more: Any) -> dict[str, Any]:
    """Read what write_state wrote.

    Args:
        path: the file.
        recipe: of the training; fields that the file does not know have their defaults in it.
        more: entries of the content that must be the same, too.

    Raises:
        WeightsError: the file is damaged, of an earlier version, or was begun with another recipe; the message names
            the first difference.
    """
    try:
        state: dict[str, Any] = torch.load(regular_file(path), weights_only=True, map_location="cpu")
        known = state.get("format", 1) == FORMAT
        begun = asdict(type(recipe)(**state["recipe"])) | {name: state[name] for name in more} if known else {}
    except Exception as error:  # on garbage torch's unpickler raises IndexError, KeyError, struct.error and more
        raise WeightsError(f"{path}: not a readable state of a training; remove it to start again") from error
    if not known:
        remedy = "finish it with that one, or remove the file to start again"
        raise WeightsError(f"{path}: begun by another version of this program; {remedy}")
    for name, value in (asdict(recipe) | more).items():
        if begun[name] != value:
            raise WeightsError(f"{path}: begun with {name}={begun[name]}, not {value}; remove it to start again")
    return state


def digest_of_training(network: nn.Module, optimisers: Sequence[torch.optim.Optimizer]) -> str:
    """Return what tells trainings of different networks, trained parameters or optimisers apart."""
    names = {id(value): f"{name} {tuple(value.shape)}" for name, value in network.named_parameters()}
    words = [f"{name} {tuple(value.shape)}" for name, value in network.state_dict().items()]
    for optimiser in optimisers:
        words.append(type(optimiser).__name__)
        for group in optimiser.param_groups:
            words += ["group", *(names[id(value)] for value in group["params"])]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def require_same_start(path: Path, step: int) -> None:
    """Refuse to resume where several processes, perhaps on machines without a common folder, begin at different steps.

    Raises:
        WeightsError: in every one of them.
    """
    if not same_everywhere(step):
        raise WeightsError(f"{path}: not all processes see the same state; they need one folder for the run")
