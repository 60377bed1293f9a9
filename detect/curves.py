"""The curve of a training run: a CSV file, and TensorBoard's where that is installed."""

import csv
import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from structures.files import replacing


class Curves:
    """Writes a row of figures for a step; a resumed run drops the rows that it computes again.

    Args:
        path: the CSV file; TensorBoard's files go into its folder.
        figures: their names. The columns are: step, these, seconds since the start.
    """

    def __init__(self, path: Path, figures: Sequence[str]) -> None:
        self._path, self._figures, self._start = path, figures, time.perf_counter()
        self._begun = False
        self._board: Any = None

    def add(self, step: int, *values: float) -> None:
        """Write the figures of one step."""
        if not self._begun:
            self._begin(step)
        seconds = time.perf_counter() - self._start
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerow([step, *(f"{value:.8g}" for value in values), f"{seconds:.2f}"])
        if self._board is not None:
            for name, value in zip(self._figures, values, strict=True):
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Close TensorBoard's file; the other one is only open while a row is written."""
        if self._board is not None:
            self._board.close()

    def _begin(self, first: int) -> None:
        kept = [row for row in read_curve(self._path) if int(row[0]) < first]
        with replacing(self._path) as partial, partial.open("w", newline="") as file:
            csv.writer(file).writerows([["step", *self._figures, "seconds"], *kept])
        self._begun = True
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self._path.parent), purge_step=first)


def read_curve(path: Path) -> list[list[str]]:
    """Return the rows of a CSV curve without its header; none where there is no file, and no row that was cut short."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    return [row for row in rows[1:] if len(row) == len(rows[0]) and row[0].isdigit()]
