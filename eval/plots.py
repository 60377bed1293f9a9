"""Plots of evaluations: recall against IoU and against the number of boxes, detectors against their time."""

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from structures.errors import InputError

if TYPE_CHECKING:  # matplotlib is slow to import, and needed for plots alone
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^vPX*"  # so that colours need not be told apart
Values = npt.NDArray[np.floating]


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
    right.set(xlabel="boxes per image", ylabel="recall", xscale="log")
    for axes in (left, right):
        axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def detector_plots(
    points: Mapping[str, tuple[float, float, float]], curves: Mapping[str, tuple[Values, Values]]
) -> "Figure":
    """Draw how good detectors are against how long they take, and the recall of their boxes against how many they are.

    Args:
        points: seconds per photo, mAP and its standard error, by name; seconds of 0 leave the left half out.
        curves: numbers of best boxes per image, and recall with these, by name.
    """
    from matplotlib.figure import Figure

    timed = all(seconds > 0 for seconds, _, _ in points.values())
    figure = Figure(figsize=(11, 4.6) if timed else (6, 4.6), layout="constrained")
    axes = figure.subplots(1, 2 if timed else 1, squeeze=False)[0]
    for (seconds, value, error), marker in zip(points.values() if timed else (), cycle(MARKERS), strict=False):
        axes[0].errorbar(seconds, 100 * value, yerr=100 * error, marker=marker, capsize=3)
    if timed:
        axes[0].set(xlabel="seconds per photo", ylabel="mAP, % (with its standard error)", xscale="log")
        _label_powers(axes[0], (1, 1.5, 2, 3, 4, 5, 7))
    for (name, (counts, recall)), marker in zip(curves.items(), cycle(MARKERS), strict=False):
        axes[-1].plot(counts, 100 * recall, marker=marker, markersize=4, label=name)
    axes[-1].set(xlabel="boxes per photo", ylabel="recall at IoU 0.5, %", xscale="log")
    _label_powers(axes[-1], (1, 2, 5))
    handles, names = axes[-1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _label_powers(axes: "Axes", multiples: Sequence[float]) -> None:
    """Label these multiples of the powers of ten on the logarithmic x axis, far enough apart to be read."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.xaxis.set_major_locator(LogLocator(subs=multiples))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)


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
