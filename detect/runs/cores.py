"""How the cores are shared out when several photos are worked on at a time."""

from collections.abc import Iterator
from contextlib import contextmanager

import cv2

from detect.runs.record import cores

BESIDE_A_GPU = 2  # cores for the threads that feed it, suppress and write


@contextmanager
def one_core_per_photo(photos: int = 2) -> Iterator[None]:
    """Keep OpenCV to the thread that calls it where several photos are worked on at a time: each has one core.

    Args:
        photos: that are worked on at a time; a single one may have all cores.
    """
    threads = cv2.getNumThreads()
    if photos > 1:
        cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def usual_workers(*, gpu: bool) -> int:
    """Return how many threads propose: nearly all cores with a GPU, else half, as the classifier needs cores too."""
    return max(1, cores() - BESIDE_A_GPU if gpu else cores() // 2)
