"""What a training run keeps on disk to go on from: one file, written atomically, bound to its recipe."""

import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from classifier.processes import same_everywhere
from classifier.weights import WeightsError
from structures.files import write_bytes


def write_state(path: Path, recipe: Any, content: Mapping[str, Any]) -> None:
    """Write tensors, optimiser states and numbers, and the recipe (a dataclass) that they belong to.

    Raises:
        OSError: the file cannot be written; the earlier one stays.
    """
    stream = io.BytesIO()  # written by ourselves: on a full disk torch raises a RuntimeError that names nothing
    torch.save({"recipe": asdict(recipe), **content}, stream)
    write_bytes(path, stream.getvalue())


def read_state(path: Path, recipe: Any, **more: Any) -> dict[str, Any]:
    """Read what write_state wrote.

    Args:
        path: the file.
        recipe: the run's recipe, a dataclass; fields that the file does not know have their defaults in it.
        more: entries of the content that must be the same, too.

    Raises:
        WeightsError: the file is damaged, or was begun with another recipe; the message names the first difference.
    """
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        begun = asdict(type(recipe)(**state["recipe"])) | {name: state[name] for name in more}
    except Exception as error:  # on garbage torch's unpickler raises IndexError, KeyError, struct.error and more
        raise WeightsError(f"{path}: not a readable state of a training; remove it to start anew") from error
    for name, value in (asdict(recipe) | more).items():
        if begun[name] != value:
            raise WeightsError(f"{path}: begun with {name}={begun[name]}, not {value}; remove it to start anew")
    return state


def require_same_start(path: Path, iteration: int) -> None:
    """Refuse to go on where several processes, on machines without a common folder perhaps, begin at different places.

    Raises:
        WeightsError: in every one of them.
    """
    if not same_everywhere(iteration):
        raise WeightsError(f"{path}: not all processes see the same state; they need one folder for the run")
