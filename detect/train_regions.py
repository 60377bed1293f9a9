"""Training a region classifier: dataset x proposals x GoogLeNet.

The work has stages, each kept in a folder so that a killed run goes on where it was: examples drawn from the proposals
of every photo (regions.npz), outputs of the frozen trunk (features.npy), the state of the training (state.pt).
"""

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from classifier.engines import CPU_BATCH, Placement, make_engine
from classifier.googlenet import stages_between
from classifier.region_features import FreshCrops, Head, KeptFeatures, Trunk, keep_features
from classifier.sampling import BatchDraw, Regions, choose_regions
from classifier.training import BatchSource, Progress, Recipe, train
from classifier.weights import Checkpoint, WeightsError, for_regions
from proposals.protocol import ProposalGenerator
from structures.images import read_image
from structures.records import Dataset, Image

ShowProgress = Callable[[Iterable[int], int, str], Iterable[int]]


@dataclass(frozen=True)
class Examples:
    """Which regions to learn from, and how batches are mixed from them.

    Attributes:
        positives: of each photo, at most so many regions with IoU >= 0.5.
        negatives: of each photo, at most so many regions with IoU < 0.5.
        near_share: of the negatives, so many with IoU of 0.1 or more.
        use_ignored: difficult objects are objects (R-CNN).
        batch_size: regions a batch.
        positive_share: of a batch.
        balance: 0 draws uniformly over positive regions, 1 uniformly over classes.
        seed: of all draws.
    """

    positives: int = 24
    negatives: int = 40
    near_share: float = 0.5
    use_ignored: bool = True
    batch_size: int = 128
    positive_share: float = 0.25
    balance: float = 0.0
    seed: int = 0


class Photos:
    """Reads the photos of a dataset by index, the last ones from memory."""

    def __init__(self, dataset: Dataset, kept: int = 256) -> None:
        self._dataset = dataset
        self.read = lru_cache(maxsize=kept)(self._read)

    def _read(self, index: int) -> Image:
        return read_image(self._dataset.image_path(self._dataset.image_ids[index]))


def draw_regions(
    dataset: Dataset, propose: ProposalGenerator, examples: Examples, *, workers: int, show: ShowProgress
) -> Regions:
    """Draw the examples of every photo from its proposals; the draw of a photo does not depend on the others."""

    def draw(index: int) -> Regions:
        image_id = dataset.image_ids[index]
        boxes = propose(read_image(dataset.image_path(image_id))).boxes
        rng = np.random.default_rng((examples.seed, index))
        return choose_regions(
            boxes,
            dataset.ground_truth(image_id),
            photo=index,
            background=len(dataset.classes),
            positives=examples.positives,
            negatives=examples.negatives,
            rng=rng,
            use_ignored=examples.use_ignored,
            near_share=examples.near_share,
        )

    numbers = range(len(dataset))
    with ThreadPoolExecutor(workers) as pool:
        drawn = pool.map(draw, numbers)
        return Regions.join([next(drawn) for _ in show(numbers, len(dataset), "draw regions")])


def kept_regions(path: Path, settings: Mapping[str, Any], make: Callable[[], Regions]) -> Regions:
    """Read the regions of an earlier run with the same settings, or make and write them.

    Raises:
        WeightsError: the file was made with other settings.
    """
    wanted = json.dumps(settings, sort_keys=True)
    if path.exists():
        with np.load(path) as file:
            if str(file["settings"]) != wanted:
                raise WeightsError(f"{path}: drawn with other settings; name another --work folder or remove this one")
            return Regions(*(file[field.name] for field in fields(Regions)))
    regions = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {field.name: getattr(regions, field.name) for field in fields(Regions)}
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, settings=np.array(wanted), **columns)
    temporary.replace(path)
    return regions


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
) -> Checkpoint:
    """Fine-tune a region classifier.

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
        workers: threads that make proposals.
        show: shows a bar over an iterable.
        report: called after every iteration.
        save_every: iterations between two states on disk.

    Returns:
        The trained weights, the running average of the run.
    """
    classes = tuple(dataset.classes)
    checkpoint = start if start.task == "regions" and start.classes == classes else for_regions(start, classes)
    settings = {"proposals": dict(propose.parameters), **asdict(examples), "photos": len(dataset), "classes": classes}
    regions = kept_regions(
        work / "regions.npz", settings, lambda: draw_regions(dataset, propose, examples, workers=workers, show=show)
    )
    batches, head = _prepare(checkpoint, dataset, regions, work, examples, placement, frozen, show)
    state = train(head, batches, recipe, state_file=work / "state.pt", save_every=save_every, report=report)
    trained = {name.removeprefix("network."): value for name, value in state.items()}
    record = {"recipe": asdict(recipe), "examples": asdict(examples), "frozen": frozen, "photos": len(dataset)}
    return replace(checkpoint, state=trained, training=record | {"start": dict(start.training)})


def _prepare(
    checkpoint: Checkpoint,
    dataset: Dataset,
    regions: Regions,
    work: Path,
    examples: Examples,
    placement: Placement,
    frozen: str | None,
    show: ShowProgress,
) -> tuple[BatchSource, Head]:
    photos, device = Photos(dataset), placement.device
    network = checkpoint.network()
    draw = BatchDraw(
        regions.labels,
        background=len(dataset.classes),
        batch_size=examples.batch_size,
        positive_share=examples.positive_share,
        balance=examples.balance,
        seed=examples.seed,
    )
    head = Head(network, frozen).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if frozen is None:
        return FreshCrops(regions, draw, photos.read, checkpoint.preprocessing, device), head
    for stage in stages_between(None, frozen):
        network.get_submodule(stage).requires_grad_(False)
    engine = make_engine(
        Trunk(checkpoint.network(), frozen), placement, size=checkpoint.preprocessing.size, batch_size=CPU_BATCH
    )
    features = keep_features(
        work / "features.npy",
        regions,
        photos.read,
        engine,
        checkpoint.preprocessing,
        progress=lambda items: show(items, len(np.unique(regions.photo)), f"features up to {frozen}"),
    )
    return KeptFeatures(features, regions.labels, draw, device), head
