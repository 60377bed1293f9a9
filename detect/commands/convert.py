"""`rcnn convert`: annotations and results to other formats."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from detect.commands.groups import examples
from detect.commands.options import ClassList, ToJson
from structures.text import number_of, printable


@examples(
    "rcnn convert VOC2007 --to coco --out coco",
    "rcnn convert export.json --to yolo --out dataset --images photos --copy-photos",
    "rcnn convert results --to csv --out table",
)
def convert(
    source: Annotated[Path, typer.Argument(metavar="FROM", help="File or folder of annotations or results.")],
    to: Annotated[str, typer.Option(help="Format: voc, coco or yolo; for results also jsonl or csv.")],
    out: Annotated[Path, typer.Option(help="Folder for the new files; existing files of yours in it are kept.")],
    split: Annotated[
        list[str] | None,
        typer.Option(help="Split of the annotations; may be repeated.", show_default="train, val and test, or all"),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the photos.", show_default="the usual ones of the format")
    ] = None,
    ground_truth: Annotated[
        Path | None, typer.Option(help="Ground truth of the results, for photo sizes and COCO ids.")
    ] = None,
    classes: ClassList = None,
    copy_photos: Annotated[bool, typer.Option("--copy-photos", help="Also copy annotated photos to OUT.")] = False,
    json: ToJson = None,
) -> None:
    """Convert annotations or results to another format, and say what it cannot hold.

    Results are also written to OUT/detections.jsonl.
    """
    from detect.convert.job import Conversion
    from detect.convert.run import convert as run
    from detect.evaluation import warn
    from structures.files import write_json
    from structures.own_files import check_outputs

    check_outputs([json], [source, ground_truth, images])
    done = run(Conversion(source, to, out, split or (), images, ground_truth, classes, copy_photos))
    warn(done.notes)
    for line in done.losses:
        typer.echo(f"not kept: {printable(line)}")
    objects = number_of(done.objects, "detection" if done.what == "results" else "object")
    counts = f"{number_of(done.photos, 'photo')}, {objects}"
    typer.echo(f"{done.what} of {counts}, {number_of(len(done.classes), 'class')}, written to {printable(out)}")
    if json:
        write_json(json, {**asdict(done), "classes": list(done.classes)})
