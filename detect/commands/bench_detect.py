"""`rcnn bench detect`: detectors with different proposal generators, side by side."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from detect.commands.detect import Features
from detect.commands.groups import examples
from detect.commands.options import PlacementOptions, ToJson, TruthOptions, placement_on
from detect.commands.records import with_records
from structures.files import write_bytes, write_json, write_text

SCORE = 0.001  # of the weakest detections: mAP counts all
GENERATORS = ("ranked:selective-search+multibox", "multibox")


@dataclass(frozen=True)
class BenchReports:
    """Reports."""

    json: ToJson = None
    csv: Annotated[Path | None, typer.Option(help="Also write the figures to this table, as shares from 0 to 1.")] = (
        None
    )
    html: Annotated[Path | None, typer.Option(help="Also write a page with the tables and the plots, in one file.")] = (
        None
    )
    plot: Annotated[
        Path | None, typer.Option(help="Also draw seconds against mAP, and recall (.png, .svg or .pdf).")
    ] = None


@examples(
    "rcnn bench detect --ground-truth VOC2007 --out bench --proposals multibox --proposals selective-search",
    "rcnn bench detect --ground-truth VOC2007 --out bench --features shared --photos 60 --html bench.html",
)
@with_records
def detect(
    out: Annotated[Path, typer.Option(help="Folder of the results. Run again, it goes on where it stopped.")],
    truth: TruthOptions,
    where: PlacementOptions,
    reports: BenchReports,
    images: Annotated[Path | None, typer.Option(help="Folder of the COCO photos.")] = None,
    proposals: Annotated[
        list[str] | None,
        typer.Option(
            help="Generator of the regions, or file:BOXES; may be repeated; differences are to the first.",
            show_default=" and ".join(GENERATORS),
        ),
    ] = None,
    photos: Annotated[int, typer.Option(min=0, help="Detect on this many, evenly spread; 0 takes all.")] = 0,
    timed: Annotated[int, typer.Option(min=0, help="Photos to time, evenly spread; the first warms up; 0: none.")] = 11,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="Built-in name or file; several are averaged.", show_default="those for the features"),
    ] = None,
    features: Annotated[Features, typer.Option(help="Classify crops, or pool regions from features of the photo.")] = (
        Features.auto
    ),
    max_boxes: Annotated[int | None, typer.Option(min=1, help="Classify at most this many boxes, the first.")] = None,
) -> None:
    """Hold detectors with different proposal generators against each other: boxes, recall, mAP, AP, seconds."""
    from rich.console import Console

    from detect import bench, bench_detection
    from detect.classifiers import default_weights, weights_file
    from detect.detector import Detector
    from detect.evaluation import files_read, show
    from detect.runs.record import fingerprint
    from eval.coco import CocoDataset
    from eval.plots import picture_format, to_picture
    from eval.selection import Selection, pick_evenly
    from proposals.generators import files_in
    from structures.own_files import check_outputs

    names = list(dict.fromkeys(proposals or GENERATORS))
    boxes = [file for name in names for path in files_in(name) for file in files_read(path)]
    written = [reports.json, reports.csv, reports.html, reports.plot]
    check_outputs(written, [*files_read(truth.ground_truth), images, *boxes])
    form = picture_format(reports.plot) if reports.plot else ""  # now, not when all is measured
    dataset, console = truth.open(images), Console(stderr=True)
    part, crowd = Selection(dataset, photos=photos), isinstance(dataset, CocoDataset)
    ids, files = list(part.image_ids), weights or [default_weights(features.value)]
    placed: Any = where.as_names()
    device = placement_on(where.device)
    made = [bench_detection.boxes_in_folder(name, out, dataset, ids, console, device) for name in names]
    detectors = [
        Detector.load(files, name, **placed, features=features.value, score_floor=SCORE, max_boxes=max_boxes)
        for name in made
    ]
    seconds = None
    if timed:
        chosen = list(bench.read_photos(dataset, pick_evenly(ids, timed), console))
        console.print(f"timing {max(0, len(chosen) - 1)} photos, after one to warm up")
        seconds = bench_detection.time_stages(detectors, chosen)
    fingerprints, protocol = [fingerprint(weights_file(file)) for file in files], "voc" if crowd else "voc07"
    figures = []
    for name, detector in zip(names, detectors, strict=True):
        folder, settings = out / bench.folder_name(name), {**detector.settings(), "weights": fingerprints}
        console.print(name, markup=False, highlight=False, style="bold", soft_wrap=True)
        skipped = bench_detection.run_detector(detector, settings, dataset, ids, folder, console)
        figures.append(bench_detection.read_figures(name, folder, part, protocol, crowd=crowd, skipped=skipped))
    rows = bench_detection.figure_rows(figures, seconds)
    counted = 0 if seconds is None else len(seconds)
    sheets = bench_detection.detector_sheets(rows, protocol, len(ids), counted)
    show(sheets, dataset.notes)
    if reports.json:
        facts = {"photos": len(ids), "timed": counted, "protocol": protocol}
        write_json(reports.json, {**bench.circumstances(), **facts, "detectors": rows})
    if reports.csv:
        write_text(reports.csv, _table(rows))
    if reports.plot:
        write_bytes(reports.plot, to_picture(bench_detection.detector_plot(figures, rows), form))


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
