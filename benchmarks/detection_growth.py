"""How the time of a photo grows: with its pixels, with its regions, and with the photos that there are."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from benchmarks.detection_ways import load
from structures.images import read_image

MEGAPIXELS = (0.05, 0.2, 1, 4, 16)
REGIONS = (25, 50, 100, 200)
PHOTOS = (1, 4, 16)
REPEATS = 3
BY_PIXELS = ("shared, multibox", "both, default", "crops, default")
BY_REGIONS = ("shared, default", "both, default", "crops, default")

_shifts = itertools.count(1)


def growth(dataset: Any, dtype: str) -> list[dict[str, Any]]:
    """Return rows of way, what grows, to what, and seconds per photo (the quickest of three)."""
    return list(_rows([read_image(dataset.image_path(name)) for name in dataset.image_ids[: PHOTOS[-1]]], dtype))


def _rows(images: list[np.ndarray], dtype: str) -> Iterator[dict[str, Any]]:
    for name in BY_PIXELS:
        detector = load(name, dtype)
        for size in MEGAPIXELS:
            zoom = (size * 1e6 / images[0][..., 0].size) ** 0.5
            photo = cv2.resize(images[0], None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
            yield {"way": name, "what": "megapixels", "to": size, "seconds": _best(detector, [photo])}
    for name in BY_REGIONS:
        for most in REGIONS:
            detector = load(name, dtype, max_boxes=most)
            yield {"way": name, "what": "regions", "to": most, "seconds": _best(detector, images[:1])}
    detector = load("shared, multibox", dtype)
    for count in PHOTOS:
        seconds = _best(detector, images[:count]) / count
        yield {"way": "shared, multibox", "what": "photos", "to": count, "seconds": seconds}


def _best(detector: Any, images: list[np.ndarray]) -> float:
    """Return the seconds that photos take together, after a first time that warms up."""
    times = []
    for _ in range(REPEATS + 1):
        fresh = [_moved(image) for image in images]
        begin = time.perf_counter()
        for _ in detector.many(fresh):
            pass
        times.append(time.perf_counter() - begin)
    return min(times[1:])


def _moved(image: np.ndarray) -> np.ndarray:
    """Return a photo as no detector has seen it yet: a detector keeps what its network gave for the last ones."""
    return np.roll(image, next(_shifts), axis=1)
