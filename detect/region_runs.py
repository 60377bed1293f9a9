"""The stages of a training of regions, from a preset and what somebody named besides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from classifier.engines import Placement
from classifier.processes import Process, first_then_others, share_of
from classifier.training import Recipe
from classifier.weights import Checkpoint
from detect.propose import Plan
from detect.region_examples import Examples, check_ranking
from detect.region_validation import fill_folder
from detect.sources import photos_of
from detect.staged_runs import Stage
from detect.train_regions import check_start, train_regions
from detect.training_data import some_of
from detect.training_presets import Preset
from detect.training_progress import Reporter
from detect.validation import Validation
from proposals.protocol import ProposalGenerator
from proposals.stored import StoredProposals
from structures.records import Dataset


@dataclass(frozen=True)
class Training:
    """What a stage trains.

    Attributes:
        recipe: how to train.
        examples: what to learn from.
        frozen: stages of the network up to this one stay as they are; None trains all.
    """

    recipe: Recipe
    examples: Examples
    frozen: str | None


def trainings(
    preset: Preset, recipe: Mapping[str, Any], examples: Mapping[str, Any], freeze: str | None, seed: int = 0
) -> list[Training]:
    """Return the stages of a preset, each with the fields of its Recipe and its Examples that somebody named.

    Each has a seed of its own, so that each learns from other regions: more batches of the same ones made the weights
    worse (benchmarks/LOG.md).
    """
    frozen = [freeze or stage.freeze for stage in preset.stages]
    return [
        Training(
            Recipe(**{**stage.recipe, **recipe, "seed": seed + number}),
            Examples(**{**stage.examples, **examples, "seed": seed + number}),
            None if last == "none" else last,
        )
        for number, (stage, last) in enumerate(zip(preset.stages, frozen, strict=True))
    ]


def check(trainings: Sequence[Training], start: Checkpoint, generator: ProposalGenerator, process: Process) -> None:
    """Refuse, before proposals are made for hours, what no stage could do once they are there.

    Args:
        trainings: one a stage.
        start: weights that the first stage starts from.
        generator: makes the proposals.
        process: which of how many processes this is.

    Raises:
        ValueError: no such stage to freeze, weights of MultiBox, proposals that are not ranked but must be, rows that
            the processes cannot share evenly, or more hard examples than a batch has.
    """
    for training in trainings:
        check_start(start, training.frozen)
        check_ranking(generator, training.examples)
        share_of(training.examples.batch_size, process)
        share_of(training.recipe.hard_examples, process, what="hard examples")
        if training.recipe.hard_examples > training.examples.batch_size:
            batch = f"a --batch of {training.examples.batch_size}"
            raise ValueError(f"{batch} has no {training.recipe.hard_examples} --hard-examples")


def kept_proposals(
    dataset: Dataset, generator: ProposalGenerator, folder: Path, *, workers: int = 1, console: Console
) -> StoredProposals:
    """Make the proposals of all photos once, for all stages, into a folder of `rcnn propose`; a killed run goes on.

    Of several processes the first makes them, and the others wait. What was made before is taken as it is.

    Raises:
        ValueError: a photo cannot be worked on, or the folder holds boxes of another generator.
    """
    if isinstance(generator, StoredProposals):
        return generator
    with first_then_others() as first:
        if first:
            report = fill_folder(Plan(photos_of(dataset), folder, workers=workers), generator, console)
            if report.skipped:
                raise ValueError(some_of(list(report.skipped.values())))
    return StoredProposals(folder)


def stages(
    trainings: Sequence[Training],
    dataset: Dataset,
    propose: ProposalGenerator,
    *,
    placement: Placement,
    workers: int = 2,
    save_every: int = 500,
) -> list[Stage]:
    """Return the stages of a plan. Only the last one's kept features stay on disk: each has tens of gigabytes.

    Args:
        trainings: one a stage.
        dataset: photos and their objects.
        propose: where the examples come from.
        placement: device and engine.
        workers: photos whose proposals are made at the same time.
        save_every: iterations between two states on disk.
    """

    def stage(training: Training, keep: bool) -> Stage:
        def train(start: Checkpoint, folder: Path, reporter: Reporter, judge: Validation | None) -> Checkpoint:
            return train_regions(
                start,
                dataset,
                propose,
                work=folder,
                recipe=training.recipe,
                examples=training.examples,
                placement=placement,
                frozen=training.frozen,
                workers=workers,
                show=reporter.show,
                report=reporter.report,
                save_every=save_every,
                judge=judge,
                keep=keep,
            )

        return Stage(training.recipe.iterations, training.examples.batch_size, train)

    return [stage(training, keep=training is trainings[-1]) for training in trainings]
