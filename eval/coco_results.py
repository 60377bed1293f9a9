"""COCO's results: reads and writes them. With eval/coco.py the only place that knows category ids."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from eval.checks import INSIDE_OUT, INSIDE_OUT_OF_COCO
from eval.coco import CocoDataset
from eval.coco_json import CocoError, Entry, positions_of, to_labels
from eval.coco_records import CocoDetections, sides_of
from eval.coco_result_columns import ResultColumns, read_result_columns
from eval.names import LEAVE_OUT
from eval.notes import Notes
from eval.packed import Packed, PackedByName
from structures.boxes import Indices, Mask
from structures.files import replacing
from structures.records import Detections


def write_coco_results(
    path: Path,
    detections: Iterable[tuple[str, Detections]],
    *,
    category_ids: Sequence[int],
    image_numbers: Mapping[str, int],
) -> None:
    """Write a COCO results file: a JSON list of image_id, category_id, bbox (x, y, width, height) and score.

    Args:
        path: replaced when all is written.
        detections: image id and its detections, one image at a time.
        category_ids: the category id of each label.
        image_numbers: COCO's image id of each image.

    Raises:
        CocoError: an image without a number, or a label without a category.
    """
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        separator = "["
        for image_id, found in detections:
            for entry in _results(image_id, found, category_ids, image_numbers):
                file.write(f"{separator}\n{json.dumps(entry)}")
                separator = ","
        file.write("[]\n" if separator == "[" else "\n]\n")


def _results(
    image_id: str, found: Detections, category_ids: Sequence[int], image_numbers: Mapping[str, int]
) -> Iterator[Entry]:
    if image_id not in image_numbers:
        raise CocoError(f"{image_id}: the image has no COCO id")
    if len(found) and not 0 <= found.labels.min() <= found.labels.max() < len(category_ids):
        raise CocoError(f"{image_id}: label {found.labels.max()}, expected 0 to {len(category_ids) - 1}")
    for box, label, score in zip(sides_of(found).tolist(), found.labels, found.scores, strict=True):
        yield {
            "image_id": image_numbers[image_id],
            "category_id": category_ids[label],
            "bbox": [float(f"{value:.9g}") for value in box],
            "score": float(f"{score:.9g}"),  # 9 digits give a float32 back exactly
        }


def read_coco_results(
    path: Path, dataset: CocoDataset, *, allow_extra: bool = False, upright: bool = False
) -> tuple[PackedByName[Detections], list[str], list[str]]:
    """Read a COCO results file; detections keep the order of the file within their image.

    Args:
        path: the JSON file.
        dataset: the ground truth.
        allow_extra: leave out entries of images that the dataset lacks.
        upright: leave out boxes of negative width or height, which only pycocotools has a use for.

    Returns:
        Detections of every image of the dataset that the file names, the ids of the images left out, and notes on
        odd entries: those with negative sides, and those left out because their category is not a class.

    Raises:
        CocoError: an entry that is malformed, of an unknown image or category, or whose numbers are not finite.
    """
    entries, notes = read_result_columns(path), Notes()
    image = positions_of(entries.image, list(dataset.image_numbers.values()))
    unknown = np.flatnonzero(image < 0)
    if len(unknown) and not allow_extra:
        number = entries.image[unknown[0]]
        raise CocoError(f"{path}: entry {unknown[0]}: image {number} is not in the ground truth ({LEAVE_OUT})")
    rows = np.flatnonzero((image >= 0) & _are_of_classes(entries, dataset, path, notes))
    malformed = (entries.sides[rows, 2:] < 0).any(axis=1)
    if malformed.any():
        kind = INSIDE_OUT if upright else INSIDE_OUT_OF_COCO
        notes.add(kind, f"{path}: entry {rows[malformed][0]}", int(malformed.sum()))
    rows = rows[~malformed] if upright else rows
    rows = rows[np.argsort(image[rows], kind="stable")]
    whole = _of_entries(entries, rows, dataset, path)
    there = np.flatnonzero(np.bincount(image[image >= 0])).tolist()  # np.unique imports all of numpy.ma
    sizes = dataset.truths.about
    counts = np.bincount(image[rows], minlength=len(dataset)).astype(np.int64)
    found = Packed[Detections](whole, counts, lambda place: {"image_size": sizes(place)["image_size"]})
    extra = list(dict.fromkeys(map(str, entries.image[unknown].tolist())))
    return PackedByName(found, {dataset.image_ids[place]: place for place in there}), extra, notes.lines()


def _are_of_classes(entries: ResultColumns, dataset: CocoDataset, path: Path, notes: Notes) -> Mask:
    """Say which entries are of classes; those of the other categories are noted."""
    of_classes = np.ones(len(entries.image), np.bool_)
    for number, name in dataset.unused.items():
        rows = np.flatnonzero(entries.category == number)
        of_classes[rows] = False
        if len(rows):
            kind = f"detection of the category {name!r:.60} left out, which is not a class"
            notes.add(kind, f"{path}: entry {rows[0]}", len(rows))
    return of_classes


def _of_entries(entries: ResultColumns, rows: Indices, dataset: CocoDataset, path: Path) -> CocoDetections:
    """Return the chosen entries, of all images, as one record."""
    sides, scores = entries.sides[rows], entries.scores[rows]
    return CocoDetections(
        boxes=entries.boxes[rows],
        labels=to_labels(entries.category[rows], dataset.category_ids, path),
        scores=scores.astype(np.float32),
        image_size=(1, 1),
        sides=sides,
        exact_scores=scores,
    )
