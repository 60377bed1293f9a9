"""The training data of MultiBox: views of photos, their order, and the priors."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from classifier.ahead import LoadedBatches
from classifier.children import begin_reading
from classifier.placement import Placement
from classifier.processes import Process, current_process
from detect.networks.canvas_runner import CanvasRunner
from detect.networks.multibox import DenseMultiBox, Stem, unflatten
from detect.training.multibox_losses import CanvasBatch, Targets
from detect.training.multibox_recipe import MultiBoxRecipe
from proposals.multibox.heads import STRIDES
from proposals.multibox.priors import shape_priors
from proposals.multibox.samples import Sample, batches, random_sample, sample_generator
from proposals.multibox.views import MEAN_COLOUR, Colour, whole_photo
from proposals.protocol import ProposalGenerator
from structures.boxes import ImageSize
from structures.errors import InputError
from structures.images import ImageError, read_image
from structures.records import Dataset
from structures.text import number_of


class Canvases(TorchDataset[Sample | ImageError]):
    """Random views of photos by (epoch, index), the same in every process.

    A photo that cannot be read is returned as its error, because an exception in a process of torch's loader becomes a
    report of many lines.
    """

    def __init__(
        self,
        dataset: Dataset,
        seed: int,
        propose: ProposalGenerator | None = None,
        *,
        fill: Colour = MEAN_COLOUR,
    ) -> None:
        self._dataset, self._ids, self._seed = dataset, tuple(dataset.image_ids), seed
        self._propose, self._fill = propose, fill

    def __getitem__(self, key: tuple[int, int]) -> Sample | ImageError:
        epoch, index = key
        try:
            photo = read_image(self._dataset.image_path(self._ids[index]))
        except ImageError as error:
            return error
        truth = self._dataset.ground_truth(self._ids[index])
        proposals = None if self._propose is None else self._propose(photo).boxes
        rng = sample_generator(self._seed, epoch, index)
        return random_sample(photo, truth, rng, proposals, fill=self._fill)


class Order:
    """Batches of (epoch, index) from one step to the last; each of several processes gets its part."""

    def __init__(self, sizes: list[ImageSize], recipe: MultiBoxRecipe, first_step: int, process: Process) -> None:
        self._sizes, self._recipe, self._first, self._process = sizes, recipe, first_step, process

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        step = 0
        for epoch in range(self._recipe.epochs):
            for batch in batches(self._sizes, self._recipe.batch_size, seed=self._recipe.seed, epoch=epoch):
                if len(batch) < self._process.total:  # a process without a photo could not do the step
                    continue
                if step >= self._first:
                    yield [(epoch, index) for index in batch[self._process.rank :: self._process.total]]
                step += 1

    def steps(self) -> int:
        """Return the number of steps of all epochs."""
        return sum(1 for _ in Order(self._sizes, self._recipe, 0, self._process))


class CanvasBatches:
    """The batch of each step: random views of photos, after the frozen layers.

    Args:
        dataset: annotated photos.
        network: network whose layers up to `recipe.frozen` run, as they are now, in the engine of the placement.
        recipe: decides the batches.
        placement: device and engine.
        workers: processes that draw samples; 0 draws them in between.
        propose: generator of more boxes for each view, best a stored one; None adds none.
    """

    def __init__(
        self,
        dataset: Dataset,
        network: DenseMultiBox,
        recipe: MultiBoxRecipe,
        placement: Placement,
        *,
        workers: int,
        propose: ProposalGenerator | None = None,
    ) -> None:
        self._sizes = [truth.image_size for truth in dataset]
        self._samples = Canvases(dataset, recipe.seed, propose, fill=network.mean_colour)
        self._recipe, self._workers = recipe, workers
        self._device = placement.device
        self._stem = CanvasRunner(Stem(network, recipe.frozen), placement, batch_size=recipe.batch_size)
        self._loaded: LoadedBatches[list[Sample | ImageError]] = LoadedBatches(self._from)

    def __call__(self, step: int) -> CanvasBatch:
        """Return the batch of this process.

        Raises:
            ImageError: a photo cannot be read.
        """
        return self.make(_readable(self._loaded(step)))

    def make(self, samples: Sequence[Sample]) -> CanvasBatch:
        """Return a batch of samples with the same canvas size."""
        canvas = (samples[0].canvas.shape[0], samples[0].canvas.shape[1])
        pixels = torch.from_numpy(np.stack([each.canvas for each in samples])).to(self._device).permute(0, 3, 1, 2)
        found = unflatten(self._stem(pixels.float()), canvas, self._recipe.frozen)
        columns = ((each.boxes, each.ignore, each.labels, each.proposals) for each in samples)
        rows = [[torch.from_numpy(column).to(self._device) for column in each] for each in columns]
        objects, ignore, labels, proposals = zip(*rows, strict=True)
        last = [features.to(memory_format=torch.channels_last) for features in found]
        return CanvasBatch(last, Targets(canvas, objects, ignore), labels, proposals, pixels)

    def _from(self, step: int) -> DataLoader[Sample | ImageError]:
        return DataLoader(
            self._samples,
            batch_sampler=Order(self._sizes, self._recipe, step, current_process()),
            num_workers=self._workers,
            worker_init_fn=begin_reading,
            collate_fn=list,
        )


def _readable(samples: Sequence[Sample | ImageError]) -> list[Sample]:
    """Return the samples; raise the error of a photo that could not be read."""
    found: list[Sample] = []
    for sample in samples:
        if isinstance(sample, ImageError):
            raise sample
        found.append(sample)
    return found


def count_steps(dataset: Dataset, recipe: MultiBoxRecipe) -> int:
    """Return the number of steps of all epochs, which is the same in every process.

    Raises:
        InputError: there are none, because no batch has a photo for each process.
    """
    here = current_process()
    steps = Order([truth.image_size for truth in dataset], recipe, 0, here).steps()
    if steps == 0:
        raise InputError(
            f"{number_of(len(dataset), 'photo')} for {here.total} processes: use fewer processes, or more photos"
        )
    return steps


def find_shapes(dataset: Dataset, recipe: MultiBoxRecipe) -> Tensor:
    """Find the (4, A, 2) priors of a dataset, in pixels of the canvas.

    Raises:
        InputError: no photo shows an object that counts and has an area.
    """
    sides = [np.zeros((0, 2), np.float32)]
    for truth in dataset:
        boxes = whole_photo(truth.image_size).to_canvas(truth.boxes[~truth.ignore])
        sides.append(boxes[:, 2:] - boxes[:, :2])
    count = recipe.priors_a_cell * len(STRIDES)
    found = np.concatenate(sides)
    found = found[(found > 0).all(axis=1)]
    if len(found) == 0:
        raise InputError(
            f"no object that counts in the {number_of(len(dataset), 'photo')}: MultiBox has nothing to learn from"
        )
    shapes = shape_priors(found, count, seed=recipe.seed)
    if len(shapes) < count:  # very few training boxes: repeat the largest
        shapes = np.concatenate([shapes, np.repeat(shapes[-1:], count - len(shapes), axis=0)])
    return torch.from_numpy(shapes.reshape(len(STRIDES), recipe.priors_a_cell, 2))
