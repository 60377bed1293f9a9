"""Measure speed and quality side by side, in one run on this machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from detect.commands.bench_detect import detect
from detect.commands.groups import add, examples, group
from detect.commands.option_records import with_records
from detect.commands.options import (
    DryRun,
    GeneratorDevice,
    TimedPhotos,
    ToCsv,
    ToJson,
    TruthOptions,
    placement_on,
    show_dry_run,
)
from detect.defaults import SOME_SKIPPED
from structures.files import write_bytes, write_json, write_text
from structures.text import number_of


@dataclass(frozen=True)
class ProposalReportOptions:
    """Reports."""

    out: Annotated[Path | None, typer.Option(help="Keep the boxes in this folder, where a second run resumes.")] = None
    json: ToJson = None
    csv: ToCsv = None
    plot: Annotated[Path | None, typer.Option(help="Also plot recall to this file (.png, .svg or .pdf).")] = None


@examples(
    "rcnn bench proposals --ground-truth VOC2007 --photos 100",
    "rcnn bench proposals --ground-truth VOC2007 --timed 0 --proposals multibox --proposals edge-boxes",
)
@with_records
def proposals(
    truth: TruthOptions,
    report: ProposalReportOptions,
    proposals: Annotated[
        list[str] | None,
        typer.Option(
            help="Proposal generator; may be repeated. Speeds are relative to the first.",
            show_default="OpenCV's Selective Search and ours",
        ),
    ] = None,
    timed: TimedPhotos = 31,
    photos: Annotated[int, typer.Option(min=0, help="Photos to measure recall on, evenly spread; 0 takes all.")] = 0,
    device: GeneratorDevice = "auto",
    dry_run: DryRun = None,
) -> None:
    """Compare proposal generators: seconds per photo, boxes, recall at 0.5 and 0.7, MABO.

    Exit code 1: some photos could not be processed; they count as photos without boxes.
    """
    from tempfile import TemporaryDirectory

    from detect.bench import proposals as bench
    from detect.bench.timing import or_nan, read_photos
    from detect.consoles import open_console
    from detect.evaluation import files_read, show
    from eval.plots import picture_format, to_picture
    from eval.report import sheets_csv
    from eval.selection import Selection, pick_evenly
    from proposals.generators import files_in
    from structures.own_files import check_outputs

    names = list(dict.fromkeys(proposals or bench.DEFAULT_GENERATORS))
    boxes = [file for name in names for path in files_in(name) for file in files_read(path)]
    check_outputs([report.json, report.csv, report.plot], [*files_read(truth.ground_truth), truth.images, *boxes])
    form = picture_format(report.plot) if report.plot else ""  # before measuring: it may be refused
    dataset = truth.open()
    if dry_run is not None:
        show_dry_run({"ground truth": Selection(dataset, photos=photos)}, dry_run, "measured", json=report.json)
        return
    console, facts, placement = open_console(stderr=True), bench.circumstances(), placement_on(device)
    entries = bench.contestants(names, placement)
    times, counted = {}, 0
    if timed:
        chosen = pick_evenly(dataset.image_ids, timed)
        where = f"{facts['machine']['processor']}, {number_of(facts['machine']['cores'], 'core')}"
        line = f"timing {number_of(max(0, len(chosen) - 1), 'photo')}, after one to warm up, on {where}"
        console.print(line, markup=False, soft_wrap=True)
        tolerant = or_nan([entry.name for entry in entries], console)
        seconds = bench.time_in_turn(entries, read_photos(dataset, chosen, console), tolerant=tolerant)
        counted, times = len(seconds), bench.time_rows(entries, seconds)
    ids = pick_evenly(dataset.image_ids, photos)
    with TemporaryDirectory() as temporary:
        folders = {name: (report.out or Path(temporary)) / bench.folder_name(name) for name in names}
        covered = {name: bench.cover(name, dataset, ids, folders[name], console, placement) for name in names}
    coverages = {name: coverage for name, (coverage, _) in covered.items()}
    failures = [
        f"{name}: {failed} of {number_of(len(ids), 'photo')} could not be processed, and count as without boxes"
        for name, (_, failed) in covered.items()
        if failed
    ]
    quality = {name: bench.quality_row(coverage, len(dataset.classes)) for name, coverage in coverages.items()}
    sheets = bench.bench_sheets(times, quality, counted, len(ids))
    show(sheets, [*dataset.notes, *failures])
    if report.csv:
        write_text(report.csv, sheets_csv(sheets))
    if report.json:
        counts = {"photos": len(ids), "timed": counted}
        write_json(report.json, {**facts, **counts, **bench.bench_json(times, quality)})
    if report.plot:
        write_bytes(report.plot, to_picture(bench.bench_plot(coverages), form))
    if failures:
        raise typer.Exit(SOME_SKIPPED)


app = group("Measure speed and quality side by side, in one run on this machine.")
add(app, proposals)
add(app, detect)
