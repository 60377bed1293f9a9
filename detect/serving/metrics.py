"""The metrics of a server, in the format of Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from detect.serving.queue import Queue

KIND = CONTENT_TYPE_LATEST
SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60)
TOGETHER = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counts requests, and reads the queue.

    Args:
        queue: queue of the server.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue, self._registry = queue, CollectorRegistry()
        self._requests = Counter(
            "rcnn_requests", "Requests answered, by path and status.", ["path", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "rcnn_request_seconds",
            "Seconds from a request to its answer.",
            ["path"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._objects = Counter("rcnn_objects", "Objects returned.", registry=self._registry)
        self._together = Histogram(
            "rcnn_group_photos", "Photos handed to the detector together.", buckets=TOGETHER, registry=self._registry
        )
        self._gauge("rcnn_taken", "Requests being read, waiting or in progress.", lambda: queue.taken)
        self._gauge("rcnn_ready", "1 while photos are processed.", lambda: float(queue.ready))
        self._gauge("rcnn_detector_restarts", "Restarts of the detector.", lambda: queue.work.restarts)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def found(self, objects: int) -> None:
        """Count the objects of an answer."""
        self._objects.inc(objects)

    def text(self) -> bytes:
        """Return all metrics."""
        while self._queue.groups:
            self._together.observe(self._queue.groups.popleft())
        return generate_latest(self._registry)

    def _gauge(self, name: str, what: str, value: Callable[[], float]) -> None:
        Gauge(name, what, registry=self._registry).set_function(value)
