"""The tables of a page: of one run as on the terminal, of two side by side."""

from collections.abc import Mapping, Sequence

from eval.report import Sheet, class_sheet, overall_sheet, percent, signed
from eval.scores import Scores

LETTERS = ("A", "B")  # the first and the second run


def overall_table(runs: Sequence[Scores]) -> Sheet:
    """Return the figures over all classes, of two runs with their difference."""
    if len(runs) == 1:
        return overall_sheet(runs[0])
    rows = [[name, *_pair([run.overall for run in runs], name)] for name in runs[0].overall]
    return Sheet(f"{runs[0].protocol}: all classes", ["figure", *_heads("%")], rows)


def class_table(runs: Sequence[Scores]) -> Sheet:
    """Return the figures of every class, of two runs with their difference."""
    if len(runs) == 1:
        return class_sheet(runs[0])
    first, second = runs
    figures = sorted({key.partition("/")[0] for key in first.values if "/" in key})
    counts = zip(first.objects, first.ignored, first.detections, second.detections, strict=True)
    rows = [
        [
            name,
            *(cell for key in figures for cell in _pair([run.of_class(name) for run in runs], key)),
            *map(str, numbers),
        ]
        for name, numbers in zip(first.classes, counts, strict=True)
    ]
    heads = [head for key in figures for head in _heads(f"{key} %")]
    counted = ["objects", "ignored", *(f"detections {letter}" for letter in LETTERS)]
    return Sheet(f"{first.protocol}: every class", ["class", *heads, *counted], rows)


def _heads(figure: str) -> list[str]:
    return [*(f"{figure} {letter}" for letter in LETTERS), "B - A"]


def _pair(values: Sequence[Mapping[str, float]], key: str) -> list[str]:
    first, second = (each[key] for each in values)
    return [percent(first), percent(second), signed(second - first)]
