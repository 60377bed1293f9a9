"""Runs the work on a Ray cluster: its processes, and the data that Ray Data passes between them.

Ray restarts processes that end, and gives their photos to others; the result of a photo does not depend on the process.
"""

import math
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from detect.scaling.work import Networks, Reading, Work
from structures.errors import InputError

READER_THREADS = 4  # threads per reading process, since each process holds the detector's weights
READERS_SHARE = 6  # on CPUs, one core in six reads, and the others run networks (benchmarks/scale.py)
ON_CPU, ON_GPU = 8, 32  # photos per call of the networks, which are done again if the process ends
ENDS = 5  # how often processes may end on the same photos before the run stops
BLOCK_BYTES = 2**24  # size of a block of photos between processes


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


def waits(ray: Any, processes: Processes) -> str:
    """Say that a run has to wait, as others hold what it needs of the cluster; empty if it need not."""
    free, wanted = ray.available_resources(), processes.resources()
    lacking = [
        f"{free.get(name, 0):.3g} of {need:.3g} {name}" for name, need in wanted.items() if free.get(name, 0) < need
    ]
    return f"other runs hold the cluster: {', '.join(lacking)} free; this one waits for its turn" if lacking else ""


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
    except ray.exceptions.RayError as error:
        raise failure(ray, error) from None


def failure(ray: Any, error: Exception) -> Exception:
    """Return what to raise for an error of the cluster, or of the connection to it."""
    if isinstance(error, ray.exceptions.RayTaskError):
        return _cause(error)
    first = next(iter(str(error).splitlines()), "")
    return InputError(f"the cluster failed: {type(error).__name__}: {first}; the same command resumes the run")


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
