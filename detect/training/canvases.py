"""What trainings on random views of whole photos share: MultiBox alone, and MultiBox with classes on shared features.

The stages up to `frozen` keep their weights and run in the quick engine. Every batch is a function of the seed and its
step, so that a killed run resumes from its last state as if nothing had happened.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

import torch

from classifier.engines import Placement
from classifier.googlenet import stages_between
from classifier.processes import current_process, first_then_others, share_of
from classifier.running_average import State
from classifier.training import Loss
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.digest import digest
from detect.multibox import DenseMultiBox
from detect.runs.cores import one_core_per_photo
from detect.training.bookkeeping import Bookkeeping
from detect.training.folder import START_FILE, contents, require_same_origin
from detect.training.multibox_batches import CanvasBatches, count_steps
from detect.training.multibox_losses import CanvasBatch
from detect.training.multibox_recipe import MultiBoxRecipe
from proposals.protocol import ProposalGenerator
from structures.records import Dataset

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Dense = TypeVar("Dense", bound=DenseMultiBox)


def freeze(network: DenseMultiBox, frozen: str) -> None:
    """Keep the weights of the trunk's stages up to and with one as they are."""
    for stage in stages_between(None, frozen):
        network.trunk.get_submodule(stage).requires_grad_(False)


def train_on_canvases(
    network: Dense,
    loss: Loss[Dense, CanvasBatch],
    make_optimiser: Callable[[Dense], torch.optim.Optimizer],
    dataset: Dataset,
    *,
    starts: Sequence[Checkpoint],
    recipe: "DataclassInstance",
    canvases: MultiBoxRecipe,
    to_checkpoint: Callable[[State], Checkpoint],
    placement: Placement,
    books: Bookkeeping,
    workers: int,
    propose: ProposalGenerator | None = None,
) -> Checkpoint:
    """Train a dense network on random views of annotated photos.

    Args:
        network: with the weights that it starts from.
        loss: of the network on a batch.
        make_optimiser: over the layers of the network that are trained.
        dataset: photos and their objects.
        starts: weights that the network was made from.
        recipe: all that decides the training; the state belongs to it.
        canvases: the part of the recipe that says which photos are seen when, and the schedule.
        to_checkpoint: makes weights that can be used out of the state of the network.
        placement: device and engine; the trained stages run in torch.
        books: folder of the state, and what is called after steps.
        workers: processes that draw samples; 0 draws them in between.
        propose: other proposals that samples take along; None for none.

    Returns:
        The running average of the weights.

    Raises:
        InputError: there are no photos, or too few for a batch of all processes, which must share a batch evenly; one
            cannot be read; or the folder belongs to another training.
    """
    share_of(canvases.batch_size, current_process())
    schedule = canvases.schedule(count_steps(dataset, canvases))
    freeze(network, canvases.frozen)
    network.to(placement.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with first_then_others() as first:
        if first:
            _require_same_training(books, starts, dataset, propose)
    with one_core_per_photo() if workers else nullcontext():  # before they are forked: in a fork OpenCV would hang
        return books.train(
            network,
            loss,
            CanvasBatches(dataset, network, canvases, placement, workers=workers, propose=propose),
            [make_optimiser(network)],
            schedule,
            recipe=recipe,
            to_checkpoint=to_checkpoint,
        )


def _require_same_training(
    books: Bookkeeping, starts: Sequence[Checkpoint], dataset: Dataset, propose: ProposalGenerator | None
) -> None:
    """Note in a folder what its training is made from, or check that it is the same as before."""
    state, start = books.state_file, starts[0]
    weights = {"weights": digest(dict(sorted(start.state.items()))), "preprocessing": asdict(start.preprocessing)}
    more = [digest(dict(sorted(each.state.items()))) for each in starts[1:]]
    weights |= ({"more weights": more} if more else {}) | ({} if propose is None else {"proposals": propose.name})
    remedy = f"name another `work` folder, or remove {state} to start again"
    require_same_origin(books.work / START_FILE, {**weights, **contents(dataset)}, remedy=remedy, state=state)
