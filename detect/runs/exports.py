"""Exports detections.jsonl to other formats: COCO results, VOC result files, YOLO label files, CSV."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from textwrap import indent

import numpy as np
from rich.console import Console

from eval.coco import CocoDataset
from eval.coco_results import write_coco_results
from eval.names import ImageNames
from eval.result_csv import csv_head, csv_lines
from eval.result_formats import OUR_YOLO
from eval.results import DETECTIONS_FILE, ResultLine, ResultLines
from eval.voc import result_name, voc_result_files
from eval.yolo import yolo_lines
from structures.errors import InputError
from structures.names import ClassNames, not_one_of
from structures.own_files import OwnFiles, complaint_about
from structures.records import Detections

COCO_FILE = "coco_results.json"
COCO_IMAGES_FILE = "coco_images.json"
VOC_FOLDER = "voc_results"
TOGETHER = 10_000  # photos per write
YOLO_LABELS, YOLO_CLASSES = f"{OUR_YOLO}/labels", f"{OUR_YOLO}/classes.txt"
CSV_FILE = "detections.csv"
EXPORTS = frozenset({COCO_FILE, COCO_IMAGES_FILE, VOC_FOLDER, OUR_YOLO, CSV_FILE})  # files and folders
FORMATS = ("jsonl", "coco", "voc", "yolo", "csv")
BEGINNINGS = {  # of the names of what an export writes
    "coco": (COCO_FILE, COCO_IMAGES_FILE),
    "voc": (f"{VOC_FOLDER}/",),
    "yolo": (f"{OUR_YOLO}/",),
    "csv": (CSV_FILE,),
}
NUMBER = re.compile("[0-9]{1,18}")  # a name that can be a 64-bit number


def export(
    files: OwnFiles, kind: str, classes: Sequence[str], *, split: str = "test", numbering: Path | None = None
) -> list[Path]:
    """Write the contents of detections.jsonl in another format; what an earlier export in it left is removed.

    Args:
        files: our files in the folder of results.
        kind: one of FORMATS; jsonl writes nothing.
        classes: class names in label order.
        split: split in the names of VOC's files.
        numbering: instances.json of COCO, whose image and category ids are used. Without it, photos that are named by
            numbers, like COCO's, keep these, others are numbered from 1, and categories are numbered from 1 in label
            order.

    Returns:
        The files that were written.

    Raises:
        InputError: the format is unknown, the ids do not cover the photos and classes, or a file that is not ours is in
            the way.
    """
    if kind not in FORMATS:
        raise InputError(f"`format` {not_one_of(kind, FORMATS)}")
    if kind == "jsonl":
        return []
    lines = ResultLines(files.folder / DETECTIONS_FILE)  # read twice: for the names, and for the boxes
    if kind == "voc":
        written = _export_voc(files, lines, classes, split)
    elif kind == "yolo":
        written = _export_yolo(files, lines, classes)
    elif kind == "csv":
        written = _export_csv(files, lines, classes)
    else:
        written = _export_coco(files, lines, classes, numbering)
    files.remove_others(BEGINNINGS[kind])
    return written


def export_names(kind: str, classes: Sequence[str], *, split: str = "test", numbering: Path | None = None) -> list[str]:
    """Return the names of the files that an export writes, relative to the folder of results."""
    if kind == "voc":
        return [f"{VOC_FOLDER}/{result_name(split, name)}" for name in classes]
    coco = [COCO_FILE, *([COCO_IMAGES_FILE] if numbering is None else [])]
    return {"coco": coco, "yolo": [YOLO_CLASSES], "csv": [CSV_FILE]}.get(kind, [])


def require_exportable(kind: str, images: Iterable[str], classes: Sequence[str], *, numbering: Path | None) -> None:
    """Check, before any work, that these photos can be exported.

    Raises:
        InputError: a class cannot be part of a VOC file's name, or the format cannot hold the name of a photo; or
            COCO's instances.json cannot be read, lacks a class or a photo, or two photos match the same image of it.
    """
    for image in images if kind in NO_NAME else ():
        require_nameable(kind, image)
    if kind == "voc":
        for name in classes:
            result_name("", name)
    elif kind == "coco" and numbering is not None:
        dataset = CocoDataset(numbering, keep=classes)
        _category_ids(dataset, classes)
        _coco_names(images, dataset)


def require_nameable(kind: str, image: str) -> None:
    """Refuse the name of a photo that a format cannot hold.

    Raises:
        InputError: says why.
    """
    complaint = NO_NAME[kind](image) if kind in NO_NAME else None
    if complaint:
        raise InputError(f"{image}: {complaint}; COCO results can")


def _no_voc_name(image: str) -> str | None:
    return None if len(image.split()) == 1 else "VOC result files cannot hold a name with spaces"


def _no_yolo_name(image: str) -> str | None:
    complaint = complaint_about(f"{image}.txt")
    return complaint and f"YOLO's label files cannot have a name that {complaint}"


def _no_csv_name(image: str) -> str | None:
    try:
        image.encode()
    except UnicodeEncodeError:
        return "CSV cannot hold a name that is not UTF-8"
    return None


NO_NAME = {"voc": _no_voc_name, "yolo": _no_yolo_name, "csv": _no_csv_name}  # what a format says of a photo's name


def discard_exports(files: OwnFiles, console: Console) -> None:
    """Remove the files of earlier exports; name those that stay because nothing proves that they are ours."""
    voc = (f"{VOC_FOLDER}/{path.name}" for path in (files.folder / VOC_FOLDER).glob("comp4_det_*.txt"))
    labels = (name for name in files if name.startswith(f"{OUR_YOLO}/"))
    for name in (COCO_FILE, COCO_IMAGES_FILE, CSV_FILE, *sorted(voc), *sorted(labels)):
        if not files.remove(name):
            words = f"{files.folder / name} is kept: rcnn did not write it, or it was changed since"
            console.print(words, markup=False, highlight=False, soft_wrap=True)


def with_labels_of(line: ResultLine, classes: Sequence[str]) -> Detections:
    """Return the detections of a line, with labels that index `classes`."""
    places = {name: label for label, name in enumerate(classes)}
    unknown = [name for name in line.names if name not in places]
    if unknown:
        raise InputError(f"{line.place}: {line.image}: {unknown[0]!r:.60} is not a class of this run")
    labels = np.array([places[name] for name in line.names], np.int64)[line.found.labels]
    return replace(line.found, labels=labels, classes=tuple(classes))


def _named(
    lines: Iterable[ResultLine], classes: Sequence[str], name: Callable[[str], str]
) -> Iterator[tuple[str, Detections]]:
    """Yield the name that each photo has in a format, and its detections with labels that index `classes`."""
    return ((name(line.image), with_labels_of(line, classes)) for line in lines)


def _without_suffix(image: str) -> str:
    return str(PurePosixPath(image).with_suffix(""))


def _voc_name(lines: ResultLines) -> Callable[[str], str]:
    """Return how VOC names images: without suffix, unless two names would then be equal."""
    seen = set[str]()
    for name in map(_without_suffix, lines.images()):
        if name in seen:
            return str
        seen.add(name)
    return _without_suffix


def _export_voc(files: OwnFiles, lines: ResultLines, classes: Sequence[str], split: str) -> list[Path]:
    names = [f"{VOC_FOLDER}/{result_name(split, name)}" for name in classes]
    found = _named(lines, classes, _voc_name(lines))
    with ExitStack() as stack:
        partials = [stack.enter_context(files.writing(name)) for name in names]
        for partial in partials:
            partial.write_bytes(b"")
        while some := list(islice(found, TOGETHER)):
            for partial, content in zip(partials, voc_result_files(some, classes, split).values(), strict=True):
                with partial.open("ab") as file:
                    file.write(content)
    return [files.folder / name for name in names]


def _export_coco(files: OwnFiles, lines: ResultLines, classes: Sequence[str], numbering: Path | None) -> list[Path]:
    if numbering is not None:
        dataset = CocoDataset(numbering, keep=classes)
        names = _coco_names(lines.images(), dataset)
        found = _named(lines, classes, names.__getitem__)
        ids = _category_ids(dataset, classes)
        with files.writing(COCO_FILE) as path:
            write_coco_results(path, found, category_ids=ids, image_numbers=dataset.image_numbers)
        return [files.folder / COCO_FILE]
    numbers = _image_numbers(lines)
    found = _named(lines, classes, str)
    with files.writing(COCO_FILE) as path:
        write_coco_results(path, found, category_ids=range(1, len(classes) + 1), image_numbers=numbers)
    with files.writing(COCO_IMAGES_FILE) as path:
        _write_images(path, lines, numbers, classes)
    return [files.folder / COCO_FILE, files.folder / COCO_IMAGES_FILE]


def _export_yolo(files: OwnFiles, lines: ResultLines, classes: Sequence[str]) -> list[Path]:
    """Write a label file with scores for each photo, as Ultralytics does, and the list of classes."""
    with files.writing(YOLO_CLASSES) as path:
        path.write_text("".join(f"{name}\n" for name in classes), encoding="utf-8", errors="replace")
    for name, found in _named(lines, classes, _voc_name(lines)):
        with files.writing(f"{YOLO_LABELS}/{name}.txt") as path:
            corners, scores = found.boxes.astype(np.float64), found.scores.tolist()
            path.write_text(yolo_lines(corners, found.labels.tolist(), found.image_size, scores), encoding="utf-8")
    return [files.folder / OUR_YOLO]


def _export_csv(files: OwnFiles, lines: Iterable[ResultLine], classes: Sequence[str]) -> list[Path]:
    with files.writing(CSV_FILE) as path, path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        file.write(csv_head())
        for line in lines:
            file.write(csv_lines(line.image, with_labels_of(line, classes), classes))
    return [files.folder / CSV_FILE]


def _image_numbers(lines: ResultLines) -> dict[str, int]:
    """Return a number for each photo: its name if all names are different numbers, else its place, from 1."""
    counted = {image: number for number, image in enumerate(lines.images(), start=1)}
    stems = map(_stem, counted)
    if all(map(NUMBER.fullmatch, stems)):
        named = {image: int(_stem(image)) for image in counted}
        if len(set(named.values())) == len(named):
            return named
    return counted


def _stem(image: str) -> str:
    return PurePosixPath(image).stem


def _write_images(path: Path, lines: Iterable[ResultLine], numbers: Mapping[str, int], classes: Sequence[str]) -> None:
    """Write the numbers of photos and classes as `structures.files.write_json` would, one photo at a time."""
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    head, tail = json.dumps({"images": [0], "categories": categories}, indent=2).split("\n    0\n", 1)
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        separator = head
        for line in lines:
            height, width = line.found.image_size
            entry = {"id": numbers[line.image], "file_name": line.image, "height": height, "width": width}
            file.write(f"{separator}\n{indent(json.dumps(entry, indent=2), '    ')}")
            separator = ","
        file.write((f"{head}{tail.lstrip()}" if separator == head else f"\n{tail}") + "\n")


def _coco_names(images: Iterable[str], dataset: CocoDataset) -> dict[str, str]:
    """Return the file name of each photo in the dataset, matched by `ImageNames`."""
    known = ImageNames(dataset)
    names, photos = dict[str, str](), dict[str, str]()
    for image in images:
        name = known.find(image)
        if name is None:
            raise InputError(f"{dataset.annotations}: has no image {image}")
        if name in photos:
            raise InputError(f"{dataset.annotations}: {photos[name]} and {image} both match its image {name}")
        names[image], photos[name] = name, image
    return names


def _category_ids(dataset: CocoDataset, classes: Sequence[str]) -> list[int]:
    known = ClassNames(dataset.classes)
    missing = [name for name in classes if known.find(name) < 0]
    if missing:
        raise InputError(f"{dataset.annotations}: has no categories {', '.join(missing)}")
    return [dataset.category_ids[known.find(name)] for name in classes]
