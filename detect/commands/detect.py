"""`rcnn detect`: find objects on photos."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detect.defaults import PROPOSALS, SOME_SKIPPED, MaxPixels
from detect.settings import SCORE_FLOOR, VOTE_POWER, VOTE_THRESHOLD
from structures.errors import InputError
from structures.text import printable

if TYPE_CHECKING:
    from detect.runs.report import Report


class Format(str, Enum):
    """What is written besides detections.jsonl."""

    jsonl = "jsonl"
    coco = "coco"
    voc = "voc"


class FeaturesName(str, Enum):
    """What regions are classified by."""

    auto = "auto"
    crops = "crops"
    shared = "shared"


class Exif(str, Enum):
    """Whether photos are turned as their camera noted."""

    apply = "apply"
    ignore = "ignore"


def detect(
    out: Annotated[Path, typer.Option(help="Folder of the results. Run again, it goes on where it stopped.")],
    photos: Annotated[list[str] | None, typer.Argument(help="Files, folders, globs, @list.txt.")] = None,
    list_file: Annotated[Path | None, typer.Option("--list", help="File with a photo, folder or glob a line.")] = None,
    proposals: Annotated[str, typer.Option(help="Generator of the regions; a+b takes both.")] = PROPOSALS,
    features: Annotated[
        FeaturesName,
        typer.Option(help="Classify regions by crops of their own, or by features that a photo's regions share."),
    ] = FeaturesName.auto,
    weights: Annotated[list[str] | None, typer.Option(help="Built-in name or file; several are averaged.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    engine: Annotated[str, typer.Option(help="auto, torch, compiled or openvino.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    score: Annotated[
        float, typer.Option(min=0, max=1, help="Drop weaker detections; 0.001 to measure mAP.")
    ] = SCORE_FLOOR,
    max_boxes: Annotated[
        int | None,
        typer.Option(min=1, help="Classify only so many boxes, the first; of a union without a ranking not the best."),
    ] = None,
    mirrored: Annotated[bool, typer.Option("--mirrored", help="Classify mirrored regions as well.")] = False,
    vote: Annotated[
        bool, typer.Option("--vote/--no-vote", help="Move detections to the mean of the boxes around them.")
    ] = True,
    vote_power: Annotated[
        float | None,
        typer.Option(
            min=0.1, max=10, help="Of the scores that votes are weighted by; 2 gives tighter boxes.", show_default="1"
        ),
    ] = None,
    exif: Annotated[Exif, typer.Option(help="Turn photos as displayed, or read the stored pixels.")] = Exif.apply,
    max_pixels: MaxPixels = None,
    draw: Annotated[bool, typer.Option("--draw", help="Also write pictures with boxes, to OUT/pictures.")] = False,
    draw_score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Weakest detection that is drawn.", show_default="0.5")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="Also write COCO results or VOC files.")] = Format.jsonl,
    split: Annotated[
        str | None, typer.Option(help="For --format voc: part of the file names.", show_default="test")
    ] = None,
    coco_ids: Annotated[Path | None, typer.Option(help="For --format coco: instances.json with the ids.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that propose regions.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Throw away what earlier runs wrote to OUT.")] = False,
) -> None:
    """Find objects on photos: OUT/detections.jsonl, one line a photo, and OUT/run.json.

    Exit code 0: all done. 1: done, but some photos could not be worked on (OUT/skipped.jsonl), or drawn. 2: nothing
    done.
    """
    from rich.console import Console

    from detect.classifiers import default_weights, weights_file
    from detect.defaults import refuse_idle
    from detect.detector import Detector
    from detect.drawing import DRAW_FLOOR
    from detect.generators import unlearned_warning
    from detect.runs.detect import Plan, carry_out
    from detect.runs.photos import find_photos
    from detect.runs.record import fingerprint
    from structures.images import MAX_PIXELS

    refuse_idle(
        {
            "--split needs --format voc": split is not None and format_ is not Format.voc,
            "--draw-score needs --draw": draw_score is not None and not draw,
            "--vote-power has no meaning with --no-vote": vote_power is not None and not vote,
            "--coco-ids needs --format coco": coco_ids is not None and format_ is not Format.coco,
        }
    )
    names = weights or [default_weights(features.value)]
    plan = Plan(
        find_photos(photos or [], lists=[list_file] if list_file else []),
        out,
        max_pixels=max_pixels or MAX_PIXELS,
        workers=workers,
        draw_score=(DRAW_FLOOR if draw_score is None else draw_score) if draw else None,
        format=format_.value,
        split=split or "test",
        coco_ids=coco_ids,
        overwrite=overwrite,
        inputs=[*filter(None, [list_file, coco_ids]), *map(weights_file, names)],
    )
    placed: Any = {
        "device": device,
        "engine": engine,
        "dtype": dtype,
    }  # which words are known, loading says
    detector = Detector.load(
        names,
        proposals,
        features=features.value,
        **placed,
        mirrored=mirrored,
        score_floor=score,
        max_boxes=max_boxes,
        vote_threshold=VOTE_THRESHOLD if vote else None,
        vote_power=VOTE_POWER if vote_power is None else vote_power,
        exif=exif.value,
    )
    files = [fingerprint(weights_file(name)) for name in names]
    settings = {**detector.settings(), "weights": files}
    warning = unlearned_warning(detector.propose, detector.classes)
    report = carry_out(plan, detector, settings, Console(stderr=True), warning=warning, weights=names)
    _exit(report)


def _exit(report: "Report") -> None:
    if not report.done:
        raise InputError(f"none of {report.photos} photos could be worked on; skipped.jsonl names them")
    failures = {"photos were skipped": report.skipped, "photos are done, but could not be drawn": report.undrawn}
    for what, reasons in failures.items():
        if reasons:
            typer.echo(f"{len(reasons)} of {report.photos} {what}:", err=True)
        for reason in reasons.values():
            typer.echo(f"  {printable(reason)}", err=True)
    if any(failures.values()):
        raise typer.Exit(SOME_SKIPPED)
