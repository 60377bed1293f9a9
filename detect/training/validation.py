"""Validates a training while it runs: measures the weights on a schedule, and keeps the best.

WORK/val.csv           step, figure, seconds
WORK/best.safetensors  the best weights so far, with their step and figure in the metadata
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from classifier.processes import current_process, first_then_others
from classifier.training import require_finite
from classifier.weights.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from detect.training.folder import BEST_FILE, STATE, VALIDATION_CURVE_FILE, VALIDATION_FILE, require_same_origin
from detect.training.progress import Curves, read_curve

RECORD = "validation"  # in the metadata of weights


class Validation:
    """Measures weights on a schedule, and keeps the best.

    A killed run resumes from its last state and measures again what came after it, with the same results, so it also
    ends with the same best weights.

    Args:
        work: folder of the training.
        figure: name of the figure, such as "mAP".
        measure: weights -> figure from 0 to 1, higher is better.
        every: steps between two measurements; the last step is always measured.
        steps: number of steps of the training.
        about: what decides the figure, as JSON values: photos, proposals, protocol.
        with_origin: adds to the metadata of weights how they were made.
        tell: called with a line about the result, and the seconds it took.

    Raises:
        WeightsError: the folder has measurements of another kind.
    """

    def __init__(
        self,
        work: Path,
        figure: str,
        measure: Callable[[Checkpoint], float],
        *,
        every: int,
        steps: int,
        about: Mapping[str, Any],
        with_origin: Callable[[Checkpoint], Checkpoint],
        tell: Callable[[str, float], None] = lambda words, seconds: None,
    ) -> None:
        self._best_file, self._curve_file = work / BEST_FILE, work / VALIDATION_CURVE_FILE
        self._figure, self._measure, self._about = figure, measure, about
        self._every, self._steps, self._with_origin, self._tell = every, steps, with_origin, tell
        self._curve = Curves(self._curve_file, [figure])
        if current_process().rank == 0:
            self._require_same_measure(work)

    def __call__(self, step: int, weights: Callable[[], Checkpoint]) -> None:
        """Measure the weights after a step, if it is due; of several processes only the first does."""
        if step % self._every and step != self._steps:
            return
        with first_then_others() as first:
            if first:
                self._judge(step, weights())

    def finish(self, last: Checkpoint) -> tuple[Checkpoint, Checkpoint]:
        """Return the best and the last weights, with their scores in the metadata.

        A training that was finished before validation was requested is measured now.
        """
        with first_then_others() as first:
            if first and self._of(self._steps) is None:
                self._judge(self._steps, last)
            self._curve.close()
        value = self._of(self._steps)
        assert value is not None
        return read_checkpoint(self._best_file), self._noted(last, self._steps, value)

    def _require_same_measure(self, work: Path) -> None:
        record, state = work / VALIDATION_FILE, work / STATE
        if not state.exists():
            for file in (self._best_file, self._curve_file, record):
                file.unlink(missing_ok=True)
        require_same_origin(record, self._about, remedy=f"name another `work` folder, or remove {state} to train again")

    def _judge(self, step: int, checkpoint: Checkpoint) -> None:
        begin = time.perf_counter()
        require_finite(checkpoint.state, step)
        value = round(float(self._measure(checkpoint)), 4)
        at, best = self._best()
        if value > best:
            at, best = step, value
            save_checkpoint(self._noted(checkpoint, step, value), self._best_file)
        self._curve.add(step, value)
        best_so_far = "" if at == step else f" (best {100 * best:.2f} at {at})"
        self._tell(f"{self._figure} {100 * value:.2f}{best_so_far} after {step}", time.perf_counter() - begin)

    def _noted(self, checkpoint: Checkpoint, step: int, value: float) -> Checkpoint:
        record = {"step": step, "figure": self._figure, "value": value, **self._about}
        noted = self._with_origin(checkpoint)
        return replace(noted, training={**noted.training, RECORD: record})

    def _best(self) -> tuple[int, float]:
        if not self._best_file.exists():
            return 0, -1.0
        record = read_checkpoint(self._best_file).training[RECORD]
        return int(record["step"]), float(record["value"])

    def _of(self, step: int) -> float | None:
        return next((float(row[1]) for row in read_curve(self._curve_file) if int(row[0]) == step), None)
