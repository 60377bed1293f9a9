"""Weights: show what a file holds, convert other formats to ours."""

import json
from pathlib import Path
from typing import Annotated

import typer

from structures.errors import InputError
from structures.files import regular_file
from structures.text import printable

MOST_SHOWN = 100  # classes
MOST_CHARACTERS = 150  # of a fact; --json has all
TORCH_SUFFIXES = (".pth", ".pt")


def convert(
    source: Annotated[str, typer.Argument(help="imagenet, or a file: .caffemodel, .npz, .pth, .safetensors.")],
    destination: Annotated[Path, typer.Argument(help="The new file, .safetensors.")],
    classes: Annotated[Path | None, typer.Option(help="Class names, one a line, in the order of the columns.")] = None,
    transform_input: Annotated[
        bool, typer.Option(help="For a .pth: it was used with torchvision's transform_input.")
    ] = True,
    dtype: Annotated[str, typer.Option(help="Precision in the file: float16 or float32.")] = "float16",
) -> None:
    """Write weights of Caffe or torchvision as a file of ours, which knows its classes and preprocessing."""
    from dataclasses import replace

    import torch

    from classifier.weights.checkpoint import TORCHVISION, save_checkpoint
    from detect.classifiers import load_checkpoint
    from structures.own_files import check_outputs

    if dtype not in ("float16", "float32"):
        raise InputError(f"--dtype {dtype!r} is not float16 or float32")
    if destination.suffix != ".safetensors":
        raise InputError(f"{destination}: weights are written as .safetensors")
    if not transform_input and Path(source).suffix not in TORCH_SUFFIXES:
        raise InputError(
            f"--no-transform-input is for {' and '.join(TORCH_SUFFIXES)}, which do not say it; not {source}"
        )
    check_outputs([destination], [source, classes])
    checkpoint = load_checkpoint(source)
    if not transform_input:
        checkpoint = replace(checkpoint, preprocessing=TORCHVISION)
    if classes is not None:
        checkpoint = replace(checkpoint, classes=_class_names(classes, len(checkpoint.classes)))
    save_checkpoint(checkpoint, destination, dtype=getattr(torch, dtype))
    print(f"weights written to {printable(destination)}")


def show(
    weights: Annotated[str, typer.Argument(help="imagenet, a built-in name such as default, or a file.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, with all classes.")] = False,
) -> None:
    """Show the variant, classes, preprocessing, size and history of weights."""
    from dataclasses import asdict

    from detect.classifiers import load_checkpoint

    checkpoint = load_checkpoint(weights)
    counted = [value for name, value in checkpoint.state.items() if value.is_floating_point()]
    record = {
        "variant": checkpoint.variant,
        "task": checkpoint.task,
        "parameters": sum(value.numel() for name, value in checkpoint.state.items() if _learned(name)),
        "precision": ", ".join(sorted({str(value.dtype).removeprefix("torch.") for value in counted})),
        "auxiliary classifiers": any(name.startswith("aux") for name in checkpoint.state),
        "preprocessing": asdict(checkpoint.preprocessing),
        "training": dict(checkpoint.training),
        "classes": list(checkpoint.classes),
    }
    if as_json:
        print(json.dumps(record))
        return
    names = [*checkpoint.classes[:MOST_SHOWN], *(["..."] if len(checkpoint.classes) > MOST_SHOWN else [])]
    told: dict[str, str] = {}
    for name, value in (record | {"classes": f"{len(checkpoint.classes)}: {', '.join(names)}"}).items():
        inner = {f"{name} {key}": json.dumps(each) for key, each in value.items()} if isinstance(value, dict) else None
        told |= {name: str(value)} if inner is None else {key: _shortened(text) for key, text in inner.items()}
    width = max(map(len, told))
    for name, text in told.items():
        print(f"{name.ljust(width)} {printable(text)}")


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " ..."


def _learned(name: str) -> bool:
    return name.endswith((".weight", ".bias"))


def _class_names(path: Path, columns: int) -> tuple[str, ...]:
    try:
        names = tuple(
            line.strip() for line in regular_file(path).read_text(encoding="utf-8-sig").splitlines() if line.strip()
        )
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a list of classes, one a line in UTF-8") from None
    if len(names) != columns:
        raise InputError(f"{path}: {len(names)} names, but the weights have {columns} classes")
    if len(set(names)) < len(names):
        raise InputError(f"{path}: names a class twice: {max(names, key=names.count)}")
    return names
