"""Training a region classifier: dataset x proposals x GoogLeNet.

The work has stages, each kept in a folder so that a killed run goes on where it was: examples drawn from the proposals
of every photo (regions.npz), outputs of the frozen trunk (features.npy), the state of the training (state.pt), and
what these were made from (start.json, batches.json), so that nothing is ever mixed.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from classifier.engines import Placement, make_engine
from classifier.googlenet import STAGES, stages_between
from classifier.processes import current_process, first_alone
from classifier.region_features import FreshCrops, Head, KeptFeatures, Trunk, keep_features
from classifier.sampling import BatchDraw, Regions, choose_regions, soft_labels
from classifier.training import BatchSource, Progress, Recipe, State, iterations_done, train
from classifier.weights import Checkpoint, WeightsError, for_regions
from detect.training_folder import STATE, claim, contents, digest, kept_regions
from proposals.multibox import suppress_quickly
from proposals.protocol import ProposalGenerator, tells_fit
from proposals.ranking import NMS_THRESHOLD
from structures.images import read_image
from structures.records import Dataset, Image

# Fields of Examples that decide the regions.
DRAWING = ("positives", "negatives", "near_share", "best_share", "use_ignored", "seed")
FEATURES = ("features.npy", "features.json")  # outputs of the frozen stages, and how far they are
BEST = 300  # ranked boxes that negatives to be told from objects come from: those that are looked at, and some more
ShowProgress = Callable[[Iterable[int], int, str], Iterable[int]]
PHOTO_MEMORY = 2**28  # bytes of photos kept in memory: a few hundred of VOC's, a handful from a camera


@dataclass(frozen=True)
class Examples:
    """Which regions to learn from, and how batches are mixed from them.

    Attributes:
        positives: of each photo, at most so many regions with IoU >= 0.5.
        negatives: of each photo, at most so many regions with IoU < 0.5.
        near_share: of the negatives, so many with IoU of 0.1 or more.
        best_share: of the negatives, so many from the best boxes of a ranking, those that a detector looks at; the
            scores of the proposals must tell how well they fit.
        use_ignored: ignored objects are objects: right for VOC's difficult ones (R-CNN), wrong for COCO's crowds.
        batch_size: regions a batch.
        positive_share: of a batch.
        balance: 0 draws uniformly over positive regions, 1 uniformly over classes.
        ramp: IoU from which on a region's label holds a share of the class, and from which on all of it; None is
            R-CNN's step at 0.5. See `classifier.sampling.soft_labels`.
        seed: of all draws.

    Raises:
        ValueError: the ramp does not rise within 0..1.
    """

    positives: int = 20
    negatives: int = 36
    near_share: float = 0.5
    best_share: float = 0.0
    use_ignored: bool = True
    batch_size: int = 128
    positive_share: float = 0.25
    balance: float = 0.0
    ramp: tuple[float, float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.ramp is not None and not 0 <= self.ramp[0] < self.ramp[1] <= 1:
            raise ValueError(f"--ramp must rise from one IoU to a greater one within 0..1, not {self.ramp}")


class Photos:
    """Reads the photos of a dataset by index, the last ones from memory."""

    def __init__(self, dataset: Dataset, memory: int = PHOTO_MEMORY) -> None:
        self._dataset = dataset
        largest = max((3 * truth.image_size[0] * truth.image_size[1] for truth in dataset), default=1)
        self.read = lru_cache(maxsize=max(1, memory // largest))(self._read)

    def _read(self, index: int) -> Image:
        return read_image(self._dataset.image_path(self._dataset.image_ids[index]))


def check_start(start: Checkpoint, frozen: str | None) -> None:
    """Refuse what cannot be fine-tuned.

    Raises:
        ValueError: there is no such stage, or the weights are of MultiBox.
    """
    if frozen is not None and frozen not in STAGES:
        raise ValueError(f"--freeze {frozen!r} is not none or one of {', '.join(STAGES)}")
    if start.task == "multibox":
        raise WeightsError("--weights are of MultiBox; those of an image or region classifier are needed")


def check_ranking(propose: ProposalGenerator, examples: Examples) -> None:
    """Refuse proposals that the examples cannot be drawn from.

    Raises:
        ValueError: negatives are wanted of the best boxes, and the proposals are not ranked.
    """
    if examples.best_share and not tells_fit(propose):
        raise ValueError(
            f"--best-share {examples.best_share} needs ranked proposals, such as --proposals ranked:selective-search, "
            f"not {propose.name}; --best-share 0 does without"
        )


def draw_regions(
    dataset: Dataset, propose: ProposalGenerator, examples: Examples, *, workers: int, show: ShowProgress
) -> Regions:
    """Draw the examples of every photo from its proposals; the draw of a photo does not depend on the others.

    Raises:
        ValueError: there are no photos, or one cannot be read; names it. Or negatives are wanted of the best boxes, and
            the proposals are not ranked.
    """
    if len(dataset) == 0:
        raise ValueError("the dataset has no photos to learn from")
    check_ranking(propose, examples)

    def draw(index: int) -> Regions:
        image_id = dataset.image_ids[index]
        found = propose(read_image(dataset.image_path(image_id)))
        rng = np.random.default_rng((examples.seed, index))
        return choose_regions(
            found.boxes,
            dataset.ground_truth(image_id),
            photo=index,
            background=len(dataset.classes),
            positives=examples.positives,
            negatives=examples.negatives,
            rng=rng,
            use_ignored=examples.use_ignored,
            near_share=examples.near_share,
            best=suppress_quickly(found.boxes, found.scores, NMS_THRESHOLD)[:BEST] if examples.best_share else None,
            best_share=examples.best_share,
        )

    numbers = range(len(dataset))
    with ThreadPoolExecutor(workers) as pool:
        drawn = pool.map(draw, numbers)
        return Regions.join([next(drawn) for _ in show(numbers, len(dataset), "draw regions")])


def train_regions(
    start: Checkpoint,
    dataset: Dataset,
    propose: ProposalGenerator,
    *,
    work: Path,
    recipe: Recipe,
    examples: Examples,
    placement: Placement,
    frozen: str | None = "maxpool4",
    workers: int = 2,
    show: ShowProgress = lambda items, total, name: items,
    report: Callable[[Progress], None] = lambda progress: None,
    save_every: int = 500,
    judge: Callable[[int, Callable[[], Checkpoint]], None] | None = None,
    keep: bool = True,
) -> Checkpoint:
    """Fine-tune a region classifier.

    Of several processes the first draws the regions and keeps the features; the others wait and read them.

    Args:
        start: weights of an image classifier, which get a fresh last layer, or of a region classifier with the same
            classes, which are trained further.
        dataset: photos and their objects.
        propose: where the examples come from; should be the generator used at test time.
        work: folder of the stages.
        recipe: how to train.
        examples: what to learn from.
        placement: device and engine; training itself runs in torch.
        frozen: stages up to and with this one are not trained, and their outputs are kept on disk; None trains all.
        workers: threads that make proposals, and that read photos for fresh crops.
        show: shows a bar over an iterable.
        report: called after every iteration.
        save_every: iterations between two states on disk.
        judge: called after every iteration with its number and a function that returns the weights so far; see
            `classifier.training.train`.
        keep: the outputs of the frozen stages stay on disk when the training is done; they are large.

    Returns:
        The trained weights, the running average of the run.

    Raises:
        ValueError: a photo, the examples or the weights cannot be used, or the folder belongs to another training.
    """
    checkpoint = _start(start, tuple(dataset.classes), frozen)
    record = {"recipe": asdict(recipe), "examples": asdict(examples), "frozen": frozen, "photos": len(dataset)}
    record |= {"proposals": propose.parameters.get("generator", propose.name), "start": dict(start.training)}

    def trained(state: State) -> Checkpoint:
        values = {name.removeprefix("network."): value.cpu() for name, value in state.items()}
        return replace(checkpoint, state=values, training=record)

    with first_alone() as first:
        drawn_from = _drawn_from(dataset, propose, examples)
        draw = partial(draw_regions, dataset, propose, examples, workers=workers, show=show)
        regions = kept_regions(work / "regions.npz", drawn_from, draw)
        if first:
            _claim_folder(work, checkpoint, regions, examples, frozen)
        head = _head(checkpoint, placement.device, frozen)
        finished = iterations_done(work / STATE, recipe) >= recipe.iterations
        batches = (
            _no_batch
            if finished
            else _batches(checkpoint, dataset, regions, work, examples, placement, frozen, workers, show)
        )
    state = train(
        head,
        batches,
        recipe,
        state_file=work / STATE,
        save_every=save_every,
        report=report,
        judge=None if judge is None else lambda iteration, average: judge(iteration, partial(trained, average)),
    )
    if not keep and current_process().rank == 0:
        for name in FEATURES:
            (work / name).unlink(missing_ok=True)
    return trained(state)


def _no_batch(iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
    raise AssertionError(f"the training is finished, but batch {iteration} is asked for")


def _drawn_from(dataset: Dataset, propose: ProposalGenerator, examples: Examples) -> dict[str, Any]:
    return {
        "proposals": {"name": propose.name, **propose.parameters},
        "examples": {name: getattr(examples, name) for name in DRAWING},
        "classes": list(dataset.classes),
        **contents(dataset),
    }


def _start(start: Checkpoint, classes: tuple[str, ...], frozen: str | None) -> Checkpoint:
    check_start(start, frozen)
    return start if start.task == "regions" and start.classes == classes else for_regions(start, classes)


def _claim_folder(work: Path, checkpoint: Checkpoint, regions: Regions, examples: Examples, frozen: str | None) -> None:
    made_from = {
        "weights": digest(dict(sorted(checkpoint.state.items()))),
        "preprocessing": asdict(checkpoint.preprocessing),
        "regions": digest(vars(regions)),
        "frozen stages": frozen,
    }
    claim(work / "start.json", made_from, remedy="name another --work folder or remove this one")
    mixed = {name: value for name, value in asdict(examples).items() if name not in DRAWING}
    state, batches = work / STATE, work / "batches.json"
    if not state.exists():
        batches.unlink(missing_ok=True)
    claim(batches, mixed, remedy=f"remove {state} to train anew on what is kept")


def _head(checkpoint: Checkpoint, device: torch.device, frozen: str | None) -> Head:
    network = checkpoint.network()
    for stage in stages_between(None, frozen) if frozen else ():
        network.get_submodule(stage).requires_grad_(False)
    head = Head(network, frozen).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert isinstance(head, Head)
    return head


def _batches(
    checkpoint: Checkpoint,
    dataset: Dataset,
    regions: Regions,
    work: Path,
    examples: Examples,
    placement: Placement,
    frozen: str | None,
    workers: int,
    show: ShowProgress,
) -> BatchSource:
    photos, device, here = Photos(dataset), placement.device, current_process()
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
            seed=examples.seed,
            process=here,
            readers=workers,
        )
    engine = make_engine(Trunk(checkpoint.network(), frozen), placement, size=checkpoint.preprocessing.size)
    features = keep_features(
        work / FEATURES[0],
        regions,
        photos.read,
        engine,
        checkpoint.preprocessing,
        progress=lambda items: show(items, len(np.unique(regions.photo)), f"features up to {frozen}"),
    )
    return KeptFeatures(features, shares, draw, device, process=here)
