"""PASCAL VOC: read annotations, write official result files. With eval/voc_xml.py the only place with 1-based boxes.

VOC corners are 1-based and inclusive (VOCdevkit, PASreadrecord.m): a box one pixel wide has xmin == xmax. Subtracting 1
from xmin and ymin only turns them into 0-based, half-open boxes; the devkit's +1 arithmetic is then plain width.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from eval.checks import note_beyond, refuse_background
from eval.notes import Notes
from eval.voc_xml import FIRST_PIXEL, VocError, VocObject, parse, read_objects, text_of, whole_number
from structures.boxes import Boxes, ImageSize, area, as_boxes
from structures.errors import InputError
from structures.images import SUFFIXES, ImageError, read_size
from structures.names import ClassNames
from structures.records import Detections, GroundTruth

VOC_CLASSES = tuple(
    "aeroplane bicycle bird boat bottle bus car cat chair cow "
    "diningtable dog horse motorbike person pottedplant sheep sofa train tvmonitor".split()
)  # alphabetical, as in the devkit's VOCinit.m


class VocDataset:
    """One split of a folder in VOC layout (JPEGImages, Annotations, ImageSets/Main).

    Args:
        root: the folder that holds the three.
        split: name of a list in ImageSets/Main, such as "val".
        classes: class names in label order. Without it, the 20 VOC classes; or, if annotations of the folder have
            other names, those names in alphabetical order, the same for every split. Objects of a class that is not
            listed are left out, and noted.

    Attributes:
        classes: class names; a label is an index into them.
        image_ids: names from the list, in its order.

    Raises:
        VocError: a folder, list or annotation is missing or malformed; names the file.
    """

    def __init__(self, root: Path, split: str, classes: Sequence[str] | None = None) -> None:
        self.root = Path(root)
        self.split = split
        self._notes = Notes()
        self.image_ids: Sequence[str] = _read_split(self.root, split, self._notes)
        self.classes: Sequence[str] = tuple(classes) if classes is not None else find_classes(self.root)
        try:
            refuse_background(self.classes, self.root)
        except ValueError as error:
            raise VocError(str(error)) from None
        self._names = ClassNames(self.classes)
        self._records = {image_id: self._read(image_id) for image_id in self.image_ids}

    def __len__(self) -> int:
        return len(self.image_ids)

    def __iter__(self) -> Iterator[GroundTruth]:
        return iter(self._records.values())

    @property
    def notes(self) -> list[str]:
        """What was odd about the annotations: one line per kind, with its count and first file."""
        return self._notes.lines()

    def image_path(self, image_id: str) -> Path:
        """Return the path of the photo: the .jpg, or else another picture of that name."""
        folder = self.root / "JPEGImages"
        suffixes = [".jpg", ".JPG", *sorted(SUFFIXES), *(s.upper() for s in sorted(SUFFIXES))]
        paths = [folder / f"{image_id}{suffix}" for suffix in suffixes]
        return next((path for path in paths if path.exists()), paths[0])

    def ground_truth(self, image_id: str) -> GroundTruth:
        """Return the annotated objects of one image.

        Raises:
            VocError: the split has no such image.
        """
        if image_id not in self._records:
            raise VocError(f"{self.root}: no image {image_id!r} in split {self.split!r}")
        return self._records[image_id]

    def _read(self, image_id: str) -> GroundTruth:
        path = _annotation_path(self.root, image_id)
        tree = parse(path)
        objects = self._usable(read_objects(tree, path), path)
        boxes = as_boxes([item.box for item in objects])
        return GroundTruth(
            image_id=image_id,
            boxes=boxes,
            labels=np.array([self._names.find(item.name) for item in objects], np.int64),
            ignore=np.array([item.difficult for item in objects], bool),
            area=area(boxes),
            image_size=self._image_size(image_id, tree, boxes),
        )

    def _usable(self, objects: Iterable[VocObject], path: Path) -> list[VocObject]:
        kept = []
        for item in objects:
            if self._names.find(item.name) < 0:
                self._notes.add(f"objects of the unlisted class {item.name!r} left out", path)
            elif not (item.box[2:] > item.box[:2]).all():
                self._notes.add("objects without area left out", path)
            else:
                kept.append(item)
        return kept

    def _image_size(self, image_id: str, tree: ET.Element, boxes: Boxes) -> ImageSize:
        """Return the annotated size, or the photo's own if the annotation cannot be right."""
        path = _annotation_path(self.root, image_id)
        stated = (whole_number(tree.findtext("size/height")), whole_number(tree.findtext("size/width")))
        if min(stated) > 0 and _inside(boxes, stated):
            return stated
        measured = _photo_size(self.image_path(image_id)) or _reach(boxes, stated)
        if measured != stated:
            self._notes.add("images with a missing or wrong <size>", path)
        note_beyond(self._notes, boxes, measured, path)
        return measured


def find_classes(root: Path) -> tuple[str, ...]:
    """Return VOC's classes, or all names in the folder's annotations where those go beyond VOC's.

    Names that differ only in case count as one. Files that are not XML, and folders, are skipped here.
    """
    names = {"": ""}
    for path in sorted(path for path in (root / "Annotations").rglob("*.xml") if path.is_file()):
        try:
            tree = parse(path)
        except VocError:
            continue
        for item in tree.findall("object"):
            name = text_of(item, "name")
            names.setdefault(name.casefold(), name)
    del names[""]
    return VOC_CLASSES if names.keys() <= set(VOC_CLASSES) else tuple(sorted(names.values()))


def _annotation_path(root: Path, image_id: str) -> Path:
    return root / "Annotations" / f"{image_id}.xml"


def list_file(root: Path, split: str) -> Path:
    """Return where the image list of a split is."""
    return root / "ImageSets" / "Main" / f"{split}.txt"


def _read_split(root: Path, split: str, notes: Notes) -> tuple[str, ...]:
    path = list_file(root, split)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.txt"))[:20])
        raise VocError(
            f"{path}: no such image list; {f'there are {known}' if known else f'{root} is not a VOC folder'}"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise VocError(f"{path}: not UTF-8: {error}") from None
    ids = [_image_id(line.strip(), root) for line in lines if line.strip()]
    if not ids:
        raise VocError(f"{path}: the image list is empty")
    unique = tuple(dict.fromkeys(ids))
    if len(unique) < len(ids):
        notes.add("images listed again and counted once", path, len(ids) - len(unique))
    return unique


def _image_id(line: str, root: Path) -> str:
    """Drop the second column (-1, 0, 1) of the lists by class; names may hold spaces."""
    columns = line.split()
    if len(columns) == 1 or columns[-1] not in ("-1", "0", "1") or _annotation_path(root, line).exists():
        return line
    return line[: -len(columns[-1])].strip()


def _inside(boxes: Boxes, image_size: ImageSize) -> bool:
    height, width = image_size
    return bool((boxes >= 0).all() and (boxes <= np.array([width, height, width, height])).all())


def _photo_size(path: Path) -> ImageSize | None:
    try:
        return read_size(path)
    except ImageError:
        return None


def _reach(boxes: Boxes, stated: ImageSize) -> ImageSize:
    """Return the smallest size that is at least as stated and holds all boxes."""
    far = np.ceil(boxes[:, 2:].max(axis=0, initial=1)).astype(int)
    return max(stated[0], int(far[1])), max(stated[1], int(far[0]))


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
            raise InputError(f"{image_id}: label {int(found.labels.max())}, but there are {len(classes)} classes")
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
