"""`rcnn classify`: the most likely classes of whole photos."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from detect.commands.groups import examples
from detect.commands.option_records import with_records
from detect.commands.options import WEIGHTS, Crops, PlacementOptions, Warp
from detect.defaults import FOR_PHOTOS, SOME_SKIPPED, MaxPixels
from detect.option_names import with_options
from structures.errors import InputError
from structures.text import number_of, printable


@examples(
    "rcnn classify photo.jpg",
    "rcnn classify photos --top 1 --json",
    "rcnn classify photo.jpg --weights bvlc_googlenet.caffemodel --warp",
)
@with_records
def classify(
    photos: Annotated[list[str], typer.Argument(help="Files, folders, globs or @list.txt.")],
    where: PlacementOptions,
    weights: Annotated[list[str] | None, typer.Option(help=WEIGHTS, show_default=FOR_PHOTOS)] = None,
    crops: Crops = 1,
    warp: Warp = False,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to show.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per photo.")] = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Show the most likely classes of each photo, with their probabilities.

    The built-in weights know VOC's 20 classes and give each its own probability, since a photo may show several. With
    ImageNet weights the probabilities of all 1,000 classes sum to 1; `--weights imagenet` downloads torchvision's.
    """
    from classifier.images import best_classes
    from detect.runs.classify import PhotoStream, load_image_classifier
    from detect.runs.photos import find_photos
    from structures.images import MAX_PIXELS, ImageError

    found = find_photos(photos)
    model = load_image_classifier(
        weights or [FOR_PHOTOS], crops=crops, warp=warp, photos=len(found), **where.as_names()
    )
    print(model.reason, file=sys.stderr)
    names: dict[Path, str] = {photo.path: photo.image_id for photo in found}
    skipped = 0
    for path, row in PhotoStream(model, max_pixels=max_pixels or MAX_PIXELS)([photo.path for photo in found]):
        if isinstance(row, ImageError):
            skipped += 1
            print(f"skipped: {with_options(printable(row))}", file=sys.stderr)
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
        raise InputError(f"none of {number_of(photos, 'photo')} could be read")
    if skipped:
        print(f"{skipped} of {number_of(photos, 'photo')} could not be read", file=sys.stderr)
        raise typer.Exit(SOME_SKIPPED)
