"""A network as OpenVINO has it: converted once, and read from the user's cache by later processes.

What is kept is OpenVINO's own description of the network, before it is compiled: it depends neither on the processor
nor on the precision, and compiling it takes a fraction of what tracing and converting it do.
"""

import errno
import re
import struct
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from structures.cache import keep, read_kept
from structures.cores import thread_limit
from structures.errors import InputError
from structures.extras import import_openvino
from structures.shared_lock import MODULES

KIND = "openvino"
HEADER = struct.Struct("<Q")  # length of the XML, which the binary follows
PLAIN = (bool, int, float, str, bytes, torch.dtype, type(None))
OWN_DIGEST = {"_parameters", "_buffers", "_modules"}  # what has a part of its own in the key

_converting = threading.Lock()  # tracing and converting keep state of the whole process: never two at once


@cache
def openvino_core() -> Any:
    """Return the one OpenVINO of this process, which lives as long as it does.

    Each one gives the thread a stack for signals, and frees it when it goes. With several the thread was left with a
    stack that was no longer there, and the next signal, a child's end or Ctrl-C, was a segmentation fault.
    """
    openvino = import_openvino()
    core, limit = openvino.Core(), thread_limit()
    if limit is not None:
        core.set_property("CPU", {"INFERENCE_NUM_THREADS": limit})
    return core


def openvino_model(module: nn.Module, example: Tensor) -> Any:
    """Return a module as OpenVINO's model of one input shape, from the cache or newly converted.

    Args:
        module: brought to float32, the CPU and evaluation mode, but not while another thread converts it.
        example: an input.

    Raises:
        InputError: the OpenVINO that is installed cannot convert what the installed torch traces.
    """
    with _converting:
        module = module.eval().float().cpu()
        key = module_key(module, example)
        if key is not None:
            kept = _from_cache(key, example)
            if kept is not None:
                return kept
        model = _convert(module, example)
        if key is not None:
            with suppress(OSError):  # no room for temporary files: the next process converts it again
                keep(KIND, key, _packed(model))
        return model


def _convert(module: nn.Module, example: Tensor) -> Any:
    """Trace a module's calls of PyTorch's operators, without computing, and bring these to OpenVINO.

    torch.export traces more than once and takes more than twice as long, for the same model (benchmarks/LOG.md).
    Meanwhile it replaces Python's `min` and others for all threads, which breaks what Numba compiles in one of them.

    Raises:
        InputError: this OpenVINO cannot convert the network.
    """
    openvino = import_openvino()
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder
    from torch.fx.experimental.proxy_tensor import make_fx

    with MODULES.exclusive(), torch.no_grad():
        traced = make_fx(module, tracing_mode="fake", _allow_non_fake_inputs=True)(example)
    try:
        return openvino.convert_model(TorchFXPythonDecoder(traced))
    except openvino.frontend.OpConversionFailure as error:
        raise InputError(
            f"OpenVINO {_short(openvino)} cannot convert this network as torch {_short(torch)} traces it; "
            'upgrade it (pip install -U openvino) or take `engine="torch"`'
        ) from error


def _short(module: Any) -> str:
    return re.split(r"[-+]", module.__version__)[0]


def _from_cache(key: str, example: Tensor) -> Any:
    """Return a kept model; None if there is none that can be read and used."""
    openvino = import_openvino()
    content = read_kept(KIND, key)
    if content is None:
        return None
    try:
        (length,) = HEADER.unpack_from(content)
        rest = memoryview(content)[HEADER.size :]
        xml, weights = str(rest[:length], "utf-8"), np.asarray(rest[length:])
        model = openvino_core().read_model(xml, openvino.Tensor(weights))
        return model if _fits(model, example) else None
    except (struct.error, ValueError, RuntimeError):  # OpenVINO's errors are RuntimeErrors
        return None


def _fits(model: Any, example: Tensor) -> bool:
    wanted = [tuple(example.shape)]
    return [tuple(port.shape) for port in model.inputs] == wanted and len(model.outputs) == 1


def _packed(model: Any) -> bytes:
    """Return a model as one file's bytes, so that it is written whole or not at all."""
    xml, numbers = model_files(model)
    return HEADER.pack(len(xml)) + xml + numbers


def model_files(model: Any, *, halves: bool = False) -> tuple[bytes, bytes]:
    """Return the contents of the two files that OpenVINO makes of a model: .xml and .bin.

    Args:
        model: OpenVINO's model.
        halves: whether its numbers are written in float16.

    Raises:
        OSError: there is no room for temporary files.
    """
    openvino = import_openvino()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.xml")
        try:
            openvino.save_model(model, path, compress_to_fp16=halves)
        except RuntimeError as error:  # OpenVINO's own says neither what nor where
            raise OSError(errno.EIO, f"OpenVINO cannot write there: {error}", folder) from None
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def module_key(module: nn.Module, example: Tensor) -> str | None:
    """Return a name for what a conversion gives: equal names, equal models. None where there can be no such name.

    It covers the code of the module and its parts, their settings, weights and buffers, the input's shape, and the
    versions of torch and OpenVINO.
    """
    version = import_openvino().__version__
    total = blake2b(digest_size=20)
    try:
        for part in _parts_of_key(module):
            total.update(struct.pack("<Q", len(part)))
            total.update(part)
    except LookupError:
        return None
    total.update(repr((tuple(example.shape), example.dtype, torch.__version__, version)).encode())
    return total.hexdigest()


def _parts_of_key(module: nn.Module) -> Iterator[bytes]:
    for name, part in module.named_modules(remove_duplicate=False):
        kind = type(part)
        settings = {key: value for key, value in vars(part).items() if key not in OWN_DIGEST}
        yield f"{name} {kind.__module__}.{kind.__qualname__} {_plain(settings)}".encode()
        if not kind.__module__.startswith("torch."):
            yield _code_around(kind.__module__)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        yield f"{name} {value.dtype} {tuple(value.shape)}".encode()
        yield value.detach().numpy().tobytes()


def _plain(value: Any) -> str:
    """Write a setting in the same way in every process.

    >>> _plain({"b": (1, 2.5), "a": {"y", "x"}})
    "{'a': {'x','y'},'b': (1,2.5)}"
    """
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"({','.join(map(_plain, value))})"
    if isinstance(value, set | frozenset):
        return f"{{{','.join(sorted(map(_plain, value)))}}}"
    if isinstance(value, dict):
        return f"{{{','.join(sorted(f'{_plain(key)}: {_plain(entry)}' for key, entry in value.items()))}}}"
    raise LookupError(type(value).__name__)


@cache
def _code_around(module: str) -> bytes:
    """Return a digest of the sources in the folder of a Python module: its own, and those of what it calls there."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:  # typed in by hand
        raise LookupError(module)
    total = blake2b(digest_size=20)
    try:
        for path in sorted(Path(file).parent.glob("*.py")):
            content = path.read_bytes()
            total.update(f"{path.name} {len(content)} ".encode() + content)
    except OSError:
        raise LookupError(module) from None
    return total.digest()
