"""Detects photo by photo: each result is written at once, and photos that fail are skipped."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from typing import Protocol

import numpy as np
from rich.console import Console

from detect.detector import Detector
from detect.flow import flow, pixels_of
from detect.runs.cores import one_core_per_photo
from detect.runs.films import decoded
from detect.runs.frames import Version
from detect.runs.kept import RegionFiles
from detect.runs.photos import Photo, chosen, names_of, places_of
from detect.runs.progress import Bar
from detect.runs.reading import PhotoReader, complaint
from detect.runs.record import ANEW, RunError
from detect.runs.renamed import renamed
from detect.runs.results import ResultsFolder
from detect.runs.summary import DetectionSummary
from detect.stages import DetectedPhoto
from eval.aligned import count_images
from structures.records import Detections, Image, Proposals
from structures.text import number_of
from structures.timing import Timer


class ShowsDetections(Protocol):
    """A folder that shows detections: pictures, or crops."""

    def add(self, image_id: str, image: Image, found: Detections, classes: Sequence[str]) -> None:
        """Show the detections of one photo."""


def detect_photos(
    detector: Detector,
    photos: Sequence[Photo],
    results: ResultsFolder,
    console: Console,
    *,
    read: PhotoReader,
    workers: int = 1,
    together: int | None = None,
    drawn: Sequence[ShowsDetections] = (),
    kept: RegionFiles | None = None,
    settle: Callable[[], object] | None = None,
) -> DetectionSummary:
    """Detect objects on the photos that are not done yet, and write the results photo by photo.

    Photos that are done, but whose regions are wanted and were not kept, are done again just to keep these.

    Args:
        detector: the detector.
        photos: all photos.
        results: where results are written.
        console: for progress.
        read: photo -> pixels.
        workers: threads that read photos and propose regions.
        together: most photos per pass through the networks; None chooses for the device.
        drawn: folders that show the detections.
        kept: where classified regions are kept; None keeps none.
        settle: waits for the GPU, so that each stage is charged its own time; None does not wait.

    Raises:
        RunError: the results are of other photos with the same names, or of the same photos under other names.
    """
    ready = results.done if kept is None else kept.kept
    waiting = sum(name not in ready for name in names_of(photos))
    if waiting < len(photos):
        console.print(f"{len(photos) - waiting} of {number_of(len(photos), 'photo')} done already")
    _require_same(photos, results)
    todo = chosen(photos, lambda name: name not in ready)
    stages = detector.stages(read, workers=workers, together=together)
    regions, boxes = Counter[str](), Counter[str]()
    with (
        Bar(waiting, console) as bar,
        one_core_per_photo(workers),
        closing(flow(decoded(todo, read.films), stages, pixels=pixels_of, settle=settle)) as done,
    ):
        for passed in done:
            photo, version = passed.item, read.version_of(passed.item)
            if passed.error is not None:
                results.skip(photo.image_id, complaint(passed))
                bar.skip(results.skipped[photo.image_id])
                continue
            with Timer("write") as writing:
                if kept is not None:  # before the line: a photo with a line counts as completely done
                    kept.add(photo.image_id, passed.value.regions)
                if photo.image_id not in results.done:
                    _write(photo.image_id, passed.value, results, drawn, detector.classes, version)
            bar.step(boxes=len(passed.value.found), seconds=passed.seconds | writing.seconds)
            regions.update(_sources(passed.value.regions.proposals))
            boxes.update(_sources(passed.value.found))
    return _report(photos, results, bar, regions, boxes)


def _write(
    name: str,
    detected: DetectedPhoto,
    results: ResultsFolder,
    drawn: Sequence[ShowsDetections],
    classes: Sequence[str],
    version: Version,
) -> None:
    for shown in drawn:  # before the line: a photo with a line counts as completely done
        with suppress(OSError, ValueError):  # tried again at the end, and reported
            shown.add(name, detected.image, detected.found, classes)
    results.write(name, detected.found, classes, version.key, version.stamp)


def _require_same(photos: Sequence[Photo], results: ResultsFolder) -> None:
    """Refuse results of photos with the same names but other content."""
    changed = results.changed(places_of(photos))
    if changed:
        raise RunError(
            f"{results.folder}: has results of other photos with the names of {count_images(changed)}; "
            f"name another `out`, or {ANEW}"
        )
    other_name = renamed(photos, results.done, results.done.__getitem__)
    if other_name:
        raise RunError(f"{results.folder}: {other_name}")


def _sources(record: Proposals | Detections) -> dict[str, int]:
    counts = np.bincount(record.source, minlength=len(record.source_names))
    return dict(zip(record.source_names, counts.tolist(), strict=True))


def _report(
    photos: Sequence[Photo], results: ResultsFolder, bar: Bar, regions: Mapping[str, int], boxes: Mapping[str, int]
) -> DetectionSummary:
    return DetectionSummary(
        photos=len(photos),
        done=sum(name in results.done for name in names_of(photos)),
        fresh=bar.pace.done,
        skipped={name: results.skipped[name] for name in names_of(photos) if name in results.skipped},
        proposals=dict(regions),
        boxes=dict(boxes),
        seconds=bar.pace.seconds,
        stages=dict(bar.seconds),
        first_seconds=bar.pace.first,
        photos_per_second=bar.pace.per_second(),
    )
