"""Measure detections, proposals and classification against ground truth."""

from pathlib import Path
from typing import Annotated

import typer

from detect.commands.eval_classification import classification
from structures.files import write_bytes, write_json

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

GROUND_TRUTH = typer.Option(help="A folder in VOC layout, or COCO's instances.json.")
SPLIT = typer.Option(help="Image list in the VOC folder's ImageSets/Main.")
JSON = typer.Option("--json", help="Also write the figures to this file, as shares from 0 to 1.")
EXTRA = typer.Option("--allow-extra", help="Leave out photos that the ground truth lacks, instead of stopping.")


@app.callback()
def _eval() -> None:
    """Measure detections, proposals and classification against ground truth."""


@app.command()
def detections(
    file: Annotated[Path, typer.Argument(help="detections.jsonl, its folder, or COCO results (.json).")],
    ground_truth: Annotated[Path, GROUND_TRUTH],
    split: Annotated[str, SPLIT] = "val",
    protocol: Annotated[
        str, typer.Option(help="voc07, voc, coco or ilsvrc; auto is voc07 for VOC and coco for COCO.")
    ] = "auto",
    classes: Annotated[str | None, typer.Option(help="Score only these, a,b; others are no objects.")] = None,
    json: Annotated[Path | None, JSON] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page with tables, curves and mistakes.")] = None,
    mistakes: Annotated[bool, typer.Option(help="Say what kinds of mistakes were made.")] = True,
    allow_extra: Annotated[bool, EXTRA] = False,
) -> None:
    """Score detections: mean average precision, with a table by class."""
    from detect.evaluation import choose, draw_curves, files_read, open_ground_truth, read_detections, show, sources
    from eval.coco import CocoDataset
    from eval.mistakes import find_mistakes
    from eval.report import class_sheet, mistake_sheets, overall_sheet, percent, write_page
    from eval.scores import score
    from structures.own_files import check_outputs

    check_outputs([json, html], [*files_read(file), *files_read(ground_truth)])
    dataset = open_ground_truth(ground_truth, split)
    crowd = isinstance(dataset, CocoDataset)
    aligned, notes = read_detections(file, dataset, allow_extra=allow_extra)
    scored, found = choose(dataset, aligned.detections, classes)
    name = protocol if protocol != "auto" else ("coco" if crowd else "voc07")
    scores = score(name, list(scored), found, scored.classes, crowd=crowd)
    warnings = [*dataset.notes, *notes, *aligned.warnings(), *scores.warnings()]
    sheets = [class_sheet(scores), overall_sheet(scores)]
    if mistakes:
        sheets += mistake_sheets(find_mistakes(list(scored), found, scored.classes))
    show(sheets, warnings)
    figure, value = scores.headline
    typer.echo(f"{figure} ({name}) {percent(value)} % on {scores.images} images with {sum(scores.objects)} objects")
    source = sources(file, ground_truth, split, dataset)
    if json:
        counts = {"missing_images": len(aligned.missing), "extra_images": len(aligned.extra), "warnings": warnings}
        write_json(json, {**source, **scores.as_json(), **counts})
    if html:
        facts = [f"{key}: {text}" for key, text in source.items()]
        title = f"{figure} {percent(value)} % ({name})"
        write_page(html, title, facts=facts, warnings=warnings, sheets=sheets, pictures=draw_curves(scored, found))


@app.command()
def proposals(
    file: Annotated[Path, typer.Argument(help="Folder of `rcnn propose`, or a .mat, .pkl or .json of other programs.")],
    ground_truth: Annotated[Path, GROUND_TRUTH],
    split: Annotated[str, SPLIT] = "val",
    plot: Annotated[Path | None, typer.Option(help="Also draw recall to this file (.png, .svg or .pdf).")] = None,
    json: Annotated[Path | None, JSON] = None,
) -> None:
    """Measure proposals: recall by IoU and by number of boxes, average recall, MABO."""
    from detect.evaluation import files_read, measure_proposals, open_ground_truth, show, sources
    from eval.plots import picture_format, to_picture
    from eval.proposal_recall import proposal_rows
    from eval.proposal_report import as_json, proposal_plot, proposal_sheets
    from eval.report import percent
    from structures.own_files import check_outputs

    check_outputs([json, plot], [*files_read(file), *files_read(ground_truth)])
    form = picture_format(plot) if plot else ""  # now, not when all is measured
    dataset = open_ground_truth(ground_truth, split)
    coverage, made, doubts = measure_proposals(file, dataset)
    warnings = [*dataset.notes, *doubts]
    values = dict(proposal_rows(coverage, dataset.classes))
    show(proposal_sheets(values, dataset.classes), warnings)
    figures = ", ".join(f"{name} {percent(values[name])} %" for name in ("MABO", "recall@0.50", "recall@0.70"))
    boxes = values["boxes an image, mean"]
    typer.echo(f"{figures} with {boxes:.0f} boxes an image on {len(dataset)} images, {len(coverage.labels)} objects")
    if json:
        counts = {"images": len(dataset), "objects": len(coverage.labels), "warnings": warnings, "made": dict(made)}
        source = sources(file, ground_truth, split, dataset)
        write_json(json, {**source, **as_json(values, dataset.classes), **counts})
    if plot:
        write_bytes(plot, to_picture(proposal_plot(coverage), form))


app.command()(classification)
