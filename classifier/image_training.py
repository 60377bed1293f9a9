"""Training a classifier of whole photos: batches of varied photos, and GoogLeNet's recipe around the training loop."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from classifier.ahead import LoadedBatches
from classifier.augmentation import Augmentation
from classifier.children import begin_reading
from classifier.classification_loss import ClassificationLoss, momentum_descent
from classifier.crops import normalise_pixels
from classifier.googlenet import INPUT_SIZE, GoogLeNet, Variant
from classifier.processes import ALONE, Process, current_process, own_rows, share_of
from classifier.recipes import Recipe
from classifier.training import StepProgress, train
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.fitting import AUXILIARY_PREFIXES
from classifier.weights.last_layer import for_images
from classifier.weights.preprocessing import CAFFE, TORCHVISION, Preprocessing
from structures.errors import InputError
from structures.images import ImageError, read_image
from structures.records import Labels
from structures.text import number_of

BATCH = 32  # BVLC's solver
AUXILIARY_SIZES = range(223, 271)  # inputs whose 4a is 14 to 16 wide, of which the pooling makes 4
TRIES = 20  # other photos to take the place of one that cannot be read

Example = tuple[int, int]  # step, row


@dataclass(frozen=True, eq=False)
class LabelledPhotos:
    """Labelled photos to learn from.

    Attributes:
        paths: of the files.
        labels: (N,) int64 index into classes.
        classes: names of the labels.
    """

    paths: Sequence[Path]
    labels: Labels
    classes: tuple[str, ...]


class BatchOrder(Sampler[list[Example]]):
    """Which photos make up each batch: every epoch in a new order, each a function of the seed and the epoch's number.

    Several processes take turns at the rows of one batch. The rest of an epoch that fills no batch is left out.

    Raises:
        InputError: fewer photos than a batch, or a batch that the processes cannot share evenly.
    """

    def __init__(self, photos: int, batch_size: int, seed: int, *, process: Process = ALONE) -> None:
        if photos < batch_size:
            raise InputError(
                f"{number_of(photos, 'photo')} cannot fill a batch of {batch_size}; take a smaller `batch_size`"
            )
        share_of(batch_size, process)
        self._photos, self._batch_size, self._seed, self._process = photos, batch_size, seed, process
        self.epoch = photos // batch_size  # batches
        self.start = 0
        self._drawn: tuple[int, Labels] = (-1, np.zeros(0, np.int64))  # an epoch and its order

    def rows(self, step: int) -> list[int]:
        """Return the rows of this process in the batch of a step."""
        epoch, index = divmod(step, self.epoch)
        if self._drawn[0] != epoch:
            self._drawn = epoch, np.random.default_rng((self._seed, epoch)).permutation(self._photos)
        batch = self._drawn[1][index * self._batch_size : (index + 1) * self._batch_size]
        return [int(row) for row in own_rows(batch, self._process)]

    def __iter__(self) -> Iterator[list[Example]]:
        for step in count(self.start):
            yield [(step, row) for row in self.rows(step)]


class _Varied(Dataset[tuple[Tensor, int, int]]):
    """Reads and varies one photo, or another in its place; runs in the loader's processes."""

    def __init__(self, photos: LabelledPhotos, size: int, seed: int) -> None:
        self._photos, self._size, self._vary, self._seed = photos, size, Augmentation(size), seed

    def __getitem__(self, example: Example) -> tuple[Tensor, int, int]:
        """Return the varied photo, its label, and the row that cannot be read, or -1."""
        step, row = example
        seeds = np.random.SeedSequence((self._seed, step, row))
        instead = np.random.default_rng(seeds).integers(len(self._photos.paths), size=TRIES)
        for each in (row, *map(int, instead)):
            with suppress(ImageError):
                pixels = self._vary(read_image(self._photos.paths[each]), int(seeds.generate_state(1, np.uint64)[0]))
                return pixels, int(self._photos.labels[each]), -1 if each == row else row
        raise ImageError(f"{self._photos.paths[row]}: neither this photo nor {TRIES} others can be read")


