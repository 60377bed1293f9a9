"""What runs a network: torch on any device, or OpenVINO on a CPU where it is installed.

An engine maps a (N, 3, H, W) float32 batch on its device to the float32 output of one module. `classifier.placement`
chooses which. Speeds are in benchmarks/LOG.md.
"""

import importlib.util
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from classifier.ahead import begun
from classifier.converted import openvino_core, openvino_model
from classifier.graphs import Graphed
from classifier.placement import DType, Placement, native_dtype
from classifier.rounding import is_rounded
from structures.cores import keep_to
from structures.errors import InputError, require_count

CPU_BATCH = 16  # of 16, 32 and 64 the quickest in OpenVINO on two cores (benchmarks/LOG.md)
GPU_BATCH = 256
FIXED_SHARES = (8, 4, 2, 1)  # of a batch: sizes that are compiled or recorded on a GPU, so that little is wasted
MOST_COMPILED = 64  # shapes; torch stops compiling, and says so only in a warning, after 8
PRECISIONS = {"bfloat16": "bf16", "float16": "f16", "float32": "f32"}  # as OpenVINO has them


class Engine(Protocol):
    """Runs one module on batches of a fixed size.

    Attributes:
        name: "torch" or "openvino".
        device: where batches are wanted, and outputs come back.
        dtype: precision in which it computes.
        reason: why this engine, device and precision.
        batch_size: the most inputs per batch; it may fall where memory runs out.
    """

    name: str
    device: torch.device
    dtype: DType
    reason: str
    batch_size: int

    def __call__(self, batch: Tensor) -> Tensor:
        """Map (N, 3, H, W) float32, N at most batch_size, to the module's output in float32; from any thread."""


def usual_batch(device: torch.device) -> int:
    """Return how many inputs per batch suit a device."""
    return CPU_BATCH if device.type == "cpu" else GPU_BATCH


def make_engine(
    module: nn.Module,
    placement: Placement,
    *,
    size: int | tuple[int, int],
    batch_size: int | None = None,
) -> Engine:
    """Put a module, in evaluation mode, to work where the placement says.

    Args:
        module: maps one batch to one tensor; it may be moved and brought to another precision.
        placement: where.
        size: side of the square inputs, or their (height, width).
        batch_size: inputs per batch; None takes what suits the device.

    Raises:
        InputError: a batch of no inputs.
    """
    _require_possible(module, placement, batch_size)
    batch = batch_size or usual_batch(placement.device)
    if placement.engine == "openvino":
        return OpenVinoEngine(module, placement, size=size, batch_size=batch)
    return TorchEngine(module, placement, batch_size=batch)


def _require_possible(module: nn.Module, placement: Placement, batch_size: int | None) -> None:
    if batch_size is not None:
        require_count("batch_size", batch_size)
    require_rounded(module, placement)


class EngineAhead:
    """An engine that is made while other things are done; arguments and errors as for `make_engine`.

    OpenVINO's takes a while, and is made in another thread. All others are made in the thread that asks: of several
    GPUs each thread has a current one of its own.
    """

    def __init__(
        self,
        module: nn.Module,
        placement: Placement,
        *,
        size: int | tuple[int, int],
        batch_size: int | None = None,
    ) -> None:
        _require_possible(module, placement, batch_size)  # now, not at the first photo
        self._make = partial(make_engine, module, placement, size=size, batch_size=batch_size)
        self._one_at_a_time = threading.Lock()
        ahead = placement.engine == "openvino"
        self._begun = begun(self._make) if ahead else None
        self._engine = None if ahead else self._make()

    def result(self) -> Engine:
        """Wait for the engine; one that could not be made, as memory ran out, is tried again at the next call."""
        with self._one_at_a_time:
            if self._engine is None:
                ahead, self._begun = self._begun, None
                self._engine = ahead.result() if ahead else self._make()
            return self._engine


def keep_to_cores(count: int) -> None:
    """Keep each library of this process to a number of cores, as where many processes share a machine.

    It holds for torch from now on, and for OpenVINO's networks that are compiled from now on.
    """
    keep_to(count)
    torch.set_num_threads(count)
    if importlib.util.find_spec("openvino") is not None:
        openvino_core().set_property("CPU", {"INFERENCE_NUM_THREADS": count})


def require_rounded(module: nn.Module, placement: Placement) -> None:
    """Refuse to run a network in 8 bits that does not round.

    Raises:
        InputError: says what 8 bits are for.
    """
    if placement.dtype == "int8" and not is_rounded(module):
        raise InputError('`dtype="int8"` is for shared features (`features="shared"`); take another `dtype`')


