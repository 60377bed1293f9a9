"""Times things on the same photos in turn, so that other load on the machine slows all of them alike.

The first photo is only a warm-up. What fails on a photo is not timed on it, and does not stop the others.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from rich.console import Console

from detect.detector import Detector
from detect.flow import is_of_the_gpu
from eval.ground_truth import AnyDataset
from proposals.stored.reader import StoreError
from structures.boxes import whole_image
from structures.errors import InputError
from structures.images import ImageError, read_image
from structures.records import Image, Proposals
from structures.text import printable

STAGE_TIMES = ("propose", "trunk", "classify", "suppress")  # keys of a detector's `seconds`
Seconds = npt.NDArray[np.float64]
Measure = Callable[[int, Image], float | Sequence[float]]
"""Number of an entry and a photo -> seconds, of one thing or of several."""


def read_photos(dataset: AnyDataset, image_ids: Sequence[str], console: Console) -> Iterator[Image]:
    """Yield photos; those that cannot be read are named on the console."""
    for image_id in image_ids:
        try:
            yield read_image(dataset.image_path(image_id))
        except ImageError as error:
            console.print(f"not timed: {printable(error)}", markup=False, soft_wrap=True)


def or_nan(names: Sequence[str], console: Console, things: int = 1) -> Callable[[Measure], Measure]:
    """Return what makes a measurement give NaN where it fails, and say so once for each of the entries.

    Args:
        names: of the entries.
        console: for the reasons.
        things: how many seconds a measurement gives.
    """
    told = set[str]()

    def tolerant(measure: Measure) -> Measure:
        def measured(entry: int, image: Image) -> float | Sequence[float]:
            try:
                return measure(entry, image)
            except Exception as error:  # of a generator, perhaps of another package: the others must not suffer
                if is_of_the_gpu(error):
                    raise
                if names[entry] not in told:
                    line = f"not timed on every photo: {names[entry]}: {reason_of(error)}"
                    console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
                told.add(names[entry])
                return math.nan if things == 1 else [math.nan] * things

        return measured

    return tolerant


def reason_of(error: Exception) -> str:
    """Return what an error says, with its kind if it is not one of ours."""
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def require_two(photos: int) -> None:
    """Refuse to time fewer than two photos.

    Raises:
        InputError: there are fewer.
    """
    if photos < 2:
        raise InputError(f"at least 2 photos are needed for timing, since the first is a warm-up; got {photos}")


def in_turn(entries: int, images: Iterable[Image], measure: Measure) -> Seconds:
    """Measure every entry on every photo in turn, without the first photo; each photo starts with another entry.

    Args:
        entries: number of entries.
        images: the photos.
        measure: seconds of an entry on a photo.

    Returns:
        (photos, entries) seconds, or (photos, entries, things).

    Raises:
        InputError: fewer than two photos.
    """
    rows = [_one_turn(entries, image, number, measure) for number, image in enumerate(images)]
    require_two(len(rows))
    return np.array(rows[1:])


def _one_turn(entries: int, image: Image, number: int, measure: Measure) -> list[float | Sequence[float]]:
    places = [(number + step) % entries for step in range(entries)]
    seconds = {place: measure(place, image) for place in places}
    return [seconds[place] for place in range(entries)]


def percentiles(values: Seconds, *shares: float) -> list[float]:
    """Return percentiles of the values that are known; NaN if none is."""
    known = values[~np.isnan(values)]
    return np.percentile(known, shares).tolist() if len(known) else [math.nan] * len(shares)


def time_stages(
    detectors: Sequence[Detector], images: Sequence[Image], tolerant: Callable[[Measure], Measure] = lambda each: each
) -> Seconds:
    """Return the (photos, detectors, stages) seconds of each stage in STAGE_TIMES, without the first photo.

    A detector sees a photo of a new shape mirrored first, since engines are compiled for a shape when it first comes,
    and what a network gave for the same pixels is remembered.

    Args:
        detectors: whose stages are timed.
        images: the photos, at least two.
        tolerant: makes a measurement that may fail one that does not.
    """
    seen = set[tuple[int, tuple[int, ...]]]()

    def measure(place: int, image: Image) -> list[float]:
        detector = detectors[place]
        if (place, image.shape) not in seen:
            _warm_up(detector, np.ascontiguousarray(image[:, ::-1]))
            seen.add((place, image.shape))
        before = dict(detector.seconds)
        detector.detect(image, detector.regions(image))
        return [detector.seconds[stage] - before.get(stage, 0.0) for stage in STAGE_TIMES]

    return in_turn(len(detectors), images, tolerant(measure))


def _warm_up(detector: Detector, image: Image) -> None:
    try:
        found = detector.regions(image)
    except StoreError:  # boxes on disk are those of known pixels
        size = image.shape[0], image.shape[1]
        found = Proposals(whole_image(size), np.ones(1, np.float32), size)
    detector.detect(image, found)
