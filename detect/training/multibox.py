"""Training MultiBox: random views of annotated photos -> GoogLeNet -> the dense head and the refining head.

The stages up to `frozen` keep their weights and run in the quick engine. Every batch is a function of the seed and its
step, so that a killed run goes on from its last state as if nothing had happened.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from classifier.engines import Placement
from classifier.googlenet import stages_between
from classifier.processes import current_process, first_then_others, share_of
from classifier.running_average import State
from classifier.training import StepProgress, parameter_groups, train
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.digest import digest
from detect.multibox import LAST_FROZEN, DenseMultiBox, from_checkpoint, learned_classes, start_network, to_checkpoint
from detect.runs.cores import one_core_per_photo
from detect.training.folder import START_FILE, STATE, contents, require_same_origin
from detect.training.multibox_batches import CanvasBatches, count_steps, find_shapes
from detect.training.multibox_losses import MultiBoxLoss
from detect.training.multibox_recipe import MultiBoxRecipe
from proposals.protocol import ProposalGenerator
from structures.errors import InputError
from structures.names import not_one_of
from structures.records import Dataset


def check_frozen(frozen: str) -> None:
    """Refuse a stage that cannot be the last frozen one.

    Raises:
        InputError: neither maxpool2 nor an Inception module.
    """
    if frozen not in LAST_FROZEN:
        raise InputError(f"`frozen` {not_one_of(frozen, LAST_FROZEN)}")


def freeze(network: DenseMultiBox, frozen: str) -> None:
    """Keep the weights of the trunk's stages up to and with one as they are."""
    for stage in stages_between(None, frozen):
        network.trunk.get_submodule(stage).requires_grad_(False)


def make_optimiser(network: DenseMultiBox, recipe: MultiBoxRecipe) -> torch.optim.AdamW:
    """Return AdamW over the heads, and over the trunk at its share of the learning rate."""
    heads = [*network.head.parameters(), *network.refine.parameters()]
    groups = parameter_groups((heads, 1.0), (network.trunk.parameters(), recipe.trunk_factor))
    return torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)


def require_same_training(
    work: Path, starts: Sequence[Checkpoint], dataset: Dataset, propose: ProposalGenerator | None = None
) -> None:
    """Note in a folder what its training is made from, or check that it is the same as before.

    Args:
        work: the folder.
        starts: weights to start from.
        dataset: photos and their objects.
        propose: other proposals to learn from.

    Raises:
        WeightsError: the folder belongs to another training.
    """
    state, start = work / STATE, starts[0]
    weights = {"weights": digest(dict(sorted(start.state.items()))), "preprocessing": asdict(start.preprocessing)}
    more = [digest(dict(sorted(each.state.items()))) for each in starts[1:]]
    weights |= ({"more weights": more} if more else {}) | ({} if propose is None else {"proposals": propose.name})
    remedy = f"name another `work` folder, or remove {state} to start again"
    require_same_origin(work / START_FILE, {**weights, **contents(dataset)}, remedy=remedy, state=state)


def _fresh(start: Checkpoint, dataset: Dataset, recipe: MultiBoxRecipe) -> DenseMultiBox:
    return start_network(start, find_shapes(dataset, recipe), width=recipe.width, seed=recipe.seed)


def train_multibox(
    start: Checkpoint,
    dataset: Dataset,
    *,
    recipe: MultiBoxRecipe,
    placement: Placement,
    work: Path,
    workers: int = 0,
    save_every: int = 200,
    report: Callable[[StepProgress], None] = lambda progress: None,
    judge: Callable[[int, Callable[[], Checkpoint]], None] | None = None,
) -> Checkpoint:
    """Train MultiBox on annotated photos.

    Args:
        start: any GoogLeNet, whose trunk is taken; or MultiBox weights, which are trained further with their priors.
        dataset: photos and their objects; classes do not matter.
        recipe: how.
        placement: device and engine; the trained stages run in torch.
        work: folder of the state; a killed run goes on from it.
        workers: processes that draw samples; 0 draws them in between.
        save_every: steps between two states on disk.
        report: called after every step.
        judge: called after every step with its number and a function that returns the weights so far, before the state
            is written: what it has to say is said again when a killed run comes there once more.

    Returns:
        The running average of the weights.

    Raises:
        InputError: there are no photos, or too few for a batch of all processes, which must share a batch evenly; one
            cannot be read; or the folder belongs to another training.
    """
    here = current_process()
    check_frozen(recipe.frozen)
    share_of(recipe.batch_size, here)
    network = from_checkpoint(start) if start.task == "multibox" else _fresh(start, dataset, recipe)
    steps = count_steps(dataset, recipe)
    if steps == 0:
        raise InputError(f"{len(dataset)} photos give no batch for {here.total} processes; take fewer, or more photos")
    freeze(network, recipe.frozen)
    network.to(placement.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with first_then_others() as first:
        if first:
            require_same_training(work, [start], dataset)
    classes = list(dict.fromkeys([*learned_classes(start), *dataset.classes]))
    record = {"recipe": asdict(recipe), "photos": len(dataset), "classes": classes}
    training: Mapping[str, Any] = {**record, "start": dict(start.training)}

    def trained(state: State) -> Checkpoint:
        return to_checkpoint(network, start, dict(state), training)

    with one_core_per_photo() if workers else nullcontext():  # before they are forked: in a fork OpenCV would hang
        state = train(
            network,
            MultiBoxLoss(recipe.frozen, recipe.regions),
            CanvasBatches(dataset, network, recipe, placement, workers=workers),
            [make_optimiser(network, recipe)],
            recipe.schedule(steps),
            recipe=recipe,
            state_file=work / STATE,
            save_every=save_every,
            report=report,
            judge=None if judge is None else lambda step, average: judge(step, lambda: trained(average)),
        )
    return trained(state)
