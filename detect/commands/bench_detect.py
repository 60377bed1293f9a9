"""`rcnn bench detect`: detectors with different proposal generators, side by side."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detect.commands.detect import Features
from detect.commands.groups import examples
from detect.commands.options import DryRun, PlacementOptions, ToJson, TruthOptions, show_dry_run
from detect.commands.records import with_records
from detect.defaults import PROPOSALS, PROPOSALS_IN_WORDS
from structures.files import as_json, write_bytes

if TYPE_CHECKING:
    from detect.bench.detection import BenchJob, BenchResult

SCORE = 0.001  # of the weakest detections: mAP counts all
GENERATORS = (PROPOSALS, "multibox")


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
    "rcnn bench detect --ground-truth VOC2007 --out bench --proposals multibox --proposals edge-boxes",
    "rcnn bench detect --ground-truth VOC2007 --out bench --features shared --html bench.html",
)
@with_records
def detect(
    out: Annotated[Path, typer.Option(help="Folder of the results. A second run resumes there.")],
    truth: TruthOptions,
    where: PlacementOptions,
    reports: BenchReports,
    proposals: Annotated[
        list[str] | None,
        typer.Option(
            help="Generator of the regions, or file:BOXES; may be repeated. Differences are to the first.",
            show_default=f"{PROPOSALS_IN_WORDS}; and multibox",
        ),
    ] = None,
    photos: Annotated[int, typer.Option(min=0, help="Use this many photos, evenly spread; 0 takes all.")] = 0,
    timed: Annotated[int, typer.Option(min=0, help="Photos to time, evenly spread; the first warms up; 0: none.")] = 11,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="Built-in name or file; several are averaged.", show_default="those for the features"),
    ] = None,
    features: Annotated[Features, typer.Option(help="Classify crops, or pool regions from features of the photo.")] = (
        Features.auto
    ),
    max_boxes: Annotated[int | None, typer.Option(min=1, help="Classify only the first N boxes.")] = None,
    dry_run: DryRun = None,
) -> None:
    """Compare detectors with different proposal generators: boxes, recall, mAP, AP, seconds."""
    from rich.console import Console

    from detect.bench import detection as bench_detection
    from detect.classifiers import choose_weights
    from detect.evaluation import files_read, show
    from eval.plots import picture_format
    from proposals.generators import files_in
    from structures.own_files import check_outputs

    names = list(dict.fromkeys(proposals or GENERATORS))
    boxes = [file for name in names for path in files_in(name) for file in files_read(path)]
    files, kind = choose_weights(weights, features.value)
    written = [reports.json, reports.csv, reports.html, reports.plot]
    check_outputs(written, [*files_read(truth.ground_truth), truth.images, *boxes, *files])
    form = picture_format(reports.plot) if reports.plot else ""  # now, not when all is measured
    options = {**where.as_names(), "features": kind, "max_boxes": max_boxes, "score_floor": SCORE}
    job = bench_detection.BenchJob(truth.open(), photos, timed, out, names, list(map(str, files)), options)
    if dry_run is not None:
        show_dry_run({"ground truth": job.photos}, dry_run, "measured", json=reports.json)
        return
    result = bench_detection.run_bench(job, Console(stderr=True))
    show(result.sheets(), job.dataset.notes)
    for path, content in _contents(result, job, reports, form):
        write_bytes(path, content)


def _contents(result: "BenchResult", job: "BenchJob", reports: BenchReports, form: str) -> Iterator[tuple[Path, bytes]]:
    """Yield each file that was asked for, with its content."""
    from detect.bench.proposals import circumstances
    from eval.plain_page import plain_page
    from eval.plots import to_picture

    if reports.json:
        facts = {**circumstances(), "photos": len(job.photos), "timed": result.timed, "protocol": job.protocol}
        yield reports.json, as_json({**facts, "detectors": result.rows})
    if reports.csv:
        yield reports.csv, _table(result.rows).encode()
    if reports.html:
        told = [f"{len(job.photos)} photos; {job.options['features']} features; weights: {', '.join(job.weights)}"]
        pictures = {"mAP against seconds per photo, and recall against boxes": to_picture(result.plot(), "svg")}
        page = plain_page(
            "Detectors side by side", facts=told, warnings=job.dataset.notes, sheets=result.sheets(), pictures=pictures
        )
        yield reports.html, page.encode()
    if reports.plot:
        yield reports.plot, to_picture(result.plot(), form)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
