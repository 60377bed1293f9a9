"""Reads results and matches them with ground truth, for `rcnn eval`; the measures themselves are in eval/."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from detect.consoles import open_console
from detect.option_names import with_options
from eval.aligned import Aligned, align, align_records
from eval.coco import CocoDataset
from eval.coco_results import read_coco_results
from eval.ground_truth import AnyDataset
from eval.region_layout import INDEX_FILE, REGIONS_FILE
from eval.report import Sheet
from eval.result_formats import COCO, photos_of_dataset, read_results, require_known
from eval.results import DETECTIONS_FILE
from eval.selection import Selection
from structures.class_lists import read_class_names
from structures.errors import InputError
from structures.records import Detections
from structures.text import number_of, printable

PARTS = (  # files and folders that may be read in a folder
    *("Annotations", "ImageSets", "JPEGImages", "annotations", "images", "labels", "train", "val", "valid", "test"),
    *(DETECTIONS_FILE, INDEX_FILE, REGIONS_FILE),
)
PATTERNS = ("shard-*.npz", "*.xml", "*.txt", "*.y*ml", "*.data", "*.names", "*instances*.json", "*coco*.json")


def files_read(path: Path) -> list[Path]:
    """Return the files that may be read in a folder of ground truth, results or proposals; or the file itself."""
    if not path.is_dir():
        return [path]
    from proposals.stored.reader import MANIFEST  # here, because files do not need it

    return [
        *(path / name for name in (*PARTS, MANIFEST)),
        *(file for pattern in PATTERNS for file in path.glob(pattern)),
    ]


def photos_named_as(outputs: Iterable[Path | None], dataset: AnyDataset) -> list[Path]:
    """Return the photos of a dataset with the names of files to write, links followed: they may be the same files."""
    names = {Path(os.path.realpath(path)).name for path in outputs if path is not None}
    paths = map(dataset.image_path, dataset.image_ids) if names else ()
    return [path for path in paths if path.name in names]


def sources(file: Path, ground_truth: Path, dataset: AnyDataset) -> dict[str, str]:
    """Return the names of results and ground truth, for reports."""
    return {"file": str(file), **truth_source(ground_truth, dataset)}


def truth_source(path: Path, dataset: AnyDataset) -> dict[str, str]:
    """Return the name of the ground truth, and of its split if it has one, for reports."""
    split = "" if isinstance(dataset, CocoDataset) else dataset.split
    return {"ground_truth": str(path), "split": split} if split else {"ground_truth": str(path)}


def read_detections(
    file: Path, dataset: AnyDataset, *, allow_extra: bool, only_detected: bool = False
) -> tuple[Aligned, list[str]]:
    """Read results in any format of `eval.result_formats`, in the order of the dataset; also return notes.

    Raises:
        InputError: the file does not fit the dataset, or does not list the photos that `only_detected` needs.
    """
    if lists_photos(file):
        results = read_results(file, photos_of_dataset(dataset))
        return align(results.lines, dataset, allow_extra=allow_extra), results.notes()
    if not isinstance(dataset, CocoDataset):
        raise InputError(f"{file}: COCO results need COCO ground truth, an instances.json, as `ground_truth`")
    if only_detected:
        raise InputError(f"{file}: `only_detected` needs detections.jsonl: COCO results omit photos without detections")
    found, extra, notes = read_coco_results(file, dataset, allow_extra=allow_extra)
    return align_records(found, dataset, extra), notes


def results_in_words(file: Path, dataset: AnyDataset, *, allow_extra: bool) -> tuple[str, list[str]]:
    """Return a line that says what results hold, and what looks wrong with them.

    Raises:
        InputError: the file does not fit the dataset.
    """
    aligned, notes = read_detections(file, dataset, allow_extra=allow_extra)
    labels = np.concatenate([found.labels for found in aligned.detections])
    counts = f"{number_of(len(labels), 'detection')} of {number_of(len(np.unique(labels)), 'class')}"
    photos = f"{len(dataset) - len(aligned.missing)} of {number_of(len(dataset), 'photo')}"
    return f"results: {counts} on {photos}, in {file}", [*notes, *aligned.warnings()]


def lists_photos(file: Path) -> bool:
    """Return whether results also list photos on which nothing was found; COCO's do not.

    Raises:
        InputError: the format is not known.
    """
    return require_known(file) != COCO


def choose(
    dataset: AnyDataset, aligned: Aligned, classes: Sequence[str] | None, *, only_detected: bool = False
) -> tuple[AnyDataset | Selection, Sequence[Detections]]:
    """Return the ground truth and the detections to score.

    Args:
        dataset: the ground truth.
        aligned: detections in the order of the dataset.
        classes: classes to score, as `read_class_names` takes them; None takes all.
        only_detected: leave out photos without a line of results.

    Raises:
        InputError: a class is not in the ground truth, or no photo is left.
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


def show(sheets: Sequence[Sheet], warnings: Sequence[str]) -> None:
    """Print tables to stdout and warnings to stderr; in a pipe each row is one line, however long."""
    console = open_console()
    for sheet in sheets:
        if sheet.rows:
            console.print(sheet.for_terminal())
    warn(warnings)


def warn(warnings: Sequence[str]) -> None:
    """Print warnings to stderr."""
    errors = open_console(stderr=True)
    for line in warnings:
        errors.print(f"warning: {printable(with_options(line))}", markup=False, highlight=False, soft_wrap=True)
