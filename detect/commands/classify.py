"""`rcnn classify`: what is on these photos?"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from detect.defaults import SOME_SKIPPED, MaxPixels
from structures.errors import InputError
from structures.text import printable


def classify(
    photos: Annotated[list[str], typer.Argument(help="Files, folders, globs or @list.txt.")],
    weights: Annotated[
        list[str] | None, typer.Option(help="A file, or imagenet (fetched once), the default; several are averaged.")
    ] = None,
    crops: Annotated[int, typer.Option(help="Views of each photo: 1, 10 or 144.")] = 1,
    warp: Annotated[bool, typer.Option("--warp", help="Squeeze photos to a square: BVLC's test.")] = False,
    top: Annotated[int, typer.Option(min=1, help="Classes to show.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line and photo.")] = False,
    max_pixels: MaxPixels = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    engine: Annotated[str, typer.Option(help="auto, torch, compiled or openvino.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
) -> None:
    """Name what is on photos: the most likely classes of each, with their probabilities."""
    from classifier.images import best_classes
    from classifier.weights.load import IMAGENET
    from detect.runs.classify import PhotoStream, load_image_classifier
    from detect.runs.photos import find_photos
    from structures.images import MAX_PIXELS, ImageError

    found = find_photos(photos)
    where = {"device": device, "engine": engine, "dtype": dtype}
    model = load_image_classifier(weights or [IMAGENET], crops=crops, warp=warp, photos=len(found), **where)
    print(model.reason, file=sys.stderr)
    names: dict[Path, str] = {photo.path: photo.image_id for photo in found}
    skipped = 0
    for path, row in PhotoStream(model, max_pixels=max_pixels or MAX_PIXELS)([photo.path for photo in found]):
        if isinstance(row, ImageError):
            skipped += 1
            print(f"skipped: {printable(row)}", file=sys.stderr)
        else:
            _show(names[path], best_classes(row, model.classes, top), as_json=as_json)
    _finish(skipped, len(found))


def _show(name: str, best: list[tuple[str, float]], *, as_json: bool) -> None:
    if as_json:
        classes = [{"class": each, "probability": round(probability, 6)} for each, probability in best]
        print(json.dumps({"image": name, "classes": classes}), flush=True)
        return
    print(printable(name))
    for each, probability in best:
        print(f"  {probability:.4f}  {printable(each)}", flush=True)


def _finish(skipped: int, photos: int) -> None:
    if skipped == photos:
        raise InputError(f"none of {photos} photos could be read")
    if skipped:
        print(f"{skipped} of {photos} photos could not be read", file=sys.stderr)
        raise typer.Exit(SOME_SKIPPED)
