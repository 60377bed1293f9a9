"""Compares detectors with different proposal generators on the same photos: figures, seconds, lost objects.

Each detector has a folder of results like that of `rcnn detect --keep scores`, where a second run resumes; all figures
are computed from these folders. For the times every photo goes through all detectors in turn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from detect.bench.proposals import folder_name, quality_row
from detect.bench.rows import Figures, detector_plot, detector_row, detector_sheets
from detect.bench.timing import STAGE_TIMES, Seconds, or_nan, read_photos, reason_of, require_two, time_stages
from detect.coverage import NO_BOXES
from detect.detector import Detector
from detect.flow import is_of_the_gpu
from detect.runs.detect import DetectionJob, detect_to_folder
from detect.runs.photos import photos_of
from detect.runs.propose import ProposalJob, build_for_many, propose_to_folder
from detect.runs.record import name_and_digest
from detect.runs.results import SKIPPED_FILE
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
from proposals.generators import FILE_PREFIX, RANKED_PREFIX, parts_of
from structures.cores import cores
from structures.errors import InputError
from structures.files import FileRefused
from structures.names import ClassNames
from structures.text import number_of

NAMED = 5  # most classes that an error names

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
        figures: figures of each detector that could be run, in the order of the names.
        seconds: (photos, detectors, stages) of these for the stages in STAGE_TIMES, NaN where a detector failed on a
            photo; None if nothing was timed.
        failed: why the others could not be run, by the name of the generator.
    """

    job: BenchJob
    figures: Sequence[Figures]
    seconds: Seconds | None
    failed: Mapping[str, str]

    @property
    def timed(self) -> int:
        """Number of photos that were timed."""
        return 0 if self.seconds is None else len(self.seconds)

    @property
    def failures(self) -> list[str]:
        """Which detectors could not be run, and which not on all photos; one line each."""
        some = [each for each in self.figures if each.skipped]
        lines = [
            f"{each.name}: {each.skipped} of {number_of(len(self.job.photos), 'photo')} could not be processed, so "
            f"their objects count as missed; see {self.job.folder(each.name) / SKIPPED_FILE}"
            for each in some
        ]
        return [*(f"{name}: left out, as it failed: {reason}" for name, reason in self.failed.items()), *lines]

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """One row per detector for JSON and CSV: shares from 0 to 1, None for NaN."""
        times = [None] * len(self.figures) if self.seconds is None else self.seconds.swapaxes(0, 1)
        return [detector_row(each, self.figures[0], spent) for each, spent in zip(self.figures, times, strict=True)]

    def sheets(self) -> list[Sheet]:
        """Return the tables for the terminal."""
        objects = int(self.figures[0].losses.objects.sum())
        return detector_sheets(
            self.rows, self.job.protocol, photos=len(self.job.photos), objects=objects, timed=self.timed
        )

    def plot(self) -> "Figure":
        """Plot mAP against seconds per photo, and recall at IoU 0.5 against the number of boxes."""
        return detector_plot(self.figures, self.rows)


def run_bench(job: BenchJob, console: Console) -> BenchResult:
    """Time all detectors in turn; then detect with each, resuming earlier runs, and score the results.

    A detector that fails on photo after photo is left out; the others go on.

    Raises:
        InputError: a generator, weights or a folder cannot be used, the weights know none of the classes, there are too
            few photos to time, or all detectors fail.
    """
    ids = job.photos.image_ids
    known = [with_stores(name, job, console) for name in job.names]
    detectors = [Detector.load(job.weights, name, **job.options) for name in known]
    require_known_classes(detectors[0].classes, job.dataset)
    seconds = None
    if job.timed:
        images = list(read_photos(job.dataset, pick_evenly(ids, job.timed), console))
        require_two(len(images))
        console.print(f"timing {number_of(len(images) - 1, 'photo')}, after one to warm up")
        seconds = time_stages(detectors, images, or_nan(job.names, console, len(STAGE_TIMES)))
    figures, failed = [], dict[str, str]()
    for name, detector in zip(job.names, detectors, strict=True):
        console.print(name, markup=False, highlight=False, style="bold", soft_wrap=True)
        try:
            skipped = run_detector(detector, job, job.folder(name), console)
        except (FileRefused, OSError):
            raise
        except Exception as error:  # of a generator, perhaps of another package: the others must not suffer
            if is_of_the_gpu(error):
                raise
            failed[name] = reason_of(error)
            continue
        figures.append(read_figures(name, job, skipped))
    if not figures:
        raise InputError("; ".join(f"{name} failed: {reason}" for name, reason in failed.items()))
    places = [place for place, name in enumerate(job.names) if name not in failed]
    return BenchResult(job, figures, None if seconds is None else seconds[:, places], failed)


def require_known_classes(learned: Sequence[str], dataset: AnyDataset) -> None:
    """Refuse weights that know none of the classes, before anything is measured.

    Raises:
        InputError: they know none; names some of both.
    """
    known = ClassNames(learned)
    if all(known.find(name) < 0 for name in dataset.classes):
        seen, asked = map(_some, (learned, dataset.classes))
        raise InputError(f"the `weights` know {seen}, but no class of the ground truth: {asked}")


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:NAMED], *(["..."] if len(names) > NAMED else [])])


def with_stores(name: str, job: BenchJob, console: Console) -> str:
    """Return the name of a generator that finds photos by their pixels: files of other programs become stores."""
    ranked = RANKED_PREFIX if name.startswith(RANKED_PREFIX) else ""
    parts = parts_of(name.removeprefix(ranked))
    return ranked + "+".join(_with_store(part, job, console) for part in parts)


def _with_store(name: str, job: BenchJob, console: Console) -> str:
    path = Path(name.removeprefix(FILE_PREFIX))
    if not name.startswith(FILE_PREFIX) or path.is_dir():
        return name
    folder = job.out / "boxes" / folder_name(name)
    console.print(f"boxes of {path}", markup=False, highlight=False, style="bold", soft_wrap=True)
    photos = photos_of(job.dataset, job.photos.image_ids)
    propose_to_folder(ProposalJob(photos, folder, workers=cores()), build_for_many(name), console)
    return f"{FILE_PREFIX}{folder}"


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
