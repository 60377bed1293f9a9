"""Training shared features: random views of annotated photos -> one trunk -> MultiBox and a region classifier.

The stages up to `frozen` keep their weights and run in the quick engine. Every batch is a function of the seed and its
step, so that a killed run resumes from its last state as if nothing had happened.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

import torch

from classifier.engines import Placement
from classifier.googlenet import STAGES
from classifier.running_average import State
from classifier.training import parameter_groups
from classifier.weights.checkpoint import SHARED_PHOTOS, Checkpoint, WeightsError, for_regions, load_state
from detect.multibox import LAST_FROZEN, head_shapes, head_width
from detect.shared import SharedNetwork, from_checkpoint, to_checkpoint
from detect.training.bookkeeping import Bookkeeping
from detect.training.canvases import train_on_canvases
from detect.training.multibox_batches import count_steps
from detect.training.phases import Phase
from detect.training.shared_losses import SharedLoss
from detect.training.shared_recipe import SharedRecipe
from proposals.protocol import ProposalGenerator
from structures.errors import InputError
from structures.records import Dataset

LAST_SHARED = "inception4e"  # the stages after it are dilated: their maps are not those of an undilated trunk


def start_shared(
    start: Checkpoint, regions: Checkpoint | None, classes: tuple[str, ...], blend: float = 0.5
) -> SharedNetwork:
    """Put a network together out of trained ones.

    Args:
        start: MultiBox weights; or weights of shared features, which are trained further.
        regions: a region classifier that grew from the same network: its last layer begins the region head's part
            logits, and its trunk is blended in. None begins the region head from scratch.
        classes: to learn.
        blend: share of MultiBox's weights in the trunk.

    Raises:
        WeightsError: the weights are of other tasks, or do not fit together.
    """
    if start.task == "shared" and start.classes == classes:
        return from_checkpoint(start)
    if start.task not in ("multibox", "shared"):
        raise WeightsError(f"weights for {start.task} are no start for shared features; take those of MultiBox")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SharedNetwork(
            head_shapes(start), start.preprocessing, len(classes) + 1, variant=start.variant, width=head_width(start)
        )
    old = ("regions.", SHARED_PHOTOS)  # of other classes
    state = {name: value.float() for name, value in start.state.items() if not name.startswith(old)}
    if regions is not None:
        named = for_regions(regions, classes).state
        for name in (name for name in state if name.startswith("trunk.")):
            other = named.get(name.removeprefix("trunk."))
            if other is None or other.shape != state[name].shape:
                raise WeightsError("the region classifier is of another network than the MultiBox")
            state[name] = blend * state[name] + (1 - blend) * other.float()
        network.regions.start_from(named["fc.weight"], named["fc.bias"])
    own = network.state_dict()
    load_state(network, {**state, **{name: value for name, value in own.items() if name.startswith("regions.")}})
    return network


def check_frozen(frozen: str) -> None:
    """Refuse a stage that cannot be the last frozen one.

    Raises:
        InputError: neither maxpool2 nor an Inception module up to 4e.
    """
    known = [name for name in LAST_FROZEN if STAGES.index(name) <= STAGES.index(LAST_SHARED)]
    if frozen not in known:
        raise InputError(f"`frozen` {frozen!r} is not one of: {', '.join(known)}")


def make_optimiser(network: SharedNetwork, recipe: SharedRecipe) -> torch.optim.AdamW:
    """Return AdamW over all trained layers, those that begin trained at their shares of the learning rate."""
    parts = list(network.regions.parts.parameters())
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
        regions: a region classifier to begin with; see `start_shared`.
        propose: other proposals to learn from; should be stored ones, since every photo is asked for in every epoch.
        recipe: how.
        placement: device and engine; the trained stages run in torch.
        books: folder of the state, and what is called after steps.
        workers: processes that draw samples; 0 draws them in between.

    Returns:
        The running average of the weights.

    Raises:
        InputError: as `train_on_canvases`; or the weights cannot be started from, or no such stage to freeze.
    """
    classes = tuple(dataset.classes)
    check_frozen(recipe.multibox.frozen)
    network = start_shared(start, regions, classes, recipe.blend)
    record = {"recipe": asdict(recipe), "photos": len(dataset), "start": dict(start.training)}
    record |= {} if propose is None else {"proposals": propose.name}

    def trained(state: State) -> Checkpoint:
        return to_checkpoint(network, start, classes, dict(state), record)

    return train_on_canvases(
        network,
        SharedLoss(recipe, background=len(classes)),
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
    """Return the phases of a plan, one for each recipe; the first begins with the region classifier.

    For the other arguments see `train_shared`.

    Raises:
        InputError: a stage that cannot be the last frozen one, or too few photos for a batch of all processes.
    """
    for recipe in recipes:  # before anything is written
        check_frozen(recipe.multibox.frozen)
    train = partial(train_shared, dataset=dataset, propose=propose, placement=placement, workers=workers)

    def phase(number: int, recipe: SharedRecipe) -> Phase:
        begin = regions if number == 0 else None
        one = partial(train, recipe=recipe, regions=begin)
        return Phase(count_steps(dataset, recipe.multibox), recipe.multibox.batch_size, one)

    return [phase(number, recipe) for number, recipe in enumerate(recipes)]
