"""Plots of an evaluation: precision against recall, recall against IoU and against the number of boxes."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eval.average_precision import RankedOutcomes, all_point
from structures.errors import InputError

if TYPE_CHECKING:  # matplotlib is slow to import, and needed for plots alone
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = npt.NDArray[np.floating]
COLUMNS = 5  # small plots in a row
POINTS = 400  # the most points of a curve; there may be a million detections


def precision_recall(curves: Sequence[RankedOutcomes], classes: Sequence[str]) -> "Figure":
    """Draw one small plot a class: precision and its ceiling against recall; classes without objects are left out."""
    shown = [(curve, name) for curve, name in zip(curves, classes, strict=True) if curve.positives]
    rows = max(math.ceil(len(shown) / COLUMNS), 1)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * COLUMNS, 2.4 * rows), layout="constrained")
    for place, (curve, name) in enumerate(shown):
        axes = figure.add_subplot(rows, COLUMNS, place + 1)
        _draw_curve(axes, curve)
        axes.set_title(f"{name}  {100 * all_point(curve):.1f}", fontsize=9)
    figure.supxlabel("recall", fontsize=9)
    figure.supylabel("precision", fontsize=9)
    return figure


def _draw_curve(axes: "Axes", curve: RankedOutcomes) -> None:
    last = len(curve.true) - 1
    chosen = np.unique(np.linspace(0, last, min(POINTS, last + 1)).astype(np.int64))
    axes.plot(curve.recall[chosen], curve.precision[chosen], color="0.7", linewidth=0.8)
    axes.step(curve.recall[chosen], curve.ceiling[chosen], where="pre", color="tab:blue", linewidth=1.2)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)


def recall_plots(
    thresholds: Values, by_threshold: Mapping[str, Values], counts: Values, by_count: Mapping[str, Values]
) -> "Figure":
    """Draw recall against the IoU asked for and against the number of boxes kept, a line for every name.

    Args:
        thresholds: (T,) IoU.
        by_threshold: recall at each threshold, with all boxes or the number that the name says.
        counts: (K,) numbers of best boxes per image.
        by_count: recall at each count, at the IoU that the name says.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, recall in by_threshold.items():
        left.plot(thresholds, recall, label=name)
    for name, recall in by_count.items():
        right.plot(counts, recall, label=name, marker=".")
    left.set(xlabel="IoU", ylabel="recall", xlim=(thresholds[0], thresholds[-1]))
    right.set(xlabel="boxes an image", ylabel="recall", xscale="log")
    for axes in (left, right):
        axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def picture_format(path: Path) -> str:
    """Return the format that the name of a picture asks for; png without a suffix.

    Raises:
        InputError: matplotlib cannot write it.

    >>> picture_format(Path("recall.svg"))
    'svg'
    """
    suffix = path.suffix.lower().removeprefix(".") or "png"
    from matplotlib.figure import Figure

    known = Figure().canvas.get_supported_filetypes()
    if suffix not in known:
        raise InputError(f"{path}: pictures are written as {', '.join(sorted(known))}")
    return suffix


def to_picture(figure: "Figure", kind: str = "png", *, dpi: int = 110) -> bytes:
    """Return a figure as the bytes of a file.

    Raises:
        InputError: matplotlib cannot write this kind of file.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind.lower(), dpi=dpi)
    return buffer.getvalue()
