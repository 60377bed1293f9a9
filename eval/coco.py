"""COCO: reads instances.json. With eval/coco_results.py the only place that knows category ids."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from eval.checks import Category, Place, note_beyond, note_repeated, unused_categories, with_area
from eval.coco_json import (
    CocoError,
    Entry,
    are_crowds,
    distinct,
    load,
    positions_of,
    read_entries,
    to_areas,
    to_boxes,
    to_labels,
    whole_number,
)
from eval.coco_records import CocoTruth
from eval.layout import resolve_listed
from eval.notes import Notes
from eval.packed import Packed
from eval.photo_records import PhotoRecords
from structures.boxes import Boxes, ImageSize, Indices, Mask, reach
from structures.errors import InputError
from structures.photo_names import forward, possible
from structures.records import GroundTruth


@dataclass(frozen=True)
class ObjectDetail:
    """What a COCO file says of an object that its record does not hold.

    Attributes:
        number: its id; None where it has none.
        polygon: whether it has a polygon or a mask.
        ignored: whether it has `ignore`, as exports of VOC's difficult objects have.
    """

    number: Any
    polygon: bool
    ignored: bool


class CocoDataset(PhotoRecords):
    """The photos and boxes of an instances.json. Polygons are not read and may be absent.

    Args:
        annotations: the JSON file.
        images: folder of the photos; without it they are looked for in `images` next to the file, next to it, in
            COCO's own layout (annotations/instances_val2017.json and val2017/), and in `images` next to `annotations`.
        keep: names of classes that stay, even as supercategories without objects.
        without_objects: read the numbers of photos and classes only; the list of annotations may be missing.

    Attributes:
        classes: names in the order of their category ids; a label is an index into them.
        category_ids: the category id of each label; they may be sparse (COCO's go from 1 to 90 for 80 classes).
        image_ids: the file names, in the order of COCO's image ids, in which pycocotools ranks equal scores.
        image_numbers: COCO's image id of each file name.
        unused: names, by id, of the categories that are not classes here; their results are left out.

    Raises:
        CocoError: it is not such a file, has no categories, or has an entry that cannot be used.
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
        objects = [] if without_objects else read_entries(content, "annotations", self.annotations)
        listed = sorted(read_entries(content, "categories", self.annotations), key=itemgetter("id"))
        distinct([entry["id"] for entry in listed], "category id", self.annotations)
        self.unused: Mapping[int, str] = self._unused_ids(listed, objects, keep)
        categories = [entry for entry in listed if entry["id"] not in self.unused]
        if not categories:
            raise CocoError(f"{self.annotations}: the list 'categories' is empty, so there are no classes")
        names = [class_name(entry) for entry in categories]
        if "" in names:
            raise CocoError(f"{self.annotations}: category {categories[names.index('')]['id']} has no name")
        self.classes: Sequence[str] = distinct(names, "category name", self.annotations)
        self.category_ids = distinct([entry["id"] for entry in categories], "category id", self.annotations)
        names = [forward(_text(photo["file_name"])) for photo in photos]
        odd = next((name for name in names if not possible(name)), None)
        if odd is not None:
            raise CocoError(f"{self.annotations}: no file can have the file_name {odd!r}")
        self.image_ids: Sequence[str] = distinct(names, "file_name", self.annotations)
        numbers = distinct([photo["id"] for photo in photos], "image id", self.annotations)
        self.image_numbers = dict(zip(self.image_ids, numbers, strict=True))
        sizes = list(map(self._stated_size, photos))
        image, objects = self._by_image(objects)
        self._ids = [entry.get("id") for entry in objects]
        self._polygons = np.array([bool(entry.get("segmentation")) for entry in objects], np.bool_)
        self._ignored = np.array([bool(entry.get("ignore")) for entry in objects], np.bool_)
        self.truths: Packed[GroundTruth] = self._records(image, objects, sizes)
        self._note_ids([number for number in self._ids if number is not None])
        self._images = images or self._find_images()

    def image_path(self, image_id: str) -> Path:
        """Return where the photo lies; folders of another machine in its name are ignored."""
        path = self._images / image_id
        if "/" not in image_id or self._last_parts[PurePosixPath(image_id).name] > 1 or path.exists():
            return path
        return resolve_listed(image_id, [self._images])

    @cached_property
    def _last_parts(self) -> Counter[str]:
        return Counter(PurePosixPath(name).name for name in self.image_ids)

    def details(self, image_id: str) -> list[ObjectDetail]:
        """Return more on each object of an image, in the order of its ground truth."""
        rows = self.truths.rows(self._places[image_id])
        columns = self._ids[rows], self._polygons[rows].tolist(), self._ignored[rows].tolist()
        return [ObjectDetail(*each) for each in zip(*columns, strict=True)]

    def _unknown(self, image_id: str) -> CocoError:
        return CocoError(f"{self.annotations}: no image {image_id!r}")

    def _unused_ids(self, listed: list[Entry], objects: list[Entry], keep: Collection[str]) -> dict[int, str]:
        counts = Counter(map(itemgetter("category_id"), objects))
        categories = [Category(class_name(c), str(c.get("supercategory") or ""), counts[c["id"]]) for c in listed]
        try:
            unused = unused_categories(categories, self._notes, self.annotations, keep=keep)
        except InputError as error:
            raise CocoError(str(error)) from None
        return {listed[i]["id"]: categories[i].name for i in unused}

    def _by_image(self, entries: list[Entry]) -> tuple[Indices, list[Entry]]:
        """Return the position of the image of each entry, and the entries, those of one image together."""
        numbers = np.array([entry["image_id"] for entry in entries], np.int64)
        image = positions_of(numbers, list(self.image_numbers.values()))
        if len(unknown := np.flatnonzero(image < 0)):
            odd = entries[unknown[0]]
            raise CocoError(f"{self.annotations}: annotation {odd.get('id')} is of unknown image {odd['image_id']}")
        order = np.argsort(image, kind="stable")
        return image[order], [entries[row] for row in order.tolist()]

    def _records(self, image: Indices, rows: list[Entry], sizes: list[ImageSize | None]) -> Packed[GroundTruth]:
        path, place, numbers = self.annotations, self._place_in(image, rows), list(self.image_numbers.values())
        sides, boxes = to_boxes([row["bbox"] for row in rows], lambda row: f"{path}: image {numbers[image[row]]}")
        areas = to_areas(rows, sides, path)
        crowd = are_crowds(rows, path)
        self._note(boxes, crowd, place)
        counts = np.bincount(image, minlength=len(sizes)).astype(np.int64)
        labels = to_labels(np.array([row["category_id"] for row in rows], np.int64), self.category_ids, path)
        self._note_beyond(image, boxes, sizes, place)
        note_repeated(self._notes, boxes, labels, place, image)
        whole = CocoTruth(
            image_id="",
            boxes=boxes,
            labels=labels,
            ignore=crowd,
            area=areas.astype(np.float32),
            sides=sides,
            areas=areas,
            image_size=(1, 1),
        )
        known = [size is not None for size in sizes]
        full = self._full_sizes(image, boxes, sizes)
        return Packed[GroundTruth](
            whole,
            counts,
            lambda at: {"image_id": self.image_ids[at], "image_size": full[at], "size_known": known[at]},
        )

    def _stated_size(self, photo: Entry) -> ImageSize | None:
        height, width = whole_number(photo.get("height")), whole_number(photo.get("width"))
        if height is not None and width is not None and min(height, width) > 0:
            return height, width
        kind = "image without width and height: taken to end where the boxes do"
        self._notes.add(kind, f"{self.annotations}: image {photo['id']}")
        return None

    def _full_sizes(self, image: Indices, boxes: Boxes, sizes: list[ImageSize | None]) -> list[ImageSize]:
        bounds = np.searchsorted(image, np.arange(len(sizes) + 1)).tolist() if None in sizes else []
        return [size or reach(boxes[bounds[at] : bounds[at + 1]]) for at, size in enumerate(sizes)]

    def _note(self, boxes: Boxes, crowd: Mask, place: Place) -> None:
        with_area(boxes, self._notes, place, kept=True)
        flagged = np.flatnonzero(self._ignored & ~crowd)
        if len(flagged):
            kind = "object with ignore=1, but not a crowd: counted, as in pycocotools"
            self._notes.add(kind, place(int(flagged[0])), len(flagged))

    def _note_beyond(self, image: Indices, boxes: Boxes, sizes: list[ImageSize | None], place: Place) -> None:
        stated = np.array([size or (0, 0) for size in sizes], np.int64).reshape(-1, 2)[image]
        known = np.flatnonzero(stated[:, 0] > 0)
        height, width = stated[known].T
        note_beyond(self._notes, boxes[known], (height, width), lambda row: place(int(known[row])))

    def _place_in(self, image: Indices, rows: list[Entry]) -> Place:
        return lambda row: f"{self.annotations}: annotation {rows[row].get('id')} of {self.image_ids[image[row]]}"

    def _note_ids(self, numbers: list[int]) -> None:
        """Note the ids of objects that lead pycocotools astray; here they play no part."""
        if 0 in numbers:
            kind = "object with id 0, which pycocotools counts as missed: counted like any other here"
            self._notes.add(kind, self.annotations, numbers.count(0))
        if twice := len(numbers) - len(set(numbers)):
            kind = "object with the id of another, which pycocotools mistakes for it: each counts here"
            self._notes.add(kind, self.annotations, twice)

    def _find_images(self) -> Path:
        folder, split = self.annotations.parent, self.annotations.stem.removeprefix("instances_")
        above = folder.parent
        folders = [folder / "images", folder, above / split, above / "images", above / "images" / split]
        return next(
            (f for f in folders if self.image_ids and resolve_listed(self.image_ids[0], [f]).exists()), folders[0]
        )


def class_name(category: Entry) -> str:
    """Return the name of a category, without surrounding blanks."""
    return _text(category["name"]).strip()


def _text(value: Any) -> str:
    return "" if value is None else str(value)
