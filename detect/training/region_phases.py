"""The phases of training regions, and what is checked and made before them."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from classifier.placement import Placement
from classifier.processes import Process, first_then_others, share_of
from classifier.weights.checkpoint import Checkpoint
from detect.runs.photos import photos_of
from detect.runs.propose import ProposalJob
from detect.training.phases import Phase
from detect.training.region_examples import check_ranking
from detect.training.region_measure import fill_folder
from detect.training.region_recipe import RegionTraining
from detect.training.regions import check_start, train_regions
from proposals.protocol import ProposalGenerator
from proposals.stored.generator import StoredProposals
from structures.errors import InputError
from structures.records import Dataset
from structures.text import some_of


def check(
    trainings: Sequence[RegionTraining], start: Checkpoint, generator: ProposalGenerator, process: Process
) -> None:
    """Refuse, before hours of making proposals, what would fail later.

    Args:
        trainings: one per phase.
        start: weights to start the first phase from.
        generator: proposal generator.
        process: this process, of several.

    Raises:
        InputError: there is no such layer to freeze, the weights are MultiBox's, the proposals must be ranked and are
            not, the processes cannot share a batch evenly, or there are more hard examples than rows in a batch.
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
    """Make the proposals of all photos once for all phases, in a folder like that of `rcnn propose`; resumable.

    Of several processes, the first makes them while the others wait. Stored proposals are used as they are.

    Raises:
        InputError: a photo cannot be processed, or the folder has boxes of another generator.
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
    """Return the phases of a plan. Only the features of the last phase stay on disk: they take tens of gigabytes.

    Args:
        trainings: one per phase.
        dataset: annotated photos.
        propose: generator of the examples.
        placement: device and engine.
        workers: photos to make proposals for at the same time.
    """
    train = partial(train_regions, dataset=dataset, propose=propose, placement=placement, workers=workers)

    def phase(training: RegionTraining, keep: bool) -> Phase:
        recipe, examples = training.recipe, training.examples
        one = partial(train, recipe=recipe, examples=examples, frozen=training.frozen, keep=keep)
        return Phase(recipe.steps, examples.batch_size, one)

    return [phase(training, keep=training is trainings[-1]) for training in trainings]
