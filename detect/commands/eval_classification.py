"""`rcnn eval classification`: top-1, top-5 and log loss, plain and calibrated, on one folder of photos per class."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from detect.commands.groups import examples
from detect.commands.options import ClassList, Crops, PlacementOptions, ToCsv, ToJson, Warp, Weights
from detect.commands.records import with_records
from detect.defaults import SOME_SKIPPED
from structures.files import write_json, write_text
from structures.text import printable


@examples(
    "rcnn eval classification --folder photos --weights net.safetensors",
    "rcnn eval classification --folder val --weights imagenet --classes synsets.txt --crops 10",
)
@with_records
def classification(
    folder: Annotated[Path, typer.Option(help="Photos, one folder per class.")],
    where: PlacementOptions,
    weights: Weights = None,
    classes: ClassList = None,
    crops: Crops = 1,
    warp: Warp = False,
    photos: Annotated[int, typer.Option(min=0, help="Judge on this many, evenly spread; 0 takes all.")] = 0,
    json: ToJson = None,
    csv: ToCsv = None,
) -> None:
    """Judge an image classifier: top-1, top-5 and log loss, as it is and once answers are as sure as they should be."""
    from classifier.weights.load import IMAGENET
    from detect.runs.class_folders import columns_of, limit_photos, read_class_folders
    from detect.runs.classify import judge, load_image_classifier
    from eval.report import Sheet, sheets_csv
    from structures.own_files import check_outputs

    names = weights or [IMAGENET]
    check_outputs([json, csv], [folder, *(classes or []), *names])
    model = load_image_classifier(names, crops=crops, warp=warp, photos=photos or None, **where.as_names())
    data = limit_photos(read_class_folders(folder, columns_of(model.classes, classes)), photos)
    print(model.reason, file=sys.stderr)
    result = judge(model, data)
    for error in result.skipped:
        print(f"skipped: {printable(error)}", file=sys.stderr)
    print(f"{result.photos} photos, {crops} crops, {1000 * result.seconds_per_photo:.1f} ms per photo")
    for name, value in result.scores.items():
        print(f"{name:19} {value:.4f}")
    if csv:
        rows = [[name, f"{value:.6g}"] for name, value in result.scores.items()]
        write_text(csv, sheets_csv([Sheet("classification", ["figure", "value"], rows)]))
    if json:
        source = {"folder": str(folder), "weights": names, "crops": crops, "warp": warp, "engine": model.reason}
        counts = {"photos": result.photos, "skipped": [str(error) for error in result.skipped]}
        write_json(json, {**source, **result.scores, **counts, "seconds_per_photo": result.seconds_per_photo})
    if result.skipped:
        raise typer.Exit(SOME_SKIPPED)
