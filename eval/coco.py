"""COCO: read instances.json; write and read result files. The only place that knows category ids."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eval.coco_protocol import corner_and_size
from eval.notes import Notes
from structures.boxes import Boxes, Floats, ImageSize, area, as_boxes
from structures.records import Detections, GroundTruth

Entry = dict[str, Any]


class CocoError(ValueError):
    """A COCO file that cannot be used; the message names the file and the entry."""


class CocoDataset:
    """The photos and boxes of an instances.json. Polygons are not read and may be absent.

    Args:
        annotations: the JSON file.
        images: folder of the photos; without it they are looked for in `images` beside the file, beside it, and
            in COCO's own layout (annotations/instances_val2017.json and val2017/).

    Attributes:
        classes: names in the order of their category ids; a label is an index into them.
        category_ids: the category id of each label; they may be sparse (COCO's go from 1 to 90 for 80 classes).
        image_ids: the file names, in the order of COCO's image ids, in which pycocotools ranks equal scores.
        image_numbers: COCO's image id of each file name.

    Raises:
        CocoError: not such a file, or an entry that cannot be used.
    """

    def __init__(self, annotations: Path, images: Path | None = None) -> None:
        self.annotations = Path(annotations)
        self._notes = Notes()
        content = _load(self.annotations)
        photos = sorted(_entries(content, "images", self.annotations), key=lambda entry: int(entry["id"]))
        categories = sorted(_entries(content, "categories", self.annotations), key=lambda entry: int(entry["id"]))
        self.classes: Sequence[str] = tuple(str(entry["name"]) for entry in categories)
        self.category_ids = _distinct([int(entry["id"]) for entry in categories], "category id", self.annotations)
        self.image_ids: Sequence[str] = _distinct([str(p["file_name"]) for p in photos], "file_name", self.annotations)
        numbers = _distinct([int(p["id"]) for p in photos], "image id", self.annotations)
        self.image_numbers = dict(zip(self.image_ids, numbers, strict=True))
        self._rows = self._by_image(_entries(content, "annotations", self.annotations))
        self._records = {p["file_name"]: self._record(p) for p in photos}
        self._images = images or self._find_images()

    def __len__(self) -> int:
        return len(self.image_ids)

    def __iter__(self) -> Iterator[GroundTruth]:
        return iter(self._records.values())

    @property
    def notes(self) -> list[str]:
        """What was odd about the annotations: one line a kind, with its count."""
        return self._notes.lines()

    def image_path(self, image_id: str) -> Path:
        """Return where the photo lies."""
        return self._images / image_id

    def ground_truth(self, image_id: str) -> GroundTruth:
        """Return the annotated objects of one image.

        Raises:
            CocoError: there is no such image.
        """
        if image_id not in self._records:
            raise CocoError(f"{self.annotations}: no image {image_id!r}")
        return self._records[image_id]

    def _by_image(self, entries: list[Entry]) -> dict[int, list[Entry]]:
        rows: dict[int, list[Entry]] = {number: [] for number in self.image_numbers.values()}
        for entry in entries:
            if entry["image_id"] not in rows:
                raise CocoError(
                    f"{self.annotations}: annotation {entry.get('id')} is of unknown image {entry['image_id']}"
                )
            rows[entry["image_id"]].append(entry)
        return rows

    def _record(self, photo: Entry) -> GroundTruth:
        rows = self._rows[int(photo["id"])]
        boxes = _to_corners([row["bbox"] for row in rows], f"{self.annotations}: image {photo['id']}")
        self._note(rows, boxes)
        return GroundTruth(
            image_id=str(photo["file_name"]),
            boxes=boxes,
            labels=_labels(rows, self.category_ids, self.annotations),
            ignore=np.array([bool(row.get("iscrowd", 0)) for row in rows], bool),
            area=_areas(rows, boxes, self.annotations),
            image_size=self._image_size(photo, boxes),
        )

    def _image_size(self, photo: Entry, boxes: Boxes) -> ImageSize:
        height, width = photo.get("height"), photo.get("width")
        if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0:
            return height, width
        self._notes.add("images without width and height, taken to reach as far as their boxes", self.annotations)
        far = np.ceil(boxes[:, 2:].max(axis=0, initial=1))
        return int(far[1]), int(far[0])

    def _note(self, rows: list[Entry], boxes: Boxes) -> None:
        for row, size in zip(rows, area(boxes), strict=True):
            if size == 0:
                self._notes.add("objects without area: they count and cannot be found", self.annotations)
            if row.get("ignore") and not row.get("iscrowd"):
                self._notes.add("objects with ignore=1 but no crowds: they count, as in pycocotools", self.annotations)

    def _find_images(self) -> Path:
        beside = self.annotations.parent
        folders = [beside / "images", beside, beside.parent / self.annotations.stem.removeprefix("instances_")]
        return next((f for f in folders if self.image_ids and (f / self.image_ids[0]).exists()), folders[0])


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
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        separator = "["
        for image_id, found in detections:
            for entry in _results(image_id, found, category_ids, image_numbers):
                file.write(f"{separator}\n{json.dumps(entry)}")
                separator = ","
        file.write("[]\n" if separator == "[" else "\n]\n")
    os.replace(partial, path)


def _results(
    image_id: str, found: Detections, category_ids: Sequence[int], image_numbers: Mapping[str, int]
) -> Iterator[Entry]:
    if image_id not in image_numbers:
        raise CocoError(f"{image_id}: the image has no COCO id")
    if len(found) and not 0 <= found.labels.min() <= found.labels.max() < len(category_ids):
        raise CocoError(f"{image_id}: label {found.labels.max()}, but there are {len(category_ids)} categories")
    for box, label, score in zip(corner_and_size(found.boxes), found.labels, found.scores, strict=True):
        yield {
            "image_id": image_numbers[image_id],
            "category_id": category_ids[label],
            "bbox": [float(f"{value:.9g}") for value in box],
            "score": float(f"{score:.9g}"),  # 9 digits give a float32 back exactly
        }


def read_coco_results(path: Path, dataset: CocoDataset) -> dict[str, Detections]:
    """Read a COCO results file; detections keep the order of the file within their image.

    Returns:
        Detections of every image of the dataset that the file names.

    Raises:
        CocoError: an entry that is malformed, of an unknown image or category, or whose numbers are not finite.
    """
    names = {number: name for name, number in dataset.image_numbers.items()}
    rows: dict[int, list[Entry]] = {}
    for position, entry in enumerate(_result_list(path)):
        if not isinstance(entry, dict) or not {"image_id", "category_id", "bbox", "score"} <= entry.keys():
            raise CocoError(f"{path}: entry {position} needs image_id, category_id, bbox and score, got {entry}")
        if entry["image_id"] not in names:
            raise CocoError(f"{path}: entry {position} is of image {entry['image_id']}, unknown to the ground truth")
        if not isinstance(entry["score"], int | float) or not math.isfinite(entry["score"]):
            raise CocoError(f"{path}: entry {position} has score {entry['score']}")
        rows.setdefault(entry["image_id"], []).append(entry)
    return {names[number]: _detections(some, names[number], path, dataset) for number, some in rows.items()}


def _detections(rows: list[Entry], name: str, path: Path, dataset: CocoDataset) -> Detections:
    boxes = _to_corners([row["bbox"] for row in rows], f"{path}: image {name}")
    scores = np.array([row["score"] for row in rows], np.float32)
    size = dataset.ground_truth(name).image_size
    return Detections(boxes, _labels(rows, dataset.category_ids, path), scores, size)


def _result_list(path: Path) -> list[Any]:
    """Return the entries; some tools wrap them as the annotations of an object."""
    content = _load(path)
    entries = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise CocoError(f"{path}: expected a JSON list of results")
    return entries


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise CocoError(f"{path}: not a readable JSON file: {error}") from error


NEEDED = {
    "images": ("id", "file_name"),
    "categories": ("id", "name"),
    "annotations": ("image_id", "category_id", "bbox"),
}


def _entries(content: Any, part: str, path: Path) -> list[Entry]:
    entries = content.get(part) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise CocoError(f"{path}: no list {part!r}; expected COCO's instances.json")
    for position, entry in enumerate(entries):
        missing = [key for key in NEEDED[part] if not isinstance(entry, dict) or key not in entry]
        if missing:
            raise CocoError(f"{path}: {part}[{position}] has no {', '.join(missing)}")
        if not isinstance(entry.get("id", 0), int):
            raise CocoError(f"{path}: {part}[{position}] has id {entry['id']!r}, expected a whole number")
    return entries


def _distinct(values: list[Any], what: str, path: Path) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        twice = next(value for position, value in enumerate(values) if value in values[:position])
        raise CocoError(f"{path}: {what} {twice} is there twice")
    return tuple(values)


def _labels(rows: list[Entry], category_ids: Sequence[int], path: Path) -> npt.NDArray[np.int64]:
    known = {number: label for label, number in enumerate(category_ids)}
    for row in rows:
        if row["category_id"] not in known:
            raise CocoError(f"{path}: category_id {row['category_id']} is not among the categories")
    return np.array([known[row["category_id"]] for row in rows], np.int64)


def _areas(rows: Sequence[Entry], boxes: Boxes, path: Path) -> Floats:
    """Return the annotated areas (COCO's are of the mask), or the boxes' where there are none."""
    stated = [row.get("area") for row in rows]
    wrong = next((value for value in stated if value is not None and not isinstance(value, int | float)), None)
    if wrong is not None:
        raise CocoError(f"{path}: area {wrong!r} is not a number")
    return np.array([s if a is None else a for a, s in zip(stated, area(boxes), strict=True)], np.float32)


def _to_corners(boxes: list[Any], place: str) -> Boxes:
    try:
        wide = np.array(boxes, np.float64).reshape(len(boxes), 4)
    except (TypeError, ValueError):
        raise CocoError(f"{place}: every bbox must be four numbers x, y, width, height") from None
    if not np.isfinite(wide).all():
        raise CocoError(f"{place}: a bbox holds values that are not finite")
    return as_boxes(np.concatenate([wide[:, :2], wide[:, :2] + wide[:, 2:]], axis=1))
