"""A GPU for machines without one: tensors that are sent there compute on the CPU, but keep to a GPU's rules.

They mix with no tensor of the CPU, give no NumPy arrays, are not pinned, and say that they are on a GPU. What makes the
CPU wait for a GPU is counted. What a real one may do otherwise, such as sums in another order, copies that are still
under way, and types that its kernels lack, does not show here.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

GPU = torch.device("cuda", 0)
MARK = "_on_the_pretended_gpu"
ARRAYS = {"numpy", "__array__", "__dlpack__"}
MOVES = {"to", "cpu", "cuda", "type"}
MIXES = {"copy_", "__getitem__", "__setitem__", "_has_compatible_shallow_copy_type"}  # take tensors of both
WAITS = {"item", "tolist", "__bool__", "__int__", "__float__", "__index__", "nonzero", "unique", "masked_select", "nms"}


def is_there(value: Any) -> bool:
    """Say whether a tensor is on the pretended GPU."""
    return getattr(value, MARK, False)


class PretendedGpu(TorchFunctionMode):
    """Sees every call of torch.

    Attributes:
        waits: names of the calls that wait for the GPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        kind = func.__name__ if hasattr(func, "__name__") else str(func)
        if kind in ("__get__", "__set__"):
            return self._attribute(kind, func.__self__.__name__, func, args)
        if kind in MOVES:
            return self._moved(kind, func, args, named)
        if kind == "_parse_to":  # only reads the arguments of Module.to
            return func(*args, **named)
        here, there = _sides([*args, *named.values()])
        if there and kind in ARRAYS:
            raise TypeError("can't convert a tensor on a GPU to NumPy: copy it to the CPU first")
        if there and (kind in WAITS or (kind == "__getitem__" and _is_mask(args[1]))):
            self.waits.append(kind)
        if kind == "pin_memory":
            if there:
                raise RuntimeError("only tensors on the CPU can be pinned")
            return args[0].clone()
        if (here and there and kind not in MIXES) or (kind == "__getitem__" and there and not is_there(args[0])):
            raise RuntimeError(f"{kind}: expected all tensors to be on the same device")
        given = _device_of(named.pop("device", None))
        found = func(*args, **named)
        mine = bool(there) if given is None else given
        _mark(found, mine, but=[*here, *there])
        return found

    def _attribute(self, kind: str, name: str, func: Any, args: Any) -> Any:
        own = is_there(args[0])
        if kind == "__get__" and name in ("device", "is_cuda", "is_cpu"):
            return {"device": GPU, "is_cuda": True, "is_cpu": False}[name] if own else func(*args)
        found = func(*args)
        if kind == "__set__" and name == "data":
            setattr(args[0], MARK, is_there(args[1]))
        elif isinstance(found, Tensor):
            setattr(found, MARK, own)
        return found

    def _moved(self, kind: str, func: Any, args: Any, named: dict[str, Any]) -> Tensor:
        own, rest = args[0], list(args[1:])
        goal = {"cpu": False, "cuda": True}.get(kind)
        if goal is None:
            goal = _device_of(named.pop("device", None))
            for place, value in enumerate(rest):
                if isinstance(value, Tensor):
                    goal, rest[place] = is_there(value), value.dtype
                elif (other := _device_of(value)) is not None:
                    goal, rest[place] = other, torch.device("cpu")
        if kind == "cuda":
            func, rest = Tensor.to, ["cpu"]
        goal = is_there(own) if goal is None else goal
        if is_there(own) and not goal:
            self.waits.append("cpu")
        found: Tensor = func(own, *rest, **named)
        found = found.clone() if found is own and goal != is_there(own) else found
        setattr(found, MARK, goal)
        return found


def _sides(values: Iterable[Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the tensors of the CPU among values, without single numbers, which mix with any, and those of the GPU."""
    found = list(_tensors(values))
    there = [each for each in found if is_there(each)]
    return [each for each in found if not is_there(each) and each.dim() > 0], there


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _is_mask(index: Any) -> bool:
    return any(each.dtype == torch.bool for each in _tensors([index]))


def _device_of(value: Any) -> bool | None:
    """Say whether what may name a device names a GPU; None if it names none."""
    if isinstance(value, str | torch.device):
        return torch.device(value).type == "cuda"
    return None


def _mark(found: Any, there: bool, *, but: list[Tensor]) -> None:
    for each in _tensors([found]):
        if all(each is not old for old in but):
            setattr(each, MARK, there)


@contextmanager
def pretended_gpu() -> Iterator[PretendedGpu]:
    """Pretend that there is a GPU, in this thread and in those that it starts."""
    gpu, run = PretendedGpu(), threading.Thread.run

    def run_with_it(thread: threading.Thread) -> None:
        with gpu:
            run(thread)

    with pytest.MonkeyPatch.context() as patch, gpu:
        patch.setattr(threading.Thread, "run", run_with_it)
        yield gpu


def on_both(work: Callable[[str], Any]) -> tuple[Any, Any]:
    """Return what work on the device "cpu" gives, and what it gives on the pretended GPU."""
    alone = work("cpu")
    with pretended_gpu():
        return alone, work("cuda")
