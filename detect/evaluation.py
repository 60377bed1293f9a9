"""Brings files and ground truth together for `rcnn eval`; the measures themselves are in eval/."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from detect.options import with_options
from eval.coco import CocoDataset, read_coco_results
from eval.names import match_names
from eval.proposal_recall import Coverage, measure_coverage
from eval.region_layout import INDEX_FILE, REGIONS_FILE
from eval.report import Sheet
from eval.results import DETECTIONS_FILE, Aligned, ResultLines, align, align_records, count_images
from eval.selection import Selection
from eval.voc import VocDataset
from proposals.stored.generator import NamedBoxes, open_boxes
from proposals.stored.lost_boxes import LostBoxes
from proposals.stored.reader import MANIFEST
from structures.boxes import Boxes
from structures.class_lists import read_class_names
from structures.errors import InputError
from structures.records import Detections, GroundTruth
from structures.text import printable

AnyDataset = VocDataset | CocoDataset
NO_BOXES: Boxes = np.zeros((0, 4), np.float32)
SUSPICIOUS = 0.5  # share of objects that have a box exactly equal to them


def open_ground_truth(path: Path, split: str, images: Path | None = None) -> AnyDataset:
    """Open COCO's instances.json, with the folder of its photos if they are needed, or one split of a VOC folder.

    Raises:
        InputError: it is neither.
    """
    is_json = path.is_file() or path.suffix.lower() == ".json"
    return CocoDataset(path, images) if is_json else VocDataset(path, split)


def files_read(path: Path) -> list[Path]:
    """Return what may be read where a folder is named: that of VOC, of results, or of proposals; a file is itself."""
    if not path.is_dir():
        return [path]
    names = ("Annotations", "ImageSets", "JPEGImages", DETECTIONS_FILE, INDEX_FILE, REGIONS_FILE, MANIFEST)
    return [*(path / name for name in names), *path.glob("shard-*.npz")]


def photos_named_as(outputs: Iterable[Path | None], dataset: AnyDataset) -> list[Path]:
    """Return the photos of a dataset that have the names of files to write, links followed, and may be these."""
    names = {Path(os.path.realpath(path)).name for path in outputs if path is not None}
    paths = map(dataset.image_path, dataset.image_ids) if names else ()
    return [path for path in paths if path.name in names]


def sources(file: Path, ground_truth: Path, split: str, dataset: AnyDataset) -> dict[str, str]:
    """Return what was held against what, for reports."""
    where = {"file": str(file), "ground_truth": str(ground_truth)}
    return where if isinstance(dataset, CocoDataset) else {**where, "split": split}


def read_detections(
    file: Path, dataset: AnyDataset, *, allow_extra: bool, only_detected: bool = False
) -> tuple[Aligned, list[str]]:
    """Read detections.jsonl, or its folder, or COCO results, in the order of the dataset; with notes.

    Raises:
        InputError: the file does not fit the dataset, or does not say which photos were searched but is asked.
    """
    if lists_photos(file):
        lines = ResultLines(file / DETECTIONS_FILE if file.is_dir() else file)
        aligned = align(lines, dataset, allow_extra=allow_extra)
        return aligned, lines.notes
    if not isinstance(dataset, CocoDataset):
        raise InputError(f"{file}: COCO results need COCO ground truth, an instances.json, as `ground_truth`")
    if only_detected:
        raise InputError(f"{file}: `only_detected` needs detections.jsonl; COCO results do not list photos of nothing")
    found, extra, notes = read_coco_results(file, dataset, allow_extra=allow_extra)
    return align_records(found, dataset, extra), notes


def lists_photos(file: Path) -> bool:
    """Say whether results name the photos on which nothing was found, too; COCO's do not."""
    return file.suffix.lower() != ".json"


def choose(
    dataset: AnyDataset, aligned: Aligned, classes: Sequence[str] | None, *, only_detected: bool = False
) -> tuple[AnyDataset | Selection, Sequence[Detections]]:
    """Return ground truth and detections of what is to be scored.

    Args:
        dataset: the ground truth.
        aligned: detections in its order.
        classes: those that are listed, as `read_class_names` has it; None takes all.
        only_detected: leave out the photos that have no line of results.

    Raises:
        InputError: the ground truth has no such class, or no photo is left.
    """
    names = None if classes is None else read_class_names(classes, known=dataset.classes)
    without = frozenset(aligned.missing if only_detected else ())
    if names is None and not without:
        return dataset, aligned.detections
    part = Selection(dataset, classes=names, without=without)
    if not len(part):
        raise InputError("no photo of the ground truth has a line of results, so `only_detected` leaves none")
    kept = zip(dataset.image_ids, aligned.detections, strict=True)
    return part, [part.relabel(each) for image_id, each in kept if image_id not in without]


def measure_proposals(file: Path, dataset: AnyDataset) -> tuple[Coverage, Mapping[str, Any], list[str]]:
    """Hold stored boxes against the objects, one photo at a time.

    Returns:
        The coverage, how the boxes were made as far as the file tells, and warnings.

    Raises:
        InputError: the file cannot be used, or has no photo of the dataset.
    """
    boxes = open_boxes(file)
    try:
        names, extra = match_names(boxes.image_ids, dataset)
    except ValueError as error:
        raise InputError(f"{file}: {error}") from None
    missing = [image_id for image_id in dataset.image_ids if image_id not in names]
    lost = LostBoxes()
    coverage = measure_coverage(_pairs(boxes, names, missing, dataset, lost))
    doubts = [
        (
            missing,
            f"{count_images(missing)} of the ground truth without boxes in the file: their objects count as missed",
        ),
        (extra, f"{count_images(extra)} unknown to the ground truth left out"),
        (lost.line(), lost.line()),
        (_leaks(coverage), "most objects have a box exactly equal to them: is the ground truth among the proposals?"),
    ]
    made: Mapping[str, Any] = getattr(boxes, "manifest", {})
    return coverage, made, [line for doubt, line in doubts if doubt]


def _pairs(
    boxes: NamedBoxes, names: Mapping[str, str], missing: Sequence[str], dataset: AnyDataset, lost: LostBoxes
) -> Iterator[tuple[GroundTruth, Boxes]]:
    for image_id, name in names.items():  # in the order of the file, which reads each shard once
        truth, found = dataset.ground_truth(image_id), boxes.boxes_of(name)[0]
        if truth.size_known:
            lost.look(image_id, found, truth.image_size)
        yield truth, found
    for image_id in missing:
        yield dataset.ground_truth(image_id), NO_BOXES


def _leaks(coverage: Coverage) -> bool:
    return len(coverage.overlap) > 0 and float((coverage.overlap == 1).mean()) > SUSPICIOUS


def show(sheets: Sequence[Sheet], warnings: Sequence[str]) -> None:
    """Print tables to stdout and warnings to stderr."""
    console, errors = Console(), Console(stderr=True)
    for sheet in sheets:
        if sheet.rows:
            console.print(sheet.for_terminal())
    for line in warnings:
        errors.print(f"warning: {printable(with_options(line))}", markup=False, highlight=False, soft_wrap=True)
