"""Shows the progress of a training, and writes its curves."""

import csv
import importlib.util
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.progress import TaskID

from classifier.training import StepProgress
from detect.consoles import open_console
from detect.runs.machine import peak_memory_text
from detect.runs.progress import Bars, Pace, duration
from detect.training.folder import CURVE_FILE
from structures.files import FileRefused, replacing

COUNTERS = ("iteration", "step")  # name of the first column in earlier versions, and now


class Reporter:
    """Shows a bar for each kind of work and for the training, and writes curves.csv.

    Args:
        folder: folder of the training.
        steps: number of steps.
        batch: rows per batch, all processes together.
        rows: what a row is: "regions" or "photos".
        reason: device and precision, and why.
        quiet: show and write nothing: for all processes but the first.
    """

    def __init__(self, folder: Path, *, steps: int, batch: int, rows: str, reason: str, quiet: bool = False) -> None:
        self._quiet, self._batch, self._rows, self._reason = quiet, batch, rows, reason
        self.console = open_console(stderr=True, quiet=quiet)
        self._curve_file, self._steps = folder / CURVE_FILE, steps
        self._curves: Curves | None = None
        self._loss, self._judged = 0.0, ""
        self._pace: Pace | None = None
        self._training: TaskID | None = None
        self._bars = Bars(self.console)

    def __enter__(self) -> "Reporter":
        self._begin = time.perf_counter()
        self._bars.say(self._reason)
        self._bars.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._bars.__exit__(kind, *rest)
        if self._curves is not None:
            self._curves.close()
        if kind is None and self._pace is not None:
            self._bars.say(f"done in {duration(time.perf_counter() - self._begin)}, at most {peak_memory_text()}")

    def show(self, items: Iterable[int], total: int, name: str) -> Iterator[int]:
        """Show a bar over numbers up to total - 1, which may start where work resumes; then print how long it took."""
        task, pace = self._bars.add(name, total), Pace(total)
        for number in items:
            pace.total = total - number + pace.done
            yield number
            pace.step()
            left = pace.left()
            self._bars.update(task, number + 1, "" if left is None else f"{duration(left)} left")
        self._bars.remove(task)
        self._bars.say(f"{name}: {total}, {pace.done} of them now in {duration(pace.seconds)}")

    def report(self, done: StepProgress) -> None:
        """Show and write the figures of one step."""
        if self._quiet:
            return
        if self._pace is None or self._training is None:
            self._pace, self._training = Pace(self._steps - done.step + 1), self._bars.add("train", self._steps)
        self._pace.step()
        self._loss = done.loss if self._loss == 0 else 0.98 * self._loss + 0.02 * done.loss
        self._bars.update(self._training, done.step, self._words(done, self._pace))
        self._draw(done)

    def _draw(self, done: StepProgress) -> None:
        parts = dict(done.parts) if len(done.parts) > 1 else {}
        figures = {"loss": done.loss, **parts, "learning_rate": done.learning_rate}
        if self._curves is None:
            self._curves = Curves(self._curve_file, list(figures))
        self._curves.add(done.step, *figures.values())

    def judged(self, words: str, seconds: float) -> None:
        """Show the result of a validation, and leave its time out of the speed."""
        self._judged = f" | {words}"
        self._bars.say(words)
        if self._pace is not None:
            self._pace.pause(seconds)

    def _words(self, done: StepProgress, pace: Pace) -> str:
        steps, left = pace.per_second(), pace.left()
        speed = "" if steps is None else f" | {steps * self._batch:.0f} {self._rows}/s"
        end = "" if left is None else f" | {duration(left)} left"
        return f"loss {self._loss:.4f} | learning rate {done.learning_rate:.5f}{speed}{end}{self._judged}"


class Curves:
    """Writes a row of figures per step; a resumed run drops the rows that it computes again.

    Args:
        path: CSV file; TensorBoard's files are written to its folder.
        figures: names of the figures; the columns are step, these, seconds since the start.

    Raises:
        FileRefused: a file of this name is not the curve of a training.
    """

    def __init__(self, path: Path, figures: Sequence[str]) -> None:
        self._path, self._figures, self._start = path, figures, time.perf_counter()
        self._begun = False
        self._board: Any = None
        read_curve(path)  # checks the file before the training starts

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
        """Close TensorBoard's file; the CSV file is open only while a row is written."""
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
    """Return the complete rows of a CSV curve, without header; none if there is no file.

    Raises:
        FileRefused: a line does not belong to the curve of a training.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace").rstrip("\0")  # which a power cut leaves
    rows = list(csv.reader(text.splitlines()))
    for number, row in enumerate(rows, start=1):
        torn = number == len(rows) and not text.endswith("\n")
        if not (_is_header(row, torn) if number == 1 else _is_row(row, len(rows[0]), torn)):
            raise FileRefused(f"{path}: line {number}: not part of a training curve; move this file away")
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
