"""A server around a detector that needs no network, for tests of what is around it."""

import io
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import uvicorn
from PIL import Image

from detect.serving.app import make_app
from detect.serving.jobs import JPEG, JSON, Answer, Job, Limits, Offer, failure
from detect.serving.queue import Queue
from detect.serving.server import address, bind, config

CLASSES = ("cat", "dog", "<img src=x onerror='window.hacked=1'>\u202e")
OFFER = Offer(CLASSES, ("quick", "other"), 0.05, 200)


def photo_bytes(width: int = 60, height: int = 40, kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


class FakeWork:
    """Finds a box of each class, at 0.9, 0.6 and 0.3; notes the groups that it was handed.

    Args:
        gate: waited for before each answer; open at first.
    """

    ready, restarts = True, 0

    def __init__(self, seconds: float = 0.0) -> None:
        self.gate, self.groups, self.seconds = threading.Event(), list[list[Job]](), seconds
        self.gate.set()

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Answer]:
        self.groups.append(list(jobs))
        for job in jobs:
            assert self.gate.wait(20), "nobody opened the gate"
            time.sleep(self.seconds)
            yield found_in(job)

    def look_after(self) -> None: ...


def found_in(job: Job) -> Answer:
    try:
        width, height = Image.open(io.BytesIO(job.content)).size
    except OSError:
        return failure(422, "not a picture")
    if job.picture:
        return Answer(200, JPEG, photo_bytes())
    boxes = [[0.1 * width * n, 0.1 * height * n, width / 2, height * (1 - 0.2 * n)] for n in range(3)]
    rows = [n for n, name in enumerate(CLASSES) if 0.9 - 0.3 * n >= job.score and name in (job.classes or CLASSES)]
    entry: dict[str, Any] = {
        "image": job.name,
        "width": width,
        "height": height,
        "boxes": [boxes[n] for n in rows],
        "labels": [CLASSES[n] for n in rows],
        "scores": [round(0.9 - 0.3 * n, 1) for n in rows],
        "sources": [job.proposals] * len(rows),
        "file_key": "0",
    }
    return Answer(200, JSON, json.dumps(entry).encode(), len(rows))


def fake_app(work: FakeWork, limits: Limits | None = None, **more: Any) -> Any:
    limits = limits or Limits()
    return make_app(Queue(work, limits), OFFER, limits, **more)


@contextmanager
def serving(**more: Any) -> Iterator[str]:
    listening = bind("127.0.0.1", 0)
    server = uvicorn.Server(config(fake_app(FakeWork(), **more), 5))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    yield address(listening)
    server.should_exit = True
    thread.join()
