"""Measure detections, proposals and classification against ground truth."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detect.commands.eval_classification import classification

if TYPE_CHECKING:
    from eval.coco import CocoDataset
    from eval.report import Sheet
    from eval.results import Aligned
    from eval.voc import VocDataset

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

GROUND_TRUTH = typer.Option(help="A folder in VOC layout, or COCO's instances.json.")
SPLIT = typer.Option(help="Image list in the VOC folder's ImageSets/Main.")
JSON = typer.Option("--json", help="Also write the figures to this file, as shares from 0 to 1.")
EXTRA = typer.Option(help="Leave out photos that the ground truth lacks, instead of stopping.")


@app.callback()
def _eval() -> None:
    """Measure detections, proposals and classification against ground truth."""


@app.command()
def detections(
    file: Annotated[Path, typer.Argument(help="detections.jsonl of `rcnn detect`, or COCO results (.json).")],
    ground_truth: Annotated[Path, GROUND_TRUTH],
    split: Annotated[str, SPLIT] = "val",
    protocol: Annotated[
        str, typer.Option(help="voc07, voc, coco or ilsvrc; auto is voc07 for VOC and coco for COCO.")
    ] = "auto",
    json: Annotated[Path | None, JSON] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page with tables, curves and mistakes.")] = None,
    mistakes: Annotated[bool, typer.Option(help="Say what kinds of mistakes were made.")] = True,
    allow_extra: Annotated[bool, EXTRA] = False,
) -> None:
    """Score detections: mean average precision, with a table by class."""
    from eval.mistakes import find_mistakes
    from eval.report import class_sheet, mistake_sheets, overall_sheet, percent, write_json, write_page
    from eval.scores import score

    dataset = _open(ground_truth, split)
    crowd = _is_coco(dataset)
    aligned, notes = _read_detections(file, dataset, allow_extra)
    name = protocol if protocol != "auto" else ("coco" if crowd else "voc07")
    scores = score(name, list(dataset), aligned.detections, dataset.classes, crowd=crowd)
    warnings = [*dataset.notes, *notes, *aligned.warnings(), *scores.warnings()]
    sheets = [class_sheet(scores), overall_sheet(scores)]
    if mistakes:
        sheets += mistake_sheets(find_mistakes(list(dataset), aligned.detections, dataset.classes))
    _show(sheets, warnings)
    figure, value = scores.headline
    typer.echo(f"{figure} ({name}) {percent(value)} % on {scores.images} images with {sum(scores.objects)} objects")
    source = {"file": str(file), "ground_truth": str(ground_truth), **({} if crowd else {"split": split})}
    counts = {"missing_images": len(aligned.missing), "extra_images": len(aligned.extra), "warnings": warnings}
    if json:
        write_json(json, {**source, **scores.as_json(), **counts})
    if html:
        facts = [f"{key}: {text}" for key, text in source.items()]
        title = f"{figure} {percent(value)} % ({name})"
        write_page(html, title, facts=facts, warnings=warnings, sheets=sheets, pictures=_curves(dataset, aligned))


app.command()(classification)


def _open(ground_truth: Path, split: str) -> "VocDataset | CocoDataset":
    from eval.coco import CocoDataset
    from eval.voc import VocDataset

    return CocoDataset(ground_truth) if ground_truth.is_file() else VocDataset(ground_truth, split)


def _is_coco(dataset: "VocDataset | CocoDataset") -> bool:
    from eval.coco import CocoDataset

    return isinstance(dataset, CocoDataset)


def _read_detections(file: Path, dataset: "VocDataset | CocoDataset", allow_extra: bool) -> tuple["Aligned", list[str]]:
    from eval.coco import CocoDataset, read_coco_results
    from eval.results import align, align_records, read_lines

    if file.suffix.lower() != ".json":
        lines, notes = read_lines(file)
        return align(lines, dataset, allow_extra=allow_extra), notes
    if not isinstance(dataset, CocoDataset):
        raise ValueError(f"{file}: COCO results need COCO ground truth (--ground-truth instances.json)")
    return align_records(read_coco_results(file, dataset), dataset), []


def _show(sheets: Sequence["Sheet"], warnings: Sequence[str]) -> None:
    from rich.console import Console

    console = Console()
    for sheet in sheets:
        if sheet.rows:
            console.print(sheet.for_terminal())
    for line in warnings:
        typer.echo(f"warning: {line}", err=True)


def _curves(dataset: "VocDataset | CocoDataset", aligned: "Aligned") -> dict[str, bytes]:
    from eval.matching import match_voc
    from eval.plots import precision_recall, to_png
    from eval.protocols import class_curves

    curves = class_curves(list(dataset), aligned.detections, dataset.classes, match_voc)
    caption = "Precision against recall at IoU 0.5, with its ceiling and the area under it (all-point AP in %)"
    return {caption: to_png(precision_recall(curves, dataset.classes))}
