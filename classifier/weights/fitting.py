"""Do weights fit a network? They are loaded if they do, and what does not fit is named."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from structures.errors import InputError
from structures.text import number_of

AUXILIARY_PREFIXES = ("aux1.", "aux2.")
PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
RANDOM = (
    *(torch.Tensor.normal_, torch.Tensor.uniform_, torch.nn.init.normal_, torch.nn.init.uniform_),
    *(torch.nn.init.kaiming_normal_, torch.nn.init.kaiming_uniform_, torch.nn.init.xavier_uniform_),
)


class WeightsError(InputError):
    """Weights that cannot be used; the message names the file and says why."""


@contextmanager
def naming(source: str | Path) -> Iterator[None]:
    """Put the name of weights in front of errors about them.

    Raises:
        WeightsError: one was raised in the block.
    """
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{source}: {error}") from None


def weights_unset() -> TorchFunctionMode:
    """Return a context in which networks are built without weights, all of which are to be loaded.

    Drawing millions of numbers at random takes a tenth of a second, and changes the state of torch's generator.
    """
    return _NothingAtRandom()


class _NothingAtRandom(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if func in RANDOM:
            return args[0] if args else named["tensor"]
        return func(*args, **named)


def require_plain(name: str, value: Tensor) -> None:
    """Refuse what is not a plain array of numbers that a network computes with.

    Raises:
        WeightsError: sparse, quantised, without values, or of an odd type.
    """
    plain = value.layout == torch.strided and not value.is_quantized and not value.is_meta
    if not plain or (value.is_floating_point() and value.dtype not in PRECISIONS) or value.is_complex():
        raise WeightsError(f"{name} is not a plain array of numbers ({value.dtype}, {value.layout}, {value.device})")


def load_state(network: torch.nn.Module, state: Mapping[str, Tensor], *, allow_missing: tuple[str, ...] = ()) -> None:
    """Load float weights of any precision; auxiliary weights that the network does not have are left out.

    Raises:
        WeightsError: a name is missing or unknown, or a shape is wrong; the message names it.
    """
    network.load_state_dict(fitting_state(network, state, allow_missing=allow_missing), strict=False)


def fitting_state(
    network: torch.nn.Module, state: Mapping[str, Tensor], *, allow_missing: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Return the part of a state that a network takes, in the network's precision.

    Raises:
        WeightsError: a name is missing or unknown, or a shape is wrong; the message names it.
    """
    own = network.state_dict()
    wanted = {name: value for name, value in state.items() if name in own}
    unknown = [name for name in state if name not in own and not name.startswith(AUXILIARY_PREFIXES)]
    missing = [name for name in own if name not in state and not name.startswith(allow_missing)]
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]  # old files of torch have none
    wrong = [
        f"{n} {tuple(v.shape)} instead of {tuple(own[n].shape)}" for n, v in wanted.items() if v.shape != own[n].shape
    ]
    for problem, names in (("missing", missing), ("unknown", unknown), ("of wrong shape", wrong)):
        if names:
            raise WeightsError(f"{number_of(len(names), 'weight')} {problem}, the first is {names[0]}")
    return {name: value.to(own[name].dtype) for name, value in wanted.items()}  # now: a few bytes may claim any shape
