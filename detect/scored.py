"""Scores the results of one run: from files to figures and mistakes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from detect.evaluation import choose, read_detections
from detect.runs.record import high_floor
from eval.aligned import Aligned, align_records
from eval.checks import upright
from eval.ground_truth import AnyDataset, has_crowds, usual_protocol
from eval.lost import Losses
from eval.mistakes import JudgedRun, Mistakes, find_mistakes, judge
from eval.photo_records import truths_of
from eval.regions import KeptRegions, read_regions
from eval.results import DETECTIONS_FILE
from eval.scores import Scores, score
from eval.selection import Selection
from eval.trace import find_lost
from structures.errors import InputError
from structures.records import Detections


@dataclass(frozen=True)
class ScoringOptions:
    """How to score results.

    Attributes:
        protocol: name of a protocol, or auto: voc07 for VOC, else coco.
        classes: classes to score, as `read_class_names` takes them; None takes all.
        only_detected: leave out photos without a line of results.
        allow_extra: ignore photos that are not in the ground truth, instead of stopping.
        lost_score: an object counts as lost unless a detection with at least this score finds it; None takes any score.
    """

    protocol: str = "auto"
    classes: Sequence[str] | None = None
    only_detected: bool = False
    allow_extra: bool = False
    lost_score: float | None = None


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """The results of a run with their figures.

    Attributes:
        file: the results, or their folder.
        photos: the ground truth that they were scored on.
        scores: the figures of the protocol.
        aligned: the detections as matched with the photos, with those that did not fit.
        warnings: about the results and the ground truth, one line each.
        detections: the scored detections, in the order of the photos.
        regions: regions that the run kept, by image id.
        lost_score: see `ScoringOptions`.
    """

    file: Path
    photos: AnyDataset | Selection
    scores: Scores
    aligned: Aligned
    warnings: list[str]
    detections: Sequence[Detections]
    regions: KeptRegions
    lost_score: float | None = None

    @property
    def can_keep_scores(self) -> bool:
        """Whether the results are in the format of `rcnn detect`, which can keep the scores of all regions."""
        return (_folder(self.file) / DETECTIONS_FILE).is_file()

    @cached_property
    def judged(self) -> JudgedRun:
        """Every detection matched with the objects, at IoU 0.5."""
        return judge(truths_of(self.photos), self.detections, self.photos.classes)

    @cached_property
    def mistakes(self) -> Mistakes:
        """The kinds of mistakes in the detections."""
        return find_mistakes(self.judged)

    @cached_property
    def losses(self) -> Losses:
        """Where missed objects were lost."""
        return find_lost(
            truths_of(self.photos),
            self.detections,
            self.photos.classes,
            self.regions,
            self.regions.rules,
            missing=self.aligned.missing,
            score=self.lost_score,
        )


def score_run(file: Path, dataset: AnyDataset, options: ScoringOptions) -> ScoredRun:
    """Read results and score them.

    Raises:
        InputError: the results do not fit the ground truth, or an option fits neither.
    """
    only = options.only_detected
    aligned, notes = read_detections(file, dataset, allow_extra=options.allow_extra, only_detected=only)
    photos, found = choose(dataset, aligned, options.classes, only_detected=only)
    warnings = [*notes, *high_floor(file), *aligned.warnings(missing_count=not only)]
    return _scored(file, photos, aligned, found, _regions_of(file), warnings, options)


def score_found(
    found: Mapping[str, Detections], photos: AnyDataset | Selection, *, file: Path, notes: Sequence[str] = ()
) -> ScoredRun:
    """Score new detections by the usual protocol of the photos.

    Args:
        found: detections by image id, with the labels of the photos.
        photos: annotated photos.
        file: name to show for the results.
        notes: notes about the results, one line each.
    """
    aligned = align_records(found, photos)
    kept = KeptRegions(file.parent, {}, None)
    return _scored(file, photos, aligned, aligned.detections, kept, notes, ScoringOptions())


def _scored(
    file: Path,
    photos: AnyDataset | Selection,
    aligned: Aligned,
    found: Sequence[Detections],
    kept: KeptRegions,
    noted: Sequence[str],
    options: ScoringOptions,
) -> ScoredRun:
    truths = truths_of(photos)
    name = usual_protocol(photos) if options.protocol == "auto" else options.protocol
    scores = score(name, truths, found, photos.classes, crowd=has_crowds(photos))
    warnings = [*photos.notes, *noted, *scores.warnings(), *kept.notes]
    regions = kept.of(photos)
    return ScoredRun(file, photos, scores, aligned, warnings, upright(found), regions, options.lost_score)


def require_same_photos(runs: Sequence[ScoredRun]) -> None:
    """Refuse two runs that were not scored on the same photos.

    Raises:
        InputError: the photos differ.
    """
    first, last = runs[0], runs[-1]
    if tuple(first.photos.image_ids) != tuple(last.photos.image_ids):
        raise InputError(
            f"{last.file}: not the same photos as {first.file}: leave out `only_detected` to score both on all photos"
        )


def _regions_of(file: Path) -> KeptRegions:
    """Return the regions that were kept with results; none for results of other programs."""
    return read_regions(_folder(file))


def _folder(file: Path) -> Path:
    """Return the folder of results that are named by it, or by the file in it."""
    return file.parent if file.name == DETECTIONS_FILE else file
