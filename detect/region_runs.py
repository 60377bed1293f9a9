"""The stages of a training of regions, from a preset and what somebody named besides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classifier.engines import Placement
from classifier.training import Recipe
from classifier.weights import Checkpoint
from detect.staged_runs import Stage
from detect.train_regions import Examples, train_regions
from detect.training_presets import Preset
from detect.training_progress import Reporter
from detect.validation import Validation
from proposals.protocol import ProposalGenerator
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


def stages(
    trainings: Sequence[Training],
    dataset: Dataset,
    propose: ProposalGenerator,
    *,
    placement: Placement,
    workers: int = 2,
    save_every: int = 500,
) -> list[Stage]:
    """Return the stages of a plan.

    Args:
        trainings: one a stage.
        dataset: photos and their objects.
        propose: where the examples come from.
        placement: device and engine.
        workers: photos whose proposals are made at the same time.
        save_every: iterations between two states on disk.
    """

    def stage(training: Training) -> Stage:
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
            )

        return Stage(training.recipe.iterations, training.examples.batch_size, train)

    return [stage(training) for training in trainings]
