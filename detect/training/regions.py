"""Trains a region classifier on the proposals of annotated photos.

Each part of the work is kept in a folder, so that a killed run resumes: examples drawn from the proposals of every
photo (regions.npz), outputs of the frozen layers (features.npy), the state of the training (state.pt), and what these
were made from (start.json, batches.json), so that nothing is ever mixed.
"""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from classifier.classification_loss import ClassificationLoss, LabelledBatch, momentum_descent
from classifier.engines import make_engine
from classifier.googlenet import LAYERS, layers_between
from classifier.placement import Placement
from classifier.processes import current_process, first_then_others
from classifier.recipes import Recipe
from classifier.region_batches import FreshCrops, KeptFeatures
from classifier.region_features import Head, Trunk, keep_features
from classifier.running_average import State
from classifier.sampling import BatchDraw, LabelledRegions, soft_labels
from classifier.training import Batches, steps_done
from classifier.weights.checkpoint import OWN_NETWORK, Checkpoint
from classifier.weights.digest import digest
from classifier.weights.fitting import WeightsError
from classifier.weights.last_layer import for_regions
from detect.training.bookkeeping import Bookkeeping, ShowProgress
from detect.training.folder import (
    BATCHES_FILE,
    DRAWN_REGIONS_FILE,
    FEATURES_FILES,
    START_FILE,
    STATE,
    kept_regions,
    require_same_origin,
)
from detect.training.region_examples import DRAWING, PhotoCache, draw_regions, drawn_from
from detect.training.region_recipe import ExampleRecipe
from proposals.protocol import ProposalGenerator
from structures.errors import InputError
from structures.names import not_one_of
from structures.records import Dataset

AGAIN = f"remove {STATE} and {START_FILE} to train again on the same regions; their features are then made again"


def check_start(start: Checkpoint, frozen: str | None) -> None:
    """Refuse weights that cannot be fine-tuned, and layers that cannot be frozen.

    Raises:
        InputError: there is no such layer, or the weights are of MultiBox.
    """
    if frozen is not None and frozen not in LAYERS:
        raise InputError(f"`frozen` {not_one_of(frozen, ['none', *LAYERS])}")
    if start.task in OWN_NETWORK:
        raise WeightsError(f"cannot start from weights for {start.task}, only from an image or region classifier")


def train_regions(
    start: Checkpoint,
    dataset: Dataset,
    propose: ProposalGenerator,
    *,
    recipe: Recipe,
    examples: ExampleRecipe,
    placement: Placement,
    books: Bookkeeping,
    frozen: str | None = "maxpool4",
    workers: int = 2,
    keep: bool = True,
) -> Checkpoint:
    """Fine-tune a region classifier.

    Of several processes, the first draws the regions and keeps the features; the others wait and read them.

    Args:
        start: weights of an image classifier, which get a new last layer, or of a region classifier with the same
            classes, which are trained further.
        dataset: annotated photos.
        propose: generator of the examples; should be the one used at test time.
        recipe: how to train.
        examples: which regions to learn from.
        placement: device and engine of the frozen layers; the trained layers run in torch.
        books: folder of the training, and callbacks.
        frozen: the last frozen layer, whose outputs are kept on disk; None trains all.
        workers: threads that make proposals, and that read photos for crops if nothing is frozen.
        keep: whether the outputs of the frozen layers, which are large, stay on disk when the training is done.

    Returns:
        The trained weights: the running average.

    Raises:
        InputError: a photo, the examples or the weights cannot be used, or the folder belongs to another training.
    """
    work, show = books.work, books.show
    checkpoint = _start(start, tuple(dataset.classes), frozen)
    record = {"recipe": asdict(recipe), "examples": asdict(examples), "frozen": frozen, "photos": len(dataset)}
    record |= {"proposals": propose.parameters.get("generator", propose.name), "start": dict(start.training)}

    def trained(state: State) -> Checkpoint:
        values = {name.removeprefix("network."): value.cpu() for name, value in state.items()}
        return replace(checkpoint, state=values, training=record)

    with first_then_others() as first:
        source = drawn_from(dataset, propose, examples)
        draw = partial(draw_regions, dataset, propose, examples, workers=workers, show=show)
        regions = kept_regions(work / DRAWN_REGIONS_FILE, source, draw)
        if first:
            _require_same_training(work, checkpoint, regions, examples, frozen, placement)
        head = _head(checkpoint, placement.device, frozen)
        finished = steps_done(books.state_file, recipe, recipe.steps) >= recipe.steps
        batches = (
            _no_batch
            if finished
            else _batches(checkpoint, dataset, regions, work, examples, placement, frozen, recipe.steps, workers, show)
        )
    found = books.train(
        head,
        ClassificationLoss(recipe),
        batches,
        [momentum_descent(head, recipe)],
        recipe.schedule,
        recipe=recipe,
        to_checkpoint=trained,
    )
    if not keep and current_process().rank == 0:
        for name in FEATURES_FILES:
            (work / name).unlink(missing_ok=True)
    return found


