"""Compares proposal generators in one run: seconds per photo, boxes, recall, MABO.

For the times, every photo goes through all generators in turn, so that other load on the machine slows all of them
alike; the first photo is only a warm-up. Recall is measured on more photos, with all cores, on stored boxes.
"""

import math
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from detect.bench.timing import Measure, Seconds, in_turn, percentiles
from detect.coverage import NO_BOXES
from detect.generators import load_proposals
from detect.runs.cores import one_core_per_photo
from detect.runs.machine import made_by, processor
from detect.runs.photos import photos_of
from detect.runs.propose import ProposalJob, build_for_many, propose_to_folder
from eval.ground_truth import AnyDataset
from eval.plots import recall_plots
from eval.proposal_recall import COUNTS, THRESHOLDS, Coverage, class_mabo, measure_coverage, recall
from eval.report import Sheet, percent
from eval.scores import or_null
from proposals.generators import RANKED_PREFIX
from proposals.protocol import ProposalGenerator
from proposals.stored.reader import ProposalStore
from structures.cores import cores
from structures.records import Image
from structures.text import number_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from classifier.placement import Placement

DEFAULT_GENERATORS = ("opencv-selective-search", "selective-search")
SHOWN_COUNTS = (10, 50, 100, 200, 500, 1000, 2000, 10000)  # of COUNTS


@dataclass(frozen=True)
class Contestant:
    """A generator and its number of threads.

    Attributes:
        name: name of the generator.
        threads: threads that it may use for one photo.
        propose: the generator.
    """

    name: str
    threads: int
    propose: ProposalGenerator


def contestants(names: Sequence[str], placement: "Placement | None" = None) -> list[Contestant]:
    """Build every generator: our Selective Search with one thread and again with all cores, the others once.

    OpenCV's generators always use one core; learned ones and unions use all.
    """
    found = []
    for name in names:
        if name.startswith("selective-search") and "+" not in name:
            counts = sorted({1, cores()})
            found += [Contestant(name, n, load_proposals(name, placement, threads=n)) for n in counts]
        else:
            shares = "multibox" in name or "+" in name or name.startswith(RANKED_PREFIX)
            found.append(Contestant(name, cores() if shares else 1, load_proposals(name, placement)))
    return found


def time_in_turn(
    entries: Sequence[Contestant],
    images: Iterable[Image],
    clock: Callable[[], float] = time.perf_counter,
    tolerant: Callable[[Measure], Measure] = lambda each: each,
) -> Seconds:
    """Return the (photos, contestants) seconds, without the first photo; each photo starts with another contestant.

    Args:
        entries: the generators.
        images: the photos, at least two.
        clock: returns seconds.
        tolerant: makes a measurement that may fail one that does not.

    Raises:
        InputError: fewer than two photos.
    """

    def measure(place: int, image: Image) -> float:
        begin = clock()
        entries[place].propose(image)
        return clock() - begin

    with one_core_per_photo():
        return in_turn(len(entries), images, tolerant(measure))


def folder_name(generator: str) -> str:
    """Return the folder name for the output of a generator.

    >>> folder_name("ranked:selective-search+multibox")
    'ranked-selective-search+multibox'
    """
    return generator.replace(":", "-").replace("/", "-")


def cover(
    name: str, dataset: AnyDataset, image_ids: Sequence[str], out: Path, console: Console, placement: "Placement | None"
) -> tuple[Coverage, int]:
    """Store the boxes of one generator in a folder; return how well they cover the objects, and how many photos failed.

    A photo that cannot be processed counts as one without boxes, and is named on the console.
    """
    summary = propose_to_folder(
        ProposalJob(photos_of(dataset, image_ids), out, workers=cores()), build_for_many(name, placement), console
    )
    store = ProposalStore(out)  # may hold earlier boxes of a photo that is damaged now
    coverage = measure_coverage(
        (dataset.ground_truth(i), NO_BOXES if i in summary.skipped else store.boxes_of(i)[0]) for i in image_ids
    )
    return coverage, len(summary.skipped)


