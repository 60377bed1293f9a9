"""A pipeline: photos pass through stages that overlap, each in its own threads, several photos together if that pays.

Decoders, OpenCV, the compiled Selective Search and the networks release Python's global interpreter lock, so threads
are enough. Only a few photos are held at a time, and they come out in the order in which they went in. An error in one
photo affects only that photo.
"""

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, Generic, TypeVar

from classifier.ahead import HELD_PER_THREAD, InBackground, map_ahead
from proposals.stored.foreign_entries import ForeignError
from proposals.stored.reader import StoreError
from structures.errors import without_tracebacks
from structures.images import ImageError
from structures.timing import Timer

T = TypeVar("T")
PATIENCE = 3  # failures in a row after which the stage is blamed instead of the photos
GPU_TOGETHER = 32  # photos per group
MOST_PIXELS = 2**24  # most pixels in a group of several photos, to save memory
OF_THE_PHOTO = (ImageError, StoreError, ForeignError)  # errors of one photo, not of a stage
GPU_ERRORS = frozenset({"AcceleratorError", "OutOfMemoryError"})  # of torch, which may not be imported here
GPU_WORDS = ("CUDA error", "cuDNN error", "CUBLAS_STATUS")  # in GPU errors without a class of their own


@dataclass(frozen=True)
class Stage:
    """One stage of the work.

    Attributes:
        name: name in messages and times.
        work: inputs of a group of photos -> outputs; each depends on its own input only.
        workers: threads, each with a group of its own.
        together: most photos in a group.
    """

    name: str
    work: Callable[[Sequence[Any]], Sequence[Any]]
    workers: int = 1
    together: int = 1


@dataclass
class Passing(Generic[T]):
    """A photo on its way through the stages.

    Attributes:
        item: input of the first stage.
        value: output of the latest stage.
        error: exception of a stage; later stages are skipped.
        stage: name of the stage that raised it.
        seconds: time spent so far, by stage; that of a group is divided among its photos.
        pixels: number of pixels, once the photo is read.
    """

    item: T
    value: Any
    error: Exception | None = None
    stage: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    pixels: int = 0


def each(work: Callable[[Any], Any]) -> Callable[[Sequence[Any]], list[Any]]:
    """Turn a function of one photo into a function of a group."""
    return lambda group: [work(item) for item in group]


def usual_together() -> int:
    """Return how many photos go through a network together: many if a GPU is in use, one on a CPU."""
    torch = sys.modules.get("torch")
    return GPU_TOGETHER if torch is not None and torch.cuda.is_initialized() else 1


def pixels_of(value: Any) -> int:
    """Return the number of pixels of a photo, or of the photo that comes first in a tuple."""
    image = value[0] if isinstance(value, tuple) else value
    shape: tuple[int, ...] = tuple(getattr(image, "shape", ()))
    return shape[0] * shape[1] if len(shape) > 1 else 0


def flow(
    items: Iterable[T],
    stages: Sequence[Stage],
    *,
    pixels: Callable[[Any], int] = lambda value: 0,
    settle: Callable[[], object] | None = None,
) -> Generator[Passing[T], None, None]:
    """Pass items through all stages; yield them in order.

    Args:
        items: consumed as needed, a few ahead, in a background thread: each stage holds at most two groups of photos,
            one in work and one that waits for the next stage; a stage with several threads holds two per thread, and
            one more photo.
        stages: in order; they overlap in time.
        pixels: output of a stage -> number of pixels, so that few large photos are held.
        settle: waits for the GPU at the end of each stage, for exact times; None does not wait.

    Raises:
        Exception: a stage failed on `PATIENCE` photos in a row, or the GPU on any; or iterating over the items failed.
    """
    running = list[InBackground[Passing[T]]]()
    with ExitStack() as pools:
        stream: Iterator[Passing[T]] = (Passing(item, item) for item in items)
        try:
            for stage in stages:
                pool = ThreadPoolExecutor(stage.workers, thread_name_prefix=stage.name)
                pools.callback(pool.shutdown, cancel_futures=True)
                held = stage.workers * HELD_PER_THREAD if stage.workers > 1 else 1
                groups = map_ahead(
                    pool, partial(_work, stage, pixels, settle), _groups(stream, stage.together), held=held
                )
                stream = InBackground(chain.from_iterable(groups), held=stage.together, name=stage.name)
                running.append(stream)
            yield from _until_all_fail(stream)
        finally:
            for each_stage in running:
                each_stage.close()
            for each_stage in running:
                each_stage.join()


def _groups(stream: Iterable[Passing[T]], together: int) -> Iterator[list[Passing[T]]]:
    group, pixels = list[Passing[T]](), 0
    for photo in stream:
        if group and (len(group) == together or pixels + photo.pixels > MOST_PIXELS):
            yield group
            group, pixels = [], 0
        group.append(photo)
        pixels += photo.pixels
        if len(group) == together:
            yield group
            group, pixels = [], 0
    if group:
        yield group


def _work(
    stage: Stage, pixels: Callable[[Any], int], settle: Callable[[], object] | None, group: list[Passing[T]]
) -> list[Passing[T]]:
    sound = [photo for photo in group if photo.error is None]
    with Timer(stage.name, settle=settle) as timer:
        _try(stage, sound)
    for photo in sound:
        for name, spent in timer.seconds.items():
            photo.seconds[name] = photo.seconds.get(name, 0.0) + spent / len(sound)
        if photo.error is None:
            photo.pixels = pixels(photo.value)
    return group


def _try(stage: Stage, photos: Sequence[Passing[T]]) -> None:
    """Process photos together; if that fails, each alone, to find out which are at fault."""
    if not photos:
        return
    try:
        found = stage.work([photo.value for photo in photos])
        for photo, value in zip(photos, found, strict=True):
            photo.value = value
    except Exception as error:  # a failure on one photo must not stop the others
        if is_of_the_gpu(error):
            raise
        if len(photos) == 1:
            kept = without_tracebacks(error) if isinstance(error, OF_THE_PHOTO) else error
            photos[0].error, photos[0].stage = kept, stage.name
            return
        for photo in photos:
            _try(stage, [photo])


def _until_all_fail(photos: Iterable[Passing[T]]) -> Iterator[Passing[T]]:
    """Pass photos on; raise the error of a stage once it has failed on several in a row."""
    failed = 0
    for photo in photos:
        if photo.error is None:
            failed = 0
        elif not isinstance(photo.error, OF_THE_PHOTO):
            failed += 1
            if failed == PATIENCE:
                raise photo.error
        yield photo


def is_of_the_gpu(error: Exception) -> bool:
    """Return whether an error ends the run, because the GPU would fail on the next photo too.

    After a CUDA error nothing works any more in the process. Running out of memory is final, because batches have
    already been halved (`classifier.engines.TorchEngine`).
    """
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & GPU_ERRORS) or any(words in str(error) for words in GPU_WORDS)
