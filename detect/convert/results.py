"""Converts results of any format to detections.jsonl, and from there to the requested format."""

import json
from pathlib import Path

import numpy as np

from detect.convert.job import Conversion, Converted
from detect.found import as_entry
from detect.runs.exports import COCO_IMAGES_FILE, export, require_nameable
from detect.runs.record import read_run
from eval.coco import CocoDataset
from eval.coco_results import read_coco_results
from eval.ground_truth import AnyDataset, open_ground_truth
from eval.notes import Notes
from eval.result_formats import (
    COCO,
    CSV,
    JSONL,
    VOC,
    YOLO,
    Results,
    photos_of_dataset,
    photos_of_folder,
    read_results,
    result_format,
)
from eval.results import DETECTIONS_FILE, ResultLine
from structures.boxes import as_boxes
from structures.class_lists import read_class_names
from structures.errors import InputError
from structures.own_files import OwnFiles
from structures.records import Detections


def convert_results(job: Conversion, files: OwnFiles) -> Converted:
    """Write results as JSON lines, and in the requested format.

    Raises:
        InputError: they already have this format, or cannot be used.
    """
    truth = None if job.ground_truth is None else open_ground_truth(job.ground_truth, None, job.images)
    if result_format(job.source) == job.form:
        raise InputError(f"{job.source}: already has the format {job.form}")
    results, seen = _read(job, truth), _Seen(job.form)
    with files.writing(DETECTIONS_FILE) as path, path.open("w", encoding="utf-8") as file:
        for line in results.lines:
            seen.add(line)
            file.write(json.dumps(as_entry(line.image, line.found, line.names)) + "\n")
        classes = _class_order(job, results.classes, tuple(seen.names), truth)
    numbering = truth.annotations if job.form == COCO and isinstance(truth, CocoDataset) else None
    export(files, job.form, classes, split=next(iter(job.splits), "test"), numbering=numbering)
    return Converted("results", seen.photos, seen.objects, classes, results.notes(), seen.losses.lines())


class _Seen:
    """What a conversion notes about the lines of results.

    Args:
        form: the requested format.
    """

    def __init__(self, form: str) -> None:
        self._form, self.losses, self.names = form, Notes(), dict[str, None]()
        self.photos = self.objects = 0

    def add(self, line: ResultLine) -> None:
        require_nameable(self._form, line.image)
        self.photos, self.objects = self.photos + 1, self.objects + len(line.found)
        self.names.update(dict.fromkeys(line.names))
        if self._form not in (JSONL, CSV):
            named = sum(bool(line.found.source_names[source]) for source in line.found.source.tolist())
            if named:
                self.losses.add("detection whose generator is not kept", line.image, named)
        if self._form == VOC and not len(line.found):
            self.losses.add("photo without detections, which VOC's files do not name", line.image)
        if self._form in (VOC, YOLO):
            self.losses.add("photo whose size is not kept", line.image)


def _read(job: Conversion, truth: AnyDataset | None) -> Results:
    if result_format(job.source) == COCO:
        return _read_coco(job, truth)
    if truth is not None:
        return read_results(job.source, photos_of_dataset(truth))
    return read_results(job.source, None if job.images is None else photos_of_folder(job.images))


def _read_coco(job: Conversion, truth: AnyDataset | None) -> Results:
    """Read COCO results with the ids of the ground truth, or of the file next to them."""
    numbers = job.source.with_name(COCO_IMAGES_FILE)
    if truth is None and numbers.is_file():
        truth = CocoDataset(numbers, without_objects=True)
    if not isinstance(truth, CocoDataset):
        raise InputError(f"{job.source}: COCO results need the instances.json with their ids as `ground_truth`")
    found, _, notes = read_coco_results(job.source, truth, upright=True)
    classes = tuple(truth.classes)
    listed = truth.image_ids if truth.annotations == numbers else [name for name in truth.image_ids if name in found]
    lines = (_line(name, found.get(name), truth, classes, job.source) for name in listed)
    return Results(lines, classes, lambda: notes)


def _line(name: str, found: Detections | None, truth: CocoDataset, classes: tuple[str, ...], path: Path) -> ResultLine:
    size = truth.ground_truth(name).image_size
    rows = found or Detections(as_boxes([]), np.zeros(0, np.int64), np.zeros(0, np.float32), size)
    plain = Detections(rows.boxes, rows.labels, rows.scores, size, classes=classes)
    return ResultLine(f"{path}: image {name}", name, plain, classes)


def _class_order(
    job: Conversion, listed: tuple[str, ...], seen: tuple[str, ...], truth: AnyDataset | None
) -> tuple[str, ...]:
    """Return the classes in the given order, or else in that of the run, of the ground truth, or of the results."""
    if job.classes is not None:
        return tuple(read_class_names(job.classes, known=listed or seen))
    run = read_run(job.source) if job.source.is_dir() else None
    of_run = (run or {}).get("settings", {}).get("classes")
    for order in (of_run, None if truth is None else truth.classes):
        if order and all(name in order for name in listed or seen):
            return tuple(order)
    return listed or tuple(sorted(seen))
