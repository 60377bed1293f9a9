"""Where a network runs: the device, the engine and the precision are chosen here, and the choice is explained.

`Placement.reason` says it in one line, and every run writes it down.
"""

import importlib.util
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch

from structures.errors import InputError
from structures.names import not_one_of

EngineName = Literal["auto", "torch", "compiled", "graph", "openvino"]
DType = Literal["auto", "float32", "bfloat16", "float16", "int8"]


@dataclass(frozen=True)
class Placement:
    """Where a network runs.

    Attributes:
        engine: which; never "auto".
        device: on which it computes.
        dtype: in which precision; never "auto".
        reason: one line with all three, and why they were chosen.
        in_int8: the same in 8 bits, for shared features whose weights have the ranges; None unless the precision was
            left open and float32 is the only one that is native.
    """

    engine: EngineName
    device: torch.device
    dtype: DType
    reason: str
    in_int8: "Placement | None" = None


def place(*, device: str = "auto", engine: EngineName = "auto", dtype: DType = "auto") -> Placement:
    """Choose what is left open: the GPU if there is one, OpenVINO on a CPU if installed, bfloat16 where it is native.

    Where it is not, OpenVINO runs shared features in 8 bits: `detect.classifiers.load_classifier` takes `in_int8`.

    Raises:
        InputError: the device, engine or precision is unknown or not available here; says how to get it.
    """
    for value, allowed, option in ((engine, EngineName, "engine"), (dtype, DType, "dtype")):
        if value not in get_args(allowed):
            raise InputError(f"`{option}` {not_one_of(value, get_args(allowed))}")
    only_cpu = engine == "openvino" or dtype == "int8"
    where, why = _device("cpu" if device == "auto" and only_cpu else device)
    chosen = _engine(engine, where)
    if chosen != engine:
        why += f"; {chosen} is the quickest that is installed"
    if dtype not in ("auto", "int8"):
        return _placement(chosen, where, dtype, why)
    native = native_dtype(where)
    rest = f"; layers that are not rounded run in {native}"
    if dtype == "int8":
        if chosen != "openvino":
            raise InputError('`dtype="int8"` needs OpenVINO on a CPU (pip install openvino); take another `dtype`')
        return _placement(chosen, where, dtype, why + rest)
    if where.type != "cpu" or native != "float32":
        return _placement(chosen, where, native, f"{why}; {native} is its quickest native precision")
    lacks = "as the processor lacks bfloat16 (AVX-512 BF16 or AMX)"
    alone = _placement(chosen, where, native, f"{why}; float32 is its only native precision, {lacks}")
    if chosen != "openvino":
        return alone
    quicker = _placement(chosen, where, "int8", f"{why}; int8 is quicker than float32, {lacks}{rest}")
    return replace(alone, reason=f"{alone.reason}; with shared features alone int8 is quicker", in_int8=quicker)


def _placement(engine: EngineName, device: torch.device, dtype: DType, why: str) -> Placement:
    return Placement(engine, device, dtype, f"{engine} {dtype} on {device}: {why}")


def _device(name: str) -> tuple[torch.device, str]:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), f"found a GPU ({torch.cuda.get_device_name()})"
        return torch.device("cpu"), "no GPU was found"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # which "meta" does not have
    except Exception as error:  # each backend that is not there has its own
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"`device` {name!r} cannot be used here: {why}") from None
    return device, "as requested"


def _engine(name: EngineName, device: torch.device) -> EngineName:
    installed = importlib.util.find_spec("openvino") is not None
    if name == "openvino" and not installed:
        raise InputError('`engine="openvino"` needs OpenVINO: pip install openvino')
    if name == "openvino" and device.type != "cpu":
        raise InputError(f'`engine="openvino"` runs on the CPU here, not on {device}; take `device="cpu"`')
    if name == "graph" and device.type != "cuda":
        raise InputError(f'`engine="graph"` is for NVIDIA GPUs, not for {device}; take `engine="torch"`')
    if name == "auto":
        return "openvino" if installed and device.type == "cpu" else "torch"
    return name


def native_dtype(device: torch.device) -> DType:
    """Return the quickest precision in which a device computes without emulating it."""
    if device.type == "cuda":
        with torch.cuda.device(device):  # the question is about the current one
            return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # torch has no public function for it
    return "bfloat16" if device.type == "cpu" and native() else "float32"
