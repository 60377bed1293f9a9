"""What is checked about the boxes of other programs against their photos: one place for all files of proposals.

What a file itself must hold, such as finite numbers, its reader checks; this is about boxes that fit no photo.
"""

from collections.abc import Callable, Mapping

import numpy as np

from structures.boxes import Boxes, Floats, ImageSize, Mask, area, clip
from structures.text import number_of

ROUNDING = 0.5  # pixels that a box may reach beyond its photo without being noted


def _inside_out(boxes: Boxes, image_size: ImageSize) -> Mask:
    return np.asarray((boxes[:, 2:] < boxes[:, :2]).any(axis=1))


def _lost(boxes: Boxes, image_size: ImageSize) -> Mask:
    return np.asarray(area(clip(boxes, image_size)) == 0) & ~_inside_out(boxes, image_size)


def _cut(boxes: Boxes, image_size: ImageSize) -> Mask:
    beyond = np.asarray((np.abs(boxes - clip(boxes, image_size)) > ROUNDING).any(axis=1))
    return beyond & ~_lost(boxes, image_size) & ~_inside_out(boxes, image_size)


KINDS: Mapping[str, tuple[Callable[[Boxes, ImageSize], Mask], str]] = {  # description -> which boxes, and what it means
    "with x2 < x1 or y2 < y1": (_inside_out, "they cannot be used"),
    "outside the photo or without area": (_lost, "most likely the photos had another size"),
    "reaching beyond the edge of the photo": (_cut, "they are used up to the edge"),
}


class BoxChecks:
    """A tally over photos, whose boxes may be looked at in any order and from several threads.

    >>> from structures.boxes import as_boxes
    >>> checks = BoxChecks()
    >>> checks.look("v.jpg", as_boxes([[0, 0, 9, 9], [50, 0, 60, 9]]), (20, 30))
    >>> checks.lines()
    ['1 of 2 boxes on 1 of 1 photo outside the photo or without area, such as [50, 0, 60, 9] on v.jpg (30 x 20 \
pixels); most likely the photos had another size']
    """

    def __init__(self) -> None:
        self._boxes: dict[str, int] = {}  # number of boxes of each photo
        self._odd: dict[str, dict[str, tuple[int, str]]] = {kind: {} for kind in KINDS}  # photo -> how many, and one

    def look(self, image_id: str, boxes: Boxes, image_size: ImageSize) -> None:
        """Count the boxes (N, 4) of a photo, and those of each kind."""
        self._boxes[image_id] = len(boxes)
        for kind, (rule, _) in KINDS.items():
            rows = rule(boxes, image_size)
            if rows.any():
                self._odd[kind][image_id] = int(rows.sum()), _example(boxes[rows][0], image_id, image_size)

    def lines(self) -> list[str]:
        """Return a line for each kind there is: how many of how many, one of them, and what it means."""
        return [self._line(kind, odd) for kind, odd in self._odd.items() if odd]

    def _line(self, kind: str, odd: Mapping[str, tuple[int, str]]) -> str:
        count, total = sum(count for count, _ in odd.values()), sum(self._boxes.values())
        where = f"{count} of {number_of(total, 'box')} on {len(odd)} of {number_of(len(self._boxes), 'photo')}"
        return f"{where} {kind}, such as {odd[min(odd)][1]}; {KINDS[kind][1]}"


def _example(box: Floats, image_id: str, image_size: ImageSize) -> str:
    height, width = image_size
    return f"[{', '.join(f'{value:g}' for value in box.tolist())}] on {image_id} ({width} x {height} pixels)"
