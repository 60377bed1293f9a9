"""Classifies many photos: reads ahead, forms groups that fill a batch, and reports photos that cannot be read."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np

from classifier.ahead import map_ahead
from classifier.engines import usual_batch
from classifier.images import WHOLE_PHOTOS, ImageClassifier
from classifier.placement import DType, EngineName, place
from classifier.views import Crops
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.fitting import WeightsError, naming
from classifier.weights.on_trunk import photo_classifier
from classifier.whole_photos import presence
from detect.classifiers import load_checkpoint
from detect.runs.class_folders import ClassFolders
from eval.classification import classification, presence_precision
from structures.boxes import Floats
from structures.errors import InputError, without_tracebacks
from structures.images import MAX_PIXELS, ImageError, read_image
from structures.names import ClassNames
from structures.records import Dataset, Image
from structures.text import number_of

COMPILE_FROM = 1000  # crops; with fewer, torch is done before OpenVINO has compiled the network
MOST_IN_MEMORY = 32  # photos; one from a phone takes 40 MB
Score = Callable[[Floats, Any], Iterable[tuple[str, float]] | Mapping[str, float]]
READERS = 4  # threads; decoding a photo takes about as long as classifying one crop


def load_image_classifier(
    weights: Sequence[str],
    *,
    crops: int,
    warp: bool = False,
    photos: int | None = None,
    device: str = "auto",
    engine: str = "auto",
    dtype: str = "auto",
) -> ImageClassifier:
    """Load an image classifier, an ensemble if several weights are named; its batches are no larger than needed.

    Args:
        weights: names or files, as for `detect.classifiers.load_checkpoint`; of shared features, the layer for whole
            photos is used.
        crops: crops per photo: 1, 10 or 144.
        warp: whether to squeeze photos to a square.
        photos: number of photos to expect; None for many.
        device: as for `classifier.placement.place`.
        engine: as for `place`; "auto" compiles only for many crops.
        dtype: as for `place`.

    Raises:
        WeightsError: weights cannot be used; the message names them.
    """
    work = COMPILE_FROM if photos is None else crops * photos
    chosen = "torch" if engine == "auto" and work < COMPILE_FROM else engine
    placement = place(device=device, engine=cast(EngineName, chosen), dtype=cast(DType, dtype))
    checkpoints = [_load(name) for name in weights]
    for name, checkpoint in zip(weights, checkpoints, strict=True):
        if checkpoint.classes != checkpoints[0].classes:
            raise WeightsError(f"{name}: an ensemble needs the same classes in the same order as {weights[0]}")
    batch_size = max(1, min(usual_batch(placement.device), work))
    return ImageClassifier(checkpoints, crops=cast(Crops, crops), warp=warp, placement=placement, batch_size=batch_size)


def _load(name: str) -> Checkpoint:
    checkpoint = load_checkpoint(name)
    if checkpoint.task in WHOLE_PHOTOS:
        return checkpoint
    if checkpoint.task != "shared":
        raise WeightsError(f"{name}: these weights are for {checkpoint.task}, an image classifier is needed")
    with naming(name):
        return photo_classifier(checkpoint)


class PhotoStream:
    """Classifies photos in order.

    Args:
        classifier: the classifier.
        max_pixels: largest photo, in pixels; larger ones are not read.

    Attributes:
        seconds: time spent in the classifier so far, without reading, which happens at the same time.
    """

    def __init__(self, classifier: ImageClassifier, *, max_pixels: int = MAX_PIXELS) -> None:
        self._classifier, self._max_pixels, self.seconds = classifier, max_pixels, 0.0
        full_batches = math.lcm(classifier.batch_size, classifier.crops) // classifier.crops
        self._group = min(full_batches, MOST_IN_MEMORY)

    def __call__(self, paths: Sequence[Path]) -> Iterator[tuple[Path, Floats | ImageError]]:
        """Yield each photo with its (C,) probabilities, or with the error that it could not be read."""
        with ThreadPoolExecutor(READERS) as pool:
            read = map_ahead(pool, self._read, paths, held=self._group + 1)  # the next group while one is classified
            for start in range(0, len(paths), self._group):
                group = paths[start : start + self._group]
                yield from zip(group, self._classify(list(islice(read, len(group)))), strict=True)

    def _classify(self, read: Sequence[Image | ImageError]) -> Iterator[Floats | ImageError]:
        begin = time.perf_counter()
        rows = iter(self._classifier.many([each for each in read if not isinstance(each, ImageError)]))
        self.seconds += time.perf_counter() - begin
        for each in read:
            yield each if isinstance(each, ImageError) else next(rows)

    def _read(self, path: Path) -> Image | ImageError:
        try:
            return read_image(path, max_pixels=self._max_pixels)
        except ImageError as error:
            return without_tracebacks(error)


@dataclass(frozen=True)
class ClassificationSummary:
    """The scores of a classifier.

    Attributes:
        scores: figures by name, from `eval.classification`.
        photos: number of photos that were scored.
        skipped: errors of photos that could not be read.
        seconds_per_photo: time in the classifier, including cropping but not reading.
    """

    scores: Mapping[str, float]
    photos: int
    skipped: tuple[ImageError, ...]
    seconds_per_photo: float


def score_labelled(classifier: ImageClassifier, data: ClassFolders) -> ClassificationSummary:
    """Classify labelled photos and score the result.

    Raises:
        InputError: no photo could be read.
    """
    return _score(classifier, data.paths, data.labels, classification)


def score_annotated(classifier: ImageClassifier, dataset: Dataset) -> ClassificationSummary:
    """Classify annotated photos and score, class by class, how well photos that show it are ranked first.

    Raises:
        InputError: no photo could be read.
    """
    known = ClassNames(classifier.classes)
    columns = [known.label(name) for name in dataset.classes]
    paths = [dataset.image_path(image_id) for image_id in dataset.image_ids]
    present = np.stack([presence(truth, len(dataset.classes)) for truth in dataset])
    return _score(
        classifier, paths, present, lambda rows, shown: presence_precision(rows[:, columns], shown, dataset.classes)
    )


def _score(
    classifier: ImageClassifier, paths: Sequence[Path], answers: np.ndarray, score: Score
) -> ClassificationSummary:
    """Classify photos, and score those that could be read against their rows of `answers`."""
    stream, rows, read, skipped = PhotoStream(classifier), [], [], []
    for number, (_, row) in enumerate(stream(paths)):
        if isinstance(row, ImageError):
            skipped.append(row)
        else:
            rows.append(row)
            read.append(number)
    if not rows:
        raise InputError(f"none of {number_of(len(paths), 'photo')} could be read, the first: {skipped[0]}")
    scores = dict(score(np.stack(rows), answers[read]))
    return ClassificationSummary(scores, len(rows), tuple(skipped), stream.seconds / len(rows))


def score_checkpoint(checkpoint: Checkpoint, data: ClassFolders, *, device: str = "auto") -> ClassificationSummary:
    """Score new weights on labelled photos, with one crop per photo, in torch.

    Raises:
        InputError: no photo could be read.
    """
    placement = place(device=device, engine="torch")
    batch_size = usual_batch(placement.device)
    return score_labelled(ImageClassifier([checkpoint], crops=1, placement=placement, batch_size=batch_size), data)
