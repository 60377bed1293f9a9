"""Where a network runs: torch on any device, or OpenVINO on a CPU where it is installed.

An engine maps a (N, 3, S, S) float32 batch on its device to the float32 output of one module. `Engine.reason` explains
the choice, and every run writes it down. Speeds are in benchmarks/LOG.md.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn

EngineName = Literal["auto", "torch", "compiled", "openvino"]
DType = Literal["auto", "float32", "bfloat16", "float16"]
CPU_BATCH = 16  # of 16, 32 and 64 the quickest in OpenVINO on two cores (benchmarks/LOG.md)
GPU_BATCH = 256


class Engine(Protocol):
    """Runs one module on batches of a fixed size."""

    name: str
    device: torch.device
    dtype: DType
    reason: str
    batch_size: int

    def __call__(self, batch: Tensor) -> Tensor:
        """Map (N, 3, S, S) float32 on the device, N at most batch_size, to the module's output in float32."""


@dataclass(frozen=True)
class Placement:
    """Which engine, device and precision, and why."""

    engine: EngineName
    device: torch.device
    dtype: DType
    reason: str


def place(*, device: str = "auto", engine: EngineName = "auto", dtype: DType = "auto") -> Placement:
    """Choose what is left open: the GPU if there is one, OpenVINO on a CPU if installed, bfloat16 where it is native.

    Raises:
        ValueError: the device, engine or precision is unknown or cannot be had here; says how to get it.
    """
    for value, allowed, option in ((engine, EngineName, "engine"), (dtype, DType, "dtype")):
        if value not in get_args(allowed):
            raise ValueError(f"--{option} {value!r} is not one of {', '.join(get_args(allowed))}")
    where, why = _device(device)
    chosen = _engine(engine, where)
    precision = dtype if dtype != "auto" else _native_dtype(where)
    if chosen != engine:
        why += f"; {chosen} is the quickest that is installed"
    return Placement(chosen, where, precision, f"{chosen} {precision} on {where}: {why}")


def _device(name: str) -> tuple[torch.device, str]:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), f"a GPU is there ({torch.cuda.get_device_name()})"
        return torch.device("cpu"), "no GPU is there"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return device, "asked for"


def _engine(name: EngineName, device: torch.device) -> EngineName:
    installed = importlib.util.find_spec("openvino") is not None
    if name == "openvino" and not installed:
        raise ValueError("--engine openvino needs OpenVINO: pip install 'googlenet-rcnn[openvino]'")
    if name == "openvino" and device.type != "cpu":
        raise ValueError(f"--engine openvino runs on the CPU here, not on {device}; add --device cpu")
    if name == "auto":
        return "openvino" if installed and device.type == "cpu" else "torch"
    return name


def _native_dtype(device: torch.device) -> DType:
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    native = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if native else "float32"


def make_engine(module: nn.Module, placement: Placement, *, size: int, batch_size: int | None = None) -> Engine:
    """Put a module, in evaluation mode, to work where the placement says; inputs are (N, 3, size, size)."""
    batch = batch_size or (CPU_BATCH if placement.device.type == "cpu" else GPU_BATCH)
    if placement.engine == "openvino":
        return OpenVinoEngine(module, placement, size=size, batch_size=batch)
    return TorchEngine(module, placement, batch_size=batch)


class TorchEngine:
    """Torch in channels-last layout; float16 and bfloat16 run the whole network in that precision."""

    name = "torch"

    def __init__(self, module: nn.Module, placement: Placement, *, batch_size: int) -> None:
        self.device, self.dtype, self.reason = placement.device, placement.dtype, placement.reason
        self.batch_size = batch_size
        self._dtype = getattr(torch, placement.dtype)
        module = module.eval().to(device=self.device, dtype=self._dtype)
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        compiled = placement.engine == "compiled"
        self._module: Callable[[Tensor], Tensor] = torch.compile(module, dynamic=False) if compiled else module

    @torch.inference_mode()
    def __call__(self, batch: Tensor) -> Tensor:
        """Run one batch; out of GPU memory, run its halves and keep to that size."""
        try:
            moved = batch.to(device=self.device, dtype=self._dtype, memory_format=torch.channels_last)
            return self._module(moved).float()
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
        torch.cuda.empty_cache()
        self.batch_size = max(1, len(batch) // 2)
        return torch.cat([self(half) for half in torch.split(batch, self.batch_size)])


class OpenVinoEngine:
    """OpenVINO on the CPU, compiled for one batch size; a short batch is filled up, so results never depend on it."""

    name = "openvino"

    def __init__(self, module: nn.Module, placement: Placement, *, size: int, batch_size: int) -> None:
        import openvino

        self.device, self.dtype, self.reason = placement.device, placement.dtype, placement.reason
        self.batch_size = batch_size
        precision = {"bfloat16": "bf16", "float16": "f16", "float32": "f32"}[placement.dtype]
        example = torch.zeros(batch_size, 3, size, size)
        exported = torch.export.export(module.eval().float().cpu(), (example,))
        settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        self._input = example
        self._compiled: Any = openvino.Core().compile_model(openvino.convert_model(exported), "CPU", settings)

    def __call__(self, batch: Tensor) -> Tensor:
        """Run one batch."""
        self._input[: len(batch)] = batch
        output = self._compiled([self._input.numpy()])[0]
        return torch.from_numpy(output[: len(batch)].copy()).float()
