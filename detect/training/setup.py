"""What all trainings share: the checks of the output file, the placement, and the metadata of the weights."""

import ctypes
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from classifier.placement import DType, Placement, place
from classifier.processes import take_own_gpu
from classifier.weights.checkpoint import Checkpoint, save_checkpoint
from detect.runs.machine import commit
from detect.training.validation import RECORD
from structures.errors import InputError
from structures.own_files import check_outputs

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc


def check_out(out: Path, *read: str | None) -> None:
    """Refuse, before hours of work, an output file that cannot be written.

    Args:
        out: output file.
        *read: weights and generators that the training reads; generators may name files, such as `multibox:PATH`.

    Raises:
        InputError: the suffix is wrong, it cannot be written, or the training reads it.
    """
    if out.suffix != ".safetensors":
        raise InputError(f"`out` {out}: weights are written as .safetensors")
    parts = [part for name in read if name is not None for part in (name, *name.split("+"))]
    files = filter(os.path.isfile, [*parts, *(part.rpartition(":")[2] for part in parts)])
    check_outputs([out, last_weights_path(out)], files)


def last_weights_path(out: Path) -> Path:
    """Return the file for the last weights of a training whose best weights go to `out`.

    >>> last_weights_path(Path("net.safetensors")).name
    'net.last.safetensors'
    """
    return out.with_suffix(f".last{out.suffix}")


def with_origin(checkpoint: Checkpoint, data: Mapping[str, Any]) -> Checkpoint:
    """Add to a checkpoint how it was made: data, command, commit. Paths in the command lose their folders."""
    command = " ".join(["rcnn", *map(_without_folders, sys.argv[1:])])
    return replace(checkpoint, training={**checkpoint.training, **data, "command": command, "commit": commit()})


def _without_folders(argument: str) -> str:
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return option + equals + (Path(value).name or value)


def training_placement(device: str, dtype: str) -> Placement:
    """Choose where to train in torch: in bfloat16 if it is native, else float32; of several GPUs, on this process's.

    On a CPU, the process keeps freed memory from now on.

    Raises:
        InputError: float16 or int8 was requested, whose gradients would vanish; a device is not available; or there are
            more processes than GPUs.
    """
    require_training_precision(dtype)
    if device != "cpu":
        take_own_gpu()
    placement = place(device=device, engine="torch", dtype=cast(DType, dtype))
    if placement.device.type == "cpu":
        _keep_freed_memory()
    return placement if placement.dtype != "float16" else place(device=device, engine="torch", dtype="float32")


def require_training_precision(dtype: str) -> None:
    """Refuse precisions in which nothing can be learned.

    Raises:
        InputError: float16 or int8 was requested.
    """
    if dtype in ("float16", "int8"):
        raise InputError(f'`dtype="{dtype}"` is not for training; use bfloat16 or float32')


def _keep_freed_memory() -> None:
    """Make glibc keep the memory that torch frees after every batch, since new memory from the system must be cleared.

    Without glibc nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)


def require_one_process(what: str) -> None:
    """Refuse several processes for a training that uses one.

    Raises:
        InputError: torchrun started several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(f"{what} runs in one process: start it without torchrun")


def frozen_placement(training: Placement, device: torch.device, dtype: str) -> Placement:
    """Choose where frozen layers run: on the device of the training, in the fastest engine.

    Args:
        training: placement of the training, whose reason becomes part of the result's.
        device: device of this process.
        dtype: requested precision, or "auto".

    Raises:
        InputError: the engine is not available.
    """
    chosen = place(device=str(device), dtype=cast(DType, dtype))
    return replace(chosen, reason=f"{training.reason}; frozen layers: {chosen.engine} {chosen.dtype}")


def save_weights(out: Path, weights: Checkpoint, last: Checkpoint | None) -> list[str]:
    """Write the weights to use, and with validation also the last ones; return a line about each."""
    save_checkpoint(weights, out)
    lines = [f"weights written to {out}{_judged(weights)}"]
    if last is not None:
        last_path = last_weights_path(out)
        save_checkpoint(last, last_path)
        lines.append(f"last weights of the training written to {last_path}{_judged(last)}")
    return lines


def what_stays(work: Path) -> str:
    """Return a line about the size of the folder of a finished run."""
    size = sum(path.stat().st_size for path in work.rglob("*") if path.is_file())
    shown = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
    return f"{shown} stay in {work} for another training on the same regions; remove it when you are done"


def _judged(weights: Checkpoint) -> str:
    record = weights.training.get(RECORD)
    if record is None:
        return ""
    phase = f"phase {weights.training['phase']}, " if "phase" in weights.training else ""
    return f" ({phase}step {record['step']}, {record['figure']} {100 * record['value']:.2f})"
