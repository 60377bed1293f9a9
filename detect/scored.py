"""One run's results, scored: from files to figures and mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from detect.evaluation import AnyDataset, choose, read_detections
from detect.runs.record import high_floor
from eval.coco import CocoDataset
from eval.mistakes import Judged, Mistakes, find_mistakes, judge
from eval.results import Aligned
from eval.scores import Scores, score
from eval.selection import Selection


@dataclass(frozen=True)
class Question:
    """What results are asked.

    Attributes:
        protocol: name of a protocol, or auto: voc07 for VOC and coco for COCO.
        classes: those that are scored, as `read_class_names` has it; None takes all.
        only_detected: leave out the photos that have no line of results.
        allow_extra: leave out photos that the ground truth lacks, instead of stopping.
    """

    protocol: str = "auto"
    classes: Sequence[str] | None = None
    only_detected: bool = False
    allow_extra: bool = False


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """Results with their figures.

    Attributes:
        file: the results, or their folder.
        photos: the ground truth that they were scored by.
        scores: the figures of the protocol.
        judged: every detection held against the objects, at IoU 0.5.
        aligned: what did not fit the ground truth.
        warnings: about the results and the ground truth, a line each.
    """

    file: Path
    photos: AnyDataset | Selection
    scores: Scores
    judged: Judged
    aligned: Aligned
    warnings: list[str]

    @cached_property
    def mistakes(self) -> Mistakes:
        """What is wrong with the detections."""
        return find_mistakes(self.judged)


def score_run(file: Path, dataset: AnyDataset, question: Question) -> ScoredRun:
    """Read results and score them.

    Raises:
        InputError: they do not fit the ground truth, or the ground truth does not fit what is asked.
    """
    only, crowd = question.only_detected, isinstance(dataset, CocoDataset)
    aligned, notes = read_detections(file, dataset, allow_extra=question.allow_extra, only_detected=only)
    photos, found = choose(dataset, aligned, question.classes, only_detected=only)
    truths, usual = list(photos), "coco" if crowd else "voc07"
    name = usual if question.protocol == "auto" else question.protocol
    scores = score(name, truths, found, photos.classes, crowd=crowd)
    doubts = aligned.warnings(missing_count=not only)
    warnings = [*dataset.notes, *notes, *high_floor(file), *doubts, *scores.warnings()]
    return ScoredRun(file, photos, scores, judge(truths, found, photos.classes), aligned, warnings)
