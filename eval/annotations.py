"""Annotated photos on their way from one format to another: all that the formats know, and what gets lost."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from eval.coco import CocoDataset, ObjectDetail
from eval.coco_records import areas_of, sides_of
from eval.ground_truth import AnyDataset
from eval.notes import Notes
from eval.sizes import misfit, size_of
from eval.voc import VocDataset
from eval.voc_xml import parse, text_of
from structures.boxes import Doubles, ImageSize, Mask
from structures.records import GroundTruth, Labels

WHOLE_WITHIN = 1e-3  # pixels: coordinates that are off by no more count as whole
SAME_AREA = 0.5  # square pixels by which an area may differ from that of its box: COCO's are rounded

POLYGONS = "object with a polygon or mask: only the box is kept"
AREAS = "object whose area differs from that of the box: the area is lost"
DETAILS = "object with parts, a pose, attributes, or marks as truncated or occluded: these are lost"
RENUMBERED = "not numbered 1, 2, 3 ... in this order: renumbered"  # after "image" or "category"
FRACTIONS = "object with fractions of a pixel, which are written: some programs read only whole numbers"
UNKNOWN_SIZE = "photo of unknown size: taken to end where the boxes do"


@dataclass(frozen=True, eq=False)
class AnnotatedPhoto:
    """The objects of one photo.

    Attributes:
        name: of the photo, with its suffix and any folders, with forward slashes.
        path: where the photo lies; it may be missing.
        image_size: (height, width).
        corners: (N, 4) float64 x1, y1, x2, y2 in pixels, 0-based and half-open.
        labels: (N,) index into the classes of the dataset.
        difficult: (N,) bool: VOC's difficult objects, or COCO's with `ignore`.
        crowd: (N,) bool: COCO's crowds.
        areas: (N,) float64 in square pixels: of COCO's masks, or of the boxes.
    """

    name: str
    path: Path
    image_size: ImageSize
    corners: Doubles
    labels: Labels
    difficult: Mask
    crowd: Mask
    areas: Doubles

    @property
    def stem(self) -> str:
        """The name without suffix."""
        return stem_of(self.name)

    @property
    def box_areas(self) -> Doubles:
        """(N,) areas of the boxes in square pixels."""
        areas: Doubles = np.maximum(self.corners[:, 2:] - self.corners[:, :2], 0).prod(axis=1)
        return areas

    def place(self, row: int) -> str:
        """Return which object a row is, for notes."""
        return f"{self.name}: object {row + 1}"


def stem_of(name: str) -> str:
    """Return the name of a photo without suffix, as VOC and YOLO name its annotation."""
    return str(PurePosixPath(name).with_suffix(""))


def name_and_path(dataset: AnyDataset, image_id: str) -> tuple[str, Path]:
    """Return the name of a photo with its suffix, which VOC's annotations do not have, and where it lies."""
    path = dataset.image_path(image_id)
    return f"{image_id}{path.suffix}" if isinstance(dataset, VocDataset) else image_id, path


def annotated_photos(dataset: AnyDataset) -> Iterator[AnnotatedPhoto]:
    """Yield the photos of a dataset in its order."""
    for truth in dataset:
        yield _photo(dataset, truth, dataset.details(truth.image_id) if isinstance(dataset, CocoDataset) else [])


def note_losses(dataset: AnyDataset, losses: Notes) -> None:
    """Note what an `AnnotatedPhoto` cannot hold: counts the objects with polygons, parts and the like."""
    if isinstance(dataset, CocoDataset):
        _note_ids(dataset, losses)
    for truth in dataset:
        if not truth.size_known and _measured(truth, dataset.image_path(truth.image_id)) is None:
            losses.add(UNKNOWN_SIZE, truth.image_id)
        if isinstance(dataset, VocDataset):
            _note_details(dataset, truth.image_id, losses)
        if isinstance(dataset, CocoDataset):
            for each in dataset.details(truth.image_id):
                if each.polygon:
                    losses.add(POLYGONS, f"{truth.image_id}: annotation {each.number}")


def _photo(dataset: AnyDataset, truth: GroundTruth, rows: list[ObjectDetail]) -> AnnotatedPhoto:
    sides, (name, path) = sides_of(truth), name_and_path(dataset, truth.image_id)
    crowd = truth.ignore if rows else np.zeros(len(truth), bool)
    ignored = np.array([row.ignored for row in rows], bool) & ~crowd if rows else truth.ignore
    return AnnotatedPhoto(
        name=name,
        path=path,
        image_size=truth.image_size if truth.size_known else _measured(truth, path) or truth.image_size,
        corners=np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], axis=1),
        labels=truth.labels,
        difficult=ignored,
        crowd=crowd,
        areas=areas_of(truth),
    )


def _measured(truth: GroundTruth, path: Path) -> ImageSize | None:
    """Return the size of a photo; None if it cannot be read, or is too small for the boxes."""
    size = size_of(path)
    return size if size and not misfit(path, truth, size) else None


def _note_details(dataset: VocDataset, image_id: str, losses: Notes) -> None:
    path = dataset.layout.annotation(image_id)
    for row, item in enumerate(parse(path).findall("object"), start=1):
        flags = [text_of(item, name) not in ("", "0") for name in ("truncated", "occluded")]
        posed = text_of(item, "pose").casefold() not in ("", "unspecified")
        if any(flags) or posed or item.find("part") is not None or len(item.findall("attributes/")):
            losses.add(DETAILS, f"{path}: object {row}")
        if item.find("polygon") is not None or item.find("segm") is not None:
            losses.add(POLYGONS, f"{path}: object {row}")


def _note_ids(dataset: CocoDataset, losses: Notes) -> None:
    for kind, ids in (("category", dataset.category_ids), ("image", dataset.image_numbers.values())):
        odd = [number for count, number in enumerate(ids, start=1) if number != count]
        if odd:
            losses.add(f"{kind} {RENUMBERED}", f"{dataset.annotations}: {kind} {odd[0]}", len(odd))


def note_rows(losses: Notes, kind: str, photo: AnnotatedPhoto, rows: Mask) -> None:
    """Note some objects of a photo."""
    if rows.any():
        losses.add(kind, photo.place(int(rows.argmax())), int(rows.sum()))


def note_areas(losses: Notes, photo: AnnotatedPhoto) -> None:
    """Note the objects whose areas are lost in a format that has none."""
    note_rows(losses, AREAS, photo, np.abs(photo.areas - photo.box_areas) > SAME_AREA)
