"""Progress on the error stream: one kind of bar for photos and trainings, plain lines where there is no terminal."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from classifier.training import StepProgress
from detect.runs import progress
from detect.runs.progress import Bar, Bars
from detect.training.progress import Reporter


class Clock:
    """Tells a time that goes on by ten seconds each time it is asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 10
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def plain() -> Console:
    return Console(file=io.StringIO(), width=200)


def lines(console: Console) -> list[str]:
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.usefixtures("clock")
def test_without_a_terminal_a_line_comes_every_half_minute() -> None:
    console = plain()
    with Bars(console) as bars:
        task = bars.add("draw regions", 9)
        for done in range(1, 10):
            bars.update(task, done, f"and {9 - done} left")
    assert list(filter(None, lines(console))) == ["draw regions: 4/9 and 5 left", "draw regions: 8/9 and 1 left"]


@pytest.mark.usefixtures("clock")
def test_lines_about_photos_that_fail_do_not_put_off_those_about_progress() -> None:
    console = plain()
    with Bar(6, console) as bar:
        for number in range(6):
            bar.skip(f"{number}.jpg: not a picture")
    shown = lines(console)
    assert len([line for line in shown if line.startswith("skipped: ")]) == 6
    assert [line.split(" ")[1] for line in shown if line.startswith("photos: ")] == ["4/6"]


def test_on_a_terminal_the_bar_counts_photos_that_fail_too() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with Bar(2, console) as bar:
        bar.step(boxes=3, seconds={"read": 0.5})
        bar.skip("b.jpg: not a picture")
        assert bar.words().startswith("3 boxes | s/photo: read 0.50")
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "2/2" in shown
    assert "skipped: b.jpg: not a picture" in shown


@pytest.mark.usefixtures("clock")
def test_a_training_shows_its_loss_by_the_same_bars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter(tmp_path, steps=8, batch=4, rows="regions", reason="torch float32 on cpu") as reporter:
        for step in range(1, 9):
            reporter.report(StepProgress(step, 0.5, {"loss": 0.5}, 0.01))
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "torch float32 on cpu"
    assert [line.split(" | ")[:2] for line in shown if line.startswith("train: ")] == [
        [f"train: {step}/8 loss 0.5000", "learning rate 0.01000"] for step in (4, 8)
    ]
