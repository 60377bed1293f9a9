"""COCO: read instances.json; write and read result files. The only place that knows category ids."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np

from eval.checks import INSIDE_OUT_OF_COCO, Category, Place, note_beyond, unused_categories, with_area
from eval.coco_json import (
    CocoError,
    Entry,
    distinct,
    is_crowd,
    load,
    read_entries,
    read_results,
    to_areas,
    to_boxes,
    to_corners,
    to_labels,
    to_sides,
    whole_number,
)
from eval.coco_records import CocoDetections, CocoTruth, sides_of
from eval.names import LEAVE_OUT
from eval.notes import Notes
from structures.boxes import Boxes, ImageSize, Indices, reach
from structures.files import replacing
from structures.photo_names import forward
from structures.records import Detections, GroundTruth


class CocoDataset:
    """The photos and boxes of an instances.json. Polygons are not read and may be absent.

    Args:
        annotations: the JSON file.
        images: folder of the photos; without it they are looked for in `images` next to the file, next to it, in
            COCO's own layout (annotations/instances_val2017.json and val2017/), and in `images` next to `annotations`.
        keep: names of classes that stay though no object of them is annotated and others stand below them.
        without_objects: read the numbers of photos and classes only; the list of annotations may be missing.

    Attributes:
        classes: names in the order of their category ids; a label is an index into them.
        category_ids: the category id of each label; they may be sparse (COCO's go from 1 to 90 for 80 classes).
        image_ids: the file names, in the order of COCO's image ids, in which pycocotools ranks equal scores.
        image_numbers: COCO's image id of each file name.

    Raises:
        CocoError: not such a file, without categories, or an entry that cannot be used.
    """

    def __init__(
        self,
        annotations: Path,
        images: Path | None = None,
        *,
        keep: Collection[str] = (),
        without_objects: bool = False,
    ) -> None:
        self.annotations = Path(annotations)
        self._notes = Notes()
        content = load(self.annotations)
        photos = sorted(read_entries(content, "images", self.annotations), key=itemgetter("id"))
        for photo in photos:
            photo["file_name"] = forward(str(photo["file_name"]))
        objects = [] if without_objects else read_entries(content, "annotations", self.annotations)
        listed = sorted(read_entries(content, "categories", self.annotations), key=itemgetter("id"))
        distinct([entry["id"] for entry in listed], "category id", self.annotations)
        self._unused = self._unused_ids(listed, objects, keep)
        categories = [entry for entry in listed if entry["id"] not in self._unused]
        if not categories:
            raise CocoError(f"{self.annotations}: the list 'categories' is empty, so there are no classes")
        names = [class_name(entry) for entry in categories]
        self.classes: Sequence[str] = distinct(names, "category name", self.annotations)
        self.category_ids = distinct([entry["id"] for entry in categories], "category id", self.annotations)
        self.image_ids: Sequence[str] = distinct([p["file_name"] for p in photos], "file_name", self.annotations)
        numbers = distinct([p["id"] for p in photos], "image id", self.annotations)
        self.image_numbers = dict(zip(self.image_ids, numbers, strict=True))
        self._rows = self._by_image(objects)
        self._records = {p["file_name"]: self._record(p) for p in photos}
        self._note_ids([entry["id"] for entry in objects if "id" in entry])
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

    def entries(self, image_id: str) -> list[Entry]:
        """Return what the file says of each object of an image, in the order of its ground truth."""
        return self._rows[self.image_numbers[image_id]]

    @property
    def unused(self) -> Mapping[int, str]:
        """The names of the categories that are no classes here, by id: results of them are left out."""
        return self._unused

    def _unused_ids(self, listed: list[Entry], objects: list[Entry], keep: Collection[str]) -> dict[int, str]:
        counts = Counter(entry["category_id"] for entry in objects)
        categories = [Category(class_name(c), str(c.get("supercategory") or ""), counts[c["id"]]) for c in listed]
        try:
            unused = unused_categories(categories, self._notes, self.annotations, keep=keep)
        except ValueError as error:
            raise CocoError(str(error)) from None
        return {listed[i]["id"]: categories[i].name for i in unused}

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
        rows = self._rows[photo["id"]]
        place = f"{self.annotations}: image {photo['id']}"
        sides = to_sides([row["bbox"] for row in rows], place)
        boxes, areas = to_corners(sides, place), to_areas(rows, sides, self.annotations)
        self._note(rows, boxes, photo["file_name"])
        stated = self._stated_size(photo)
        if stated is not None:
            note_beyond(self._notes, boxes, stated, self._place_in(rows, photo["file_name"]))
        return CocoTruth(
            image_id=photo["file_name"],
            boxes=boxes,
            labels=to_labels(rows, self.category_ids, self.annotations),
            ignore=np.array([is_crowd(row, f"{self.annotations}: annotation {row.get('id')}") for row in rows], bool),
            area=areas.astype(np.float32),
            sides=sides,
            areas=areas,
            image_size=stated or reach(boxes),
            size_known=stated is not None,
        )

    def _stated_size(self, photo: Entry) -> ImageSize | None:
        height, width = whole_number(photo.get("height")), whole_number(photo.get("width"))
        if height is not None and width is not None and min(height, width) > 0:
            return height, width
        kind = "images without width and height, taken to reach as far as their boxes"
        self._notes.add(kind, f"{self.annotations}: image {photo['id']}")
        return None

    def _note(self, rows: list[Entry], boxes: Boxes, image_id: str) -> None:
        place = self._place_in(rows, image_id)
        with_area(boxes, self._notes, place, kept=True)
        for position, row in enumerate(rows):
            if row.get("ignore") and not row.get("iscrowd"):
                kind = "objects with ignore=1 but no crowds: they count, as in pycocotools"
                self._notes.add(kind, place(position))

    def _place_in(self, rows: list[Entry], image_id: str) -> Place:
        return lambda position: f"{self.annotations}: annotation {rows[position].get('id')} of {image_id}"

    def _note_ids(self, numbers: list[int]) -> None:
        """Note the ids of objects that lead pycocotools astray; here they play no part."""
        if 0 in numbers:
            kind = "objects with id 0, which pycocotools takes for missed: here they count like any other"
            self._notes.add(kind, self.annotations, numbers.count(0))
        if twice := len(numbers) - len(set(numbers)):
            kind = "objects with the id of another, in whose place pycocotools puts the other: here each counts"
            self._notes.add(kind, self.annotations, twice)

    def _find_images(self) -> Path:
        beside, split = self.annotations.parent, self.annotations.stem.removeprefix("instances_")
        above = beside.parent
        folders = [beside / "images", beside, above / split, above / "images", above / "images" / split]
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
        raise CocoError(f"{image_id}: label {found.labels.max()}, but there are {len(category_ids)} categories")
    for box, label, score in zip(sides_of(found).tolist(), found.labels, found.scores, strict=True):
        yield {
            "image_id": image_numbers[image_id],
            "category_id": category_ids[label],
            "bbox": [float(f"{value:.9g}") for value in box],
            "score": float(f"{score:.9g}"),  # 9 digits give a float32 back exactly
        }


def read_coco_results(
    path: Path, dataset: CocoDataset, *, allow_extra: bool = False
) -> tuple[dict[str, Detections], list[str], list[str]]:
    """Read a COCO results file; detections keep the order of the file within their image.

    Args:
        path: the JSON file.
        dataset: the ground truth.
        allow_extra: leave out entries of images that the dataset lacks.

    Returns:
        Detections of every image of the dataset that the file names, the ids of the images left out, and notes on
        odd entries: with sides below 0, or left out as they are of categories that are no classes of the dataset.

    Raises:
        CocoError: an entry that is malformed, of an unknown image or category, or whose numbers are not finite.
    """
    entries, notes = read_results(path), Notes()
    places = {number: place for place, number in enumerate(dataset.image_numbers.values())}
    image = np.array([places.get(entry["image_id"], -1) for entry in entries], np.int64)
    unknown = np.flatnonzero(image < 0)
    if len(unknown) and not allow_extra:
        number = entries[unknown[0]]["image_id"]
        raise CocoError(f"{path}: entry {unknown[0]}: image {number} is not in the ground truth ({LEAVE_OUT})")
    rows = _rows_of_classes(entries, dataset, path, notes)
    rows = rows[image[rows] >= 0]
    rows = rows[np.argsort(image[rows], kind="stable")]
    whole = _of_entries(entries, rows, dataset, path, notes)
    named = np.unique(image[image >= 0])
    bounds = np.searchsorted(image[rows], np.append(named, len(places))).tolist()
    found: dict[str, Detections] = {
        name: _part(whole, slice(first, last), dataset.ground_truth(name).image_size)
        for name, first, last in zip((dataset.image_ids[place] for place in named), bounds, bounds[1:], strict=False)
    }
    return found, list(dict.fromkeys(str(entries[row]["image_id"]) for row in unknown)), notes.lines()


def _rows_of_classes(entries: Sequence[Entry], dataset: CocoDataset, path: Path, notes: Notes) -> Indices:
    """Return the rows of entries that are not of a category that is no class; those are noted."""
    others = dataset.unused
    unused = [row for row, entry in enumerate(entries) if entry["category_id"] in others] if others else []
    for row in unused:
        name = others[entries[row]["category_id"]]
        notes.add(f"detections of the category {name!r:.60} left out, which is no class", f"{path}: entry {row}")
    return np.delete(np.arange(len(entries)), unused)


def _of_entries(
    entries: Sequence[Entry], rows: Indices, dataset: CocoDataset, path: Path, notes: Notes
) -> CocoDetections:
    """Return the chosen entries, of all images, as one record."""
    chosen = [entries[row] for row in rows.tolist()]
    names = {number: name for name, number in dataset.image_numbers.items()}
    sides, boxes = to_boxes(
        [entry["bbox"] for entry in chosen], lambda row: f"{path}: image {names[chosen[row]['image_id']]}"
    )
    scores = np.array([entry["score"] for entry in chosen], np.float64)
    wrong = rows[(sides[:, 2:] < 0).any(axis=1)]
    if len(wrong):
        notes.add(INSIDE_OUT_OF_COCO, f"{path}: entry {wrong.min()}", len(wrong))
    return CocoDetections(
        boxes=boxes,
        labels=to_labels(chosen, dataset.category_ids, path),
        scores=scores.astype(np.float32),
        image_size=(1, 1),
        sides=sides,
        exact_scores=scores,
    )


def _part(whole: CocoDetections, rows: slice, image_size: ImageSize) -> CocoDetections:
    return CocoDetections(
        boxes=whole.boxes[rows],
        labels=whole.labels[rows],
        scores=whole.scores[rows],
        image_size=image_size,
        sides=whole.sides[rows],
        exact_scores=whole.exact_scores[rows],
    )


def class_name(category: Entry) -> str:
    """Return the name of a category, without blanks around it."""
    return str(category["name"]).strip()
