"""What a training run shows: bars, or in a log file a plain line now and then; and its curve."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from classifier.training import Progress as Report
from detect.curves import Curves
from detect.progress import LINE_SECONDS, Pace, duration
from detect.runs import peak_memory
from structures.text import printable


class Reporter:
    """One bar for each kind of work, one line for the training, and curves.csv.

    Args:
        folder: of the training.
        steps: in all.
        batch: rows of a batch, over all processes.
        rows: what a row is: "regions" or "photos".
        reason: device and precision, and why.
        quiet: show and write nothing: for all processes of one training but the first.
    """

    def __init__(self, folder: Path, *, steps: int, batch: int, rows: str, reason: str, quiet: bool = False) -> None:
        self._quiet, self._batch, self._rows, self._reason = quiet, batch, rows, reason
        self.console = Console(stderr=True, quiet=quiet)
        self._curve_file, self._steps = folder / "curves.csv", steps
        self._curves: Curves | None = None
        self._loss, self._judged, self._told = 0.0, "", time.perf_counter()
        self._pace: Pace | None = None
        self._training: Any = None

    def __enter__(self) -> "Reporter":
        self._begin = time.perf_counter()
        self._say(self._reason)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        words = TextColumn("{task.fields[words]}", markup=False)
        self._bars = Progress(*columns, words, console=self.console, disable=not self.console.is_terminal)
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._bars.stop()
        if self._curves is not None:
            self._curves.close()
        if kind is None and self._pace is not None:
            memory = ", ".join(f"{size / 2**30:.1f} GiB {place}" for place, size in peak_memory().items())
            self._say(f"done in {duration(time.perf_counter() - self._begin)}, at most {memory}")

    def show(self, items: Iterable[int], total: int, name: str) -> Iterator[int]:
        """Show a bar over numbers, 0 to total - 1 or from where the work goes on; then how long it took."""
        task, pace = self._bars.add_task(name, total=total, words=""), Pace(total)
        for number in items:
            pace.total = total - number + pace.done
            yield number
            pace.step()
            left = pace.left()
            words = "" if left is None else f"{duration(left)} left"
            self._bars.update(task, completed=number + 1, words=words)
            self._now_and_then(f"{name}: {number + 1}/{total} {words}")
        self._bars.remove_task(task)
        self._say(f"{name}: {total}, {pace.done} of them now in {duration(pace.seconds)}")

    def report(self, done: Report) -> None:
        """Show and write one step."""
        if self._quiet:
            return
        if self._pace is None:
            self._pace = Pace(self._steps - done.step + 1)
            self._training = self._bars.add_task("train", total=self._steps, words="")
        self._pace.step()
        self._loss = done.loss if self._loss == 0 else 0.98 * self._loss + 0.02 * done.loss
        words = self._words(done, self._pace)
        self._bars.update(self._training, completed=done.step, words=words)
        self._now_and_then(f"train: {done.step}/{self._steps} {words}")
        self._draw(done)

    def _draw(self, done: Report) -> None:
        parts = dict(done.parts) if len(done.parts) > 1 else {}
        figures = {"loss": done.loss, **parts, "learning_rate": done.learning_rate}
        if self._curves is None:
            self._curves = Curves(self._curve_file, list(figures))
        self._curves.add(done.step, *figures.values())

    def judged(self, words: str, seconds: float) -> None:
        """Show what validation said, and leave its time out of the pace."""
        self._judged = f" | {words}"
        self._say(words)
        if self._pace is not None:
            self._pace.pause(seconds)

    def _words(self, done: Report, pace: Pace) -> str:
        rate, left = pace.rate(), pace.left()
        speed = "" if rate is None else f" | {rate * self._batch:.0f} {self._rows}/s"
        end = "" if left is None else f" | {duration(left)} left"
        return f"loss {self._loss:.4f} | learning rate {done.learning_rate:.5f}{speed}{end}{self._judged}"

    def _now_and_then(self, line: str) -> None:
        if not self.console.is_terminal and time.perf_counter() - self._told > LINE_SECONDS:
            self._say(line)

    def _say(self, line: str) -> None:
        self._told = time.perf_counter()
        self.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
