"""`rcnn bench detect`: detectors with different proposal generators, side by side."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detect.commands.detector_options import Features, RegionWeights
from detect.commands.groups import examples
from detect.commands.option_records import with_records
from detect.commands.options import (
    DryRun,
    FiguresToCsv,
    PhotoCount,
    PlacementOptions,
    TimedPhotos,
    ToJson,
    TruthOptions,
    show_dry_run,
)
from detect.defaults import PROPOSALS, PROPOSALS_IN_WORDS, SOME_SKIPPED
from detect.settings import MAP_SCORE_FLOOR
from structures.files import as_json, write_bytes
from structures.text import number_of

if TYPE_CHECKING:
    from detect.bench.detection import BenchJob, BenchResult

GENERATORS = (PROPOSALS, "multibox")


@dataclass(frozen=True)
class BenchReports:
    """Reports."""

    json: ToJson = None
    csv: FiguresToCsv = None
    html: Annotated[Path | None, typer.Option(help="Also write a page with the tables and the plots, in one file.")] = (
        None
    )
    plot: Annotated[
        Path | None, typer.Option(help="Also plot mAP against seconds, and recall (.png, .svg or .pdf).")
    ] = None


@examples(
    "rcnn bench detect --ground-truth VOC2007 --out bench --proposals multibox --proposals edge-boxes",
    "rcnn bench detect --ground-truth VOC2007 --out bench --features shared --html bench.html",
)
@with_records
def detect(
    out: Annotated[Path, typer.Option(help="Folder for the results. A second run resumes there.")],
    truth: TruthOptions,
    where: PlacementOptions,
    reports: BenchReports,
    proposals: Annotated[
        list[str] | None,
        typer.Option(
            help="Proposal generator, or file:BOXES; may be repeated. Differences are to the first.",
            show_default=f"{PROPOSALS_IN_WORDS}; and multibox",
        ),
    ] = None,
    photos: PhotoCount = 0,
    timed: TimedPhotos = 11,
    weights: RegionWeights = None,
    features: Annotated[Features, typer.Option(help="Classify regions on crops, shared features, or both.")] = (
        Features.auto
    ),
    max_boxes: Annotated[int | None, typer.Option(min=1, help="Classify only the first N proposals.")] = None,
    dry_run: DryRun = None,
) -> None:
    """Compare detectors with different proposal generators: boxes, recall, mAP, AP, seconds.

    Exit code 0: all done. 1: some photos could not be processed, or a generator failed and was left out. 2: nothing
    done.
    """
    from detect.bench import detection as bench_detection
    from detect.classifiers import choose_weights
    from detect.consoles import open_console
    from detect.evaluation import files_read, show
    from eval.plots import picture_format
    from proposals.generators import files_in
    from structures.own_files import check_outputs

    names = list(dict.fromkeys(proposals or GENERATORS))
    boxes = [file for name in names for path in files_in(name) for file in files_read(path)]
    files, kind = choose_weights(weights, features.value)
    written = [reports.json, reports.csv, reports.html, reports.plot]
    check_outputs(written, [*files_read(truth.ground_truth), truth.images, *boxes, *files])
    form = picture_format(reports.plot) if reports.plot else ""  # before measuring: it may be refused
    options = {**where.as_names(), "features": kind, "max_boxes": max_boxes, "score_floor": MAP_SCORE_FLOOR}
    job = bench_detection.BenchJob(truth.open(), photos, timed, out, names, list(map(str, files)), options)
    if dry_run is not None:
        show_dry_run({"ground truth": job.photos}, dry_run, "measured", json=reports.json)
        return
    result = bench_detection.run_bench(job, open_console(stderr=True))
    show(result.sheets(), [*job.dataset.notes, *result.failures])
    for path, content in _contents(result, job, reports, form):
        write_bytes(path, content)
    if result.failures:
        raise typer.Exit(SOME_SKIPPED)


def _contents(result: "BenchResult", job: "BenchJob", reports: BenchReports, form: str) -> Iterator[tuple[Path, bytes]]:
    """Yield each requested file with its content."""
    from detect.bench.proposals import circumstances
    from eval.plain_page import plain_page
    from eval.plots import to_picture

    if reports.json:
        facts = {**circumstances(), "photos": len(job.photos), "timed": result.timed, "protocol": job.protocol}
        yield reports.json, as_json({**facts, "detectors": result.rows, "failed": dict(result.failed)})
    if reports.csv:
        yield reports.csv, _table(result.rows).encode()
    if reports.html:
        photos = number_of(len(job.photos), "photo")
        told = [f"{photos}; {job.options['features']} features; weights: {', '.join(job.weights)}"]
        pictures = {"mAP against seconds per photo, and recall against boxes": to_picture(result.plot(), "svg")}
        page = plain_page(
            "Detectors side by side",
            facts=told,
            warnings=[*job.dataset.notes, *result.failures],
            sheets=result.sheets(),
            pictures=pictures,
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
