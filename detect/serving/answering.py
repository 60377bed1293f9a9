"""Answers jobs with a detector: photos as bytes in, JSON or pictures out."""

import io
import json
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from detect.detector import Detector
from detect.drawing.picture import JPEG_QUALITY, draw
from detect.flow import PATIENCE
from detect.found import Found, as_entry
from detect.generators import unlearned_warning
from detect.runs.detect import placement
from detect.serving.jobs import JPEG, JSON, Answer, Job, Offer, failure
from proposals.protocol import ProposalsByName
from structures.errors import InputError
from structures.files import digest
from structures.images import ImageError, ImageTooLarge, decode_image
from structures.records import Image
from structures.text import printable


class Answering:
    """See `detect.serving.jobs.Worker`.

    Args:
        detectors: detectors by the names of their generators, with the same classes; the first is the default.
        max_pixels: largest photo, in pixels.

    Raises:
        InputError: a generator only has boxes of known photos.
    """

    ready, restarts = True, 0

    def __init__(self, detectors: Mapping[str, Detector], *, max_pixels: int) -> None:
        for name, detector in detectors.items():
            if isinstance(detector.propose, ProposalsByName):
                raise InputError(f"`proposals` {name}: only has boxes of known photos, but a server gets unknown ones")
        self._detectors, self._max_pixels, self._failed = detectors, max_pixels, 0

    def look_after(self) -> None:
        """Do nothing: there is no process to restart."""

    @property
    def offer(self) -> Offer:
        """What requests may ask for."""
        first = next(iter(self._detectors.values()))
        warnings = {unlearned_warning(each.propose, first.wanted): None for each in self._detectors.values()}
        return Offer(
            first.wanted,
            tuple(self._detectors),
            first.options.score_floor,
            first.options.max_boxes,
            tuple(placement(first)[0]),
            tuple(filter(None, warnings)),
        )

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Answer]:
        """Yield an answer to each job, in order."""
        for _, group in groupby(map(self._read, jobs), lambda read: _kind(read[0])):
            yield from self._answer([*group])

    def _read(self, job: Job) -> tuple[Job, Image | Answer]:
        exif = self._detectors[job.proposals].options.exif
        try:
            return job, decode_image(job.content, exif=exif, max_pixels=self._max_pixels)
        except ImageTooLarge:
            return job, failure(413, f"the photo has more than {self._max_pixels} pixels, the limit of this server")
        except ImageError as error:
            return job, failure(422, printable(error))

    def _answer(self, photos: Sequence[tuple[Job, Image | Answer]]) -> Iterator[Answer]:
        """Answer jobs for the same detector."""
        images = [image for _, image in photos if not isinstance(image, Answer)]
        found = self._detect(_kind(photos[0][0]), images)
        for job, image in photos:
            if isinstance(image, Answer):
                yield image
                continue
            what = next(found)
            yield what if isinstance(what, Answer) else self._write(job, image, what)

    def _detect(self, kind: tuple[str, int | None], images: Sequence[Image]) -> Iterator[Found | Answer]:
        """Yield the detections in each photo; after one that fails, the others are processed one by one."""
        detector, done = self._limited(*kind), 0
        try:
            for found in detector.many(images):
                yield found
                done, self._failed = done + 1, 0
        except Exception as error:  # a failure on one photo must not stop the others
            yield self._failure(error)
            for image in images[done + 1 :]:
                yield from self._detect(kind, [image])

    def _limited(self, proposals: str, max_boxes: int | None) -> Detector:
        detector = self._detectors[proposals]
        if max_boxes == detector.options.max_boxes:
            return detector
        return Detector(detector.propose, detector.classify, replace(detector.options, max_boxes=max_boxes))

    def _write(self, job: Job, image: Image, found: Found) -> Answer:
        try:
            return _written(job, image, found)
        except Exception as error:  # likewise
            return self._failure(error)

    def _failure(self, error: Exception) -> Answer:
        self._failed += 1
        if self._failed == PATIENCE:
            raise error
        traceback.print_exception(error, file=sys.stderr)
        return failure(500, f"the detector failed on this photo: {type(error).__name__}")


def _kind(job: Job) -> tuple[str, int | None]:
    return job.proposals, job.max_boxes


def _written(job: Job, image: Image, found: Found) -> Answer:
    chosen = found.where(score=job.score, labels=job.classes)
    if job.picture:
        stream = io.BytesIO()
        draw(image, chosen, found.classes).save(stream, "JPEG", quality=JPEG_QUALITY)
        return Answer(200, JPEG, stream.getvalue(), len(chosen))
    entry = as_entry(job.name, chosen, found.classes) | {"file_key": digest(job.content)}
    return Answer(200, JSON, json.dumps(entry).encode(), len(chosen))