def _no_batch(step: int) -> LabelledBatch:
    raise AssertionError(f"batch {step} of a finished training")


def _start(start: Checkpoint, classes: tuple[str, ...], frozen: str | None) -> Checkpoint:
    check_start(start, frozen)
    return start if start.task == "regions" and start.classes == classes else for_regions(start, classes)


def _require_same_training(
    work: Path,
    checkpoint: Checkpoint,
    regions: LabelledRegions,
    examples: ExampleRecipe,
    frozen: str | None,
    placement: Placement,
) -> None:
    made_from = {
        "weights": digest(dict(sorted(checkpoint.state.items()))),
        "preprocessing": asdict(checkpoint.preprocessing),
        "regions": digest(vars(regions)),
        "frozen layers": frozen,
        **({"engine": placement.engine, "dtype": placement.dtype} if frozen else {}),
    }
    start, state = work / START_FILE, work / STATE
    if not start.exists():  # the origin of other files is unknown
        if state.exists():
            raise WeightsError(f"{state}: the {start.name} of this training is missing; {AGAIN}")
        for name in FEATURES_FILES:
            (work / name).unlink(missing_ok=True)
    require_same_origin(start, made_from, remedy=f"name another `work` folder, or {AGAIN}")
    mixed = {name: value for name, value in asdict(examples).items() if name not in DRAWING}
    require_same_origin(
        work / BATCHES_FILE, mixed, remedy=f"remove {state} to train again on what is kept", state=state
    )


def _head(checkpoint: Checkpoint, device: torch.device, frozen: str | None) -> Head:
    network = checkpoint.network()
    for layer in layers_between(None, frozen) if frozen else ():
        network.get_submodule(layer).requires_grad_(False)
    head = Head(network, frozen).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert isinstance(head, Head)
    return head


def _batches(
    checkpoint: Checkpoint,
    dataset: Dataset,
    regions: LabelledRegions,
    work: Path,
    examples: ExampleRecipe,
    placement: Placement,
    frozen: str | None,
    steps: int,
    workers: int,
    show: ShowProgress,
) -> Batches[LabelledBatch]:
    photos, device, here = PhotoCache(dataset), placement.device, current_process()
    background, labels = len(dataset.classes), regions.labels
    shares = labels if examples.ramp is None else soft_labels(regions, background=background, ramp=examples.ramp)
    draw = BatchDraw(
        labels,
        background=background,
        batch_size=examples.batch_size,
        positive_share=examples.positive_share,
        balance=examples.balance,
        seed=examples.seed,
    )
    if frozen is None:
        return FreshCrops(
            regions,
            shares,
            draw,
            photos.read,
            checkpoint.preprocessing,
            device,
            steps=steps,
            seed=examples.seed,
            process=here,
            readers=workers,
        )
    engine = make_engine(Trunk(checkpoint.network(), frozen), placement, size=checkpoint.preprocessing.size)
    features = keep_features(
        work / FEATURES_FILES[1],
        regions,
        photos.read,
        engine,
        checkpoint.preprocessing,
        progress=lambda items: show(items, len(np.unique(regions.photo)), f"features up to {frozen}"),
    )
    return KeptFeatures(features, shares, draw, device, steps=steps, process=here)
