"""Trains shared features: random views of annotated photos -> one trunk -> MultiBox and a region classifier.

`detect.training.canvases` runs the training.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

import torch

from classifier.googlenet import LAYERS
from classifier.placement import Placement
from classifier.running_average import State
from classifier.training import parameter_groups
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.fitting import WeightsError, load_state
from classifier.weights.last_layer import for_regions
from classifier.weights.on_trunk import CROPS
from detect.networks.multibox import LAST_FROZEN, head_shapes, head_width
from detect.networks.shared import SharedNetwork, from_checkpoint, to_checkpoint
from detect.training.bookkeeping import Bookkeeping
from detect.training.canvases import train_on_canvases
from detect.training.crop_losses import CropLoss
from detect.training.multibox import check_frozen
from detect.training.multibox_batches import count_steps
from detect.training.phases import Phase
from detect.training.shared_losses import SharedLoss
from detect.training.shared_recipe import SharedRecipe
from proposals.protocol import ProposalGenerator
from structures.records import Dataset

LAST_FROZEN_SHARED = tuple(  # later layers are dilated, so that their maps differ
    name for name in LAST_FROZEN if LAYERS.index(name) <= LAYERS.index("inception4e")
)


OWN_HEADS = ("regions.", CROPS)  # before the names of layers that are made anew for other classes


def start_shared(
    start: Checkpoint, regions: Checkpoint | None, classes: tuple[str, ...], blend: float = 0.5
) -> SharedNetwork:
    """Build a network from trained ones.

    Args:
        start: MultiBox weights; or weights of shared features, which are trained further.
        regions: a region classifier that was fine-tuned from the same network: its last layer initialises the part
            logits of the region head and the layer for crops, and its trunk is blended in. None starts these from
            scratch.
        classes: classes to learn.
        blend: share of MultiBox's weights in the trunk.

    Raises:
        WeightsError: the weights are for other tasks, or do not fit together.
    """
    if start.task == "shared" and start.classes == classes:
        network = from_checkpoint(start)
        network.begin_crops()
        return network
    if start.task not in ("multibox", "shared"):
        raise WeightsError(f"shared features cannot start from weights for {start.task}, only from those of MultiBox")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SharedNetwork(
            head_shapes(start), start.preprocessing, len(classes) + 1, variant=start.variant, width=head_width(start)
        )
    others = {name: value for name, value in start.of_network().items() if not name.startswith(OWN_HEADS)}
    state = {name: value.float() for name, value in others.items()}
    if regions is not None:
        named = for_regions(regions, classes).state
        for name in (name for name in state if name.startswith("trunk.")):
            other = named.get(name.removeprefix("trunk."))
            if other is None or other.shape != state[name].shape:
                raise WeightsError("the region classifier and MultiBox have different networks")
            state[name] = blend * state[name] + (1 - blend) * other.float()
        network.regions.start_from(named["fc.weight"], named["fc.bias"])
    own = network.state_dict()
    load_state(network, {**state, **{name: value for name, value in own.items() if name.startswith(OWN_HEADS)}})
    network.begin_crops()
    return network


def make_optimiser(network: SharedNetwork, recipe: SharedRecipe) -> torch.optim.AdamW:
    """Return AdamW for all trained layers, with lower learning rates for those that start from trained weights."""
    roots = [] if network.regions.roots is None else [*network.regions.roots.parameters()]
    crops = [] if network.crops is None else [*network.crops.parameters()]
    parts = [*network.regions.parts.parameters(), *roots, *crops]
    fresh = [each for each in network.regions.parameters() if all(each is not part for part in parts)]
    heads = [*network.head.parameters(), *network.refine.parameters()]
    groups = parameter_groups(
        (fresh, 1.0),
        (parts, recipe.parts_factor),
        (heads, recipe.multibox_factor),
        (network.trunk.parameters(), recipe.multibox.trunk_factor),
    )
    return torch.optim.AdamW(groups, weight_decay=recipe.multibox.weight_decay)


def train_shared(
    start: Checkpoint,
    dataset: Dataset,
    *,
    regions: Checkpoint | None = None,
    propose: ProposalGenerator | None = None,
    recipe: SharedRecipe,
    placement: Placement,
    books: Bookkeeping,
    workers: int = 0,
) -> Checkpoint:
    """Train shared features on annotated photos.

    Args:
        start: weights of MultiBox, or of shared features, which are trained further.
        dataset: photos and their objects.
        regions: a region classifier to start from; see `start_shared`.
        propose: generator of more boxes; should be a stored one, since every photo is needed in every epoch.
        recipe: how to train.
        placement: device and engine of the frozen layers; the trained layers run in torch.
        books: folder of the state, and callbacks.
        workers: processes that read photos and draw views; 0: this process does.

    Returns:
        The running average of the weights.

    Raises:
        InputError: as for `train_on_canvases`; or training cannot start from the weights, or there is no such layer to
            freeze.
    """
    classes = tuple(dataset.classes)
    check_frozen(recipe.multibox.frozen, LAST_FROZEN_SHARED)
    network = start_shared(start, regions, classes, recipe.blend)
    record = {"recipe": asdict(recipe), "photos": len(dataset), "start": dict(start.training)}
    record |= {} if propose is None else {"proposals": propose.name}

    def trained(state: State) -> Checkpoint:
        return to_checkpoint(network, start, classes, dict(state), record)

    return train_on_canvases(
        network,
        SharedLoss(recipe, background=len(classes), crops=CropLoss(start, len(classes) + 1)),
        partial(make_optimiser, recipe=recipe),
        dataset,
        starts=[start, *([] if regions is None else [regions])],
        recipe=recipe,
        canvases=recipe.multibox,
        to_checkpoint=trained,
        placement=placement,
        books=books,
        workers=workers,
        propose=propose,
    )


def phases(
    recipes: Sequence[SharedRecipe],
    dataset: Dataset,
    *,
    regions: Checkpoint | None,
    propose: ProposalGenerator | None,
    placement: Placement,
    workers: int = 0,
) -> list[Phase]:
    """Return the phases of a plan, one per recipe; the first also starts from the region classifier.

    For the other arguments see `train_shared`.

    Raises:
        InputError: a layer cannot be the last frozen one, or there are too few photos for a batch of all processes.
    """
    for recipe in recipes:  # before anything is written
        check_frozen(recipe.multibox.frozen, LAST_FROZEN_SHARED)
    train = partial(train_shared, dataset=dataset, propose=propose, placement=placement, workers=workers)

    def phase(number: int, recipe: SharedRecipe) -> Phase:
        begin = regions if number == 0 else None
        one = partial(train, recipe=recipe, regions=begin)
        return Phase(count_steps(dataset, recipe.multibox), recipe.multibox.batch_size, one)

    return [phase(number, recipe) for number, recipe in enumerate(recipes)]
