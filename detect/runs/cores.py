"""How many cores and threads work on photos."""

from collections.abc import Iterator
from contextlib import contextmanager

import cv2

from structures.cores import cores, within_limit

BESIDE_A_GPU = 2  # cores for the threads that feed it, suppress and write


@contextmanager
def one_core_per_photo(photos: int = 2) -> Iterator[None]:
    """Keep OpenCV to the calling thread while several photos are processed at the same time, each on one core.

    Args:
        photos: number of photos processed at the same time; a single one may use all cores.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1 if photos > 1 else within_limit(threads))
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def usual_workers(*, gpu: bool) -> int:
    """Return how many threads propose: nearly all cores with a GPU, else half, since the classifier needs some."""
    return max(1, cores() - BESIDE_A_GPU if gpu else cores() // 2)
