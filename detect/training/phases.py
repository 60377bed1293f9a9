"""Runs a whole training: one or several phases, each validated on the way."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from classifier.processes import current_process, first_then_others
from classifier.weights.checkpoint import Checkpoint
from detect.consoles import open_console
from detect.training.bookkeeping import Bookkeeping
from detect.training.folder import occupied, phase_folder
from detect.training.progress import Reporter
from detect.training.setup import with_origin
from detect.training.validation import RECORD, Validation


class Train(Protocol):
    """Trains from weights."""

    def __call__(self, start: Checkpoint, *, books: Bookkeeping) -> Checkpoint:
        """Return the trained weights; `books` has the folder of the phase."""
        ...


@dataclass(frozen=True)
class Phase:
    """One phase of a plan.

    Attributes:
        steps: number of batches.
        batch_size: rows per batch, all processes together.
        train: trains the weights.
    """

    steps: int
    batch_size: int
    train: Train


class Measure(Protocol):
    """Measures how good weights are, always on the same photos."""

    @property
    def figure(self) -> str:
        """Name of the figure, such as "mAP"."""
        ...

    def about(self) -> Mapping[str, Any]:
        """Return what decides the figure, as JSON values."""
        ...

    def prepare(self, console: Console) -> None:
        """Prepare what is needed and not there yet, such as proposals."""
        ...

    def __call__(self, checkpoint: Checkpoint) -> float:
        """Return the figure, from 0 to 1; higher is better."""
        ...


@dataclass(frozen=True)
class TrainingPlan:
    """What to train, and where.

    Attributes:
        start: weights to start from.
        phases: each starts from the result of the previous one.
        rows: what a batch consists of: "regions" or "photos".
        work: folder of the run; later phases have folders phase2, ... in it.
        reason: device and precision, and why.
        save_every: steps between two saved states.
        measure: validates the weights; None for no validation.
        measure_every: steps between two validations.
        about: facts for the metadata of the weights, such as the name of the data.
    """

    start: Checkpoint
    phases: Sequence[Phase]
    rows: str
    work: Path
    reason: str
    save_every: int = 500
    measure: Measure | None = None
    measure_every: int = 500
    about: Mapping[str, Any] = field(default_factory=dict)


def run_phases(plan: TrainingPlan) -> tuple[Checkpoint, Checkpoint | None]:
    """Run all phases of a plan.

    Returns:
        With validation, the best weights of all phases and the last ones; without, the last ones and None. Of several
        processes, only the first needs them.

    Raises:
        InputError: something cannot be used, or the folder belongs to another training or is in use.
    """
    best, last = None, plan.start
    with ExitStack() as stack:
        with first_then_others() as first:
            if first:
                stack.enter_context(occupied(plan.work))
                if plan.measure is not None:
                    plan.measure.prepare(open_console(stderr=True))
        for number in range(1, len(plan.phases) + 1):
            found, last = _train(plan, number, last)  # from the last weights, so that validation changes nothing
            if found is not None and (best is None or _judged(found) > _judged(best)):
                best = found
    return (last, None) if best is None else (best, last)


def _judged(weights: Checkpoint) -> float:
    return float(weights.training[RECORD]["value"])


def _train(plan: TrainingPlan, number: int, start: Checkpoint) -> tuple[Checkpoint | None, Checkpoint]:
    """Return the best weights of a phase, None without validation, and the last ones."""
    phase, count, folder = plan.phases[number - 1], len(plan.phases), phase_folder(plan.work, number)
    with Reporter(
        folder,
        steps=phase.steps,
        batch=phase.batch_size,
        rows=plan.rows,
        reason=(f"phase {number} of {count}, " if count > 1 else "") + plan.reason,
        quiet=current_process().rank > 0,
    ) as reporter:
        about = {**plan.about, **({"phase": number} if count > 1 else {})}
        validation = _validation(plan, phase, folder, reporter, about)
        books = Bookkeeping(folder, plan.save_every, reporter.show, reporter.report, validation)
        trained = phase.train(start, books=books)
        return validation.finish(trained) if validation else (None, with_origin(trained, about))


def _validation(
    plan: TrainingPlan, phase: Phase, folder: Path, reporter: Reporter, about: Mapping[str, Any]
) -> Validation | None:
    if plan.measure is None:
        return None
    return Validation(
        folder,
        plan.measure.figure,
        plan.measure,
        every=plan.measure_every,
        steps=phase.steps,
        about=plan.measure.about(),
        with_origin=partial(with_origin, data=about),
        tell=reporter.judged,
    )
