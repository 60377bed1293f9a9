"""The checks of annotations and results, whatever file they come from: one place for all readers."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from eval.notes import Notes
from eval.packed import Packed
from structures.boxes import Boxes, ImageSize, ImageSizes, Indices, Mask, area, clip
from structures.errors import InputError
from structures.records import Detections, Labels

ROUNDING = 0.5  # pixels that a box may reach beyond its photo without a note: COCO's numbers are rounded
BACKGROUND = "background"  # the last column of the probabilities, never a class

OUTSIDE = "object wholly outside the photo: counted, impossible to find, not learned from"
BEYOND = (
    "object reaching beyond the edge of the photo (0-based corners, perhaps): learned from up to the edge, "
    "judged as annotated"
)
WITHOUT_AREA = "object without area"
REPEATED = "object with the box and the class of another on the photo (annotated twice, perhaps): each counts"
EXCHANGED = "object with x2 < x1 or y2 < y1, of negative width or height"
LEFT_OUT, COUNT = " left out", ": counted, impossible to find"  # what becomes of the two
INSIDE_OUT = "detection with x2 < x1 or y2 < y1, of negative width or height, left out"
INSIDE_OUT_OF_COCO = (
    "detection of negative width or height: judged by the protocol coco as pycocotools does, left out by the others"
)

Place = Callable[[int], str]
"""Returns the file and row of an object or a detection, by its position among the boxes that are checked."""


def with_area(boxes: Boxes, notes: Notes, place: Place, *, kept: bool = False) -> Mask:
    """Say which of the annotated boxes (N, 4) of a photo have an area, and note the others.

    Args:
        boxes: of one photo.
        notes: counts those without, and names the first.
        place: returns the file and row of each.
        kept: the others count as objects too, as in COCO's evaluator; otherwise the caller leaves them out.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    exchanged: Mask = np.asarray((sides < 0).any(axis=1))
    flat: Mask = np.asarray((sides == 0).any(axis=1)) & ~exchanged
    for kind, rows in ((EXCHANGED, exchanged), (WITHOUT_AREA, flat)):
        _note(notes, kind + (COUNT if kept else LEFT_OUT), rows, place)
    usable: Mask = ~(exchanged | flat)
    return usable


def note_beyond(notes: Notes, boxes: Boxes, image_size: ImageSize | ImageSizes, place: Place) -> None:
    """Note the annotated boxes (N, 4) that lie outside their photo, or reach more than half a pixel beyond its edge."""
    inside = clip(boxes, image_size)
    if (inside == boxes).all():
        return
    outside = (area(boxes) > 0) & (area(inside) == 0)
    beyond = (np.abs(boxes - inside) > ROUNDING).any(axis=1) & (area(boxes) > 0) & ~outside
    _note(notes, OUTSIDE, outside, place)
    _note(notes, BEYOND, beyond, place)


def note_repeated(notes: Notes, boxes: Boxes, labels: Labels, place: Place, image: Indices | None = None) -> None:
    """Note the annotated boxes (N, 4) that are equal to an earlier one of the same class and photo, to the last digit.

    Args:
        notes: counts them, and names the first.
        boxes: of one photo, or of several.
        labels: (N,) their classes.
        place: returns the file and row of each.
        image: (N,) the photo of each; None where all are of one.
    """
    if len(boxes) < 2:
        return
    photos = np.zeros(len(boxes), np.int64) if image is None else image
    rows = np.column_stack([photos, labels, boxes]).astype(np.float64)
    order = np.lexsort(rows.T)  # stable: of equal ones, the first in the file comes first
    equal = (rows[order[1:]] == rows[order[:-1]]).all(axis=1)
    _note(notes, REPEATED, np.isin(np.arange(len(rows)), order[1:][equal]), place)


def _note(notes: Notes, kind: str, rows: Mask, place: Place) -> None:
    if rows.any():
        notes.add(kind, place(int(rows.argmax())), int(rows.sum()))


def without_inside_out(found: Detections, sides: npt.NDArray[np.floating], notes: Notes, place: Place) -> Detections:
    """Leave out the detections of a photo whose boxes are turned inside out, and note them.

    Args:
        found: of one photo.
        sides: (N, 2) width and height of each box.
        notes: counts them, and names the first.
        place: returns the file and row of a detection.
    """
    wrong = np.flatnonzero((sides < 0).any(axis=1))
    if not len(wrong):
        return found
    notes.add(INSIDE_OUT, place(int(wrong[0])), len(wrong))
    return found.take(np.delete(np.arange(len(sides)), wrong))


def upright(detections: Sequence[Detections]) -> Sequence[Detections]:
    """Return the detections of all images without those whose boxes are turned inside out."""
    if isinstance(detections, Packed):
        return detections.keep(_are_upright(detections.whole))
    kept = map(_are_upright, detections)
    return [each if rows.all() else each.take(rows) for each, rows in zip(detections, kept, strict=True)]


def _are_upright(found: Detections) -> Mask:
    x1, y1, x2, y2 = found.boxes.T
    return np.asarray((x2 >= x1) & (y2 >= y1), np.bool_)


@dataclass(frozen=True)
class Category:
    """One class as a file lists it.

    Attributes:
        name: of the class.
        parent: name of the class above it; "" for none.
        objects: how many are annotated.
    """

    name: str
    parent: str = ""
    objects: int = 0


def unused_categories(
    categories: Sequence[Category], notes: Notes, path: Path, *, keep: Collection[str] = ()
) -> list[int]:
    """Return the positions of listed categories that are not classes, and note them.

    Annotation tools export the root of their class tree as a category, often under the name of one of its classes, and
    a category called background; neither has objects.

    Args:
        categories: all that a file lists.
        notes: names what is left out.
        path: the file.
        keep: names of classes that must stay, such as those that a network has learned.

    Raises:
        InputError: objects are annotated as background; names the file.
    """
    refuse_background((each.name for each in categories if each.objects), path)
    roots = _roots(categories, keep)
    background = [i for i, each in enumerate(categories) if is_background(each.name)]
    for i in roots:
        notes.add(
            f"category without objects left out, as it is the supercategory of others: {categories[i].name!r:.60}", path
        )
    for i in background:
        notes.add(f"category without objects left out, as it is not a class: {categories[i].name!r:.60}", path)
    return sorted({*roots, *background})


def _roots(categories: Sequence[Category], keep: Collection[str]) -> list[int]:
    """Return the positions of supercategories without objects; of those whose name is to be kept, one stays a class."""

    def is_root(i: int) -> bool:
        above = any(other.parent == categories[i].name for j, other in enumerate(categories) if j != i)
        return above and not categories[i].objects

    roots = list(filter(is_root, range(len(categories))))
    classes = {each.name for i, each in enumerate(categories) if i not in roots}
    kept = {categories[i].name: i for i in roots if categories[i].name in keep and categories[i].name not in classes}
    return [i for i in roots if i not in kept.values()]


def is_background(name: str) -> bool:
    """Say whether a class is called background, as the column for what is no object is."""
    return name.strip().casefold() == BACKGROUND


def refuse_background(names: Iterable[str], path: Path) -> None:
    """Refuse objects that are annotated as background.

    Raises:
        InputError: names the file.
    """
    wrong = next(filter(is_background, names), None)
    if wrong is not None:
        raise InputError(
            f"{path}: objects are annotated as {wrong!r:.60}, the name of what is no object; "
            "remove them, or rename the class"
        )
