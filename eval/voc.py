"""PASCAL VOC: read annotations, write official result files. With eval/voc_xml.py the only place with 1-based boxes.

VOC corners are 1-based and inclusive (VOCdevkit, PASreadrecord.m): a box one pixel wide has xmin == xmax. Subtracting 1
from xmin and ymin only turns them into 0-based, half-open boxes; the devkit's +1 arithmetic is then plain width.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from eval.checks import Place, note_beyond, note_repeated, refuse_background, with_area
from eval.notes import Notes
from eval.photo_records import PhotoRecords
from eval.sizes import size_of
from eval.voc_layout import voc_layout
from eval.voc_xml import FIRST_PIXEL, VocError, VocObject, parse, read_objects, text_of, whole_pixels
from structures.boxes import Boxes, ImageSize, area, as_boxes, reach
from structures.errors import InputError
from structures.names import ClassNames
from structures.records import Detections, GroundTruth

VOC_CLASSES = tuple(
    "aeroplane bicycle bird boat bottle bus car cat chair cow "
    "diningtable dog horse motorbike person pottedplant sheep sofa train tvmonitor".split()
)  # alphabetical, as in the devkit's VOCinit.m


class VocDataset(PhotoRecords):
    """One split of a folder of VOC's XML annotations, in one of the layouts of `eval.voc_layout`.

    Args:
        root: the folder; in VOC's own layout the one that holds JPEGImages, Annotations and ImageSets/Main.
        split: name of a list in ImageSets/Main, or of a folder, such as "val"; None takes the usual one, the only one
            there is, or all annotations where there is no split.
        classes: class names in label order. Without it, the 20 VOC classes; or, if annotations of the folder have
            other names, those names in alphabetical order, the same for every split. Objects of a class that is not
            listed are left out, and noted.
        images: folder of the photos; None looks for them in the usual ones.
        usual: the split where none is named.

    Attributes:
        layout: where annotations and photos lie.
        classes: class names; a label is an index into them.
        image_ids: names from the list, in its order.

    Raises:
        VocError: a folder, list or annotation is missing or malformed; names the file.
    """

    def __init__(
        self,
        root: Path,
        split: str | None = None,
        classes: Sequence[str] | None = None,
        *,
        images: Path | None = None,
        usual: str = "val",
    ) -> None:
        self.root = Path(root)
        self._notes = Notes()
        self.layout = voc_layout(self.root, split, usual, images, self._notes)
        self.split, self.image_ids = self.layout.split, self.layout.image_ids
        self.classes: Sequence[str] = tuple(classes) if classes is not None else find_classes(self.layout.annotations)
        try:
            refuse_background(self.classes, self.root)
        except InputError as error:
            raise VocError(str(error)) from None
        self._names = ClassNames(self.classes)
        self.truths = [self._read(image_id) for image_id in self.image_ids]

    def image_path(self, image_id: str) -> Path:
        """Return the path of the photo: the .jpg, or else another picture of that name."""
        return self.layout.photo(image_id)

    def _unknown(self, image_id: str) -> VocError:
        return VocError(f"{self.root}: no image {image_id!r} in split {self.split!r}")

    def _read(self, image_id: str) -> GroundTruth:
        path = self.layout.annotation(image_id)
        tree = parse(path)
        objects = self._usable(read_objects(tree, path), path)
        boxes = as_boxes([item.box for item in objects])
        labels = np.array([self._names.find(item.name) for item in objects], np.int64)

        def place(at: int) -> str:
            return f"{path}: object {objects[at].row}"

        note_repeated(self._notes, boxes, labels, place)
        return GroundTruth(
            image_id=image_id,
            boxes=boxes,
            labels=labels,
            ignore=np.array([item.difficult for item in objects], bool),
            area=area(boxes),
            image_size=self._image_size(image_id, tree, boxes, place),
        )

    def _usable(self, objects: Iterable[VocObject], path: Path) -> list[VocObject]:
        kept = []
        for item in objects:
            if self._names.find(item.name) < 0:
                kind = f"object of the unlisted class {item.name!r} left out"
                self._notes.add(kind, f"{path}: object {item.row}")
            else:
                kept.append(item)
        boxes = as_boxes([item.box for item in kept])
        usable = with_area(boxes, self._notes, lambda at: f"{path}: object {kept[at].row}")
        return [item for item, good in zip(kept, usable, strict=True) if good]

    def _image_size(self, image_id: str, tree: ET.Element, boxes: Boxes, place: Place) -> ImageSize:
        """Return the annotated size, or the photo's own if the annotation cannot be right."""
        stated = (whole_pixels(tree.findtext("size/height")), whole_pixels(tree.findtext("size/width")))
        if min(stated) > 0 and _inside(boxes, stated):
            return stated
        measured = size_of(self.image_path(image_id)) or _reach_or_more(boxes, stated)
        if measured != stated:
            self._notes.add("image with a missing or wrong <size>", self.layout.annotation(image_id))
        note_beyond(self._notes, boxes, measured, place)
        return measured


