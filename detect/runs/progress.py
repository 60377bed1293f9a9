"""Progress on stderr: bars with speed and time left, for photos and trainings; and the closing table."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from detect.option_names import with_options
from structures.text import printable

if TYPE_CHECKING:
    from typing_extensions import Self

LINE_SECONDS = 30.0  # between plain lines, if stderr is not a terminal


@dataclass
class Pace:
    """Speed in photos, or steps of a training, per second; without the first, which includes compiling and memory.

    >>> clock = iter([0.0, 10.0, 12.0, 14.0]).__next__
    >>> pace = Pace(total=5, clock=clock)
    >>> pace.step(), pace.left(), pace.step(), pace.left(), pace.step(), pace.left()
    (None, None, None, 6.0, None, 4.0)

    Pauses do not lower the speed, but the time left includes its share of them.

    >>> clock = iter([0.0, 9.0, 10.0, 15.0]).__next__
    >>> pace = Pace(total=10, clock=clock)
    >>> pace.step(), pace.step(), pace.pause(4.0), pace.step()
    (None, None, None, None)
    >>> pace.per_second(), pace.left()
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
        """Count a photo or a step."""
        self._last = self.clock()
        self.done += 1
        if self._warm is None:
            self._warm = self._last

    def pause(self, seconds: float) -> None:
        """Exclude time that was spent on something else, such as validation."""
        self._paused += seconds

    @property
    def seconds(self) -> float:
        """Seconds from the start to the latest photo or step."""
        return self._last - self._begin

    @property
    def first(self) -> float:
        """Time from the start to the first photo; 0 before it is done."""
        return 0.0 if self._warm is None else self._warm - self._begin

    def per_second(self) -> float | None:
        """Photos or steps per second after the first; None until a second one is done."""
        busy = None if self._warm is None else self._last - self._warm - self._paused
        return None if busy is None or busy <= 0 or self.done < 2 else (self.done - 1) / busy

    def left(self) -> float | None:
        """Seconds until everything is done; None until that is known."""
        if self._warm is None or self.per_second() is None:
            return None
        return (self.total - self.done) * (self._last - self._warm) / (self.done - 1)


class Bars:
    """A progress bar on stderr for each kind of work; if that is not a terminal, a plain line every half minute.

    Args:
        console: where to draw.
    """

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        words = TextColumn("{task.fields[words]}", markup=False)
        self._console, self._last_line = console, time.perf_counter()
        self._bars = Progress(*columns, words, console=console, disable=not console.is_terminal)
        self._kinds = dict[TaskID, tuple[str, int]]()

    def __enter__(self) -> "Self":
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def add(self, name: str, total: int, words: str = "") -> TaskID:
        """Start a bar, followed by words."""
        task = self._bars.add_task(name, total=total, words=words)
        self._kinds[task] = name, total
        return task

    def update(self, task: TaskID, done: int, words: str) -> None:
        """Update a bar."""
        self._bars.update(task, completed=done, words=words)
        if not self._console.is_terminal and time.perf_counter() - self._last_line > LINE_SECONDS:
            name, total = self._kinds[task]
            self.say(f"{name}: {done}/{total} {words}")
            self._last_line = time.perf_counter()

    def remove(self, task: TaskID) -> None:
        """Remove a bar."""
        self._bars.remove_task(task)

    def say(self, line: str, style: str | None = None) -> None:
        """Print a line above the bars."""
        self._console.print(printable(line), style=style, markup=False, highlight=False, soft_wrap=True)


class Bar:
    """Progress over photos: boxes, seconds per stage, photos per second and the time left.

    Args:
        total: photos to do.
        console: where to draw.

    Attributes:
        pace: photos per second and time left.
        seconds: seconds per stage, summed over photos.
        boxes: number of boxes so far.
    """

    def __init__(self, total: int, console: Console) -> None:
        self._bars = Bars(console)
        self._task, self._skipped = self._bars.add("photos", total, "the first photo takes longer"), 0
        self.pace, self.seconds, self.boxes = Pace(total), Counter[str](), 0

    def __enter__(self) -> "Self":
        self._bars.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.__exit__(*error)

    def step(self, *, boxes: int, seconds: Mapping[str, float]) -> None:
        """Count a photo with its boxes and its seconds in each stage."""
        self.pace.step()
        self.boxes += boxes
        self.seconds.update(seconds)  # type: ignore[arg-type]  # Counter adds floats as well
        self._update()

    def skip(self, reason: str) -> None:
        """Count a skipped photo, and print the reason."""
        self.pace.total -= 1
        self._skipped += 1
        self._bars.say(f"skipped: {with_options(reason)}", style="yellow")
        self._update()

    def words(self) -> str:
        """Return what is shown after the bar."""
        stages = " ".join(f"{stage} {spent / max(1, self.pace.done):.2f}" for stage, spent in self.seconds.items())
        photos, left = self.pace.per_second(), self.pace.left()
        speed = "" if photos is None or left is None else f" | {photos:.2f} photos/s | {duration(left)} left"
        return f"{self.boxes} boxes | s/photo: {stages}{speed}"

    def _update(self) -> None:
        self._bars.update(self._task, self.pace.done + self._skipped, self.words())


def duration(seconds: float) -> str:
    """Return a duration as text.

    >>> duration(3.14159), duration(75), duration(7384)
    ('3.1 s', '1:15 min', '2:03 h')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
    return f"{int(seconds) // 3600}:{int(seconds) % 3600 // 60:02d} h"


def table(rows: Mapping[str, str]) -> Table:
    """Return a plain table of two columns, without markup and with control characters escaped."""
    sheet = Table(box=None, show_header=False, pad_edge=False)
    sheet.add_column(style="bold", no_wrap=True)
    sheet.add_column(overflow="fold")
    for name, value in rows.items():
        sheet.add_row(Text(name), Text(printable(value)))
    return sheet
