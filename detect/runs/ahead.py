"""Work on the next photos in background threads while the classifier is busy with this one.

Decoders, OpenCV and the compiled Selective Search let go of Python's lock, so threads are enough. Only a few photos are
held at a time, and they come out in the order they went in.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2

from classifier.ahead import HELD_PER_THREAD, map_ahead
from detect.runs.photos import Photo
from proposals.protocol import ProposalsByName
from proposals.stored.foreign_entries import ForeignError
from proposals.stored.reader import StoreError, file_key
from structures.file_notes import Stamp, stamp_of
from structures.images import MAX_PIXELS, ExifPolicy, ImageError, read_image
from structures.records import Image, Proposals

PATIENCE = 3  # photos in a row that a generator or a classifier may fail on before the fault is taken for its own
GPU_ERRORS = frozenset({"AcceleratorError", "OutOfMemoryError"})  # torch's; by name, since torch may not be needed here
GPU_WORDS = ("CUDA error", "cuDNN error", "CUBLAS_STATUS")  # of those that have no class


@dataclass(frozen=True)
class Prepared:
    """A photo that was read, with its proposals.

    Attributes:
        photo: which one.
        image: its pixels.
        proposals: where objects might be.
        key: of the file's bytes (`proposals.stored.reader.file_key`).
        stamp: of the file before it was read.
        seconds: time spent in "read" and "propose".
    """

    photo: Photo
    image: Image
    proposals: Proposals
    key: str
    stamp: Stamp | None
    seconds: dict[str, float]


@dataclass(frozen=True)
class Skipped:
    """A photo that could not be worked on.

    Attributes:
        photo: which one.
        reason: why, with the name of the file.
        fault: what the generator raised; None where the photo itself is at fault.
    """

    photo: Photo
    reason: str
    fault: Exception | None = None


@contextmanager
def one_core_per_photo() -> Iterator[None]:
    """Keep OpenCV to the thread that calls it: where several photos are worked on at a time, each has one core."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def prepare_ahead(
    photos: Iterable[Photo],
    propose: Callable[[Image], Proposals],
    *,
    exif: ExifPolicy = "apply",
    max_pixels: int = MAX_PIXELS,
    workers: int = 1,
) -> Generator[Prepared | Skipped, None, None]:
    """Read photos and propose regions in background threads; yield them in order.

    Raises:
        Exception: whatever the generator raised on the last of `PATIENCE` photos in a row, or the GPU on any.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="propose")
    read = partial(read_image, exif=exif, max_pixels=max_pixels)
    try:
        done = map_ahead(pool, partial(_prepare, propose, read), photos, held=workers * HELD_PER_THREAD)
        yield from _until_all_fail(done)
    finally:
        pool.shutdown(cancel_futures=True)


def _until_all_fail(items: Iterable[Prepared | Skipped]) -> Iterator[Prepared | Skipped]:
    """Hand on what came of photos; raise the fault of the generator once it failed on several in a row."""
    failed = 0
    for item in items:
        if isinstance(item, Prepared):
            failed = 0
        elif item.fault is not None:
            failed += 1
            if failed == PATIENCE:
                raise item.fault
        yield item


def is_of_the_gpu(error: Exception) -> bool:
    """Say whether an error ends a run, since the GPU would fail on the next photo, too.

    After an error of CUDA nothing works any more in the process, and memory only runs out for good, as batches are
    halved before (`classifier.engines.TorchEngine`).
    """
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & GPU_ERRORS) or any(words in str(error) for words in GPU_WORDS)


def _prepare(propose: Callable[[Image], Proposals], read: Callable[[Path], Image], photo: Photo) -> Prepared | Skipped:
    begin = time.perf_counter()
    try:
        stamp = stamp_of(photo.path)
        image = read(photo.path)
        key, done = file_key(photo.path), time.perf_counter()
        by_name = propose.proposals_of if isinstance(propose, ProposalsByName) else None
        proposals = by_name(photo.image_id, image) if by_name else propose(image)
    except ImageError as error:
        return Skipped(photo, str(error))
    except (StoreError, ForeignError) as error:  # boxes that were made before, of other photos perhaps
        return Skipped(photo, f"{photo.path}: no proposals: {error}")
    except Exception as error:  # whatever a generator makes of one photo must not stop all the others
        if is_of_the_gpu(error):
            raise
        return Skipped(photo, f"{photo.path}: no proposals: {type(error).__name__}: {error}", error)
    return Prepared(photo, image, proposals, key, stamp, {"read": done - begin, "propose": time.perf_counter() - done})
