"""Runs the work on a remote cluster: a process there runs Ray Data, which does not work through Ray's client.

What passes through the client are the names of the photos and the tables of results.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from detect.scaling import cluster
from detect.scaling.cluster import Processes, failure
from detect.scaling.work import Work

TABLES = 256  # of photos per message


def run(ray: Any, work: Work, processes: Processes, photos: Iterable[Any]) -> Generator[Any, None, None]:
    """Yield tables of results as `detect.scaling.cluster.run` does, from any cluster.

    Args:
        ray: the connected Ray module.
        work: what to do.
        processes: the processes to start.
        photos: tables of photos from `work.photos_table`; each is read by one process.

    Raises:
        InputError: as there, or the connection is lost.
        Exception: as there.
    """
    through_client = ray.util.client.ray.is_connected()  # also where RAY_ADDRESS says so
    return (_run_from_afar if through_client else cluster.run)(ray, work, processes, photos)


class Driver:
    """Runs the work from a process of the cluster.

    Args:
        work: what to do.
        processes: the processes to start.
    """

    def __init__(self, work: Work, processes: Processes) -> None:
        self._work, self._processes = work, processes
        self._photos = list[Any]()
        self._results: Generator[Any, None, None] | None = None

    def add(self, photos: Iterable[Any]) -> None:
        """Take tables of photos, before the first result."""
        self._photos.extend(photos)

    def next(self) -> Any:
        """Return the next table of results, None after the last one."""
        if self._results is None:
            import ray

            self._results = cluster.run(ray, self._work, self._processes, self._photos)
        return next(self._results, None)


def _run_from_afar(ray: Any, work: Work, processes: Processes, photos: Iterable[Any]) -> Generator[Any, None, None]:
    driver = None
    try:
        driver = ray.remote(num_cpus=0)(Driver).remote(work, processes)
        for some in _several(photos):
            ray.get(driver.add.remote(some))
        coming = driver.next.remote()
        while (found := ray.get(coming)) is not None:
            coming = driver.next.remote()
            yield found
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise failure(ray, error) from None
    finally:
        if driver is not None and ray.is_initialized():
            with suppress(Exception):  # the cluster has failed
                ray.kill(driver)


def _several(photos: Iterable[Any]) -> Iterator[list[Any]]:
    left = iter(photos)
    while some := list(islice(left, TABLES)):
        yield some
