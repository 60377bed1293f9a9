"""Detections as CSV: a row for each, and a row without a label for a photo on which nothing was found."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from eval.results import ResultsError
from structures.files import regular_file
from structures.records import Detections
from structures.text import number_of

COLUMNS = ("image", "width", "height", "label", "score", "x1", "y1", "x2", "y2", "source")
NEEDED = ("image", "label", "score", "x1", "y1", "x2", "y2")


def csv_head() -> str:
    """Return the first line."""
    return _lines([COLUMNS])


def csv_lines(image: str, found: Detections, classes: Sequence[str]) -> str:
    """Return the rows of a photo: boxes in pixels, 0-based and half-open.

    Args:
        image: its name.
        found: what was found on it.
        classes: names of the labels.
    """
    height, width = found.image_size
    if not len(found):
        return _lines([[image, width, height, *[""] * (len(COLUMNS) - 3)]])
    sources = [found.source_names[source] for source in found.source.tolist()]
    numbers = zip(found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), sources, strict=True)
    return _lines(
        [image, width, height, classes[label], *[f"{value:.9g}" for value in (score, *box)], source]
        for label, score, box, source in numbers
    )


def read_csv(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the place and the columns of every row.

    Raises:
        ResultsError: a column is missing, a row is longer or shorter, or it is not CSV in UTF-8; names the line.
        OSError: the file cannot be opened.
    """
    with regular_file(path).open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            head = [name.strip() for name in next(reader, [])]
            missing = [name for name in NEEDED if name not in head]
            if missing:
                raise ResultsError(f"{path}: no column {', '.join(missing)}; expected {','.join(COLUMNS)}")
            for row in reader:
                place = f"{path}: line {reader.line_num}"
                if row and len(row) != len(head):
                    raise ResultsError(f"{place}: {number_of(len(row), 'column')}, but {len(head)} in the first line")
                if row:
                    yield place, dict(zip(head, row, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ResultsError(f"{path}: line {reader.line_num + 1}: not readable as CSV: {error}") from None


def _lines(rows: Iterable[Sequence[Any]]) -> str:
    kept = list(rows)
    written = _written(kept, csv.QUOTE_MINIMAL)
    return _written(kept, csv.QUOTE_ALL) if "\r" in written else written  # not quoted before Python 3.13


def _written(rows: Iterable[Sequence[Any]], quoting: Literal[0, 1]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n", quoting=quoting).writerows(rows)
    return file.getvalue()
