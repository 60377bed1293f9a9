"""One line of progress: photos, boxes, seconds per stage, photos a second, time left; and the table at the end."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from detect.options import with_options
from structures.text import printable

LINE_SECONDS = 30.0  # where no bar can be drawn, such as in a log file, a plain line now and then


@dataclass
class Pace:
    """Photos, or steps of a training, a second, without the first: it pays for compiling and for memory.

    >>> clock = iter([0.0, 10.0, 12.0, 14.0]).__next__
    >>> pace = Pace(total=5, clock=clock)
    >>> pace.step(), pace.left(), pace.step(), pace.left(), pace.step(), pace.left()
    (None, None, None, 6.0, None, 4.0)

    Pauses do not make the rate lower, but the end will have its share of them.

    >>> clock = iter([0.0, 9.0, 10.0, 15.0]).__next__
    >>> pace = Pace(total=10, clock=clock)
    >>> pace.step(), pace.step(), pace.pause(4.0), pace.step()
    (None, None, None, None)
    >>> pace.rate(), pace.left()
    (1.0, 21.0)
    """

    total: int
    clock: Callable[[], float] = time.perf_counter
    done: int = 0

    def __post_init__(self) -> None:
        self._begin = self._last = self.clock()
        self._warm: float | None = None
        self._paused = 0.0

    def step(self) -> None:
        """Count a photo."""
        self._last = self.clock()
        self.done += 1
        if self._warm is None:
            self._warm = self._last

    def pause(self, seconds: float) -> None:
        """Count time that was spent on something else, such as on judging a training."""
        self._paused += seconds

    @property
    def seconds(self) -> float:
        """Time from the start to the last photo."""
        return self._last - self._begin

    def rate(self) -> float | None:
        """Photos a second after the first; None until a second photo is done."""
        busy = None if self._warm is None else self._last - self._warm - self._paused
        return None if busy is None or busy <= 0 or self.done < 2 else (self.done - 1) / busy

    def left(self) -> float | None:
        """Seconds until the last photo is done; None as long as nobody can know."""
        if self._warm is None or self.rate() is None:
            return None
        return (self.total - self.done) * (self._last - self._warm) / (self.done - 1)


class Bar:
    """A bar on the error stream; where that is no terminal, a plain line every half minute.

    Args:
        total: photos to do.
        console: where to draw.

    Attributes:
        pace: photos a second and time left.
        seconds: per stage, summed over photos.
        boxes: detections so far.
    """

    def __init__(self, total: int, console: Console) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[words]}", markup=False))
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task: TaskID = self._bar.add_task("photos", total=total, words="the first photo takes longer")
        self._console, self._told = console, time.perf_counter()
        self.pace, self.seconds, self.boxes = Pace(total), Counter[str](), 0

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self, *, boxes: int, seconds: Mapping[str, float]) -> None:
        """Count a photo with its boxes and the seconds it took in each stage."""
        self.pace.step()
        self.boxes += boxes
        self.seconds.update(seconds)  # type: ignore[arg-type]  # Counter adds floats as well
        words = self.words()
        self._bar.update(self._task, advance=1, words=words)
        if not self._console.is_terminal and time.perf_counter() - self._told > LINE_SECONDS:
            self._told = time.perf_counter()
            self._console.print(f"{self.pace.done}/{self.pace.total} {words}", highlight=False, soft_wrap=True)

    def skip(self, reason: str) -> None:
        """Leave a photo out, and say why."""
        self.pace.total -= 1
        self._bar.update(self._task, advance=1)
        self._console.print(
            f"skipped: {with_options(printable(reason))}", style="yellow", markup=False, highlight=False, soft_wrap=True
        )

    def words(self) -> str:
        """Return what stands behind the bar."""
        stages = " ".join(f"{stage} {spent / max(1, self.pace.done):.2f}" for stage, spent in self.seconds.items())
        rate, left = self.pace.rate(), self.pace.left()
        speed = "" if rate is None or left is None else f" | {rate:.2f} photos/s | {duration(left)} left"
        return f"{self.boxes} boxes | s/photo: {stages}{speed}"


def duration(seconds: float) -> str:
    """Return a time as people say it.

    >>> duration(3.14159), duration(75), duration(7384)
    ('3.1 s', '1:15 min', '2:03 h')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
    return f"{int(seconds) // 3600}:{int(seconds) % 3600 // 60:02d} h"


def table(rows: Mapping[str, str]) -> Table:
    """Return a plain table of two columns, where square brackets are no markup and control characters are shown."""
    sheet = Table(box=None, show_header=False, pad_edge=False)
    sheet.add_column(style="bold", no_wrap=True)
    sheet.add_column(overflow="fold")
    for name, value in rows.items():
        sheet.add_row(Text(name), Text(printable(value)))
    return sheet
