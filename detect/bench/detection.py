"""Compares detectors with different proposal generators on the same photos: figures, seconds, lost objects.

Each detector has a folder of results like that of `rcnn detect --keep scores`, where a second run resumes; all figures
are computed from these folders. For the times every photo goes through all detectors in turn, as in
`detect.bench.proposals`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from detect.bench.proposals import Seconds, folder_name, in_turn, quality_row, read_photos
from detect.bench.rows import STAGE_TIMES, Figures, detector_plot, detector_row, detector_sheets
from detect.coverage import NO_BOXES
from detect.detector import Detector
from detect.runs.detect import DetectionJob, detect_to_folder
from detect.runs.photos import photos_of
from detect.runs.propose import ProposalJob, build_for_many, propose_to_folder
from detect.runs.record import name_and_digest
from detect.weights import weights_file
from eval.aligned import align
from eval.bootstrap import draw_scores
from eval.checks import upright
from eval.ground_truth import AnyDataset, has_crowds, usual_protocol
from eval.photo_records import truths_of
from eval.proposal_recall import measure_coverage
from eval.regions import read_regions
from eval.report import Sheet
from eval.results import DETECTIONS_FILE, read_lines
from eval.scores import score
from eval.selection import Selection, pick_evenly
from eval.trace import find_lost
from proposals.generators import FILE_PREFIX
from structures.cores import cores
from structures.records import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class BenchJob:
    """What to compare.

    Attributes:
        dataset: the ground truth.
        most: photos to detect on, evenly spread; 0 takes all.
        timed: photos to time, evenly spread; the first is a warm-up; 0 times none.
        out: folder of the results, with a folder for each detector.
        names: names of the generators, each once.
        weights: names or files of the classifier's weights.
        options: more arguments of `Detector.load`.
    """

    dataset: AnyDataset
    most: int
    timed: int
    out: Path
    names: Sequence[str]
    weights: Sequence[str]
    options: Mapping[str, Any]

    @cached_property
    def photos(self) -> Selection:
        """The photos to detect on, with their objects."""
        return Selection(self.dataset, photos=self.most)

    @property
    def crowd(self) -> bool:
        """Whether ignored objects are COCO crowds."""
        return has_crowds(self.dataset)

    @property
    def protocol(self) -> str:
        """Name of the protocol that gives mAP."""
        return "voc07" if usual_protocol(self.dataset) == "voc07" else "voc"

    def folder(self, name: str) -> Path:
        """Return the folder of the results with a generator."""
        return self.out / folder_name(name)


@dataclass(frozen=True, eq=False)
class BenchResult:
    """The figures of all detectors.

    Attributes:
        job: what was compared.
        figures: figures of each detector, in the order of the names.
        seconds: (photos, detectors, stages) for the stages in STAGE_TIMES; None if nothing was timed.
    """

    job: BenchJob
    figures: Sequence[Figures]
    seconds: Seconds | None

    @property
    def timed(self) -> int:
        """Number of photos that were timed."""
        return 0 if self.seconds is None else len(self.seconds)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """One row per detector for JSON and CSV: shares from 0 to 1, None for NaN."""
        times = [None] * len(self.figures) if self.seconds is None else self.seconds.swapaxes(0, 1)
        return [detector_row(each, self.figures[0], spent) for each, spent in zip(self.figures, times, strict=True)]

    def sheets(self) -> list[Sheet]:
        """Return the tables for the terminal."""
        return detector_sheets(self.rows, self.job.protocol, len(self.job.photos), self.timed)

    def plot(self) -> "Figure":
        """Plot mAP against seconds per photo, and recall at IoU 0.5 against the number of boxes."""
        return detector_plot(self.figures, self.rows)


def run_bench(job: BenchJob, console: Console) -> BenchResult:
    """Time all detectors in turn; then detect with each, resuming earlier runs, and score the results.

    Raises:
        InputError: a generator, weights or a folder cannot be used, or there are too few photos to time.
    """
    ids = job.photos.image_ids
    known = [boxes_in_folder(name, job, console) for name in job.names]
    detectors = [Detector.load(job.weights, name, **job.options) for name in known]
    seconds = None
    if job.timed:
        images = list(read_photos(job.dataset, pick_evenly(ids, job.timed), console))
        console.print(f"timing {max(0, len(images) - 1)} photos, after one to warm up")
        seconds = time_stages(detectors, images)
    figures = []
    for name, detector in zip(job.names, detectors, strict=True):
        console.print(name, markup=False, highlight=False, style="bold", soft_wrap=True)
        skipped = run_detector(detector, job, job.folder(name), console)
        figures.append(read_figures(name, job, skipped))
    return BenchResult(job, figures, seconds)


def boxes_in_folder(name: str, job: BenchJob, console: Console) -> str:
    """Return the name of a generator that finds photos by their pixels: a file of another program becomes a store."""
    path = Path(name.removeprefix(FILE_PREFIX))
    if not name.startswith(FILE_PREFIX) or path.is_dir():
        return name
    folder = job.out / "boxes" / folder_name(name)
    photos = photos_of(job.dataset, job.photos.image_ids)
    propose_to_folder(ProposalJob(photos, folder, workers=cores()), build_for_many(name), console)
    return f"{FILE_PREFIX}{folder}"


def time_stages(detectors: Sequence[Detector], images: Sequence[Image]) -> Seconds:
    """Return the (photos, detectors, stages) seconds of each stage in STAGE_TIMES, without the first photo.

    A detector sees a photo of a new shape mirrored first, since engines are compiled for a shape when it first comes,
    and what a network gave for the same pixels is remembered.
    """
    seen = set[tuple[int, tuple[int, ...]]]()

    def measure(place: int, image: Image) -> list[float]:
        detector = detectors[place]
        if (place, image.shape) not in seen:
            mirrored = np.ascontiguousarray(image[:, ::-1])
            detector.detect(mirrored, detector.regions(mirrored))
            seen.add((place, image.shape))
        before = dict(detector.seconds)
        detector.detect(image, detector.regions(image))
        return [detector.seconds[stage] - before.get(stage, 0.0) for stage in STAGE_TIMES]

    return in_turn(len(detectors), images, measure)


def run_detector(detector: Detector, job: BenchJob, out: Path, console: Console) -> int:
    """Detect on all photos into a folder, or resume there; return the number of photos that failed."""
    settings = {**detector.settings(), "weights": [name_and_digest(weights_file(name)) for name in job.weights]}
    photos = photos_of(job.dataset, job.photos.image_ids)
    return len(detect_to_folder(DetectionJob(photos, out, keep_regions=True), detector, settings, console).skipped)


def read_figures(name: str, job: BenchJob, skipped: int) -> Figures:
    """Score the results with a generator; `skipped` photos could not be processed."""
    photos, out = job.photos, job.folder(name)
    aligned = align(read_lines(out / DETECTIONS_FILE)[0], photos, allow_extra=True)
    truths, found = truths_of(photos), upright(aligned.detections)
    kept = read_regions(out).of(photos)
    coverage = measure_coverage((t, kept[t.image_id].boxes if t.image_id in kept else NO_BOXES) for t in truths)
    return Figures(
        name,
        quality_row(coverage, len(photos.classes)),
        coverage,
        draw_scores(job.protocol, truths, found, photos.classes, crowd=job.crowd),
        score("coco", truths, found, photos.classes, crowd=job.crowd).headline[1],
        find_lost(truths, found, photos.classes, kept, kept.rules, missing=aligned.missing),
        skipped,
    )
