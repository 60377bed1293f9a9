"""A whole training, as `rcnn train regions` and `multibox` do it: one stage or several, each judged on the way."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from classifier.processes import current_process, first_then_others
from classifier.weights import Checkpoint
from detect.training_folder import occupied, stage_folder
from detect.training_progress import Reporter
from detect.training_runs import note
from detect.validation import RECORD, Validation

Train = Callable[[Checkpoint, Path, Reporter, Validation | None], Checkpoint]
"""Weights to start from, folder of the stage, who is told, who judges -> weights."""


@dataclass(frozen=True)
class Stage:
    """One training of a plan.

    Attributes:
        iterations: batches in all.
        batch_size: rows of a batch, over all processes.
        train: does it.
    """

    iterations: int
    batch_size: int
    train: Train


class Measure(Protocol):
    """Says how good weights are, always on the same photos."""

    @property
    def figure(self) -> str:
        """Name of what is measured, such as "mAP"."""
        ...

    def about(self) -> Mapping[str, Any]:
        """Return what decides the figure, as JSON values."""
        ...

    def prepare(self, console: Console) -> None:
        """Make what is needed to measure and is not there yet."""
        ...

    def __call__(self, checkpoint: Checkpoint) -> float:
        """Return the figure, from 0 to 1; higher is better."""
        ...


@dataclass(frozen=True)
class Plan:
    """What to train, and where it is kept.

    Attributes:
        start: weights to start from.
        stages: each starts from the result of the one before.
        rows: what a batch has: "regions" or "photos".
        work: folder of the run; the second stage has a folder stage2 in it, and so on.
        reason: device and precision, and why.
        measure: judges the weights; None for no validation.
        measure_every: iterations between two judgements.
        about: facts for the metadata, such as the name of the data.
    """

    start: Checkpoint
    stages: Sequence[Stage]
    rows: str
    work: Path
    reason: str
    measure: Measure | None = None
    measure_every: int = 500
    about: Mapping[str, Any] = field(default_factory=dict)


def carry_out(plan: Plan) -> tuple[Checkpoint, Checkpoint | None]:
    """Do all stages of a plan.

    Returns:
        The weights to use, which are the best of all stages where the training was judged and the last otherwise; and
        the last, if it was judged. Meant for the first of several processes.

    Raises:
        ValueError: something cannot be used, or the folder belongs to another training, or is in use.
    """
    best, last = None, plan.start
    with ExitStack() as stack:
        with first_then_others() as first:
            if first:
                stack.enter_context(occupied(plan.work))
                if plan.measure is not None:
                    plan.measure.prepare(Console(stderr=True))
        for number in range(1, len(plan.stages) + 1):
            found, last = _train(plan, number, last)  # a stage starts from the last weights: judging changes nothing
            if found is not None and (best is None or _judged(found) > _judged(best)):
                best = found
    return (last, None) if best is None else (best, last)


def _judged(weights: Checkpoint) -> float:
    return float(weights.training[RECORD]["value"])


def _train(plan: Plan, number: int, start: Checkpoint) -> tuple[Checkpoint | None, Checkpoint]:
    """Return the best weights of a stage, if it was judged, and its last."""
    stage, count, folder = plan.stages[number - 1], len(plan.stages), stage_folder(plan.work, number)
    with Reporter(
        folder,
        iterations=stage.iterations,
        batch=stage.batch_size,
        rows=plan.rows,
        reason=(f"stage {number} of {count}, " if count > 1 else "") + plan.reason,
        quiet=current_process().rank > 0,
    ) as reporter:
        about = {**plan.about, **({"stage": number} if count > 1 else {})}
        validation = _validation(plan, stage, folder, reporter, about)
        trained = stage.train(start, folder, reporter, validation)
        return validation.finish(trained) if validation else (None, note(trained, about))


def _validation(
    plan: Plan, stage: Stage, folder: Path, reporter: Reporter, about: Mapping[str, Any]
) -> Validation | None:
    if plan.measure is None:
        return None
    return Validation(
        folder,
        plan.measure.figure,
        plan.measure,
        every=plan.measure_every,
        iterations=stage.iterations,
        about=plan.measure.about(),
        note=partial(note, data=about),
        tell=reporter.judged,
    )