class PhotoBatches:
    """Batches of varied photos, made ahead by other processes; each a function of the seed and its number alone.

    Args:
        photos: to learn from.
        order: which of them make up each batch.
        preprocessing: of the network.
        device: where the batches are wanted.
        seed: of the variations.
        workers: processes that read photos; 0 reads in this one.
        skipped: called once for each photo that cannot be read; another one takes its place.
    """

    def __init__(
        self,
        photos: LabelledPhotos,
        order: BatchOrder,
        preprocessing: Preprocessing,
        device: torch.device,
        *,
        seed: int,
        workers: int,
        skipped: Callable[[Path], None] = lambda path: None,
    ) -> None:
        self._paths, self._order, self._preprocessing, self._device = photos.paths, order, preprocessing, device
        self._skipped, self._unreadable = skipped, set[int]()
        self._loader = DataLoader(
            _Varied(photos, preprocessing.size, seed),
            batch_sampler=order,
            num_workers=workers,
            worker_init_fn=begin_reading,
            pin_memory=device.type == "cuda",
        )
        self._loaded: LoadedBatches[tuple[Tensor, Tensor, Tensor]] = LoadedBatches(self._from)

    def _from(self, step: int) -> DataLoader[tuple[Tensor, int, int]]:
        self._order.start = step
        return self._loader

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return normalised (N, 3, S, S) photos in channels-last layout, and labels, of one step.

        Raises:
            ImageError: neither a photo nor many others in its place can be read.
        """
        pixels, labels, unreadable = self._loaded(step)
        for row in set(unreadable.tolist()) - {-1} - self._unreadable:
            self._unreadable.add(row)
            self._skipped(self._paths[row])
        moved = pixels.to(self._device, non_blocking=True)
        normalised = normalise_pixels(moved, self._preprocessing).contiguous(memory_format=torch.channels_last)
        return normalised, labels.to(self._device, non_blocking=True)


def untrained_classifier(
    classes: tuple[str, ...], *, variant: str = "batchnorm", size: int = INPUT_SIZE, seed: int = 0
) -> Checkpoint:
    """Return an untrained image classifier, with its auxiliary classifiers.

    Args:
        classes: names of the columns.
        variant: of GoogLeNet.
        size: side of the square input in pixels.
        seed: of the weights.

    Raises:
        InputError: no such variant.
    """
    torch.manual_seed(seed)
    chosen = cast(Variant, variant)
    state = GoogLeNet(len(classes), variant=chosen, auxiliary=True).state_dict()
    usual = CAFFE if variant == "paper" else TORCHVISION
    preprocessing = replace(usual, size=size, resize=round(usual.resize * size / INPUT_SIZE))
    return Checkpoint(state, classes, preprocessing, chosen)


def train_images(
    start: Checkpoint,
    photos: LabelledPhotos,
    recipe: Recipe,
    *,
    state_file: Path,
    device: torch.device,
    batch_size: int = BATCH,
    auxiliary: bool = True,
    workers: int = 2,
    save_every: int = 500,
    report: Callable[[StepProgress], None] = lambda progress: None,
    skipped: Callable[[Path], None] = lambda path: None,
) -> Checkpoint:
    """Train an image classifier.

    Args:
        start: weights to start from; where their classes are not those of the photos, they get a new last layer.
        photos: to learn from.
        recipe: how to train.
        state_file: where the run is kept; a killed run resumes from it.
        device: of this process.
        batch_size: photos per batch, over all processes.
        auxiliary: with the classifiers on 4a and 4d, whose losses count 0.3 each.
        workers: processes that read photos.
        save_every: steps between two states on disk.
        report: called after every step.
        skipped: called once for each photo that cannot be read.

    Returns:
        The averaged weights, without the auxiliary classifiers.

    Raises:
        InputError: photos do not fill a batch, or auxiliary classifiers that do not fit the input size.
        NonFiniteLoss: at once.
    """
    if auxiliary and start.variant == "paper" and start.preprocessing.size not in AUXILIARY_SIZES:
        raise InputError(
            f"the paper's auxiliary classifiers do not fit an input of {start.preprocessing.size} pixels; "
            f"take {min(AUXILIARY_SIZES)} to {max(AUXILIARY_SIZES)}, or leave them out with `auxiliary=False`"
        )
    history = dict(start.training)
    if start.classes != photos.classes or start.task != "images":
        start = for_images(start, photos.classes)
    torch.manual_seed(recipe.seed)  # of auxiliary classifiers that the weights lack
    network = start.network(auxiliary=auxiliary).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    order = BatchOrder(len(photos.paths), batch_size, recipe.seed, process=current_process())
    batches = PhotoBatches(
        photos, order, start.preprocessing, device, seed=recipe.seed, workers=workers, skipped=skipped
    )
    state = train(
        network,
        ClassificationLoss(recipe),
        batches,
        [momentum_descent(network, recipe)],
        recipe.schedule,
        recipe=recipe,
        state_file=state_file,
        save_every=save_every,
        report=report,
    )
    kept = {name: value.cpu() for name, value in state.items() if not name.startswith(AUXILIARY_PREFIXES)}
    record = {"recipe": asdict(recipe), "batch": batch_size, "auxiliary": auxiliary, "photos": len(photos.paths)}
    return replace(start, state=kept, training=record | {"start": history})
