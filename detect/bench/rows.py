"""The figures of compared detectors: one row for each, for tables, JSON, CSV and plots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from detect.bench.timing import STAGE_TIMES, Seconds
from eval.bootstrap import Drawn, difference_interval, mean_ap_interval
from eval.lost import STAGES, Losses
from eval.plots import detector_plots
from eval.proposal_recall import COUNTS, Coverage, recall
from eval.report import Sheet, percent, signed
from eval.scores import or_null
from structures.boxes import Doubles
from structures.text import number_of

WHOLE = "all"  # their sum; its median is not the sum of their medians
QUALITY = ("recall@0.50", "recall@0.70", "MABO")

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Figures:
    """The figures of one detector.

    Attributes:
        name: name of its generator.
        quality: of the classified boxes, from `detect.bench.proposals.quality_row`.
        coverage: how well these boxes cover the objects.
        drawn: mAP on the photos and on bootstrap draws of them.
        ap: AP by COCO's protocol.
        losses: where objects without a detection were lost.
        skipped: number of photos that could not be processed.
    """

    name: str
    quality: Mapping[str, float]
    coverage: Coverage
    drawn: Drawn
    ap: float
    losses: Losses
    skipped: int


def detector_row(figures: Figures, first: Figures, times: Seconds | None) -> dict[str, Any]:
    """Return the row of a detector.

    Args:
        figures: figures of the detector.
        first: figures of the detector that it is compared with.
        times: (photos, stages) seconds of the stages in STAGE_TIMES; None if nothing was timed.
    """
    sure, over = mean_ap_interval(figures.drawn), difference_interval(first.drawn, figures.drawn)
    names = ("boxes", "recall@0.50", "recall@0.70", "MABO")
    values = {
        **{name: figures.quality[name] for name in names},
        "mAP": sure.value,
        "mAP, standard error": sure.error,
        "AP": figures.ap,
        "mAP over the first": over.value,
        "mAP over the first, low": over.low,
        "mAP over the first, high": over.high,
    }
    timed = {f"seconds, {stage}": value for stage, value in _medians(times).items()}
    lost = {f"lost, {stage}": figures.losses.stages[stage] for stage in STAGES}
    missed = {"skipped": figures.skipped, "missed": len(figures.losses.lost)}
    return {"proposals": figures.name, **{n: or_null(v) for n, v in (values | timed).items()}, **missed, **lost}


def _medians(times: Seconds | None) -> dict[str, float]:
    """Return the median seconds per photo of every stage, and of all together; NaN if nothing was timed."""
    columns = np.zeros((0, len(STAGE_TIMES))) if times is None else times[~np.isnan(times).any(axis=1)]
    if not len(columns):
        columns = np.full((1, len(STAGE_TIMES)), np.nan)
    whole = np.median(columns.sum(axis=1))
    return dict(zip(STAGE_TIMES, np.median(columns, axis=0).tolist(), strict=True)) | {WHOLE: float(whole)}


def detector_sheets(
    rows: Sequence[Mapping[str, Any]], protocol: str, *, photos: int, objects: int, timed: int
) -> list[Sheet]:
    """Return the tables for the terminal, in which each detector is named by a letter.

    Args:
        rows: of the detectors.
        protocol: that gave mAP.
        photos: how many were searched.
        objects: how many objects of them count.
        timed: how many photos were timed.
    """
    lettered = [(_letter(place), row) for place, row in enumerate(rows)]
    boxes = [
        [letter, row["proposals"], _number(row["boxes"], ".0f"), *map(_percent, _of(row, *QUALITY))]
        for letter, row in lettered
    ]
    quality = [
        [
            letter,
            *map(_percent, _of(row, "mAP", "mAP, standard error", "AP")),
            *([signed(row["mAP over the first"] or 0.0), _range(row)] if letter != _letter(0) else ["", ""]),
        ]
        for letter, row in lettered
    ]
    stage_names = (*STAGE_TIMES, WHOLE)
    seconds = [[letter, *(_number(row[f"seconds, {s}"], ".3f") for s in stage_names)] for letter, row in lettered]
    stages = [stage for stage in STAGES if any(row[f"lost, {stage}"] for row in rows)]
    lost = [[stage, STAGES[stage], *(str(row[f"lost, {stage}"]) for row in rows)] for stage in stages]
    sheets = [
        Sheet(
            f"Classified boxes, on {number_of(photos, 'photo')}",
            ["", "proposals", "boxes", "recall 0.5 %", "0.7 %", "MABO %"],
            boxes,
            texts=2,
        ),
        Sheet(
            f"Detections ({protocol}; +-: standard error; difference of mAP to the first, with its 95% interval)",
            ["", "mAP %", "+-", "AP %", "over A", "from, to"],
            quality,
        ),
    ]
    if timed:
        caption = f"Median seconds per photo, on {timed} {'photo' if timed == 1 else 'photos'}"
        sheets.append(Sheet(caption, ["", *stage_names], seconds))
    if stages:
        lost.append(["all", f"of {number_of(objects, 'object')}", *(str(row["missed"]) for row in rows)])
        head = ["stage", "what became of them", *(letter for letter, _ in lettered)]
        sheets.append(Sheet("Where objects were lost", head, lost, texts=2))
    return sheets


def _letter(place: int) -> str:
    return chr(ord("A") + place) if place < 26 else str(place + 1)


def _of(row: Mapping[str, Any], *names: str) -> list[Any]:
    return [row[name] for name in names]


def _percent(value: float | None) -> str:
    return percent(float("nan") if value is None else value)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _range(row: Mapping[str, Any]) -> str:
    low, high = _of(row, "mAP over the first, low", "mAP over the first, high")
    return "-" if low is None or high is None else f"{signed(low)}, {signed(high)}"


def detector_plot(all_figures: Sequence[Figures], rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw mAP against seconds per photo, and recall at 0.5 against the number of boxes."""
    return detector_plots({row["proposals"]: _point(row) for row in rows}, dict(map(_curve, all_figures)))


def _point(row: Mapping[str, Any]) -> tuple[float, float, float]:
    return row[f"seconds, {WHOLE}"] or 0.0, row["mAP"] or 0.0, row["mAP, standard error"] or 0.0


def _curve(figures: Figures) -> tuple[str, tuple[Doubles, Doubles]]:
    most = int(figures.quality["boxes"]) if figures.quality["boxes"] > 0 else 0
    counts = [count for count in COUNTS if count < most]
    values = [recall(figures.coverage.first(count), 0.5)[0] for count in counts]
    last = recall(figures.coverage.overlap, 0.5)[0]
    return figures.name, (np.array([*counts, most], np.float64), np.array([*values, last]))
