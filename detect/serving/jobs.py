"""What goes between a server and what detects for it: offers, jobs, answers. Light, and plain to send to a process."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

JSON, JPEG = "application/json", "image/jpeg"


@dataclass(frozen=True)
class Offer:
    """What requests may ask for, as the server was started.

    Attributes:
        classes: that are looked for.
        proposals: names of the generators; the first is taken where none is named.
        score_floor: detections below it are not kept.
        max_boxes: most proposals that are classified; None is all of them.
        placement: where the networks run, with the reason.
        warnings: about the parts that were loaded.
    """

    classes: tuple[str, ...]
    proposals: tuple[str, ...]
    score_floor: float
    max_boxes: int | None = None
    placement: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """What a server takes.

    Attributes:
        max_bytes: of the body of a request.
        max_pixels: of a photo.
        seconds: for a request to arrive, and then until it is answered.
        waiting: requests that are read, wait or are worked on at a time; further ones are refused.
        together: at most this many photos go to the detector together.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    seconds: float = 30.0
    waiting: int = 32
    together: int = 8


@dataclass(frozen=True)
class Job:
    """A photo, and what is asked about it; all within what is offered.

    Attributes:
        content: bytes of the file.
        name: of the photo, to be returned.
        proposals: name of the generator.
        score: weaker detections are left out.
        max_boxes: most proposals that are classified; None is all of them.
        classes: others are left out; None keeps all.
        picture: asks for the photo with boxes, as JPEG, in the place of JSON.
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
    """What is returned: status of HTTP, type and bytes of the body, and how many objects were found."""

    status: int
    kind: str
    body: bytes
    objects: int = 0


class Work(Protocol):
    """Detects on photos."""

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Answer]:
        """Yield an answer to each job, in order, each as soon as it is known."""

    def look_after(self) -> None:
        """Do what is to be done once a second where there is no work."""

    @property
    def ready(self) -> bool:
        """Say whether jobs would be worked on at once."""

    @property
    def restarts(self) -> int:
        """Return how often the detector had to be started again."""


def failure(status: int, reason: str) -> Answer:
    """Return an answer that says why there is none."""
    return Answer(status, JSON, json.dumps({"error": reason}).encode())
