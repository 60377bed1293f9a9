"""COCO: read instances.json; write and read result files. The only place that knows category ids."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np

from eval.checks import Category, Place, note_beyond, unused_categories, with_area, without_inside_out
from eval.coco_json import (
    CocoError,
    Entry,
    distinct,
    is_crowd,
    load,
    read_entries,
    read_results,
    to_areas,
    to_corners,
    to_labels,
    to_sides,
    whole_number,
)
from eval.coco_records import CocoDetections, CocoTruth, sides_of
from eval.names import LEAVE_OUT
from eval.notes import Notes
from structures.boxes import Boxes, ImageSize, reach
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
        other entries that were left out: with sides below 0, or of categories that are no classes of the dataset.

    Raises:
        CocoError: an entry that is malformed, of an unknown image or category, or whose numbers are not finite.
    """
    names = {number: name for name, number in dataset.image_numbers.items()}
    rows: dict[int, list[tuple[int, Entry]]] = {}
    notes = Notes()
    for position, entry in enumerate(read_results(path)):
        number = entry["image_id"]
        if number not in names and not allow_extra:
            place = f"{path}: entry {position}"
            raise CocoError(f"{place}: image {number} is not in the ground truth ({LEAVE_OUT})")
        entries = rows.setdefault(number, [])
        if entry["category_id"] in dataset.unused:
            name = dataset.unused[entry["category_id"]]
            notes.add(
                f"detections of the category {name!r:.60} left out, which is no class", f"{path}: entry {position}"
            )
        else:
            entries.append((position, entry))
    found = {names[n]: _detections(some, names[n], path, dataset, notes) for n, some in rows.items() if n in names}
    return found, [str(number) for number in rows if number not in names], notes.lines()


def _detections(
    placed: list[tuple[int, Entry]], name: str, path: Path, dataset: CocoDataset, notes: Notes
) -> Detections:
    positions, rows = [position for position, _ in placed], [entry for _, entry in placed]
    sides = to_sides([row["bbox"] for row in rows], f"{path}: image {name}")
    scores = np.array([row["score"] for row in rows], np.float64)
    found = CocoDetections(
        boxes=to_corners(sides, f"{path}: image {name}"),
        labels=to_labels(rows, dataset.category_ids, path),
        scores=scores.astype(np.float32),
        image_size=dataset.ground_truth(name).image_size,
        sides=sides,
        exact_scores=scores,
    )
    return without_inside_out(found, sides[:, 2:], notes, lambda row: f"{path}: entry {positions[row]}")


def class_name(category: Entry) -> str:
    """Return the name of a category, without blanks around it."""
    return str(category["name"]).strip()
