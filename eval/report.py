"""The tables that people read, on the terminal and on a page."""

import csv
import io
import math
from collections.abc import Sequence

import rich.box
from rich.console import Group, JustifyMethod
from rich.table import Table
from rich.text import Text

from eval.mistakes import KINDS, SIZES, Mistakes
from eval.scores import Scores
from structures.text import printable


class Sheet:
    """A table that can be shown in a terminal and on a page.

    Args:
        caption: shown above it.
        head: names of the columns.
        rows: cells, as many as the head has.
        texts: number of columns, from the first, that hold text and are left-aligned; numbers are right-aligned.
    """

    def __init__(self, caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> None:
        self.caption, self.head, self.rows, self.texts = caption, head, rows, texts

    def for_terminal(self) -> Group:
        """Return it for rich; names are shown as they are, also those with square brackets."""
        table = Table(box=rich.box.SIMPLE_HEAD)
        for place, name in enumerate(self.head):
            side: JustifyMethod = "left" if place < self.texts else "right"
            table.add_column(Text(printable(name)), justify=side, overflow="fold")  # broken where it must be, never cut
        for row in self.rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        return Group(Text(printable(self.caption), "bold"), table)  # as a title it would be no wider than the table


def sheets_csv(sheets: Sequence[Sheet]) -> str:
    """Return tables as CSV with a line for each value: table, row, column, value.

    A row is named by its first column, as it is shown.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["table", "row", "column", "value"])
    for sheet in sheets:
        for first, *values in sheet.rows:
            writer.writerows([sheet.caption, first, *pair] for pair in zip(sheet.head[1:], values, strict=True))
    return file.getvalue()


def percent(value: float) -> str:
    """Return a share in percent, as in papers.

    >>> percent(0.41234), percent(float("nan"))
    ('41.23', '-')
    """
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def signed(value: float) -> str:
    """Return a difference of shares in points, with its sign.

    >>> signed(0.0123), signed(float("nan"))
    ('+1.23', '-')
    """
    return percent(value) if math.isnan(value) else f"{100 * value:+.2f}"


def class_sheet(scores: Scores) -> Sheet:
    """Return the figures of every class, and those over all classes below."""
    figures = sorted({key.partition("/")[0] for key in scores.values if "/" in key})
    rows = [
        [name, *(percent(scores.of_class(name)[key]) for key in figures), str(objects), str(ignored), str(found)]
        for name, objects, ignored, found in zip(
            scores.classes, scores.objects, scores.ignored, scores.detections, strict=True
        )
    ]
    head = ["class", *(f"{key} %" for key in figures), "objects", "ignored", "detections"]
    return Sheet(f"{scores.protocol}: every class", head, rows)


def overall_sheet(scores: Scores) -> Sheet:
    """Return the figures over all classes."""
    rows = [[name, percent(value)] for name, value in scores.overall.items()]
    return Sheet(f"{scores.protocol}: all classes", ["figure", "%"], rows)


def mistake_sheets(mistakes: Mistakes) -> list[Sheet]:
    """Return what is wrong with the best detections, the most frequent confusions, and the misses by size."""
    true, false = mistakes.best
    total = max(true + false, 1)
    kinds = [
        [kind, KINDS[kind], str(count), percent(count / total), signed(mistakes.gain[kind])]
        for kind, count in sorted(mistakes.kinds.items(), key=lambda item: -item[1])
    ]
    pairs = [[f"{said} for {meant}", str(count)] for said, meant, count in mistakes.confusions]
    sizes = [
        [
            name,
            f"from {math.sqrt(SIZES[name]):.0f} x {math.sqrt(SIZES[name]):.0f} px",
            str(objects),
            str(objects - found),
            percent((objects - found) / objects if objects else math.nan),
        ]
        for name, (objects, found) in mistakes.sizes.items()
    ]
    return [
        Sheet(
            f"False ones among the {true + false} best detections (as many of a class as it has objects)",
            ["kind", "what it is", "count", "share %", "mAP without it"],
            kinds,
            texts=2,
        ),
        Sheet("Most frequent confusions", ["detected for annotated", "count"], pairs),
        Sheet("Objects missed, by size", ["size", "area", "objects", "missed", "missed %"], sizes, texts=2),
    ]
