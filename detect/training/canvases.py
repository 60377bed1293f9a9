"""Training on random views of whole photos: MultiBox alone, or MultiBox with a classifier on shared features.

The layers up to `frozen` keep their weights and run in the fastest engine. Every batch depends only on the seed and the
step, so a killed run resumes from its last state as if nothing had happened.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

import torch

from classifier.googlenet import layers_between
from classifier.placement import Placement
from classifier.processes import current_process, first_then_others, share_of
from classifier.running_average import State
from classifier.training import Loss
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.digest import digest
from detect.networks.multibox import DenseMultiBox
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
    """Freeze the weights of the trunk up to and including a layer."""
    for layer in layers_between(None, frozen):
        network.trunk.get_submodule(layer).requires_grad_(False)


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
        network: network with the weights to start from.
        loss: loss of the network on a batch.
        make_optimiser: network -> optimiser of the trained layers.
        dataset: annotated photos.
        starts: checkpoints that the network was made from.
        recipe: everything that decides the training; the state belongs to it.
        canvases: the part of the recipe with the order of photos and the schedule.
        to_checkpoint: makes weights that can be used out of the state of the network.
        placement: device and engine of the frozen layers; the trained layers run in torch.
        books: folder of the state, and callbacks.
        workers: processes that read photos and draw views; 0: this process does.
        propose: generator of more boxes for each view; None adds none.

    Returns:
        The running average of the weights.

    Raises:
        InputError: there are too few photos for a batch of all processes, the processes cannot share a batch evenly, a
            photo cannot be read, or the folder belongs to another training.
    """
    share_of(canvases.batch_size, current_process())
    schedule = canvases.schedule(count_steps(dataset, canvases))
    freeze(network, canvases.frozen)
    network.to(placement.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with first_then_others() as first:
        if first:
            _require_same_training(books, starts, dataset, propose)
    with one_core_per_photo() if workers else nullcontext():  # before the fork, after which OpenCV's threads would hang
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
    """Note what a training is made from, or check that it is the same as before."""
    state, start = books.state_file, starts[0]
    weights = {"weights": digest(dict(sorted(start.state.items()))), "preprocessing": asdict(start.preprocessing)}
    more = [digest(dict(sorted(each.state.items()))) for each in starts[1:]]
    weights |= ({"more weights": more} if more else {}) | ({} if propose is None else {"proposals": propose.name})
    remedy = f"name another `work` folder, or remove {state} to start from scratch"
    require_same_origin(books.work / START_FILE, {**weights, **contents(dataset)}, remedy=remedy, state=state)
