"""The curve of a training run: a CSV file, and TensorBoard's where that is installed."""

import csv
import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from structures.files import FileRefused, replacing

COUNTERS = ("iteration", "step")  # names of the first column, now and in other versions


class Curves:
    """Writes a row of figures for a step; a resumed run drops the rows that it computes again.

    Args:
        path: the CSV file; TensorBoard's files go into its folder.
        figures: their names. The columns are: step, these, seconds since the start.

    Raises:
        FileRefused: there is a file of this name that is no curve of ours.
    """

    def __init__(self, path: Path, figures: Sequence[str]) -> None:
        self._path, self._figures, self._start = path, figures, time.perf_counter()
        self._begun = False
        self._board: Any = None
        read_curve(path)  # now, not when there is something to write

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
    """Return the rows of a CSV curve without its header; none where there is no file, and no row that was cut short.

    Raises:
        FileRefused: a line that is not one of a curve of ours; names it.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace").rstrip("\0")  # which a power cut leaves
    rows = list(csv.reader(text.splitlines()))
    for number, row in enumerate(rows, start=1):
        torn = number == len(rows) and not text.endswith("\n")
        if not (_is_header(row, torn) if number == 1 else _is_row(row, len(rows[0]), torn)):
            raise FileRefused(f"{path}: line {number}: not of the curve of a training; move this file away")
    return [row for row in rows[1:] if len(row) == len(rows[0]) and row[-1]]


def _is_header(row: list[str], torn: bool) -> bool:
    if torn:
        return len(row) == 1 and any(name.startswith(row[0]) for name in COUNTERS)
    return bool(row) and row[0] in COUNTERS and row[-1] == "seconds"


def _is_row(row: list[str], columns: int, torn: bool) -> bool:
    whole = len(row) == columns or (torn and 0 < len(row) < columns)
    return whole and row[0].isdigit() and all(map(_is_number, row[1:-1] if torn else row[1:]))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
