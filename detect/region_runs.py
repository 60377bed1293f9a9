"""A whole training of a region classifier, as `rcnn train regions` does it: one stage or several, judged on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from classifier.engines import Placement
from classifier.processes import current_process
from classifier.training import Recipe
from classifier.weights import Checkpoint
from detect.region_validation import RegionMeasure
from detect.train_regions import DRAWING, Examples, train_regions
from detect.training_folder import stage_folder
from detect.training_presets import Preset
from detect.training_progress import Reporter
from detect.training_runs import note
from detect.validation import Validation
from proposals.protocol import ProposalGenerator
from structures.records import Dataset


@dataclass(frozen=True)
class Training:
    """One stage of a plan.

    Attributes:
        recipe: how to train.
        examples: what to learn from.
        frozen: stages of the network up to this one stay as they are; None trains all.
    """

    recipe: Recipe
    examples: Examples
    frozen: str | None


@dataclass(frozen=True)
class Plan:
    """What to train, on what, and where it is kept.

    Attributes:
        start: weights to start from.
        dataset: photos and their objects.
        propose: where the examples come from.
        trainings: each starts from the result of the one before.
        work: folder of the run; the second stage has a folder stage2 in it, and so on.
        placement: device and engine.
        workers: photos whose proposals are made at the same time.
        save_every: iterations between two states on disk.
        measure: judges the weights; None for no validation.
        measure_every: iterations between two judgements.
        about: facts for the metadata, such as the name of the data.
    """

    start: Checkpoint
    dataset: Dataset
    propose: ProposalGenerator
    trainings: Sequence[Training]
    work: Path
    placement: Placement
    workers: int = 2
    save_every: int = 500
    measure: RegionMeasure | None = None
    measure_every: int = 500
    about: Mapping[str, Any] = field(default_factory=dict)

    def folder(self, number: int) -> Path:
        """Return the folder of a stage, counted from 1."""
        return stage_folder(self.work, number)

    def regions_file(self, number: int) -> Path:
        """Return where a stage keeps its regions: with those of the first, if it draws them in the same way."""
        first, own = (_drawing(self.trainings[place].examples) for place in (0, number - 1))
        return self.folder(1 if own == first else number) / "regions.npz"


def _drawing(examples: Examples) -> dict[str, Any]:
    return {name: value for name, value in asdict(examples).items() if name in DRAWING}


def trainings(
    preset: Preset, recipe: Mapping[str, Any], examples: Mapping[str, Any], freeze: str | None
) -> list[Training]:
    """Return the stages of a preset, each with the fields of its Recipe and its Examples that somebody named."""
    frozen = [freeze or stage.freeze for stage in preset.stages]
    return [
        Training(
            Recipe(**{**stage.recipe, **recipe}),
            Examples(**{**stage.examples, **examples}),
            None if last == "none" else last,
        )
        for stage, last in zip(preset.stages, frozen, strict=True)
    ]


def carry_out(plan: Plan) -> tuple[Checkpoint, Checkpoint | None]:
    """Do all stages of a plan.

    Returns:
        The weights to use, which are the best where the training was judged and the last otherwise; and the last, if it
        was judged. Meant for the first of several processes.

    Raises:
        ValueError: something cannot be used, or the folder belongs to another training.
    """
    if plan.measure is not None and current_process().rank == 0:
        plan.measure.prepare(Console(stderr=True), workers=plan.workers)
    weights, last = plan.start, None
    for number in range(1, len(plan.trainings) + 1):
        weights, last = _train(plan, number, weights)
    return weights, last


def _train(plan: Plan, number: int, start: Checkpoint) -> tuple[Checkpoint, Checkpoint | None]:
    stage, count = plan.trainings[number - 1], len(plan.trainings)
    with Reporter(
        plan.folder(number),
        iterations=stage.recipe.iterations,
        batch=stage.examples.batch_size,
        rows="regions",
        reason=(f"stage {number} of {count}, " if count > 1 else "") + plan.placement.reason,
        quiet=current_process().rank > 0,
    ) as reporter:
        validation = _validation(plan, number, reporter)
        trained = train_regions(
            start,
            plan.dataset,
            plan.propose,
            work=plan.folder(number),
            recipe=stage.recipe,
            examples=stage.examples,
            placement=plan.placement,
            frozen=stage.frozen,
            workers=plan.workers,
            show=reporter.show,
            report=reporter.report,
            save_every=plan.save_every,
            regions_file=plan.regions_file(number),
            judge=validation,
        )
        return validation.finish(trained) if validation else (note(trained, plan.about), None)


def _validation(plan: Plan, number: int, reporter: Reporter) -> Validation | None:
    if plan.measure is None:
        return None
    return Validation(
        plan.folder(number),
        plan.measure.figure,
        plan.measure,
        every=plan.measure_every,
        iterations=plan.trainings[number - 1].recipe.iterations,
        about=plan.measure.about(),
        note=partial(note, data=plan.about),
        tell=reporter.judged,
    )
