"""Photos through stages that overlap: each stage in threads of its own, several photos together where that pays.

Decoders, OpenCV, the compiled Selective Search and the networks release Python's global lock, so threads are enough.
Only a few photos are held at a time, and they come out in the order they went in. An error in one photo affects only
that photo.
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
from structures.images import ImageError
from structures.timing import Timer

T = TypeVar("T")
PATIENCE = 3  # photos in a row that a stage may fail on before the fault is taken for its own
GPU_TOGETHER = 32  # photos in a group
MOST_PIXELS = 2**24  # of the photos in a group, unless it is one alone: large photos are not held by the dozen
OF_THE_PHOTO = (ImageError, StoreError, ForeignError)  # not of what works on it: boxes of other photos perhaps
GPU_ERRORS = frozenset({"AcceleratorError", "OutOfMemoryError"})  # torch's; by name, since torch may not be needed here
GPU_WORDS = ("CUDA error", "cuDNN error", "CUBLAS_STATUS")  # of those that have no class


@dataclass(frozen=True)
class Stage:
    """One step of the work.

    Attributes:
        name: for messages and times.
        work: what went in -> what comes out, for a group of photos; none depends on the others in it.
        workers: threads; each has a group of its own.
        together: at most this many photos are in a group.
    """

    name: str
    work: Callable[[Sequence[Any]], Sequence[Any]]
    workers: int = 1
    together: int = 1


@dataclass
class Passing(Generic[T]):
    """A photo on its way.

    Attributes:
        item: what went in at the beginning.
        value: what the last stage made of it.
        error: what a stage raised; later stages are skipped.
        stage: name of that stage.
        seconds: spent on it so far, by stage; of a group each has its share.
        pixels: of the photo, once it is read.
    """

    item: T
    value: Any
    error: Exception | None = None
    stage: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    pixels: int = 0


def each(work: Callable[[Any], Any]) -> Callable[[Sequence[Any]], list[Any]]:
    """Make what works on one photo work on a group."""
    return lambda group: [work(item) for item in group]


def usual_together() -> int:
    """Return how many photos go through a network together: a GPU, where one is in use, wants many, a CPU one."""
    torch = sys.modules.get("torch")
    return GPU_TOGETHER if torch is not None and torch.cuda.is_initialized() else 1


def pixels_of(value: Any) -> int:
    """Return how many pixels are held with a photo, or with a tuple that it is the first of."""
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
    """Send items through all stages; yield them in order.

    Args:
        items: taken as needed, a few ahead, in a background thread: each stage holds at most two groups of photos, one
            in work and one that waits for the next stage; one with several threads two for each, and one photo more.
        stages: one after the other; they overlap.
        pixels: of what a stage made of a photo, so that few large photos are held.
        settle: waits for a GPU at the end of each stage, for exact times; None lets it work on.

    Raises:
        Exception: what a stage raised on the last of `PATIENCE` photos in a row, or the GPU on any; or the items.
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
    """Work on photos together; where that fails, on each alone, to find out which are at fault."""
    if not photos:
        return
    try:
        found = stage.work([photo.value for photo in photos])
        for photo, value in zip(photos, found, strict=True):
            photo.value = value
    except Exception as error:  # whatever a generator or a classifier makes of one photo must not stop all the others
        if is_of_the_gpu(error):
            raise
        if len(photos) == 1:
            photos[0].error, photos[0].stage = error, stage.name
            return
        for photo in photos:
            _try(stage, [photo])


def _until_all_fail(photos: Iterable[Passing[T]]) -> Iterator[Passing[T]]:
    """Hand on photos; raise the fault of a stage once it failed on several in a row."""
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
    """Say whether an error ends a run, since the GPU would fail on the next photo, too.

    After an error of CUDA nothing works any more in the process, and memory only runs out for good, as batches are
    halved before (`classifier.engines.TorchEngine`).
    """
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & GPU_ERRORS) or any(words in str(error) for words in GPU_WORDS)
