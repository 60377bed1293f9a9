"""The curve of a training run: a CSV file, and TensorBoard's where that is installed."""

import csv
import importlib.util
import os
import time
from pathlib import Path
from typing import Any

from classifier.training import Progress

COLUMNS = ("iteration", "loss", "rate", "seconds")


class Curves:
    """Writes a row an iteration; a resumed run drops the rows that it computes again.

    Args:
        path: the CSV file; TensorBoard's files go into its folder.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._start = path, time.perf_counter()
        self._rows: Any = None
        self._board: Any = None

    def add(self, step: Progress) -> None:
        """Write the row of one iteration."""
        if self._rows is None:
            self._open(step.iteration)
        seconds = time.perf_counter() - self._start
        self._rows.writerow([step.iteration, f"{step.loss:.6f}", f"{step.rate:.8f}", f"{seconds:.2f}"])
        if self._board is not None:
            self._board.add_scalar("loss", step.loss, step.iteration)
            self._board.add_scalar("rate", step.rate, step.iteration)

    def close(self) -> None:
        """Close the files."""
        if self._rows is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    def _open(self, first: int) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_curve(self._path) if int(row[0]) < first]
        temporary = self._path.with_suffix(".tmp")
        with temporary.open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *kept])
        os.replace(temporary, self._path)
        self._file = self._path.open("a", newline="", buffering=1)
        self._rows = csv.writer(self._file)
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self._path.parent), purge_step=first)


def read_curve(path: Path) -> list[list[str]]:
    """Return the rows of a CSV curve without its header; none where there is no file, and no row that was cut short."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.reader(file) if len(row) == len(COLUMNS) and row[0].isdigit()]
