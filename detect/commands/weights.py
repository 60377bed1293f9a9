"""`rcnn weights`: show what a file holds, convert from other formats, find the ranges for int8."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detect.commands.groups import add, examples, group
from detect.commands.options import ClassList
from detect.defaults import SOME_SKIPPED
from structures.errors import InputError
from structures.names import not_one_of
from structures.text import number_of, printable

if TYPE_CHECKING:
    from detect.runs.photos import Photo
    from structures.records import Image

MOST_SHOWN = 100  # classes; --json has all
MOST_CHARACTERS = 150  # per fact; --json has all
PRECISIONS = ("float16", "float32")
TORCH_SUFFIXES = (".pth", ".pt")


@examples(
    "rcnn weights convert bvlc_googlenet.caffemodel net.safetensors",
    "rcnn weights convert net.pth net.safetensors --classes names.txt --no-transform-input",
)
def convert(
    source: Annotated[str, typer.Argument(help="imagenet, or a file: .caffemodel, .npz, .pth, .safetensors.")],
    destination: Annotated[Path, typer.Argument(help="File to write, .safetensors.")],
    classes: ClassList = None,
    no_transform_input: Annotated[
        bool,
        typer.Option(
            "--no-transform-input", help="For a .pth: it was used without torchvision's transform_input, unlike most."
        ),
    ] = False,
    dtype: Annotated[
        str, typer.Option(help="Precision in the file: float16, with the largest matrices in 8 bits, or float32.")
    ] = "float16",
) -> None:
    """Convert weights of Caffe or torchvision to a .safetensors file with classes and preprocessing."""
    from dataclasses import replace

    import torch

    from classifier.weights.checkpoint import save_checkpoint
    from classifier.weights.preprocessing import TORCHVISION
    from detect.classifiers import load_checkpoint
    from detect.runs.class_folders import names_for

    if dtype not in PRECISIONS:
        raise InputError(f"--dtype {not_one_of(dtype, PRECISIONS)}")
    if no_transform_input and Path(source).suffix not in TORCH_SUFFIXES:
        raise InputError(
            f"--no-transform-input is for {' and '.join(TORCH_SUFFIXES)}, which do not say it; not {source}"
        )
    _check_destination(destination, [source, *(classes or [])])
    checkpoint = load_checkpoint(source)
    if no_transform_input:
        checkpoint = replace(checkpoint, preprocessing=TORCHVISION)
    if classes is not None:
        checkpoint = replace(checkpoint, classes=names_for(checkpoint.classes, classes))
    save_checkpoint(checkpoint, destination, dtype=getattr(torch, dtype))
    print(f"weights written to {printable(destination)}")


@examples("rcnn weights calibrate shared.safetensors shared-int8.safetensors --photos VOC2007/JPEGImages")
def calibrate(
    source: Annotated[str, typer.Argument(help="Weights of shared features: a built-in name, or a file.")],
    destination: Annotated[Path, typer.Argument(help="File to write, .safetensors.")],
    photos: Annotated[list[str], typer.Option(help="Files, folders, globs or @list.txt; a hundred photos are used.")],
) -> None:
    """Measure the ranges that --dtype int8 needs on photos, and write weights with these ranges."""
    import torch

    from classifier.weights.checkpoint import save_checkpoint
    from classifier.weights.fitting import naming
    from detect.classifiers import load_regions
    from detect.networks.int8 import RANGE_PHOTOS
    from detect.networks.shared import with_ranges
    from detect.runs.photos import LIST_PREFIX, find_photos
    from detect.weights import weights_file

    found, failed = find_photos(photos), list[str]()
    chosen = found[:: max(1, len(found) // RANGE_PHOTOS)][:RANGE_PHOTOS]
    lists = [each.removeprefix(LIST_PREFIX) for each in photos]
    _check_destination(destination, [str(weights_file(source)), *lists, *(str(photo.path) for photo in chosen)])
    start = load_regions(source, features="shared")
    with naming(source):
        checkpoint = with_ranges(start, _readable(chosen, failed))
    half = all(value.dtype == torch.float16 for value in checkpoint.state.values() if value.is_floating_point())
    save_checkpoint(checkpoint, destination, dtype=torch.float16 if half else None)
    print(f"ranges from {number_of(len(chosen) - len(failed), 'photo')}; weights written to {printable(destination)}")
    for reason in failed:
        typer.echo(f"skipped: {printable(reason)}", err=True)
    if failed:
        raise typer.Exit(SOME_SKIPPED)


@examples("rcnn weights show default", "rcnn weights show net.safetensors --json")
def show(
    weights: Annotated[str, typer.Argument(help="imagenet, a built-in name such as default, or a file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with all classes.")] = False,
) -> None:
    """Show the variant, classes, preprocessing, size and training of weights."""
    from dataclasses import asdict

    from classifier.known_objects import known_objects
    from classifier.weights.fitting import naming
    from classifier.weights.on_trunk import crop_columns
    from detect.classifiers import load_checkpoint

    checkpoint = load_checkpoint(weights)
    with naming(weights):
        known = known_objects(checkpoint)
        on_crops = len(checkpoint.classes) if checkpoint.task == "regions" else max(0, crop_columns(checkpoint) - 1)
    counted = [value for name, value in checkpoint.state.items() if value.is_floating_point()]
    record = {
        "variant": checkpoint.variant,
        "task": checkpoint.task,
        "parameters": sum(value.numel() for name, value in checkpoint.state.items() if _learned(name)),
        "precision": ", ".join(sorted({str(value.dtype).removeprefix("torch.") for value in counted})),
        "classes on crops": on_crops,
        "known objects": 0 if known is None else len(known),
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


def _readable(photos: "Sequence[Photo]", failed: list[str]) -> "Iterator[Image]":
    """Yield the photos that can be read, and note why others cannot.

    Raises:
        InputError: none can be.
    """
    from structures.images import ImageError, read_image

    for photo in photos:
        try:
            yield read_image(photo.path)
        except ImageError as error:
            failed.append(str(error))
    if len(failed) == len(photos):
        raise InputError(f"none of {number_of(len(photos), 'photo')} can be read: {failed[0]}")


def _check_destination(destination: Path, read: Sequence[str]) -> None:
    """Refuse a file that weights cannot be written to: one of another suffix, or one that the command reads."""
    from structures.own_files import check_outputs

    if destination.suffix != ".safetensors":
        raise InputError(f"{destination}: weights are written as .safetensors")
    check_outputs([destination], read)


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " ..."


def _learned(name: str) -> bool:
    return name.endswith((".weight", ".bias"))


app = group("Show what weights hold, convert from other formats, calibrate for int8.")
for command in (convert, show, calibrate):
    add(app, command)
