"""`rcnn eval classification`: top-1, top-5 and log loss, plain and calibrated, on one folder of photos a class."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from detect.defaults import SOME_SKIPPED
from structures.files import write_json
from structures.text import printable


def classification(
    folder: Annotated[Path, typer.Option(help="Photos, one folder a class.")],
    weights: Annotated[
        list[str] | None, typer.Option(help="A file, or imagenet (fetched once), the default; several are averaged.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Folder names, a line a class in the order of the weights.")
    ] = None,
    crops: Annotated[int, typer.Option(help="Views of each photo: 1, 10 or 144.")] = 1,
    warp: Annotated[bool, typer.Option("--warp", help="Squeeze photos to a square: BVLC's test.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="Only so many photos, evenly spread; 0 takes all.")] = 0,
    json: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    engine: Annotated[str, typer.Option(help="auto, torch, compiled or openvino.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
) -> None:
    """Judge an image classifier: top-1, top-5 and log loss, as it is and once answers are as sure as they should be."""
    from classifier.weights.load import IMAGENET
    from detect.runs.class_folders import columns_of, read_class_folders, spread
    from detect.runs.classify import judge, load_image_classifier
    from structures.own_files import check_outputs

    names = weights or [IMAGENET]
    check_outputs([json], [folder, classes, *names])
    where = {"device": device, "engine": engine, "dtype": dtype}
    model = load_image_classifier(names, crops=crops, warp=warp, photos=limit or None, **where)
    data = spread(read_class_folders(folder, columns_of(model.classes, classes)), limit)
    print(model.reason, file=sys.stderr)
    result = judge(model, data)
    for error in result.skipped:
        print(f"skipped: {printable(error)}", file=sys.stderr)
    print(f"{result.photos} photos, {crops} crops, {1000 * result.seconds_per_photo:.1f} ms a photo")
    for name, value in result.scores.items():
        print(f"{name:19} {value:.4f}")
    if json:
        source = {"folder": str(folder), "weights": names, "crops": crops, "warp": warp, "engine": model.reason}
        counts = {"photos": result.photos, "skipped": [str(error) for error in result.skipped]}
        write_json(json, {**source, **result.scores, **counts, "seconds_per_photo": result.seconds_per_photo})
    if result.skipped:
        raise typer.Exit(SOME_SKIPPED)
