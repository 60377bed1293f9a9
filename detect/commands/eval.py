"""Measure detections, proposals and classification against ground truth."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detect.commands.eval_classification import classification
from detect.commands.groups import add, examples, group
from detect.commands.options import Classes, DryRun, ToCsv, ToJson, TruthOptions
from detect.commands.records import with_records
from structures.files import write_bytes, write_json, write_text
from structures.text import printable

if TYPE_CHECKING:
    from eval.ground_truth import AnyDataset


@dataclass(frozen=True)
class ChoiceOptions:
    """What is scored."""

    classes: Classes = None
    only_detected: Annotated[
        bool, typer.Option("--only-detected", help="Score just the photos that have a line of results.")
    ] = False
    allow_extra: Annotated[
        bool, typer.Option("--allow-extra", help="Leave out photos that the ground truth lacks, instead of stopping.")
    ] = False


@dataclass(frozen=True)
class ReportOptions:
    """Reports."""

    mistakes: Annotated[bool, typer.Option(help="Say what kinds of mistakes were made.")] = True
    json: ToJson = None
    csv: ToCsv = None
    html: Annotated[Path | None, typer.Option(help="Also write a page with tables, curves and mistakes.")] = None


def look_at(dataset: "AnyDataset", folder: Path, json: Path | None) -> None:
    """Show what would be judged by, as `--dry-run` asks for."""
    from detect.preview import preview

    shown = preview({"ground truth": dataset}, folder)
    typer.echo(f"nothing was scored; {len(shown['drawn'])} examples drawn in {printable(folder)}")
    if json:
        write_json(json, shown)


@examples(
    "rcnn eval detections results --ground-truth VOC2007",
    "rcnn eval detections results --ground-truth instances.json --only-detected --classes dog,cat",
)
@with_records
def detections(
    file: Annotated[Path, typer.Argument(help="detections.jsonl, its folder, or COCO results (.json).")],
    truth: TruthOptions,
    choice: ChoiceOptions,
    report: ReportOptions,
    protocol: Annotated[
        str, typer.Option(help="voc07, voc, coco or ilsvrc; auto is voc07 for VOC, else coco.")
    ] = "auto",
    dry_run: DryRun = None,
) -> None:
    """Score detections: mean average precision, with a table by class."""
    from detect.evaluation import choose, draw_curves, files_read, read_detections, show, sources
    from detect.runs.record import high_floor
    from eval.ground_truth import has_crowds, usual_protocol
    from eval.mistakes import find_mistakes
    from eval.report import class_sheet, mistake_sheets, overall_sheet, percent, sheets_csv, write_page
    from eval.scores import score
    from structures.own_files import check_outputs

    outputs = [report.json, report.csv, report.html]
    check_outputs(outputs, [*files_read(file), *files_read(truth.ground_truth)])
    dataset = truth.open()
    if dry_run is not None:
        look_at(dataset, dry_run, report.json)
        return
    crowd = has_crowds(dataset)
    aligned, notes = read_detections(file, dataset, allow_extra=choice.allow_extra, only_detected=choice.only_detected)
    scored, found = choose(dataset, aligned, choice.classes, only_detected=choice.only_detected)
    name = protocol if protocol != "auto" else usual_protocol(dataset)
    scores = score(name, list(scored), found, scored.classes, crowd=crowd)
    doubts = aligned.warnings(missing_count=not choice.only_detected)
    warnings = [*dataset.notes, *notes, *high_floor(file), *doubts, *scores.warnings()]
    sheets = [class_sheet(scores), overall_sheet(scores)]
    if report.mistakes:
        sheets += mistake_sheets(find_mistakes(list(scored), found, scored.classes))
    show(sheets, warnings)
    figure, value = scores.headline
    typer.echo(f"{figure} ({name}) {percent(value)} % on {scores.images} images with {sum(scores.objects)} objects")
    source = sources(file, truth.ground_truth, dataset)
    if report.csv:
        write_text(report.csv, sheets_csv(sheets))
    if report.json:
        counts = {"missing_images": len(aligned.missing), "extra_images": len(aligned.extra), "warnings": warnings}
        write_json(report.json, {**source, **scores.as_json(), **counts})
    if report.html:
        facts = [f"{key}: {text}" for key, text in source.items()]
        title = f"{figure} {percent(value)} % ({name})"
        pictures = draw_curves(scored, found)
        write_page(report.html, title, facts=facts, warnings=warnings, sheets=sheets, pictures=pictures)


@examples(
    "rcnn propose VOC2007/JPEGImages --out boxes", "rcnn eval proposals boxes --ground-truth VOC2007 --plot r.png"
)
@with_records
def proposals(
    file: Annotated[Path, typer.Argument(help="Folder of `rcnn propose`, or a .mat, .pkl or .json of other programs.")],
    truth: TruthOptions,
    plot: Annotated[Path | None, typer.Option(help="Also draw recall to this file (.png, .svg or .pdf).")] = None,
    json: ToJson = None,
    csv: ToCsv = None,
    dry_run: DryRun = None,
) -> None:
    """Measure proposals: recall by IoU and by number of boxes, average recall, MABO."""
    from detect.evaluation import files_read, measure_proposals, show, sources
    from eval.plots import picture_format, to_picture
    from eval.proposal_recall import proposal_rows
    from eval.proposal_report import as_json, proposal_plot, proposal_sheets
    from eval.report import percent, sheets_csv
    from structures.own_files import check_outputs

    check_outputs([json, csv, plot], [*files_read(file), *files_read(truth.ground_truth)])
    form = picture_format(plot) if plot else ""  # now, not when all is measured
    dataset = truth.open()
    if dry_run is not None:
        look_at(dataset, dry_run, json)
        return
    coverage, made, doubts = measure_proposals(file, dataset)
    warnings = [*dataset.notes, *doubts]
    values = dict(proposal_rows(coverage, dataset.classes))
    sheets = proposal_sheets(values, dataset.classes)
    show(sheets, warnings)
    if csv:
        write_text(csv, sheets_csv(sheets))
    figures = ", ".join(f"{name} {percent(values[name])} %" for name in ("MABO", "recall@0.50", "recall@0.70"))
    boxes = values["boxes an image, mean"]
    typer.echo(f"{figures} with {boxes:.0f} boxes an image on {len(dataset)} images, {len(coverage.labels)} objects")
    if json:
        counts = {"images": len(dataset), "objects": len(coverage.labels), "warnings": warnings, "made": dict(made)}
        source = sources(file, truth.ground_truth, dataset)
        write_json(json, {**source, **as_json(values, dataset.classes), **counts})
    if plot:
        write_bytes(plot, to_picture(proposal_plot(coverage), form))


app = group("Measure detections, proposals and classification against ground truth.")
for command in (detections, proposals, classification):
    add(app, command)
