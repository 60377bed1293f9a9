"""One label file of YOLO: rows of a class and a box as shares of the photo, perhaps a polygon, perhaps a score.

A row is `class x y width height`, the centre and the sides divided by those of the photo. In results a row
ends with a score (Ultralytics' save_conf). In segmentations it has the corners of a polygon instead of a box: the box
around them is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from eval.checks import Place
from eval.notes import Notes
from structures.boxes import Doubles, ImageSize
from structures.errors import InputError
from structures.files import file_within
from structures.text import number_of

MOST_BYTES = 2**24  # of the labels of one photo: a quarter of a million boxes
MOST_COLUMNS = 10_000  # of a row: a polygon of five thousand corners
ROUNDING = 1e-6  # of a corner, as a share: most programs write six decimals
FARTHEST = 1.5  # a number further from 0 is not a share of a photo, but of pixels
BOX, WITH_SCORE, SMALLEST_POLYGON = 5, 6, 7  # columns
POLYGONS = "object with a polygon: the box around it is taken"


class YoloError(InputError):
    """A YOLO folder that cannot be used; the message names the file and the line."""


@dataclass(frozen=True)
class RowForm:
    """What rows hold.

    Attributes:
        scores: whether they end with a score, as results do.
        keypoints: numbers after the box, which are left out.
    """

    scores: bool = False
    keypoints: int = 0

    def knows(self, columns: int) -> bool:
        """Say whether a row may have this many columns."""
        if self.scores:
            return columns == WITH_SCORE
        return columns in (BOX, BOX + self.keypoints) or self.is_polygon(columns)

    def is_polygon(self, columns: int) -> bool:
        """Say whether a row has the corners of a polygon."""
        return (
            not self.scores and not self.keypoints and SMALLEST_POLYGON <= columns <= MOST_COLUMNS and columns % 2 == 1
        )

    def expected(self) -> str:
        """Describe a row, for messages."""
        if self.scores:
            return "expected 6: class, x, y, width, height, score"
        if self.keypoints:
            return f"expected 5, or {BOX + self.keypoints} with keypoints"
        return "expected 5: class, x, y, width, height; or a class and the corners of a polygon; results have 6"


ANNOTATIONS, RESULTS = RowForm(), RowForm(scores=True)


class YoloRows(NamedTuple):
    """The rows of a label file.

    Attributes:
        labels: (N,) number of the class.
        shares: (N, 4) x1, y1, x2, y2 as shares of the photo's width and height; x2 < x1 if it was so stated.
        scores: (N,) of results; 1 for annotations.
        lines: (N,) numbers of the lines.
    """

    labels: npt.NDArray[np.int64]
    shares: Doubles
    scores: Doubles
    lines: Sequence[int]

    def boxes(self, image_size: ImageSize) -> Doubles:
        """Return the (N, 4) boxes in pixels of the photo; whole numbers come back as such."""
        height, width = image_size
        pixels = self.shares * np.array([width, height, width, height], np.float64)
        nearest = np.rint(pixels)
        return np.where(np.abs(pixels - nearest) < ROUNDING * max(image_size), nearest, pixels)

    def place(self, path: Path) -> Place:
        """Return a function that names the file and the line of a row."""
        return lambda row: f"{path}: line {self.lines[row]}"


NO_ROWS = YoloRows(np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0), ())


def read_rows(path: Path, classes: int, notes: Notes, form: RowForm = ANNOTATIONS) -> YoloRows:
    """Read a label file.

    Args:
        path: may be empty.
        classes: how many there are.
        notes: counts polygons.
        form: what rows hold.

    Raises:
        YoloError: a row of another form, a number that is not finite or not a share of a photo, or an unknown class;
            names the line.
        OSError: the file cannot be opened.
    """
    rows = []
    for number, text in enumerate(_lines(path), start=1):
        words = text.split(maxsplit=MOST_COLUMNS + 1)
        if words:
            place = f"{path}: line {number}"
            rows.append((*_row(words, place, classes, form), number))
            if form.is_polygon(len(words)):
                notes.add(POLYGONS, place)
    if not rows:
        return NO_ROWS
    labels, shares, found, lines = zip(*rows, strict=True)
    return YoloRows(np.array(labels, np.int64), np.array(shares, np.float64), np.array(found, np.float64), lines)


def columns_of(path: Path) -> int:
    """Return the number of columns of the first row of a label file; 0 where it is empty or not text."""
    try:
        return next((len(text.split()) for text in _lines(path) if text.strip()), 0)
    except YoloError:
        return 0


def _lines(path: Path) -> list[str]:
    try:
        return file_within(path, MOST_BYTES, "labels", YoloError).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise YoloError(f"{path}: not UTF-8: {error}") from None


def _row(words: list[str], place: str, classes: int, form: RowForm) -> tuple[int, Sequence[float], float]:
    if not form.knows(len(words)):
        many = len(words) > MOST_COLUMNS
        count = f"more than {MOST_COLUMNS} columns" if many else number_of(len(words), "column")
        raise YoloError(f"{place}: {count}, {form.expected()}")
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise YoloError(f"{place}: expected numbers, got {' '.join(words)!r:.60}") from None
    if not np.isfinite(values).all():
        raise YoloError(f"{place}: a number is not finite: {' '.join(words)!r:.60}")
    label, shares = _label(values[0], place, classes), values[1:]
    corners = _of_polygon(shares) if form.is_polygon(len(words)) else _of_centre(shares[:4])
    farthest = max(map(abs, corners))
    if farthest > FARTHEST:
        raise YoloError(f"{place}: {farthest:g} is not a share of a photo; are these pixels?")
    return label, corners, values[-1] if form.scores else 1.0


def _label(value: float, place: str, classes: int) -> int:
    if not value.is_integer() or not 0 <= value < classes:
        raise YoloError(f"{place}: class {value:g}, expected 0 to {classes - 1}")
    return int(value)


def _of_centre(shares: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, width, height = shares
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _of_polygon(shares: Sequence[float]) -> tuple[float, float, float, float]:
    across, down = shares[0::2], shares[1::2]
    return min(across), min(down), max(across), max(down)
