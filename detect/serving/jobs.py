"""The data between a server and its detector: offers, jobs, answers. Plain data that can be sent to a process."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

TOKEN_VARIABLE = "RCNN_TOKEN"  # environment variable with the token that requests must send
JSON, JPEG = "application/json", "image/jpeg"


@dataclass(frozen=True)
class Offer:
    """What requests may ask for.

    Attributes:
        classes: classes that are looked for.
        proposals: names of the proposal generators; the first is the default.
        score_floor: lowest score that is kept.
        max_boxes: number of first proposals to classify; None classifies all.
        placement: where the networks run, and why.
        warnings: warnings about the loaded parts.
    """

    classes: tuple[str, ...]
    proposals: tuple[str, ...]
    score_floor: float
    max_boxes: int | None = None
    placement: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """The limits of a server.

    Attributes:
        max_bytes: largest body of a request, in bytes.
        max_pixels: largest photo, in pixels.
        seconds: time for a request to arrive, and again until it is answered.
        waiting: most requests being read, waiting or in progress; others are refused.
        together: most photos that are handed to the detector together.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    seconds: float = 30.0
    waiting: int = 32
    together: int = 8


@dataclass(frozen=True)
class Job:
    """A photo, and what is requested, within the offer.

    Attributes:
        content: bytes of the file.
        name: name of the photo, returned in the answer.
        proposals: name of the proposal generator.
        score: lowest score to return.
        max_boxes: number of first proposals to classify; None classifies all.
        classes: classes to return; None returns all.
        picture: whether to return the photo with boxes, as JPEG, instead of JSON.
    """

    content: bytes
    name: str
    proposals: str
    score: float
    max_boxes: int | None = None
    classes: tuple[str, ...] | None = None
    picture: bool = False


@dataclass(frozen=True)
class Answer:
    """The answer: HTTP status, type and bytes of the body, and the number of objects."""

    status: int
    kind: str
    body: bytes
    objects: int = 0


class Worker(Protocol):
    """Detects on photos."""

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Answer]:
        """Yield the answer to each job, in order, as soon as it is known."""

    def look_after(self) -> None:
        """Do maintenance; called once a second if there is no work."""

    @property
    def ready(self) -> bool:
        """Whether jobs can be processed now."""

    @property
    def restarts(self) -> int:
        """Number of restarts of the detector."""


def failure(status: int, reason: str) -> Answer:
    """Return an error as an answer."""
    return Answer(status, JSON, json.dumps({"error": reason}).encode())
