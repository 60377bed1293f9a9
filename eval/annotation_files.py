"""Annotated photos as files of VOC, COCO and YOLO: what a format cannot hold is noted, and everything else is kept."""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from eval.annotations import FRACTIONS, WHOLE_WITHIN, AnnotatedPhoto, note_areas, note_rows, stem_of
from eval.checks import with_area
from eval.notes import Notes
from eval.voc_xml import CORNERS, FIRST_PIXEL
from eval.yolo import yolo_lines
from structures.boxes import Doubles, as_boxes
from structures.errors import InputError

FORMATS = ("voc", "coco", "yolo")
# What a reader of XML would refuse, or change: a carriage return becomes a line feed.
NOT_IN_XML = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def require_in_xml(names: Iterable[str]) -> None:
    """Refuse names that XML cannot hold, such as those with control characters or of bytes that are not UTF-8.

    Raises:
        InputError: names the first.
    """
    for name in names:
        if NOT_IN_XML.search(name):
            raise InputError(f"{name!r:.80}: VOC's XML cannot hold this name; rename it, or choose another format")


def voc_xml(photo: AnnotatedPhoto, classes: Sequence[str], losses: Notes) -> bytes:
    """Return the annotation of a photo as VOC's XML; crowds become difficult objects.

    Args:
        photo: its corners need not be whole pixels.
        classes: names of the labels.
        losses: notes crowds, areas and fractions.
    """
    note_rows(losses, "crowd written with difficult=1", photo, photo.crowd)
    note_areas(losses, photo)
    fractions = np.abs(photo.corners - np.rint(photo.corners)).max(axis=1, initial=0) > WHOLE_WITHIN
    note_rows(losses, FRACTIONS, photo, fractions)
    root = ET.Element("annotation")
    folder, _, name = photo.name.rpartition("/")
    _add(root, {"folder": folder or "JPEGImages", "filename": name})
    height, width = photo.image_size
    _add(ET.SubElement(root, "size"), {"width": width, "height": height, "depth": 3})
    _add(root, {"segmented": 0})
    ignored = photo.difficult | photo.crowd
    for corners, label, difficult in zip(photo.corners + FIRST_PIXEL, photo.labels, ignored, strict=True):
        item = ET.SubElement(root, "object")
        _add(item, {"name": classes[label], "pose": "Unspecified", "truncated": 0, "difficult": int(difficult)})
        _add(ET.SubElement(item, "bndbox"), dict(zip(CORNERS, map(_number, corners.tolist()), strict=True)))
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8")) + b"\n"


def _add(item: ET.Element, texts: Mapping[str, object]) -> None:
    for name, text in texts.items():
        ET.SubElement(item, name).text = str(text)


def _number(value: float) -> str:
    """Return a number with the nine digits that a float32 needs; a whole number has no decimal point."""
    return f"{value:.9g}"


def coco_chunks(photos: Iterable[AnnotatedPhoto], classes: Sequence[str], losses: Notes) -> Iterator[str]:
    """Yield an instances.json in pieces; images and categories count from 1.

    Difficult objects get `ignore`, which COCO's own evaluator does not look at: it counts them.

    Args:
        photos: all of them; iterated twice.
        classes: names of the categories, in the order of their ids.
        losses: notes difficult objects.
    """
    yield '{"images": ['
    for number, photo in enumerate(photos, start=1):
        height, width = photo.image_size
        image = {"id": number, "file_name": photo.name, "width": width, "height": height}
        yield f"{',' * (number > 1)}\n{json.dumps(image)}"
        kind = "object marked difficult, written with ignore=1: counted by pycocotools"
        note_rows(losses, kind, photo, photo.difficult)
    categories = [{"id": number, "name": name, "supercategory": ""} for number, name in enumerate(classes, start=1)]
    yield f'],\n"categories": {json.dumps(categories)},\n"annotations": ['
    separator, count = "\n", 0
    for number, photo in enumerate(photos, start=1):
        for row in _coco_rows(photo):
            count += 1
            yield separator + json.dumps({"id": count, "image_id": number, **row})
            separator = ",\n"
    yield "]}\n"


def _coco_rows(photo: AnnotatedPhoto) -> Iterator[dict[str, object]]:
    sides = np.concatenate([photo.corners[:, :2], photo.corners[:, 2:] - photo.corners[:, :2]], axis=1)
    columns = zip(sides.tolist(), photo.labels, photo.areas.tolist(), photo.difficult, photo.crowd, strict=True)
    for box, label, area, difficult, crowd in columns:
        yield {
            **{"category_id": int(label) + 1, "bbox": list(map(_rounded, box)), "area": _rounded(area)},
            **{"iscrowd": int(crowd), **({"ignore": 1} if difficult else {})},
        }


def _rounded(value: float) -> float | int:
    """Return a number without the noise of its last bits; a whole number comes back as an int."""
    short = float(f"{value:.12g}")
    return int(short) if short.is_integer() else short


def yolo_labels(photo: AnnotatedPhoto, losses: Notes) -> str:
    """Return the label file of a photo: without crowds and objects without area, and cut at the photo's edge.

    Args:
        photo: of known size.
        losses: notes what is left out or cut, and the flags and areas that are lost.
    """
    note_rows(losses, "crowd left out", photo, photo.crowd)
    note_rows(losses, "object marked difficult: the mark is lost", photo, photo.difficult)
    note_areas(losses, photo)
    kept = with_area(as_boxes(photo.corners), losses, photo.place) & ~photo.crowd
    height, width = photo.image_size
    inside: Doubles = np.clip(photo.corners, 0, np.array([width, height, width, height], np.float64))
    area_left = (inside[:, 2:] > inside[:, :2]).all(axis=1)
    rows = kept & area_left
    note_rows(losses, "object wholly outside the photo left out", photo, kept & ~area_left)
    note_rows(losses, "object cut at the edge of the photo", photo, rows & (inside != photo.corners).any(axis=1))
    return yolo_lines(inside[rows], photo.labels[rows].tolist(), photo.image_size)


def yolo_yaml(classes: Sequence[str], splits: Sequence[str]) -> bytes:
    """Return the data.yaml of a folder whose photos lie in images/SPLIT."""
    import yaml  # here, since the rest works where it is missing

    content = {
        "path": ".",
        **{split: f"images/{split}" for split in splits},
        "names": dict(enumerate(classes)),
    }
    return bytes(yaml.safe_dump(content, allow_unicode=True, sort_keys=False).encode())


def refuse_equal_stems(names: Iterable[str]) -> None:
    """Refuse photos whose names differ only in the suffix: VOC and YOLO would give them one annotation.

    Raises:
        InputError: there are two such photos; names them.
    """
    seen = dict[str, str]()
    for name in names:
        stem = stem_of(name)
        if seen.setdefault(stem, name) != name:
            raise InputError(f"{seen[stem]} and {name} would share one annotation, {stem}; rename one of them")
