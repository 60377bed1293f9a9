"""A whole training of MultiBox, as `rcnn train multibox` does it: one stage or several, judged on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from classifier.engines import Placement
from classifier.processes import current_process
from classifier.weights import Checkpoint
from detect.multibox import HEADLINE, headline
from detect.multibox_recipe import Recipe
from detect.train_multibox import train_multibox
from detect.training_folder import contents, stage_folder
from detect.training_progress import Reporter
from detect.training_runs import note
from detect.validation import Validation
from structures.records import Dataset


@dataclass(frozen=True)
class Plan:
    """What to train, on what, and where it is kept.

    Attributes:
        start: weights to start from.
        dataset: photos and their objects.
        recipes: one a stage; each starts from the result of the one before.
        work: folder of the run; the second stage has a folder stage2 in it, and so on.
        placement: device and engine.
        workers: processes that draw samples; 0 draws them in between.
        save_every: steps between two states on disk.
        judged: photos to judge on; None for no validation.
        judge_every: steps between two judgements.
        about: facts for the metadata, such as the name of the data.
    """

    start: Checkpoint
    dataset: Dataset
    recipes: Sequence[Recipe]
    work: Path
    placement: Placement
    workers: int = 0
    save_every: int = 100
    judged: Dataset | None = None
    judge_every: int = 500
    about: Mapping[str, Any] = field(default_factory=dict)


def carry_out(plan: Plan) -> tuple[Checkpoint, Checkpoint | None]:
    """Do all stages of a plan.

    Returns:
        The weights to use, which are the best where the training was judged and the last otherwise; and the last, if it
        was judged. Meant for the first of several processes.

    Raises:
        ValueError: something cannot be used, or the folder belongs to another training.
    """
    weights, last = plan.start, None
    for number in range(1, len(plan.recipes) + 1):
        weights, last = _train(plan, number, weights)
    return weights, last


def _train(plan: Plan, number: int, start: Checkpoint) -> tuple[Checkpoint, Checkpoint | None]:
    recipe, folder = plan.recipes[number - 1], stage_folder(plan.work, number)
    stage = f"stage {number} of {len(plan.recipes)}, " if len(plan.recipes) > 1 else ""
    with Reporter(
        folder,
        iterations=recipe.steps(plan.dataset),
        batch=recipe.batch_size,
        rows="photos",
        reason=stage + plan.placement.reason,
        quiet=current_process().rank > 0,
    ) as reporter:
        validation = _validation(plan, recipe, folder, reporter)
        trained = train_multibox(
            start,
            plan.dataset,
            recipe=recipe,
            placement=plan.placement,
            work=folder,
            workers=plan.workers,
            save_every=plan.save_every,
            report=reporter.report,
            judge=validation,
        )
        return validation.finish(trained) if validation else (note(trained, plan.about), None)


def _validation(plan: Plan, recipe: Recipe, folder: Path, reporter: Reporter) -> Validation | None:
    if plan.judged is None:
        return None
    return Validation(
        folder,
        HEADLINE,
        partial(headline, dataset=plan.judged, device=plan.placement.device.type),
        every=plan.judge_every,
        iterations=recipe.steps(plan.dataset),
        about={"number of photos": len(plan.judged), **contents(plan.judged)},
        note=partial(note, data=plan.about),
        tell=reporter.judged,
    )
