"""Proposals that other programs wrote: Fast R-CNN's .mat, Detectron2's pickles, COCO's result lists.

None of them knows the photos' pixels, so boxes are looked up by the photo's name, with `PhotoNames`, or by a number
if the name is one. Boxes are returned as xyxy, 0-based and half-open, best first.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from proposals.stored.child_reader import read_apart
from proposals.stored.foreign_entries import Entries, ForeignError, add_entry, brief, from_sides, key_of
from structures.boxes import Boxes, Floats
from structures.files import regular_file
from structures.json_reader import JsonError, read_json
from structures.nms import best_first
from structures.photo_names import PhotoNames

NUMBER = re.compile("[0-9]{1,18}")  # as 64 bits hold
COCO_DIGITS = 12  # of the file names of COCO, 000000000139.jpg, which say the photo's number


class ForeignBoxes:
    """The boxes of a file, by the name of the photo.

    Args:
        place: the file, for messages.
        entries: name or number of each photo -> boxes (N, 4) xyxy and scores (N,), in any order.
    """

    def __init__(self, place: Path, entries: Mapping[str | int, tuple[Boxes, Floats]]) -> None:
        self.place, self._entries = place, dict(entries)
        self._names = PhotoNames([name for name in entries if isinstance(name, str)])

    @property
    def image_ids(self) -> Sequence[str]:
        """Names of the photos, as the file has them, with forward slashes."""
        return tuple(map(str, self._entries))

    def boxes_of(self, image_id: str) -> tuple[Boxes, Floats]:
        """Return the boxes (N, 4) and scores (N,) of a photo, best first.

        Raises:
            ForeignError: the file has no photo of this name.
        """
        boxes, scores = self._entries[self.entry_of(image_id)]
        order = best_first(scores)
        return boxes[order], scores[order]

    def entry_of(self, image_id: str) -> str | int:
        """Return under which name or number the file lists a photo.

        Raises:
            ForeignError: the file has no photo of this name.
        """
        number = image_number(image_id)
        for name in (self._names.find(image_id), number, str(number)):
            if name is not None and name in self._entries:
                return name
        numbers = any(isinstance(name, int) for name in self._entries)
        why = "; its numbers mean photos that are named as COCO's (000000000139.jpg), others need their names"
        seen = f"it names photos like {self.image_ids[:3]}{why if numbers else ''}"
        raise ForeignError(f"{self.place}: has no photo {image_id!r}; {seen}")


def image_number(image_id: str) -> int | None:
    """Return the number of a photo: its whole name, or that of a file of COCO.

    Other files, such as 7.jpg, may be numbered differently from the boxes.

    >>> image_number("val/000000000139.jpg"), image_number("0139"), image_number("7.jpg")
    (139, 139, None)
    """
    stem = PurePosixPath(image_id).stem
    numbered = stem == image_id or len(stem) == COCO_DIGITS
    return int(stem) if numbered and NUMBER.fullmatch(stem) else None


def read_foreign(path: str | Path) -> ForeignBoxes:
    """Read a file with one of the suffixes in READERS.

    Raises:
        ForeignError: unknown suffix, damaged, hostile, or not such a file.
        OSError: the file cannot be opened.
    """
    path = Path(path)
    if path.suffix.lower() not in READERS:
        known = f"{', '.join(READERS)} and folders of stored proposals"
        raise ForeignError(f"{path}: not a file of proposals; known are {known}")
    return ForeignBoxes(path, READERS[path.suffix.lower()](regular_file(path)))


def _read_results(path: Path) -> Entries:
    """COCO results: a list of {"image_id", "bbox": [x, y, width, height], "score"}."""
    try:
        content = read_json(path)
    except JsonError as error:
        raise ForeignError(str(error)) from None
    if not isinstance(content, list):
        raise ForeignError(f"{path}: not a list of COCO results")
    found: dict[str | int, tuple[list[Any], list[Any]]] = {}
    for number, entry in enumerate(content):
        if not isinstance(entry, dict) or "image_id" not in entry or "bbox" not in entry:
            raise ForeignError(f"{path}: entry {number} has no image_id and bbox")
        bbox, score = entry["bbox"], entry.get("score", 1.0)
        if not isinstance(bbox, list) or len(bbox) != 4:
            raise ForeignError(f"{path}: entry {number}: bbox must hold four numbers, got {bbox!r:.60}")
        if not all(isinstance(value, int | float) for value in (*bbox, score)):
            raise ForeignError(f"{path}: entry {number}: bbox {bbox!r:.60} and score {brief(score)} must be numbers")
        boxes, scores = found.setdefault(key_of(entry["image_id"], f"{path}: entry {number}"), ([], []))
        boxes.append(bbox)
        scores.append(score)
    entries: Entries = {}
    for name, (boxes, scores) in found.items():
        add_entry(entries, name, boxes, scores, f"{path}: image {name}", from_sides)
    return entries


READERS: Mapping[str, Callable[[Path], Entries]] = {
    ".mat": read_apart,
    ".pkl": read_apart,
    ".pickle": read_apart,
    ".json": _read_results,
}
