"""Proposal recall as people and programs read it: tables, a plot, JSON."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.plots import recall_plots
from eval.proposal_recall import AVERAGE_RECALL_AT, COUNTS, SHOWN, THRESHOLDS, Coverage, recall
from eval.report import Sheet, percent
from eval.scores import by_class, or_null

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def proposal_sheets(values: Mapping[str, float], classes: Sequence[str]) -> list[Sheet]:
    """Return the tables: the whole, recall against IoU, recall against the number of boxes, every class.

    Args:
        values: as `proposal_rows` yields them.
        classes: class names in label order.
    """
    overall = [key for key in values if "/" not in key]  # the others are of a class
    shares = [key for key in overall if key == "MABO" or key.startswith("AR") or key.endswith("objects")]
    boxes = [key for key in overall if key.startswith("boxes")]
    whole = [[f"{key} %", percent(values[key])] for key in shares] + [[key, f"{values[key]:.1f}"] for key in boxes]
    by_iou = [[f"{t:.2f}", percent(values[f"recall@{t:.2f}"])] for t in THRESHOLDS]
    by_count = [[str(n), *(percent(values[f"recall@{t:.2f} of {n} boxes"]) for t in SHOWN)] for n in COUNTS]
    figures = by_class(values)
    rows = [[name, *map(percent, figures.get(name, {}).values())] for name in classes]
    return [
        Sheet("Every class, all boxes", ["class", "ABO %", "recall at IoU 0.5 %"], rows),
        Sheet("Recall by IoU, all boxes", ["IoU", "recall %"], by_iou),
        Sheet("Recall by number of boxes", ["best boxes per image", *(f"IoU {t} %" for t in SHOWN)], by_count),
        Sheet("All classes", ["figure", "value"], whole),
    ]


def proposal_plot(coverage: Coverage) -> "Figure":
    """Draw recall against IoU, for some numbers of boxes, and against the number of boxes, for some IoU."""
    counts = [*AVERAGE_RECALL_AT, None]
    by_threshold = {
        "all boxes" if n is None else f"{n} boxes": recall(
            coverage.overlap if n is None else coverage.first(n), THRESHOLDS
        )
        for n in counts
    }
    at_counts = np.stack([recall(coverage.first(n), SHOWN) for n in COUNTS], axis=1)  # (thresholds, counts)
    by_count = {f"IoU {t}": row for t, row in zip(SHOWN, at_counts, strict=True)}
    return recall_plots(THRESHOLDS, by_threshold, np.array(COUNTS, np.float64), by_count)


def as_json(values: Mapping[str, float], classes: Sequence[str]) -> dict[str, Any]:
    """Return plain values for a JSON file: figures over all classes, then those of every class; NaN becomes null."""
    overall = {name: or_null(value) for name, value in values.items() if "/" not in name}
    figures = by_class(values)
    rows = {name: {key: or_null(v) for key, v in figures.get(name, {}).items()} for name in classes}
    return {**overall, "classes": rows}