class TorchEngine:
    """Torch in channels-last layout; float16 and bfloat16 run the whole network in that precision.

    On a CPU short batches are filled up, so that results never depend on what else is in a batch: another number of
    inputs is computed in another order. A compiled network, or one that runs as CUDA graphs, takes batches of a few
    sizes, each of which is compiled or recorded.
    """

    name = "torch"

    def __init__(self, module: nn.Module, placement: Placement, *, batch_size: int) -> None:
        self.device, self.dtype, self.reason = placement.device, placement.dtype, placement.reason
        self.batch_size = batch_size
        self._dtype = getattr(torch, placement.dtype)
        with torch.inference_mode(False):  # else its weights could be used in that mode alone
            module = module.eval().to(device=self.device, dtype=self._dtype)
            module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        compiled = placement.engine == "compiled"
        self._module: Callable[[Tensor], Tensor] = _compiled(module) if compiled else module
        if placement.engine == "graph":
            self._module = Graphed(module)
        fixed = placement.engine in ("compiled", "graph")
        self._shares = FIXED_SHARES if fixed and self.device.type != "cpu" else (1,)
        self._any_size = not fixed and self.device.type != "cpu"
        # Nobody promises that a network can be compiled in two threads at once; and who is last out of memory waits.
        self._one_at_a_time = threading.Lock()
        self._turn: Any = self._one_at_a_time if compiled else nullcontext()

    @torch.no_grad()  # not inference_mode: the output of a frozen trunk is what the layers after it learn from
    def __call__(self, batch: Tensor) -> Tensor:
        """Run one batch; out of GPU memory, run its halves and keep to that size.

        Raises:
            InputError: torch cannot compile, perhaps because there is no compiler.
        """
        parts = [self._run(part) for part in torch.split(batch, self.batch_size)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _run(self, batch: Tensor) -> Tensor:
        try:
            with self._turn:
                return self._forward(batch)
        except torch.cuda.OutOfMemoryError:
            pass  # what the error holds on to must go first
        torch.cuda.empty_cache()
        if len(batch) == 1:  # once more: other threads may have given back what they had
            with self._one_at_a_time:
                return self._forward(batch)
        self.batch_size = min(self.batch_size, (len(batch) + 1) // 2)  # another thread may have halved it, too
        return self(batch)

    def _forward(self, batch: Tensor) -> Tensor:
        moved = batch.to(device=self.device, dtype=self._dtype, memory_format=torch.channels_last)
        missing = self._padded(len(batch)) - len(batch)
        if missing > 0:
            moved = functional.pad(moved, (0, 0, 0, 0, 0, 0, 0, missing))
        try:
            return self._module(moved)[: len(batch)].float()
        except RuntimeError as error:
            if not _is_of_the_compiler(error):
                raise
            why = str(error).splitlines()[0]
            raise InputError(f'`engine="compiled"`: torch cannot compile; take `engine="torch"` ({why})') from error

    def _padded(self, count: int) -> int:
        """Return how many inputs a batch is filled up to."""
        if self._any_size:
            return count
        sizes = (-(-self.batch_size // share) for share in self._shares)
        return min((size for size in sizes if size >= count), default=count)


def _compiled(module: nn.Module) -> Callable[[Tensor], Tensor]:
    from torch._dynamo import config  # slow to import

    config.cache_size_limit = max(config.cache_size_limit, MOST_COMPILED)
    compiled: Callable[[Tensor], Tensor] = torch.compile(module, dynamic=False)
    return compiled


def require_finite(outputs: np.ndarray, ran: "Engine | Placement") -> None:
    """Refuse the output of a network if any of it is not finite.

    Args:
        outputs: of the network.
        ran: where it ran, for the error.

    Raises:
        InputError: a value is infinite or NaN.
    """
    if not np.isfinite(outputs).all():
        raise InputError(f'the network\'s outputs are not finite in {ran.dtype}; try `dtype="float32"`')


def in_batches(engine: Engine, count: int, make: Callable[[slice], Tensor]) -> Tensor:
    """Return what an engine gives for rows that are made batch by batch; out of GPU memory, smaller batches are made.

    Args:
        engine: which.
        count: of the rows, at least 1.
        make: rows from start to stop -> (n, 3, H, W).
    """
    found, start = list[Tensor](), 0
    while start < count:
        size = engine.batch_size
        try:
            found.append(engine(make(slice(start, min(start + size, count)))))
            start += size
        except torch.cuda.OutOfMemoryError:
            if size == 1:
                raise
            torch.cuda.empty_cache()
            engine.batch_size = min(engine.batch_size, (size + 1) // 2)
    return found[0] if len(found) == 1 else torch.cat(found)


def _is_of_the_compiler(error: RuntimeError) -> bool:
    compiler = sys.modules.get("torch._dynamo.exc")  # slow to import, and there if anything was compiled
    return compiler is not None and isinstance(error, compiler.TorchDynamoException)


class OpenVinoEngine:
    """OpenVINO on the CPU, compiled for one batch size; a short batch is filled up, so results never depend on it.

    Raises:
        InputError: the processor cannot compute in the precision that was asked for.
    """

    name = "openvino"

    def __init__(
        self,
        module: nn.Module,
        placement: Placement,
        *,
        size: int | tuple[int, int],
        batch_size: int,
    ) -> None:
        self.device, self.dtype, self.reason = placement.device, placement.dtype, placement.reason
        self.batch_size = batch_size
        precision = PRECISIONS[native_dtype(self.device) if placement.dtype == "int8" else placement.dtype]
        height, width = size if isinstance(size, tuple) else (size, size)
        example = torch.zeros(batch_size, 3, height, width)
        model = openvino_model(module, example)
        settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        self._input, self._one_at_a_time = example, threading.Lock()
        self._compiled: Any = openvino_core().compile_model(model, "CPU", settings)
        used = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if used != precision and self.dtype != "int8":  # OpenVINO replaces silently what the processor lacks
            names = {short: name for name, short in PRECISIONS.items()}
            raise InputError(
                f"`dtype` {placement.dtype}: OpenVINO computes in {names.get(used, used)} on this processor instead; "
                'ask for that, or for `engine="torch"`'
            )

    def __call__(self, batch: Tensor) -> Tensor:
        """Run one batch."""
        with self._one_at_a_time:
            self._input[: len(batch)] = batch
            output = self._compiled([self._input.numpy()])[0]
            return torch.from_numpy(output[: len(batch)].copy()).float()