def find_classes(annotations: Path) -> tuple[str, ...]:
    """Return VOC's classes, or all names in a folder of annotations where those go beyond VOC's.

    Names that differ only in case count as one. Files that are not XML, and folders, are skipped here.
    """
    names = {"": ""}
    for path in sorted(path for path in annotations.rglob("*.xml") if path.is_file()):
        try:
            tree = parse(path)
        except VocError:
            continue
        for item in tree.findall("object"):
            name = text_of(item, "name")
            names.setdefault(name.casefold(), name)
    del names[""]
    return VOC_CLASSES if names.keys() <= set(VOC_CLASSES) else tuple(sorted(names.values()))


def _inside(boxes: Boxes, image_size: ImageSize) -> bool:
    height, width = image_size
    return bool((boxes >= 0).all() and (boxes <= np.array([width, height, width, height])).all())


def _reach_or_more(boxes: Boxes, stated: ImageSize) -> ImageSize:
    """Return the smallest size that is at least as stated and holds all boxes."""
    height, width = reach(boxes)
    return max(stated[0], height), max(stated[1], width)


def voc_result_files(
    detections: Iterable[tuple[str, Detections]], classes: Sequence[str], split: str
) -> dict[str, bytes]:
    """Return the devkit's result files, comp4_det_<split>_<class>.txt, one per class, even if it is empty.

    Args:
        detections: image id and its detections.
        classes: class names in label order.
        split: name of the image list, part of the file names.

    Returns:
        Names and contents, in label order. A line is: image id, score, xmin, ymin, xmax, ymax, 1-based and inclusive.

    Raises:
        InputError: a class whose name cannot be part of a file name, or a label without a class.
    """
    names = [result_name(split, name) for name in classes]
    lines: Mapping[int, list[str]] = {label: [] for label in range(len(classes))}
    for image_id, found in detections:
        if len(found) and not 0 <= int(found.labels.min()) <= int(found.labels.max()) < len(classes):
            raise InputError(f"{image_id}: label {int(found.labels.max())}, expected 0 to {len(classes) - 1}")
        for box, label, score in zip(found.boxes + FIRST_PIXEL, found.labels, found.scores, strict=True):
            # 9 digits give a float32 back exactly; three decimals, as others write, make ties.
            numbers = " ".join(f"{value:.9g}" for value in (score, *box))
            lines[int(label)].append(f"{image_id} {numbers}\n")
    contents = ("".join(rows).encode(errors="surrogateescape") for rows in lines.values())  # names need not be UTF-8
    return dict(zip(names, contents, strict=True))


def result_name(split: str, name: str) -> str:
    """Return the name of the devkit's result file of a class.

    Raises:
        InputError: the class cannot be part of a file name.
    """
    if any(sign in name for sign in "/\0"):
        raise InputError(f"VOC's result files are named by class, and {name!r} cannot be part of a file name")
    return f"comp4_det_{split}_{name}.txt"
