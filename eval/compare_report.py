"""What people and programs read of a comparison: tables for the terminal, plain values for JSON, rows for CSV."""

import csv
import io
import math
import string
from collections.abc import Iterator, Sequence
from typing import Any

from eval.bootstrap import COVERED, Interval
from eval.compare import Comparison
from eval.report import Sheet, percent, signed
from eval.scores import or_null
from structures.text import number_of

LETTERS = string.ascii_uppercase  # short names of runs, so that tables fit into 80 columns
COLUMNS = (
    *("run", "class", "value", "standard_error", "low", "high"),
    *("difference", "difference_standard_error", "difference_low", "difference_high"),
)


def comparison_sheets(compared: Comparison, names: Sequence[str], *, photos: int) -> list[Sheet]:
    """Return the runs, every class of each run but the first, and the photos where they differ most.

    Args:
        compared: the runs.
        names: of the runs.
        photos: most photos to list.
    """
    others = range(1, len(names))
    sheets = [_run_sheet(compared, names), *(_class_sheet(compared, run) for run in others)]
    return [*sheets, _photo_sheet(compared, photos)]


def _run_sheet(compared: Comparison, names: Sequence[str]) -> Sheet:
    apart = [["", "", ""], *(_difference(each) for each in compared.differences)]
    rows = [
        [LETTERS[run], name, percent(mean.value), percent(mean.error), *apart[run]]
        for run, (name, mean) in enumerate(zip(names, compared.means, strict=True))
    ]
    head = ["", "run", f"{compared.figure} %", "s.e.", "to A", f"{COVERED}% from", "to"]
    caption = f"{compared.protocol}: all classes, {compared.draws} draws of {number_of(compared.images, 'photo')}"
    return Sheet(caption, head, rows, texts=2)


def _class_sheet(compared: Comparison, run: int) -> Sheet:
    """Return the classes by their difference, the largest first; those without objects last."""
    apart = compared.class_differences[run - 1]
    order = sorted(range(len(apart)), key=lambda label: -abs(apart[label].value) if compared.objects[label] else 1)
    rows = [
        [
            compared.classes[label],
            *(percent(compared.by_class[each][label].value) for each in (0, run)),
            *_difference(apart[label]),
            str(compared.objects[label]),
        ]
        for label in order
    ]
    head = ["class", "A %", f"{LETTERS[run]} %", "difference", f"{COVERED}% from", "to", "objects"]
    return Sheet(f"{compared.protocol}: every class, {LETTERS[run]} and A", head, rows)


def _photo_sheet(compared: Comparison, photos: int) -> Sheet:
    rows = [
        [photo.image_id, str(photo.objects), *(f"{t} / {f}" for t, f in zip(photo.found, photo.false, strict=True))]
        for photo in compared.photos[:photos]
        if photo.apart
    ]
    head = ["photo", "objects", *LETTERS[: len(compared.means)]]
    return Sheet("Photos where the runs differ most: true / false of the best detections", head, rows)


def _difference(apart: Interval) -> list[str]:
    return [signed(apart.value), signed(apart.low), signed(apart.high)]


def verdicts(compared: Comparison) -> Iterator[str]:
    """Yield a line for the first run, and one for each other: how far it is from the first, and how sure that is."""
    mean = compared.means[0]
    interval = f"{COVERED}% interval {percent(mean.low)} to {percent(mean.high)}"
    yield f"A: {percent(mean.value)}% {compared.figure}, {interval} on {number_of(compared.images, 'photo')}"
    for run, apart in enumerate(compared.differences, start=1):
        value, low, high = _difference(apart)
        line = f"{LETTERS[run]} - A: {value} points of {compared.figure}, {COVERED}% interval {low} to {high}"
        if math.isnan(apart.low * apart.high):
            yield f"{line}: nothing can be measured"
        else:
            yield f"{line}, {'without 0' if apart.low * apart.high > 0 else 'which includes 0'}"


def comparison_json(compared: Comparison, names: Sequence[str]) -> dict[str, Any]:
    """Return plain values for a JSON file; NaN becomes null."""
    return {
        "protocol": compared.protocol,
        "figure": compared.figure,
        "images": compared.images,
        "draws": compared.draws,
        "runs": [
            {
                "run": name,
                compared.figure: _as_json(compared.means[run]),
                "difference": _as_json(compared.differences[run - 1]) if run else None,
                "classes": {
                    label: {
                        "AP": _as_json(compared.by_class[run][i]),
                        "difference": _as_json(compared.class_differences[run - 1][i]) if run else None,
                        "objects": compared.objects[i],
                    }
                    for i, label in enumerate(compared.classes)
                },
            }
            for run, name in enumerate(names)
        ],
        "photos": [
            {"image": photo.image_id, "objects": photo.objects, "true": photo.found, "false": photo.false}
            for photo in compared.photos
        ],
    }


def _as_json(found: Interval) -> dict[str, float | None]:
    return {
        "value": or_null(found.value),
        "standard_error": or_null(found.error),
        "low": or_null(found.low),
        "high": or_null(found.high),
    }


def comparison_csv(compared: Comparison, names: Sequence[str]) -> str:
    """Return a table for other programs: of each run a row for all classes, without a class, then one for each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for run, name in enumerate(names):
        values = [compared.means[run], *compared.by_class[run]]
        apart = [compared.differences[run - 1], *compared.class_differences[run - 1]] if run else [None] * len(values)
        for label, value, difference in zip(["", *compared.classes], values, apart, strict=True):
            writer.writerow([name, label, *_cells(value), *_cells(difference)])
    return text.getvalue()


def _cells(found: Interval | None) -> list[float | str]:
    values = _as_json(found).values() if found else [None] * 4
    return ["" if value is None else value for value in values]
