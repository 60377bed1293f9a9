"""`rcnn eval compare`: runs on the same photos, with intervals for their differences; and the check of --fail-under."""

from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Annotated

import typer

from detect.commands.groups import examples
from detect.commands.option_records import with_records
from detect.commands.options import AllowExtra, Classes, FiguresToCsv, ProtocolName, ToJson, TruthOptions
from structures.errors import InputError
from structures.files import write_json, write_text

BELOW = 3  # exit code: done, but a figure is below --fail-under


@dataclass(frozen=True)
class DrawOptions:
    """Intervals."""

    draws: Annotated[int, typer.Option(min=2, help="Bootstrap samples of the photos.")] = 1000
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0


@dataclass(frozen=True)
class CompareReports:
    """Reports."""

    photos: Annotated[int, typer.Option(min=0, help="Photos to list: those where the runs differ most.")] = 10
    json: ToJson = None
    csv: FiguresToCsv = None
    fail_under: Annotated[
        float | None,
        typer.Option(
            min=-1,
            max=1,
            help="End with exit code 3 if the mAP (for coco, AP) of a run minus that of the first is below this, "
            "such as -0.01: a loss of more than 1 point.",
        ),
    ] = None


@examples(
    "rcnn eval compare before after --ground-truth VOC2007",
    "rcnn eval compare a b c --ground-truth instances.json --csv differences.csv --fail-under -0.01",
)
@with_records
def compare(
    files: Annotated[
        list[Path], typer.Argument(help="detections.jsonl, its folder, or results in another format; one or more.")
    ],
    truth: TruthOptions,
    drawing: DrawOptions,
    reports: CompareReports,
    classes: Classes = None,
    allow_extra: AllowExtra = False,
    protocol: ProtocolName = "auto",
) -> None:
    """Compare runs on the same photos: mAP and AP by class with 95% intervals, and where the runs differ most.

    Exit code 0: all done. 2: wrong usage, or nothing done. 3: done, but a difference is below --fail-under.
    """
    from detect.comparison import open_runs
    from detect.evaluation import files_read, show
    from eval.compare import compare_runs
    from eval.compare_report import LETTERS, comparison_csv, comparison_json, comparison_sheets, verdicts
    from eval.ground_truth import has_crowds, usual_protocol
    from structures.own_files import check_outputs

    if reports.fail_under is not None and len(files) < 2:
        raise InputError("--fail-under needs at least two runs: it is about their difference")
    read = [path for each in (*files, truth.ground_truth) for path in files_read(each)]
    check_outputs([reports.json, reports.csv], [*read, truth.images])
    dataset = truth.open()
    scored, runs, warnings = open_runs(files, dataset, classes, allow_extra=allow_extra)
    name = protocol if protocol != "auto" else usual_protocol(dataset)
    compared = compare_runs(
        name, list(scored), runs, scored.classes, crowd=has_crowds(dataset), draws=drawing.draws, seed=drawing.seed
    )
    names = list(map(str, files))
    show(comparison_sheets(compared, names, photos=reports.photos), [*dataset.notes, *warnings])
    for line in verdicts(compared):
        typer.echo(line)
    if reports.json:
        source = {"ground_truth": str(truth.ground_truth), "warnings": warnings}
        write_json(reports.json, {**source, **comparison_json(compared, names)})
    if reports.csv:
        write_text(reports.csv, comparison_csv(compared, names))
    for letter, apart in zip(LETTERS[1:], compared.differences, strict=False):
        require_at_least(reports.fail_under, apart.value, f"{letter} - A: difference in {compared.figure}")


def require_at_least(least: float | None, value: float, what: str) -> None:
    """End with exit code 3 if a figure is below --fail-under, or not known.

    Raises:
        typer.Exit: the figure is below.
    """
    if least is not None and not value >= least:
        figure = "cannot be measured, and does not reach" if isnan(value) else f"{value:.4f} is below"
        typer.echo(f"{what} {figure} {least:g} (--fail-under)", err=True)
        raise typer.Exit(BELOW)
