"""Detectors that differ in their proposal generator, side by side on the same photos: figures, seconds, lost objects.

Each has a folder of results as `rcnn detect --keep scores` makes it, and goes on there; all figures are read from these
folders. For the times every photo goes through all detectors in turn, as in `detect.bench`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from rich.console import Console

from detect.bench import Seconds, folder_name, in_turn, quality_row
from detect.detector import Detector
from detect.evaluation import NO_BOXES, AnyDataset
from detect.runs.detect import DetectionJob, detect_to_folder
from detect.runs.photos import photos_of
from detect.runs.propose import ProposalJob, build_for_many, propose_to_folder
from detect.runs.record import cores
from eval.bootstrap import Drawn, difference_interval, draw_scores, mean_ap_interval
from eval.checks import upright
from eval.lost import STAGES, Losses
from eval.lost_report import SHORT
from eval.plots import detector_plots
from eval.proposal_recall import COUNTS, Coverage, measure_coverage, recall
from eval.regions import read_regions
from eval.report import Sheet, percent, signed
from eval.results import DETECTIONS_FILE, align, read_lines
from eval.scores import or_null, score
from eval.selection import Selection
from eval.trace import find_lost
from proposals.generators import FILE_PREFIX
from structures.records import Image

if TYPE_CHECKING:
    from classifier.engines import Placement

STAGE_TIMES = ("propose", "classify", "suppress")  # of a detector's `seconds`
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, eq=False)
class Figures:
    """What one detector achieved.

    Attributes:
        name: of its generator.
        quality: of the boxes that were classified: `detect.bench.quality_row`.
        coverage: of these boxes.
        drawn: mAP on the photos and on draws of them.
        ap: by COCO's protocol.
        losses: where the objects were lost that no detection found.
        skipped: photos that could not be worked on.
    """

    name: str
    quality: Mapping[str, float]
    coverage: Coverage
    drawn: Drawn
    ap: float
    losses: Losses
    skipped: int


def boxes_in_folder(
    name: str,
    out: Path,
    dataset: AnyDataset,
    image_ids: Sequence[str],
    console: Console,
    placement: "Placement | None",
) -> str:
    """Return the name of a generator that knows photos by their pixels: a file of another program becomes a folder."""
    path = Path(name.removeprefix(FILE_PREFIX))
    if not name.startswith(FILE_PREFIX) or path.is_dir():
        return name
    folder = out / "boxes" / folder_name(name)
    job = ProposalJob(photos_of(dataset, image_ids), folder, workers=cores())
    propose_to_folder(job, build_for_many(name, placement), console)
    return f"{FILE_PREFIX}{folder}"


def time_stages(detectors: Sequence[Detector], images: Sequence[Image]) -> npt.NDArray[np.float64]:
    """Return the (photos, detectors, stages) seconds of each stage in STAGE_TIMES, without the first photo."""

    def measure(place: int, image: Image) -> list[float]:
        detector = detectors[place]
        before = dict(detector.seconds)
        detector.detect(image, detector.regions(image))
        return [detector.seconds[stage] - before.get(stage, 0.0) for stage in STAGE_TIMES]

    return in_turn(len(detectors), images, measure)


def run_detector(
    detector: Detector,
    settings: Mapping[str, Any],
    dataset: AnyDataset,
    image_ids: Sequence[str],
    out: Path,
    console: Console,
) -> int:
    """Detect on all photos into a folder, or go on there; return how many photos could not be worked on."""
    job = DetectionJob(photos_of(dataset, image_ids), out, keep_regions=True)
    return len(detect_to_folder(job, detector, settings, console, keep="scores").skipped)


def read_figures(name: str, out: Path, photos: Selection, protocol: str, *, crowd: bool, skipped: int) -> Figures:
    """Score the results in a folder.

    Args:
        name: of the generator.
        out: the folder.
        photos: the ground truth.
        protocol: of mAP.
        crowd: ignored objects are COCO crowds.
        skipped: photos that could not be worked on.
    """
    lines, _ = read_lines(out / DETECTIONS_FILE)
    aligned = align(lines, photos, allow_extra=True)
    truths, found = list(photos), [upright(each) for each in aligned.detections]
    kept = read_regions(out).of(photos)
    coverage = measure_coverage((t, kept[t.image_id].boxes if t.image_id in kept else NO_BOXES) for t in truths)
    return Figures(
        name,
        quality_row(coverage, len(photos.classes)),
        coverage,
        draw_scores(protocol, truths, found, photos.classes, crowd=crowd),
        score("coco", truths, found, photos.classes, crowd=crowd).headline[1],
        find_lost(truths, found, photos.classes, kept, kept.rules, missing=aligned.missing),
        skipped,
    )


def figure_rows(all_figures: Sequence[Figures], seconds: npt.NDArray[np.float64] | None) -> list[dict[str, Any]]:
    """Return a row per detector for JSON and CSV: shares from 0 to 1, NaN as None."""
    return [
        _row(each, all_figures[0], None if seconds is None else np.median(seconds[:, place], axis=0))
        for place, each in enumerate(all_figures)
    ]


def _row(figures: Figures, first: Figures, times: Seconds | None) -> dict[str, Any]:
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
    spent = {} if times is None else dict(zip(STAGE_TIMES, times.tolist(), strict=True))
    timed = {f"seconds, {stage}": spent.get(stage, float("nan")) for stage in STAGE_TIMES}
    lost = {f"lost, {stage}": figures.losses.stages[stage] for stage in STAGES}
    missed = {"skipped": figures.skipped, "missed": len(figures.losses.lost)}
    return {"proposals": figures.name, **{n: or_null(v) for n, v in (values | timed).items()}, **missed, **lost}


def detector_sheets(rows: Sequence[Mapping[str, Any]], protocol: str, photos: int, timed: int) -> list[Sheet]:
    """Return the tables for the terminal, a row per detector in each, named by letters from the second on."""
    lettered = list(zip(LETTERS, rows, strict=False))
    boxes = [
        [letter, row["proposals"], _number(row["boxes"], ".0f"), *map(_percent, _of(row, *QUALITY))]
        for letter, row in lettered
    ]
    quality = [
        [
            letter,
            *map(_percent, _of(row, "mAP", "mAP, standard error", "AP")),
            *([signed(row["mAP over the first"] or 0.0), _range(row)] if letter != LETTERS[0] else ["", ""]),
            *(_number(row[f"seconds, {stage}"], ".3f") for stage in ("propose", "classify")),
        ]
        for letter, row in lettered
    ]
    stages = [stage for stage in STAGES if any(row[f"lost, {stage}"] for row in rows)]
    lost = [[letter, str(row["missed"]), *(str(row[f"lost, {stage}"]) for stage in stages)] for letter, row in lettered]
    seconds = f"; median seconds per photo, on {timed} photos" if timed else ""
    sheets = [
        Sheet(
            f"Boxes that were classified, on {photos} photos",
            ["", "proposals", "boxes", "recall 0.5 %", "0.7 %", "MABO %"],
            boxes,
            texts=2,
        ),
        Sheet(
            f"Detections ({protocol}; difference with its 95% interval{seconds})",
            ["", "mAP %", "+-", "AP %", "over A", "from, to", "propose", "classify"],
            quality,
        ),
    ]
    if stages:
        caption = "Where objects were lost: " + "; ".join(f"{SHORT[stage]}: {STAGES[stage]}" for stage in stages)
        sheets.append(Sheet(caption, ["", "missed", *(SHORT[stage] for stage in stages)], lost))
    return sheets


QUALITY = ("recall@0.50", "recall@0.70", "MABO")


def _of(row: Mapping[str, Any], *names: str) -> list[Any]:
    return [row[name] for name in names]


def _percent(value: float | None) -> str:
    return percent(float("nan") if value is None else value)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _range(row: Mapping[str, Any]) -> str:
    low, high = _of(row, "mAP over the first, low", "mAP over the first, high")
    return "-" if low is None or high is None else f"{signed(low)}, {signed(high)}"


def detector_plot(all_figures: Sequence[Figures], rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw mAP against seconds per photo, and recall at 0.5 against the number of boxes."""
    points = {row["proposals"]: _point(row) for row in rows}
    curves = {}
    for each in all_figures:
        most = int(each.quality["boxes"]) if each.quality["boxes"] > 0 else 0
        counts = [count for count in COUNTS if count < most]
        values = [recall(each.coverage.first(count), 0.5)[0] for count in counts]
        last = recall(each.coverage.overlap, 0.5)[0]
        curves[each.name] = (np.array([*counts, most], np.float64), np.array([*values, last]))
    return detector_plots(points, curves)


def _point(row: Mapping[str, Any]) -> tuple[float, float, float]:
    seconds = sum(row[f"seconds, {stage}"] or 0.0 for stage in STAGE_TIMES)
    return seconds, row["mAP"] or 0.0, row["mAP, standard error"] or 0.0
