"""`rcnn eval classification`: how good is an image classifier?

On one folder of photos per class: top-1, top-5 and log loss. On annotated photos, which may show several classes:
average precision.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detect.commands.groups import examples
from detect.commands.option_records import with_records
from detect.commands.options import (
    GROUND_TRUTH,
    WEIGHTS,
    ClassList,
    Crops,
    PhotoCount,
    PhotoFolder,
    PlacementOptions,
    Split,
    ToCsv,
    ToJson,
    Warp,
)
from detect.defaults import FOR_PHOTOS, SOME_SKIPPED
from structures.errors import InputError
from structures.files import write_json, write_text
from structures.text import number_of, printable

if TYPE_CHECKING:
    from classifier.images import ImageClassifier
    from detect.runs.classify import ClassificationSummary
    from eval.ground_truth import AnyDataset


@examples(
    "rcnn eval classification --ground-truth VOC2007 --split test",
    "rcnn eval classification --folder photos --weights net.safetensors",
    "rcnn eval classification --folder val --weights imagenet --classes synsets.txt --crops 10",
)
@with_records
def classification(
    where: PlacementOptions,
    folder: Annotated[Path | None, typer.Option(help="Photos, one folder per class.")] = None,
    ground_truth: Annotated[Path | None, typer.Option(help=GROUND_TRUTH)] = None,
    split: Split = None,
    images: PhotoFolder = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(help=WEIGHTS, show_default=f"{FOR_PHOTOS} with --ground-truth, imagenet with --folder"),
    ] = None,
    classes: ClassList = None,
    crops: Crops = 1,
    warp: Warp = False,
    photos: PhotoCount = 0,
    json: ToJson = None,
    csv: ToCsv = None,
) -> None:
    """Score an image classifier.

    With one folder of photos per class: top-1, top-5, log loss, and log loss after calibration. With annotated photos,
    which may show several classes: average precision, which measures how well photos that show a class are ranked
    first.
    """
    from classifier.weights.load import IMAGENET
    from detect.evaluation import truth_source
    from detect.runs.classify import load_image_classifier
    from eval.ground_truth import open_ground_truth
    from eval.report import Sheet, sheets_csv
    from structures.own_files import check_outputs

    if (folder is None) == (ground_truth is None):
        raise InputError("either --folder or --ground-truth is needed")
    names = weights or [IMAGENET if ground_truth is None else FOR_PHOTOS]
    check_outputs([json, csv], [*filter(None, [folder, ground_truth, images]), *(classes or []), *names])
    model = load_image_classifier(names, crops=crops, warp=warp, photos=photos or None, **where.as_names())
    print(model.reason, file=sys.stderr)
    if folder is not None:
        result, source = _on_folders(model, folder, classes, photos), {"folder": str(folder)}
    else:
        assert ground_truth is not None
        dataset = open_ground_truth(ground_truth, split, images)
        result, source = _on_annotated(model, dataset, classes, photos), truth_source(ground_truth, dataset)
    for error in result.skipped:
        print(f"skipped: {printable(error)}", file=sys.stderr)
    seen = f"{number_of(result.photos, 'photo')}, {number_of(crops, 'crop')}"
    print(f"{seen}, {1000 * result.seconds_per_photo:.1f} ms per photo")
    for name, value in result.scores.items():
        print(f"{printable(name):19} {value:.4f}")
    if csv:
        rows = [[name, f"{value:.6g}"] for name, value in result.scores.items()]
        write_text(csv, sheets_csv([Sheet("classification", ["figure", "value"], rows)]))
    if json:
        how = {**source, "weights": names, "crops": crops, "warp": warp, "engine": model.reason}
        counts = {"photos": result.photos, "skipped": [str(error) for error in result.skipped]}
        write_json(json, {**how, **result.scores, **counts, "seconds_per_photo": result.seconds_per_photo})
    if result.skipped:
        raise typer.Exit(SOME_SKIPPED)


def _on_folders(
    model: "ImageClassifier", folder: Path, classes: list[str] | None, photos: int
) -> "ClassificationSummary":
    from detect.runs.class_folders import columns_of, limit_photos, read_class_folders
    from detect.runs.classify import score_labelled

    return score_labelled(model, limit_photos(read_class_folders(folder, columns_of(model.classes, classes)), photos))


def _on_annotated(
    model: "ImageClassifier", dataset: "AnyDataset", classes: list[str] | None, photos: int
) -> "ClassificationSummary":
    from detect.runs.classify import score_annotated
    from eval.selection import Selection
    from structures.class_lists import read_class_names

    chosen = None if classes is None else read_class_names(classes, known=dataset.classes)
    return score_annotated(model, Selection(dataset, classes=chosen, photos=photos))
