"""One VOC annotation file: its objects, with 1-based corners turned into 0-based, half-open boxes."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from structures.boxes import Floats
from structures.errors import InputError
from structures.files import file_within

ROOT = "annotation"
MOST_BYTES = 2**25  # of the annotation of one photo: a quarter of a million objects
CORNERS = ("xmin", "ymin", "xmax", "ymax")
FIRST_PIXEL = np.array([1, 1, 0, 0], np.float32)  # subtracted from VOC's corners


class VocError(InputError):
    """A VOC folder that cannot be used; the message names the file."""


class VocObject(NamedTuple):
    """One annotated object, its box 0-based and half-open."""

    name: str
    box: Floats
    difficult: bool
    row: int = 1  # among the objects of the file


def parse(path: Path) -> ET.Element:
    """Read an annotation file.

    Raises:
        VocError: it is missing, larger than MOST_BYTES, not XML, or another program's XML, such as CVAT's own.
    """
    try:
        path = file_within(path, MOST_BYTES, "an annotation", VocError)
    except FileNotFoundError:
        raise VocError(f"{path}: no such annotation, though the image list names it") from None
    try:
        root = ET.parse(path).getroot()
    except (ET.ParseError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        raise VocError(f"{path}: not a readable XML file: {error}") from error
    if root.tag != ROOT:
        raise VocError(f"{path}: begins with <{root.tag:.60}>, not with VOC's <{ROOT}>; export it as VOC, COCO or YOLO")
    return root


def read_objects(tree: ET.Element, path: Path) -> Iterator[VocObject]:
    """Yield the objects; the parts inside an object, such as a person's head, are not objects.

    Raises:
        VocError: an object without name or corners, or with more than one box; names the file and the object.
    """
    # Direct children only: a <part> has its own <name> and <bndbox>.
    for row, item in enumerate(tree.findall("object"), start=1):
        name = text_of(item, "name")
        if not name:
            raise VocError(f"{path}: object {row} has no name")
        difficult = text_of(item, "difficult") or "0"
        if difficult not in ("0", "1"):
            raise VocError(f"{path}: object {row} ({name}): difficult is {difficult!r}, expected 0 or 1")
        yield VocObject(name, _corners(item, f"{path}: object {row} ({name})"), difficult == "1", row)


def _corners(item: ET.Element, place: str) -> Floats:
    texts = [text_of(item, f"bndbox/{corner}") for corner in CORNERS]
    if len(item.findall("bndbox/")) > len(CORNERS):
        repeated = [corner for corner in CORNERS if len(item.findall(f"bndbox/{corner}")) > 1]
        if repeated:
            raise VocError(f"{place}: has {', '.join(repeated)} more than once")
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused below
            corners = np.array([float(text) for text in texts]).astype(np.float32)
    except ValueError:
        raise VocError(f"{place}: <bndbox> needs numbers {', '.join(CORNERS)}, got {texts}") from None
    if not np.isfinite(corners).all():
        raise VocError(f"{place}: <bndbox> holds values that are not finite: {texts}")
    return corners - FIRST_PIXEL


def text_of(item: ET.Element, path: str) -> str:
    """Return the text of a child without spaces around it; empty if there is no such child."""
    return (item.findtext(path) or "").strip()


def whole_pixels(text: str | None) -> int:
    """Return a number of pixels, rounded if it is written with decimals; 0 for anything else."""
    try:
        return round(float(text or 0))
    except (ValueError, OverflowError):
        return 0
