"""Counts boxes that contain no pixel of their photo: most likely they were made for another size of it."""

from collections.abc import Mapping

from structures.boxes import Boxes, Floats, ImageSize, area, clip


class LostBoxes:
    """A tally over photos, whose boxes may be looked at in any order and from several threads.

    >>> from structures.boxes import as_boxes
    >>> lost = LostBoxes()
    >>> lost.look("v.jpg", as_boxes([[0, 0, 9, 9], [50, 0, 60, 9]]), (20, 30))
    >>> lost.line()
    '1 of 2 boxes on 1 of 1 photos lie outside the photo or have no area, such as [50, 0, 60, 9] on v.jpg (30 x 20 \
pixels); most likely they are of another size of the photos'
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, Boxes, ImageSize]] = {}

    def look(self, image_id: str, boxes: Boxes, image_size: ImageSize) -> None:
        """Count the boxes (N, 4) of a photo, and those of them that have no area on it."""
        self._seen[image_id] = len(boxes), boxes[area(clip(boxes, image_size)) == 0], image_size

    def line(self) -> str:
        """Return how many of how many are lost, and name one; "" where none is."""
        lost = {image_id: seen for image_id, seen in self._seen.items() if len(seen[1])}
        if not lost:
            return ""
        total, count = sum(seen[0] for seen in self._seen.values()), sum(len(seen[1]) for seen in lost.values())
        return (
            f"{count} of {total} boxes on {len(lost)} of {len(self._seen)} photos lie outside the photo or have no "
            f"area, such as {_example(lost)}; most likely they are of another size of the photos"
        )


def _example(lost: Mapping[str, tuple[int, Boxes, ImageSize]]) -> str:
    image_id = min(lost)
    _, boxes, (height, width) = lost[image_id]
    return f"{_text(boxes[0])} on {image_id} ({width} x {height} pixels)"


def _text(box: Floats) -> str:
    return f"[{', '.join(f'{value:g}' for value in box.tolist())}]"
