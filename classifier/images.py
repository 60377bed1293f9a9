"""ImageClassifier: a whole photo in, class probabilities out, from 1, 10 or 144 crops and one or more networks."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize

from classifier.crops import normalise_pixels, to_device
from classifier.engines import make_engine, require_finite, usual_batch
from classifier.placement import Placement, place
from classifier.regions import Probabilities
from classifier.views import Crops, View, list_views, without_the_unseen
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.fitting import WeightsError
from classifier.weights.preprocessing import Preprocessing
from structures.boxes import Floats
from structures.records import Image

WHOLE_PHOTOS = ("images", "photos")  # tasks


class ImageClassifier:
    """GoogLeNet on whole photos: softmax averaged over crops and over networks (GoogLeNet, section 7).

    Args:
        checkpoints: weights of one or more image classifiers, each used with its own preprocessing.
        crops: 1, 10 or 144 per photo; see `classifier.views.list_views`.
        warp: squeeze photos to a square, as BVLC's network was trained.
        placement: where to run; None chooses.
        batch_size: crops per batch; None takes the engine's own, or the crops of one photo where these are fewer.

    Attributes:
        several: a photo may show several of the classes, or none: each has a probability of its own.

    Raises:
        WeightsError: no weights, not of an image classifier, or of different classes.
        InputError: no such number of crops.
    """

    def __init__(
        self,
        checkpoints: Sequence[Checkpoint],
        *,
        crops: Crops = 1,
        warp: bool = False,
        placement: Placement | None = None,
        batch_size: int | None = None,
    ) -> None:
        _check(checkpoints)
        placement = placement or place()
        self.classes, self.crops, self.reason = checkpoints[0].classes, crops, placement.reason
        self.several = checkpoints[0].task == "photos"
        self.batch_size = min(crops, usual_batch(placement.device)) if batch_size is None else batch_size
        self.members = [_Member(each, crops, warp, placement, self.batch_size) for each in checkpoints]

    def __call__(self, image: Image) -> Floats:
        """Return the (C,) float32 probabilities of an RGB uint8 (H, W, 3) photo; they sum to 1 unless `several`."""
        row: Floats = self.many([image])[0]
        return row

    def many(self, images: Sequence[Image]) -> Floats:
        """Return (N, C) float32 probabilities of N photos; crops of different photos share batches.

        Raises:
            InputError: what a network gives is not finite.
        """
        if not images:
            return np.zeros((0, len(self.classes)), np.float32)
        mean: Floats = np.mean([member(images) for member in self.members], axis=0, dtype=np.float32)
        return mean

    def top(self, image: Image, count: int = 5) -> list[tuple[str, float]]:
        """Return the most likely classes with their probabilities, best first; ties by column."""
        return best_classes(self(image), self.classes, count)


def best_classes(probabilities: Floats, classes: Sequence[str], count: int = 5) -> list[tuple[str, float]]:
    """Return the most likely classes with their probabilities, best first; ties by column.

    >>> best_classes(np.array([0.2, 0.5, 0.3], np.float32), ("ant", "bee", "cat"), 2)
    [('bee', 0.5), ('cat', 0.3...)]
    """
    order = np.argsort(-probabilities, kind="stable")[:count]
    return [(classes[column], float(probabilities[column])) for column in order]


def _check(checkpoints: Sequence[Checkpoint]) -> None:
    if not checkpoints:
        raise WeightsError("no weights were given")
    for checkpoint in checkpoints:
        if checkpoint.task not in WHOLE_PHOTOS:
            raise WeightsError(f"these weights are for {checkpoint.task}, a classifier of images is needed")
        if checkpoint.task != checkpoints[0].task:
            raise WeightsError("of an ensemble, either all networks or none may find several classes on a photo")
        if checkpoint.classes != checkpoints[0].classes:
            raise WeightsError("the networks of an ensemble must have the same classes in the same order")


class _Member:
    """One network of the ensemble."""

    def __init__(self, checkpoint: Checkpoint, crops: Crops, warp: bool, placement: Placement, batch_size: int) -> None:
        self.crops, self.warp, self.preprocessing = crops, warp, checkpoint.preprocessing
        list_views((1, 1), crops, self.preprocessing, warp=warp)  # a wrong choice shows here and not at the first photo
        size, module = self.preprocessing.size, Probabilities(checkpoint.network(), several=checkpoint.task == "photos")
        self.engine = make_engine(module, placement, size=size, batch_size=batch_size)

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image]) -> Floats:
        photos = [to_device(image, self.engine.device) for image in images]
        if not self.warp:  # which sees everything
            photos = [without_the_unseen(photo) for photo in photos]
        views = [self._views(photo) for photo in photos]
        cut = (crop for photo, each in zip(photos, views, strict=True) for crop in self._cut(photo, each))
        rows = torch.cat([self.engine(torch.stack(batch)) for batch in _batches(cut, self.engine.batch_size)]).cpu()
        share = torch.tensor([count / self.crops for each in views for count in each.values()])
        require_finite(rows.numpy(), self.engine)
        means = [part.sum(0) for part in torch.split(rows * share[:, None], [len(each) for each in views])]
        result: Floats = torch.stack(means).numpy()
        return result

    def _views(self, photo: Tensor) -> dict[View, int]:
        return list_views((photo.shape[1], photo.shape[2]), self.crops, self.preprocessing, warp=self.warp)

    def _cut(self, photo: Tensor, views: Iterable[View]) -> Iterator[Tensor]:
        return cut_views(photo, views, self.preprocessing)


def cut_views(photo: Tensor, views: Iterable[View], preprocessing: Preprocessing) -> Iterator[Tensor]:
    """Yield the normalised (3, S, S) crop of each view of an RGB uint8 (3, H, W) photo, on the photo's device.

    Pictures are resized as 8-bit values, as the pipelines of Caffe and torchvision do.
    """
    small, normalised, side = photo, photo, preprocessing.size
    scale = None
    for view in views:
        if scale != (view.height, view.width):
            scale = (view.height, view.width)
            small = resize_pixels(photo, *scale, preprocessing)
            normalised = normalise_pixels(small, preprocessing)
        crop = _square(normalised, view)
        if view.side != side:
            crop = normalise_pixels(resize_pixels(_square(small, view), side, side, preprocessing), preprocessing)
        yield crop.flip(2) if view.mirrored else crop


def resize_pixels(photo: Tensor, height: int, width: int, preprocessing: Preprocessing) -> Tensor:
    """Resize a uint8 (3, H, W) photo as the preprocessing says; uint8 (3, height, width)."""
    if preprocessing.interpolation == "area":  # torchvision has none
        means = functional.interpolate(photo[None].float(), size=(height, width), mode="area")[0]
        return means.round().to(torch.uint8)
    mode = InterpolationMode(preprocessing.interpolation)
    small: Tensor = resize(photo, [height, width], interpolation=mode, antialias=preprocessing.antialias)
    return small


def _square(photo: Tensor, view: View) -> Tensor:
    return photo[:, view.top : view.top + view.side, view.left : view.left + view.side]


def _batches(crops: Iterator[Tensor], size: int) -> Iterator[list[Tensor]]:
    while batch := list(islice(crops, size)):
        yield batch
