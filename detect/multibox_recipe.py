"""How MultiBox is trained, on which views of which photos in which order, and with which priors."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from classifier.processes import Process, current_process
from detect.multibox import LAST_FROZEN
from proposals.multibox_heads import STRIDES
from proposals.multibox_samples import Sample, batches, random_sample, sample_generator
from proposals.multibox_views import whole_photo
from proposals.priors import shape_priors
from structures.boxes import ImageSize
from structures.images import ImageError, read_image
from structures.records import Dataset
from structures.seeds import check_seed


@dataclass(frozen=True)
class Recipe:
    """How to train MultiBox.

    Attributes:
        epochs: times every photo is seen.
        rate: highest learning rate of the heads (AdamW).
        trunk_rate: of the trunk's stages behind `frozen`, as a share of that.
        frozen: stages up to and with this one stay as they are; maxpool2 or an Inception module.
        batch_size: photos a step, over all processes.
        warmup: steps over which the rate rises.
        decay: weight decay.
        average: decay of the running average of the weights, which is the result.
        priors_a_cell: shapes of each level.
        width: channels of the pyramid.
        regions: boxes of each photo that the refining head learns from.
        dtype: precision of the forward pass; weights are float32 always.
        seed: of everything random.

    Raises:
        ValueError: another stage is to be the last frozen one, or no seed.
    """

    epochs: int = 12
    rate: float = 1e-3
    trunk_rate: float = 0.1
    frozen: str = "inception4e"
    batch_size: int = 8
    warmup: int = 200
    decay: float = 1e-4
    average: float = 0.998
    priors_a_cell: int = 3
    width: int = 128
    regions: int = 48
    dtype: str = "bfloat16"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.frozen not in LAST_FROZEN:
            raise ValueError(f"--freeze {self.frozen!r} is not one of MultiBox's: {', '.join(LAST_FROZEN)}")
        check_seed(self.seed)

    def steps(self, dataset: Dataset) -> int:
        """Return how many steps all epochs over a dataset have, in this process as in every other."""
        return Order([truth.image_size for truth in dataset], self, 0, current_process()).steps()


class Canvases(TorchDataset[Sample | ImageError]):
    """Samples of a dataset by (epoch, index): the same in every process.

    A photo that cannot be read is given as its error: what is raised in a process of torch's loader comes out as a
    report of many lines.
    """

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self._dataset, self._ids, self._seed = dataset, tuple(dataset.image_ids), seed

    def __getitem__(self, key: tuple[int, int]) -> Sample | ImageError:
        epoch, index = key
        try:
            photo = read_image(self._dataset.image_path(self._ids[index]))
        except ImageError as error:
            return error
        truth = self._dataset.ground_truth(self._ids[index])
        return random_sample(photo, truth, sample_generator(self._seed, epoch, index))


class Order:
    """Batches of (epoch, index) from one step to the last; of several processes each gets its part."""

    def __init__(self, sizes: list[ImageSize], recipe: Recipe, first_step: int, process: Process) -> None:
        self._sizes, self._recipe, self._first, self._process = sizes, recipe, first_step, process

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        step = 0
        for epoch in range(self._recipe.epochs):
            for batch in batches(self._sizes, self._recipe.batch_size, seed=self._recipe.seed, epoch=epoch):
                if len(batch) < self._process.total:  # a process without a photo could not take the step
                    continue
                if step >= self._first:
                    yield [(epoch, index) for index in batch[self._process.rank :: self._process.total]]
                step += 1

    def steps(self) -> int:
        """Return how many steps all epochs have."""
        return sum(1 for _ in Order(self._sizes, self._recipe, 0, self._process))


def find_shapes(dataset: Dataset, recipe: Recipe) -> Tensor:
    """Find the (4, A, 2) priors of a dataset, in pixels of the canvas.

    Raises:
        ValueError: no photo shows an object that counts and has an area.
    """
    sides = [np.zeros((0, 2), np.float32)]
    for truth in dataset:
        boxes = whole_photo(truth.image_size).to_canvas(truth.boxes[~truth.ignore])
        sides.append(boxes[:, 2:] - boxes[:, :2])
    count = recipe.priors_a_cell * len(STRIDES)
    found = np.concatenate(sides)
    found = found[(found > 0).all(axis=1)]
    if len(found) == 0:
        raise ValueError(f"no object that counts on the {len(dataset)} photos: MultiBox has nothing to learn from")
    shapes = shape_priors(found, count, seed=recipe.seed)
    if len(shapes) < count:  # a handful of training boxes: repeat the largest
        shapes = np.concatenate([shapes, np.repeat(shapes[-1:], count - len(shapes), axis=0)])
    return torch.from_numpy(shapes.reshape(len(STRIDES), recipe.priors_a_cell, 2))
