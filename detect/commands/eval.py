"""Measure detections, proposals and classification against ground truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detect.commands.eval_classification import classification
from detect.commands.eval_compare import compare, require_at_least
from detect.commands.groups import add, examples, group
from detect.commands.option_records import with_records
from detect.commands.options import AllowExtra, Classes, DryRun, ProtocolName, ToCsv, ToJson, TruthOptions, show_dry_run
from structures.files import write_bytes, write_json, write_text
from structures.text import number_of, printable

if TYPE_CHECKING:
    from detect.scored import ScoredRun
    from eval.ground_truth import AnyDataset

FailUnder = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="End with exit code 3 if mAP (for coco, AP) is below this, such as 0.5."),
]


@dataclass(frozen=True)
class ChoiceOptions:
    """What is scored."""

    classes: Classes = None
    only_detected: Annotated[
        bool, typer.Option("--only-detected", help="Score only photos that have a line in the results.")
    ] = False
    allow_extra: AllowExtra = False


@dataclass(frozen=True)
class ReportOptions:
    """Reports."""

    mistakes: Annotated[bool, typer.Option(help="Count kinds of mistakes.")] = True
    lost_score: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Count an object as lost unless a detection with at least this score finds it.",
            show_default="any score",
        ),
    ] = None
    json: ToJson = None
    csv: ToCsv = None
    fail_under: FailUnder = None
    html: Annotated[
        Path | None, typer.Option(help="Also write a page with tables, curves, mistakes and photos, in one file.")
    ] = None
    html_photos: Annotated[int, typer.Option(min=0, help="Most photos on the page; the worst are taken.")] = 1000
    html_pixels: Annotated[int, typer.Option(min=32, help="Longer side of the photos on the page.")] = 320
    against: Annotated[
        Path | None, typer.Option(help="Results of another run on the same photos, shown side by side.")
    ] = None


@examples(
    "rcnn eval detections results --ground-truth VOC2007 --html report.html",
    "rcnn eval detections results --ground-truth VOC2007 --against others --html report.html",
    "rcnn eval detections results --ground-truth VOC2007 --fail-under 0.6",
    "rcnn eval detections results --ground-truth instances.json --only-detected --classes dog,cat",
)
@with_records
def detections(
    file: Annotated[Path, typer.Argument(help="detections.jsonl, its folder, or results in another format.")],
    truth: TruthOptions,
    choice: ChoiceOptions,
    report: ReportOptions,
    protocol: ProtocolName = "auto",
    dry_run: DryRun = None,
) -> None:
    """Score detections: mean average precision, overall and by class.

    Exit code 0: all done. 2: wrong usage, or nothing done. 3: done, but the figure is below --fail-under.
    """
    from detect.evaluation import files_read, photos_named_as, results_in_words, show
    from detect.runs.record import RUN_FILE
    from detect.scored import ScoringOptions, require_same_photos, score_run
    from eval.lost_report import lost_sheets, lost_warnings
    from eval.page.tables import class_table, overall_table
    from eval.report import mistake_sheets, percent, sheets_csv
    from structures.own_files import check_outputs

    files, outputs = [file, *([report.against] if report.against else [])], [report.json, report.csv, report.html]
    read = [path for each in (*files, truth.ground_truth) for path in files_read(each)]
    read += [each / RUN_FILE for each in files]
    check_outputs(outputs, [*read, truth.images])
    if report.html:
        from eval.page.write import require_extra

        require_extra()
    dataset = truth.open()
    check_outputs(outputs, photos_named_as(outputs, dataset))
    if dry_run is not None:
        there = filter(Path.exists, files)  # annotations can be looked at before there are results
        held = [results_in_words(each, dataset, allow_extra=choice.allow_extra) for each in there]
        show_dry_run(
            {"ground truth": dataset},
            dry_run,
            "scored",
            warnings=[line for _, odd in held for line in odd],
            json=report.json,
        )
        for line, _ in held:
            typer.echo(printable(line))
        return
    options = ScoringOptions(protocol, choice.classes, choice.only_detected, choice.allow_extra, report.lost_score)
    runs = [score_run(each, dataset, options) for each in files]
    require_same_photos(runs)
    scores = [run.scores for run in runs]
    sheets = [class_table(scores), overall_table(scores)]
    warnings = [line for run in runs for line in run.warnings]
    if report.mistakes:
        sheets += mistake_sheets(runs[0].mistakes)
    traced = bool(runs[0].regions) or report.lost_score is not None
    if report.mistakes and traced:
        sheets += lost_sheets(runs[0].losses)
        warnings += lost_warnings(runs[0].losses)
    show(sheets, list(dict.fromkeys(warnings)))
    for run in runs:
        figure, value = run.scores.headline
        name, objects = run.scores.protocol, sum(run.scores.objects)
        scored = f"{number_of(run.scores.images, 'photo')} with {number_of(objects, 'object')}"
        where = f", {printable(run.file)}" if len(runs) > 1 else ""
        typer.echo(f"{figure} ({name}) {percent(value)} % on {scored}{where}")
    if report.mistakes and not traced and runs[0].can_keep_scores:
        missed = sum(objects - found for objects, found in runs[0].mistakes.sizes.values())
        typer.echo(
            f"{number_of(missed, 'object')} missed; detect with --keep scores to see at which stage each was lost"
        )
    if report.csv:
        write_text(report.csv, sheets_csv(sheets))
    if report.json or report.html:
        _write(runs, report, truth, file, dataset)
    figure, value = runs[0].scores.headline
    require_at_least(report.fail_under, value, f"{figure} ({runs[0].scores.protocol})")


def _write(
    runs: "Sequence[ScoredRun]", report: ReportOptions, truth: TruthOptions, file: Path, dataset: "AnyDataset"
) -> None:
    from detect.evaluation import sources
    from detect.report import Gallery, report_values, with_photos, write_report

    values = report_values(runs, sources(file, truth.ground_truth, dataset), mistakes=report.mistakes)
    if report.html:
        gallery = Gallery(report.html_photos, report.html_pixels)
        values = with_photos(values, runs, gallery)
        typer.echo(printable(write_report(report.html, runs, values, gallery)))
    if report.json:
        write_json(report.json, values)


@examples(
    "rcnn propose VOC2007/JPEGImages --out boxes", "rcnn eval proposals boxes --ground-truth VOC2007 --plot r.png"
)
@with_records
def proposals(
    file: Annotated[Path, typer.Argument(help="Folder of `rcnn propose`, or .mat, .pkl or .json of another program.")],
    truth: TruthOptions,
    plot: Annotated[Path | None, typer.Option(help="Also plot recall to this file (.png, .svg or .pdf).")] = None,
    json: ToJson = None,
    csv: ToCsv = None,
    dry_run: DryRun = None,
) -> None:
    """Measure proposals: recall by IoU and by number of boxes, average recall, MABO."""
    from detect.coverage import measure_proposals
    from detect.evaluation import files_read, show, sources
    from eval.plots import picture_format, to_picture
    from eval.proposal_recall import proposal_rows
    from eval.proposal_report import as_json, proposal_plot, proposal_sheets
    from eval.report import percent, sheets_csv
    from structures.own_files import check_outputs

    check_outputs([json, csv, plot], [*files_read(file), *files_read(truth.ground_truth)])
    form = picture_format(plot) if plot else ""  # before measuring: it may be refused
    dataset = truth.open()
    if dry_run is not None:
        show_dry_run({"ground truth": dataset}, dry_run, "scored", json=json)
        return
    coverage, made, warnings = measure_proposals(file, dataset)
    warnings = [*dataset.notes, *warnings]
    values = dict(proposal_rows(coverage, dataset.classes))
    sheets = proposal_sheets(values, dataset.classes)
    show(sheets, warnings)
    if csv:
        write_text(csv, sheets_csv(sheets))
    figures = ", ".join(f"{name} {percent(values[name])} %" for name in ("MABO", "recall@0.50", "recall@0.70"))
    boxes = values["boxes per image, mean"]
    counted = f"{number_of(len(dataset), 'photo')}, {number_of(len(coverage.labels), 'object')}"
    typer.echo(f"{figures} with {boxes:.0f} boxes per photo on {counted}")
    if json:
        counts = {"images": len(dataset), "objects": len(coverage.labels), "warnings": warnings, "made": dict(made)}
        source = sources(file, truth.ground_truth, dataset)
        write_json(json, {**source, **as_json(values, dataset.classes), **counts})
    if plot:
        write_bytes(plot, to_picture(proposal_plot(coverage), form))


app = group("Measure detections, proposals and classification against ground truth.")
for command in (detections, compare, proposals, classification):
    add(app, command)
