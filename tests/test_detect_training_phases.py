"""Trainings of several phases: what each starts from, which weights are the best of all, and one run at a time."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from classifier.weights.checkpoint import Checkpoint
from detect.training.bookkeeping import Bookkeeping
from detect.training.phases import Phase, TrainingPlan, run_phases


def weights(value: float) -> Checkpoint:
    return Checkpoint({"value": torch.tensor(value)}, ("a",), task="multibox")


class Values:
    """The figure of weights is found in a table by their value."""

    figure = "mAP"

    def __init__(self, figures: Mapping[float, float]) -> None:
        self._figures = figures

    def about(self) -> Mapping[str, Any]:
        return {"photos": 4}

    def prepare(self, console: Console) -> None: ...

    def __call__(self, checkpoint: Checkpoint) -> float:
        return self._figures[float(checkpoint.state["value"])]


def adding(amount: float) -> Phase:
    """Two steps that each add to the weights."""

    def train(start: Checkpoint, *, books: Bookkeeping) -> Checkpoint:
        last = start
        for step in (1, 2):
            last = weights(float(last.state["value"]) + amount)
            if books.judge is not None:
                books.judge(step, lambda now=last: now)  # type: ignore[misc]
        return last

    return Phase(2, 1, train)


def plan(work: Path, phases: Sequence[Phase], figures: Mapping[float, float] | None = None) -> TrainingPlan:
    measure = None if figures is None else Values(figures)
    return TrainingPlan(
        weights(0), phases, "regions", work, "here", measure=measure, measure_every=1, about={"data": "drawn"}
    )


@pytest.mark.parametrize(
    ("figures", "best", "phase", "step"),
    [
        ({1: 0.1, 2: 0.5, 12: 0.4, 22: 0.3}, 2, 1, 2),
        ({1: 0.6, 2: 0.5, 12: 0.6, 22: 0.3}, 1, 1, 1),
        ({1: 0.1, 2: 0.5, 12: 0.7, 22: 0.3}, 12, 2, 1),
        ({1: 0.1, 2: 0.5, 12: 0.6, 22: 0.8}, 22, 2, 2),
    ],
)
def test_the_result_is_the_best_of_all_phases_and_judging_changes_no_training(
    tmp_path: Path, figures: Mapping[float, float], best: float, phase: int, step: int
) -> None:
    found, last = run_phases(plan(tmp_path / "judged", [adding(1), adding(10)], figures))
    assert float(found.state["value"]) == best
    assert (found.training["phase"], found.training["validation"]["step"]) == (phase, step)
    assert last is not None
    assert float(last.state["value"]) == 22
    plain, nothing = run_phases(plan(tmp_path / "plain", [adding(1), adding(10)]))
    assert float(plain.state["value"]) == 22
    assert nothing is None
    assert (plain.training["phase"], plain.training["data"]) == (2, "drawn")


def test_a_training_of_one_phase_has_no_number(tmp_path: Path) -> None:
    assert "phase" not in run_phases(plan(tmp_path, [adding(1)]))[0].training


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    """The later one would write over the features that the earlier one reads."""

    def meddle(start: Checkpoint, *, books: Bookkeeping) -> Checkpoint:
        with pytest.raises(ValueError, match=f"{tmp_path}: another run is writing here; wait for it or name another"):
            run_phases(plan(tmp_path, [adding(1)]))
        return start

    first: Callable[[], Any] = lambda: run_phases(plan(tmp_path, [Phase(1, 1, meddle)]))  # noqa: E731
    first()
    first()  # the folder is free again
