"""The phases of a training of regions, and what they need before they begin."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from classifier.engines import Placement
from classifier.processes import Process, first_then_others, share_of
from classifier.weights.checkpoint import Checkpoint
from detect.runs.photos import photos_of
from detect.runs.propose import ProposalJob
from detect.training.data import some_of
from detect.training.phases import Phase
from detect.training.region_examples import check_ranking
from detect.training.region_measure import fill_folder
from detect.training.region_recipe import RegionTraining
from detect.training.regions import check_start, train_regions
from proposals.protocol import ProposalGenerator
from proposals.stored.generator import StoredProposals
from structures.errors import InputError
from structures.records import Dataset


def check(
    trainings: Sequence[RegionTraining], start: Checkpoint, generator: ProposalGenerator, process: Process
) -> None:
    """Refuse, before proposals are made for hours, what no phase could do once they are there.

    Args:
        trainings: one per phase.
        start: weights that the first phase starts from.
        generator: makes the proposals.
        process: which of how many processes this is.

    Raises:
        InputError: no such stage to freeze, weights of MultiBox, proposals that are not ranked but must be, rows that
            the processes cannot share evenly, or more hard examples than a batch has.
    """
    for training in trainings:
        check_start(start, training.frozen)
        check_ranking(generator, training.examples)
        share_of(training.examples.batch_size, process)
        share_of(training.recipe.hard_examples, process, what="hard examples")
        if training.recipe.hard_examples > training.examples.batch_size:
            rows = f"a batch of {training.examples.batch_size}"
            raise InputError(f"`hard_examples` {training.recipe.hard_examples} is more than {rows} (`batch_size`)")


def kept_proposals(
    dataset: Dataset, generator: ProposalGenerator, folder: Path, *, workers: int = 1, console: Console
) -> StoredProposals:
    """Make the proposals of all photos once, for all phases, into a folder of `rcnn propose`; a killed run resumes.

    Of several processes the first makes them, and the others wait. What was made before is taken as it is.

    Raises:
        InputError: a photo cannot be worked on, or the folder holds boxes of another generator.
    """
    if isinstance(generator, StoredProposals):
        return generator
    with first_then_others() as first:
        if first:
            summary = fill_folder(ProposalJob(photos_of(dataset), folder, workers=workers), generator, console)
            if summary.skipped:
                raise InputError(some_of(list(summary.skipped.values())))
    return StoredProposals(folder)


def phases(
    trainings: Sequence[RegionTraining],
    dataset: Dataset,
    propose: ProposalGenerator,
    *,
    placement: Placement,
    workers: int = 2,
) -> list[Phase]:
    """Return the phases of a plan. Only the last one's kept features stay on disk: each has tens of gigabytes.

    Args:
        trainings: one per phase.
        dataset: photos and their objects.
        propose: where the examples come from.
        placement: device and engine.
        workers: photos whose proposals are made at the same time.
    """
    train = partial(train_regions, dataset=dataset, propose=propose, placement=placement, workers=workers)

    def phase(training: RegionTraining, keep: bool) -> Phase:
        recipe, examples = training.recipe, training.examples
        one = partial(train, recipe=recipe, examples=examples, frozen=training.frozen, keep=keep)
        return Phase(recipe.steps, examples.batch_size, one)

    return [phase(training, keep=training is trainings[-1]) for training in trainings]
