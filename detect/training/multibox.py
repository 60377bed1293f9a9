"""Trains MultiBox: random views of annotated photos -> GoogLeNet -> the dense head and the refining head."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

import torch

from classifier.placement import Placement
from classifier.running_average import State
from classifier.training import parameter_groups
from classifier.weights.checkpoint import Checkpoint
from detect.networks.multibox import (
    LAST_FROZEN,
    DenseMultiBox,
    from_checkpoint,
    learned_classes,
    start_network,
    to_checkpoint,
)
from detect.training.bookkeeping import Bookkeeping
from detect.training.canvases import train_on_canvases
from detect.training.multibox_batches import count_steps, find_shapes
from detect.training.multibox_losses import MultiBoxLoss
from detect.training.multibox_recipe import MultiBoxRecipe
from detect.training.phases import Phase
from structures.errors import InputError
from structures.names import not_one_of
from structures.records import Dataset


def check_frozen(frozen: str, known: Sequence[str] = LAST_FROZEN) -> None:
    """Refuse a layer that cannot be the last frozen one.

    Raises:
        InputError: the layer is not one of those known.
    """
    if frozen not in known:
        raise InputError(f"`frozen` {not_one_of(frozen, known)}")


def make_optimiser(network: DenseMultiBox, recipe: MultiBoxRecipe) -> torch.optim.AdamW:
    """Return AdamW for the heads, and for the trunk with a lower learning rate."""
    heads = [*network.head.parameters(), *network.refine.parameters()]
    groups = parameter_groups((heads, 1.0), (network.trunk.parameters(), recipe.trunk_factor))
    return torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)


def _fresh(start: Checkpoint, dataset: Dataset, recipe: MultiBoxRecipe) -> DenseMultiBox:
    return start_network(start, find_shapes(dataset, recipe), width=recipe.width, seed=recipe.seed)


def train_multibox(
    start: Checkpoint,
    dataset: Dataset,
    *,
    recipe: MultiBoxRecipe,
    placement: Placement,
    books: Bookkeeping,
    workers: int = 0,
) -> Checkpoint:
    """Train MultiBox on annotated photos.

    Args:
        start: any GoogLeNet, whose trunk is used; or MultiBox weights, which are trained further with their priors.
        dataset: annotated photos; classes do not matter.
        recipe: how to train.
        placement: device and engine of the frozen layers; the trained layers run in torch.
        books: folder of the state, and callbacks.
        workers: processes that read photos and draw views; 0: this process does.

    Returns:
        The running average of the weights.

    Raises:
        InputError: as for `train_on_canvases`; or there is no object to learn from, or no such layer to freeze.
    """
    check_frozen(recipe.frozen)
    network = from_checkpoint(start) if start.task == "multibox" else _fresh(start, dataset, recipe)
    classes = list(dict.fromkeys([*learned_classes(start), *dataset.classes]))
    record = {"recipe": asdict(recipe), "photos": len(dataset), "classes": classes, "start": dict(start.training)}

    def trained(state: State) -> Checkpoint:
        return to_checkpoint(network, start, dict(state), record)

    return train_on_canvases(
        network,
        MultiBoxLoss(recipe.frozen, recipe.regions),
        partial(make_optimiser, recipe=recipe),
        dataset,
        starts=[start],
        recipe=recipe,
        canvases=recipe,
        to_checkpoint=trained,
        placement=placement,
        books=books,
        workers=workers,
    )


def phases(
    recipes: Sequence[MultiBoxRecipe], dataset: Dataset, *, placement: Placement, workers: int = 0
) -> list[Phase]:
    """Return the phases of a plan, one per recipe; for the other arguments see `train_multibox`.

    Raises:
        InputError: a layer cannot be the last frozen one, or there are too few photos for a batch of all processes.
    """
    for recipe in recipes:  # before anything is written
        check_frozen(recipe.frozen)
    train = partial(train_multibox, dataset=dataset, placement=placement, workers=workers)
    return [Phase(count_steps(dataset, each), each.batch_size, partial(train, recipe=each)) for each in recipes]