def time_rows(entries: Sequence[Contestant], seconds: Seconds) -> dict[tuple[str, int], dict[str, float]]:
    """Return for each contestant the median, the quartiles, and the median speed relative to the first one."""
    figures = {}
    for entry, own in zip(entries, seconds.T, strict=True):
        low, median, high = percentiles(own, 25, 50, 75)
        (ratio,) = percentiles(seconds[:, 0] / own, 50)
        figures[entry.name, entry.threads] = {
            "seconds": median,
            "seconds, lower quartile": low,
            "seconds, upper quartile": high,
            "times as fast as the first": ratio,
        }
    return figures


def quality_row(coverage: Coverage, classes: int) -> dict[str, float]:
    """Return boxes per image, recall at 0.5 and 0.7, MABO, and recall at 0.5 of the best boxes; NaN without objects."""
    at_half, at_seven = recall(coverage.overlap, (0.5, 0.7))
    boxes = float(coverage.boxes.mean()) if len(coverage.boxes) else float("nan")
    mabo = float(np.nanmean(class_mabo(coverage, classes))) if len(coverage.labels) else float("nan")
    row = {"boxes": boxes, "recall@0.50": float(at_half), "recall@0.70": float(at_seven), "MABO": mabo}
    return row | {f"recall@0.50 of {n} boxes": float(recall(coverage.first(n), 0.5)[0]) for n in SHOWN_COUNTS}


def bench_sheets(
    times: dict[tuple[str, int], dict[str, float]], quality: dict[str, dict[str, float]], timed: int, measured: int
) -> list[Sheet]:
    """Return the tables: speed, coverage, and recall by number of boxes."""
    speed = []
    for (name, threads), figure in times.items():
        low, high = (figure[f"seconds, {which} quartile"] for which in ("lower", "upper"))
        ratio = f"{figure['times as fast as the first']:.1f}"
        shown = ["-"] * 3 if math.isnan(low) else [f"{figure['seconds']:.3f}", f"{low:.3f}-{high:.3f}", ratio]
        speed.append([name, str(threads), *shown])
    cover_rows = [
        [name, f"{q['boxes']:.0f}", *(percent(q[key]) for key in ("recall@0.50", "recall@0.70", "MABO"))]
        for name, q in quality.items()
    ]
    by_count = [[name, *(percent(q[f"recall@0.50 of {n} boxes"]) for n in SHOWN_COUNTS)] for name, q in quality.items()]
    return [
        Sheet(
            f"Seconds per photo, on {number_of(timed, 'photo')}: median, middle half, times as fast as the first",
            ["generator", "threads", "s", "middle half", "x"],
            speed,
        ),
        Sheet(
            f"All boxes, on {number_of(measured, 'photo')}",
            ["generator", "boxes", "recall at 0.5 %", "at 0.7 %", "MABO %"],
            cover_rows,
        ),
        Sheet("Recall at IoU 0.5 of the best boxes per photo, %", ["best", *map(str, SHOWN_COUNTS)], by_count),
    ]


def bench_json(
    times: Mapping[tuple[str, int], Mapping[str, float]], quality: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Return speed and quality as JSON values, None for NaN."""
    speed = [
        {"generator": name, "threads": threads, **{what: or_null(value) for what, value in row.items()}}
        for (name, threads), row in times.items()
    ]
    figures = {name: {what: or_null(value) for what, value in row.items()} for name, row in quality.items()}
    return {"speed": speed, "quality": figures}


def bench_plot(coverages: dict[str, Coverage]) -> "Figure":
    """Plot recall against IoU with all boxes, and recall at 0.5 against the number of boxes; one line per generator."""
    by_threshold = {name: recall(coverage.overlap, THRESHOLDS) for name, coverage in coverages.items()}
    by_count = {
        name: np.array([recall(coverage.first(n), 0.5)[0] for n in COUNTS]) for name, coverage in coverages.items()
    }
    return recall_plots(THRESHOLDS, by_threshold, np.array(COUNTS, np.float64), by_count)


def circumstances() -> dict[str, Any]:
    """Return what speed depends on: command, commit, versions, machine."""
    machine = {"system": platform.platform(), "processor": processor(), "cores": cores()}
    return {**made_by(), "machine": machine}
