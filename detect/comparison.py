"""Reads runs to compare, and keeps the photos that all of them have."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from detect.evaluation import lists_photos, read_detections
from eval.aligned import Aligned, count_images
from eval.compare_report import LETTERS
from eval.ground_truth import AnyDataset
from eval.selection import Selection
from structures.class_lists import read_class_names
from structures.errors import InputError
from structures.records import Detections

Runs = Sequence[Sequence[Detections]]


def open_runs(
    files: Sequence[Path], dataset: AnyDataset, classes: Sequence[str] | None, *, allow_extra: bool
) -> tuple[AnyDataset | Selection, Runs, list[str]]:
    """Return the ground truth and the detections of each run, for the photos that all runs have; and warnings.

    Photos without a line in some run are left out. COCO results do not list photos on which nothing was found, so no
    photo is left out because of them.

    Args:
        files: as `detect.evaluation.read_detections` takes them.
        dataset: the ground truth.
        classes: classes to keep, as `read_class_names` takes them; None keeps all.
        allow_extra: ignore photos that are not in the dataset, instead of stopping.

    Raises:
        InputError: there are no files or more than 26, one does not fit the dataset, or no photo is in all of them.
    """
    if not 1 <= len(files) <= len(LETTERS):
        raise InputError(f"expected at most {len(LETTERS)} runs to compare, got {len(files)}")
    names = None if classes is None else read_class_names(classes, known=dataset.classes)
    read = [read_detections(file, dataset, allow_extra=allow_extra) for file in files]
    pairs = list(zip(files, read, strict=True))
    without = frozenset[str]().union(*(aligned.missing for file, (aligned, _) in pairs if lists_photos(file)))
    part = Selection(dataset, classes=names, without=without) if without or names is not None else dataset
    if not len(part):
        raise InputError("no photo of the ground truth has a line of results in every run")
    runs = [_of_photos(aligned, dataset, part, without) for aligned, _ in read]
    warnings = [line for file, (aligned, notes) in pairs for line in _doubts(file, aligned, notes)]
    return part, runs, [*warnings, *_left_out(without, dataset), *_other_classes(runs, part, files)]


def _of_photos(
    aligned: Aligned, dataset: AnyDataset, part: AnyDataset | Selection, without: frozenset[str]
) -> Sequence[Detections]:
    if not isinstance(part, Selection):
        return aligned.detections
    pairs = zip(dataset.image_ids, aligned.detections, strict=True)
    return [part.relabel(found) for image_id, found in pairs if image_id not in without]


def _doubts(file: Path, aligned: Aligned, notes: Sequence[str]) -> list[str]:
    """Return the warnings about a run, except those about missing photos, which are given for all runs together."""
    lines = [*notes, *replace(aligned, missing=[]).warnings()]
    return [f"{file}: {line}" if str(file) not in line else line for line in lines]


def _left_out(without: frozenset[str], dataset: AnyDataset) -> list[str]:
    names = [image_id for image_id in dataset.image_ids if image_id in without]
    return [f"{count_images(names)} of the ground truth left out, as not every run has a line of results"] * bool(names)


def _other_classes(runs: Runs, part: AnyDataset | Selection, files: Sequence[Path]) -> list[str]:
    """Return a line for each run without a single detection of classes that another run finds."""
    known = [{label for found in run for label in found.labels.tolist()} for run in runs]
    lacking = [sorted(set().union(*known) - own) for own in known]
    return [
        f"{file}: no detection of {', '.join(part.classes[label] for label in labels)}, which other runs find"
        for file, labels in zip(files, lacking, strict=True)
        if labels
    ]
