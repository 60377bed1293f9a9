"""Runs the work on a Ray cluster: its processes, and the data that Ray Data passes between them.

Ray restarts processes that end, and gives their photos to others; the result of a photo does not depend on the process.
"""

import logging
import math
import os
import re
import signal
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from detect.scaling.places import EXTRA
from detect.scaling.work import Networks, Reading, Work
from structures.errors import InputError
from structures.extras import installed

ON = re.compile(r"ray(://.+)?")
READER_THREADS = 4  # threads per reading process, since each process holds the detector's weights
READERS_SHARE = 6  # on CPUs, one core in six reads, and the others run networks (benchmarks/scale.py)
ON_CPU, ON_GPU = 8, 32  # photos per call of the networks, which are done again if the process ends
ENDS = 5  # how often processes may end on the same photos before the run stops
BLOCK_BYTES = 2**24  # size of a block of photos between processes
LIBRARY_LOGS = ("ray", "ray.data")


@dataclass(frozen=True)
class Processes:
    """How a cluster is divided among processes.

    Attributes:
        workers: processes that run networks.
        readers: processes that read photos and search for regions.
        threads: threads per reader.
        gpus: GPUs per worker.
        cpus: cores per worker, and per thread of a reader; below 1 if there are too few cores.
    """

    workers: int
    readers: int
    threads: int
    gpus: float
    cpus: float

    def resources(self) -> dict[str, float]:
        """Return what all of them need of a cluster, as Ray names it."""
        on_gpu = self.gpus > 0
        cpus = self.cpus * (self.readers * self.threads + (0 if on_gpu else self.workers))
        return {"CPU": cpus} | ({"GPU": self.gpus * self.workers} if on_gpu else {})


def share_out(
    resources: Mapping[str, float], *, gpu: bool, networks: bool, workers: int | None, readers: int | None
) -> Processes:
    """Divide a cluster among processes.

    Args:
        resources: number of "CPU" and "GPU" in the cluster.
        gpu: whether networks may run on GPUs.
        networks: whether there are any networks.
        workers: processes that run networks; None takes one per GPU, or else most of the cores.
        readers: cores that read photos; None takes the others.

    >>> share_out({"CPU": 8, "GPU": 1}, gpu=True, networks=True, workers=None, readers=None)
    Processes(workers=1, readers=2, threads=4, gpus=1.0, cpus=0.8888)
    >>> share_out({"CPU": 2}, gpu=True, networks=True, workers=2, readers=None)
    Processes(workers=2, readers=1, threads=1, gpus=0.0, cpus=0.6666)
    """
    cpus, cards = max(1, int(resources.get("CPU", 1))), int(resources.get("GPU", 0)) if gpu else 0
    if not networks:
        running = 0
    elif workers is not None:
        running = workers
    else:
        running = cards or max(1, cpus - max(1, cpus // READERS_SHARE))
    reading = readers or max(1, cpus - running)
    processes = math.ceil(reading / READER_THREADS)
    threads = math.ceil(reading / processes)
    share = min(1.0, cpus / (running + processes * threads))
    card = min(1.0, cards / running) if running else 0.0
    return Processes(running, processes, threads, _rounded(card), _rounded(share))


def _rounded(share: float) -> float:
    """Round down to what Ray can count."""
    return math.floor(share * 1e4) / 1e4


class OnOneCore(Networks):
    """Networks on one core of a CPU that other processes share."""

    def __init__(self, work: Work) -> None:
        from classifier.engines import keep_to_cores

        keep_to_cores(1)
        super().__init__(work)


@contextmanager
def connected(on: str) -> Iterator[Any]:
    """Connect to a cluster, and yield the Ray module.

    Args:
        on: "ray" for the cluster that this process runs in, that RAY_ADDRESS names, or that `ray start` started on this
            machine; if there is none, one is started here, and ends with the block. "ray://HOST:PORT" for a remote one.

    Raises:
        InputError: Ray is not installed, or there is no cluster at the address.
    """
    if ON.fullmatch(on) is None:
        raise InputError(f"`on` {on!r} must be ray or ray://HOST:PORT")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage reports
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns about this future default
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # important errors are also raised
    ray = installed("ray", extra=EXTRA)
    installed("ray.data", extra=EXTRA)
    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    with _own_signals():
        _begin(ray, on, quiet)
    for name in LIBRARY_LOGS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        ray.shutdown()


def _begin(ray: Any, on: str, quiet: dict[str, Any]) -> None:
    try:
        if on == "ray":  # not "auto": it takes any cluster, also one that another command started and ends with it
            ray.init(include_dashboard=False, **quiet)
        else:
            ray.init(on, **quiet)
    except ConnectionError as error:
        reason = f"{' '.join(str(error).split())} (if it requires a token, set RAY_AUTH_MODE=token)"
        raise InputError(f"`on` {on}: the cluster cannot be reached: {reason}") from None
    except Exception as failure:  # Ray raises a plain Exception on a timeout
        if on != "ray":
            raise
        raise InputError(f"`on` {on}: a cluster cannot be started here: {failure}") from None


def waits(ray: Any, processes: Processes) -> str:
    """Say that a run has to wait, as others hold what it needs of the cluster; empty if it need not."""
    free, wanted = ray.available_resources(), processes.resources()
    lacking = [
        f"{free.get(name, 0):.3g} of {need:.3g} {name}" for name, need in wanted.items() if free.get(name, 0) < need
    ]
    return f"other runs hold the cluster: {', '.join(lacking)} free; this one waits for its turn" if lacking else ""


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep our handler of SIGTERM, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(ray: Any, work: Work, processes: Processes, photos: Iterable[Any]) -> Generator[Any, None, None]:
    """Yield tables of results, in any order.

    Args:
        ray: the connected Ray module.
        work: what to do.
        processes: the processes to start.
        photos: tables of photos from `work.photos_table`; each is read by one process.

    Raises:
        InputError: something is missing on a machine of the cluster, or the cluster has failed.
        Exception: a stage failed on several photos in a row.
    """
    data = ray.data
    _settle(data.DataContext.get_current())
    running = data.from_arrow(list(photos)).map_batches(
        Reading,
        fn_constructor_args=(work,),
        batch_size=None,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(size=processes.readers),
        num_cpus=processes.cpus * processes.threads,
        max_task_retries=ENDS,
    )
    if work.in_steps:
        device: dict[str, Any] = {"num_gpus": processes.gpus} if processes.gpus else {"num_cpus": processes.cpus}
        running = running.map_batches(
            Networks if processes.gpus else OnOneCore,
            fn_constructor_args=(work,),
            batch_size=ON_GPU if processes.gpus else ON_CPU,
            batch_format="pyarrow",
            compute=data.ActorPoolStrategy(size=processes.workers),
            max_task_retries=ENDS,
            **device,
        )
    try:
        yield from running.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
    except ray.exceptions.RayTaskError as error:
        raise _cause(error) from None
    except ray.exceptions.RayError as error:
        first = next(iter(str(error).splitlines()), "")
        raise InputError(
            f"the cluster failed: {type(error).__name__}: {first}; the same command resumes the run"
        ) from None


def _settle(context: Any) -> None:
    context.enable_progress_bars = False
    context.target_max_block_size = BLOCK_BYTES
    context.execution_options.preserve_order = False
    with suppress(AttributeError):
        context.print_on_execution_start = False


def _cause(error: Any) -> Exception:
    """Return the exception that was raised in the cluster, errors of the caller as InputError."""
    cause = error
    while getattr(cause, "cause", None) is not None:
        cause = cause.cause
    found: Exception = InputError(str(cause)) if isinstance(cause, InputError) else error
    return found
