"""Engines: what is chosen and why, that all of them agree, and that neither batch nor thread changes a result."""

import importlib.util
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException
from torch._dynamo.testing import CompileCounter
from torch.nn import functional

from classifier.engines import (
    CPU_BATCH,
    FIXED_SHARES,
    GPU_BATCH,
    Engine,
    OpenVinoEngine,
    TorchEngine,
    make_engine,
)
from classifier.googlenet import GoogLeNet, LocalResponseNorm
from classifier.placement import _engine, place

SIDE = 12
needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")


class Tiny(nn.Module):
    """Convolution, normalisation over channels and a linear layer: what GoogLeNet is made of."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 8, 3, stride=2)
            self.fc = nn.Linear(8, 5)
        self.lrn = LocalResponseNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        features = self.lrn(functional.relu(self.conv(x)))
        return self.fc(features.mean(dim=(2, 3))).float().softmax(dim=1)


def tiny_engine(name: str, dtype: str = "float32") -> Engine:
    return _tiny_openvino(dtype) if name == "openvino" else _make_tiny(name, dtype)


def need(precision: str) -> None:
    """Skip a test where OpenVINO has no such precision on this processor."""
    from classifier.converted import openvino_core

    if precision not in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip(f"OpenVINO has no {precision} on this processor")


def _make_tiny(name: str, dtype: str) -> Engine:
    placement = place(device="cpu", engine=name, dtype=dtype)  # type: ignore[arg-type]
    return make_engine(Tiny(), placement, size=SIDE, batch_size=4)


@lru_cache
def _tiny_openvino(dtype: str) -> Engine:
    """Made once: the conversion takes seconds."""
    return _make_tiny("openvino", dtype)


def inputs(count: int, seed: int = 0, *shape: int) -> Tensor:
    return torch.randn((count, 3, *(shape or (SIDE, SIDE))), generator=torch.Generator().manual_seed(seed)) * 50


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replace torch.compile, which takes minutes, and return the list of batch lengths that its network is given."""
    seen: list[int] = []

    def pretend(module: nn.Module, *, dynamic: bool) -> Any:
        assert dynamic is False
        return lambda batch: (seen.append(len(batch)), module(batch))[1]

    monkeypatch.setattr(torch, "compile", pretend)
    return seen


NAMES = ["torch", "compiled", pytest.param("openvino", marks=needs_openvino)]


@pytest.mark.parametrize("name", NAMES)
def test_the_batch_never_changes_a_result(name: str, compiled: list[int]) -> None:
    engine, batch = tiny_engine(name), inputs(4)
    together = engine(batch)
    assert together.shape == (4, 5)
    assert together.dtype == torch.float32
    for row in range(4):
        assert torch.allclose(engine(batch[row : row + 1]), together[row : row + 1], atol=1e-6)
    assert torch.allclose(engine(batch.flip(0)), together.flip(0), atol=1e-6)
    assert torch.allclose(engine(batch[1:3]), together[1:3], atol=1e-6)
    assert torch.equal(engine(batch), together)


@pytest.mark.parametrize("name", NAMES)
def test_no_inputs(name: str, compiled: list[int]) -> None:
    assert tiny_engine(name)(inputs(0)).shape == (0, 5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_engines_agree(name: str, dtype: str, compiled: list[int]) -> None:
    if (name, dtype) == ("openvino", "bfloat16"):
        need("BF16")
    with torch.no_grad():
        expected = Tiny()(inputs(4))
    error = (tiny_engine(name, dtype)(inputs(4)) - expected).abs().max()
    assert error < (1e-5 if dtype == "float32" else 0.03)


@needs_openvino
def test_openvino_agrees_with_torch_on_the_whole_network() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = GoogLeNet(6).eval()
    batch = inputs(2, 1, 48, 64)
    with torch.no_grad():
        expected = network(batch).numpy()
    exact = place(device="cpu", engine="openvino", dtype="float32")
    found = make_engine(network, exact, size=(48, 64), batch_size=2)(batch).numpy()
    assert np.abs(expected).max() > 0.1
    assert np.allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["torch", pytest.param("openvino", marks=needs_openvino)])
def test_float16_survives_activations_whose_squares_do_not_fit(name: str) -> None:
    """BVLC's first layer reaches 3,000; the square of that is infinite in float16."""
    if name == "openvino":
        need("FP16")
    norm, batch = LocalResponseNorm(3), inputs(2).abs() * 60
    placement = place(device="cpu", engine=name, dtype="float16")  # type: ignore[arg-type]
    found = make_engine(norm, placement, size=SIDE, batch_size=2)(batch)
    assert batch.max() > 3000
    assert torch.allclose(found, norm(batch), rtol=5e-3, atol=0.05)


@needs_openvino
def test_openvino_takes_photos_from_several_threads() -> None:
    engine, batches = tiny_engine("openvino"), [inputs(3, seed) for seed in range(40)]
    expected = [engine(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(engine, batches))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@needs_openvino
def test_engines_can_be_made_in_several_threads() -> None:
    modules = [Tiny() for _ in range(4)]  # made one by one: their weights come from a seed of the whole process
    placement = place(device="cpu", engine="openvino", dtype="float32")
    with ThreadPoolExecutor(4) as pool:
        engines = list(pool.map(lambda module: make_engine(module, placement, size=SIDE, batch_size=4), modules))
    assert all(torch.equal(engine(inputs(1)), engines[0](inputs(1))) for engine in engines)


@pytest.mark.parametrize("name", ["torch", pytest.param("openvino", marks=needs_openvino)])
def test_layers_can_learn_from_what_an_engine_gives(name: str) -> None:
    layer = nn.Linear(5, 2)
    layer(tiny_engine(name)(inputs(3))).sum().backward()
    assert layer.weight.grad is not None


def test_a_compiled_network_sees_one_batch_length(compiled: list[int]) -> None:
    engine = tiny_engine("compiled")
    for count in (4, 1, 3, 2):
        assert engine(inputs(count)).shape == (count, 5)
    assert set(compiled) == {4}


def test_a_network_is_compiled_for_more_shapes_than_torch_does_by_itself() -> None:
    """Twelve on a GPU: four batch sizes of three canvases. Later ones would run as they are, at half the speed."""
    shapes, compiles = 12, CompileCounter()
    torch._dynamo.reset()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", partial(torch.compile, backend=compiles))
        engine = TorchEngine(Tiny(), place(device="cpu", engine="compiled", dtype="float32"), batch_size=1)
        for side in range(SIDE, SIDE + shapes):
            engine(inputs(1, 0, side, side))
    assert compiles.frame_count == shapes


def test_weights_of_an_engine_that_is_made_in_inference_mode_are_ordinary() -> None:
    module = nn.Conv2d(3, 1, 1).half()
    with torch.inference_mode():
        TorchEngine(module, place(device="cpu", engine="torch", dtype="float32"), batch_size=1)
    assert not any(weight.is_inference() for weight in module.parameters())


class Limited(nn.Module):
    """A network on a device with memory for a few inputs."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.seen = most, list[int]()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if len(x) > self.most:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return x.mean(dim=(2, 3)) * 2


def test_out_of_memory_halves_the_batch_and_keeps_to_it() -> None:
    module = Limited(3)
    engine = TorchEngine(module, place(device="cpu", engine="torch", dtype="float32"), batch_size=10)
    batch = inputs(10)
    expected = batch.mean(dim=(2, 3)) * 2
    assert torch.allclose(engine(batch), expected, atol=1e-4)
    assert engine.batch_size == 3
    module.seen.clear()
    assert torch.allclose(engine(batch), expected, atol=1e-4)
    assert max(module.seen) <= 3  # it does not try the large batch again


def test_no_memory_for_a_single_input_is_an_error() -> None:
    engine = TorchEngine(Limited(0), place(device="cpu", engine="torch", dtype="float32"), batch_size=4)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        engine(inputs(4))


def test_batches_suit_the_device() -> None:
    cpu = place(device="cpu", engine="torch", dtype="float32")
    assert make_engine(Tiny(), cpu, size=SIDE).batch_size == CPU_BATCH
    elsewhere = replace(cpu, device=torch.device("meta"))
    assert make_engine(nn.ReLU(), elsewhere, size=SIDE).batch_size == GPU_BATCH
    with pytest.raises(ValueError, match="`batch_size` must be a whole number of at least 1, got 0"):
        make_engine(Tiny(), cpu, size=SIDE, batch_size=0)


def test_networks_are_put_into_evaluation() -> None:
    module = nn.Dropout(0.5).train()
    engine = make_engine(module, place(device="cpu", engine="torch", dtype="float32"), size=SIDE)
    batch = inputs(2)
    assert torch.equal(engine(batch), batch)


def pretend(
    monkeypatch: pytest.MonkeyPatch, *, openvino: bool = False, gpu: bool = False, bfloat16: bool = True
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if openvino else None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bfloat16)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bfloat16, raising=False)


def test_the_choice_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, openvino=True)
    chosen = place()
    assert (chosen.engine, chosen.device.type, chosen.dtype) == ("openvino", "cpu", "bfloat16")
    assert chosen.reason == (
        "openvino bfloat16 on cpu: no GPU was found; openvino is the quickest that is installed; "
        "bfloat16 is its quickest native precision"
    )
    pretend(monkeypatch, openvino=False, bfloat16=False)
    chosen = place(device="cpu")
    assert (chosen.engine, chosen.device.type, chosen.dtype) == ("torch", "cpu", "float32")
    assert chosen.reason.endswith("native precision, as the processor lacks bfloat16 (AVX-512 BF16 or AMX)")
    assert chosen.in_int8 is None  # torch does not round
    assert "lacks" not in place(device="cpu", dtype="float32").reason


def test_int8_is_at_hand_where_precision_is_left_open_and_openvino_has_no_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, openvino=True, bfloat16=False)
    chosen = place()
    assert (chosen.engine, chosen.dtype) == ("openvino", "float32")
    assert chosen.reason.endswith("with shared features alone int8 is quicker")
    assert chosen.in_int8 is not None
    assert (chosen.in_int8.engine, chosen.in_int8.device, chosen.in_int8.dtype) == ("openvino", chosen.device, "int8")
    assert chosen.in_int8.reason == (
        "openvino int8 on cpu: no GPU was found; openvino is the quickest that is installed; int8 is quicker than "
        "float32, as the processor lacks bfloat16 (AVX-512 BF16 or AMX); layers that are not rounded run in float32"
    )
    assert place(dtype="float32").in_int8 is None
    assert place(engine="torch").in_int8 is None
    pretend(monkeypatch, openvino=True)
    assert place().in_int8 is None


def test_each_gpu_is_asked_for_itself_whether_it_has_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpu=True)
    old, current = torch.device("cuda:1"), [torch.device("cuda:0")]

    @contextmanager
    def on(device: torch.device) -> Iterator[None]:
        before, current[0] = current[0], device
        yield
        current[0] = before

    monkeypatch.setattr(torch.cuda, "device", on)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: current[0] != old)
    monkeypatch.setattr("classifier.placement._device", lambda name: (torch.device(name), "as requested"))
    assert [place(device=name).dtype for name in ("cuda:0", "cuda:1")] == ["bfloat16", "float16"]


def test_the_choice_where_torch_cannot_tell_what_the_processor_has(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert place(device="cpu").dtype == "float32"


@pytest.mark.parametrize(("bfloat16", "dtype"), [(True, "bfloat16"), (False, "float16")])
def test_the_choice_on_a_gpu(monkeypatch: pytest.MonkeyPatch, bfloat16: bool, dtype: str) -> None:
    pretend(monkeypatch, openvino=True, gpu=True, bfloat16=bfloat16)
    chosen = place()
    assert (chosen.engine, chosen.device.type, chosen.dtype) == ("torch", "cuda", dtype)
    assert "Some GPU" in chosen.reason
    assert place(engine="openvino").device.type == "cpu"  # there it runs, so nothing is left to ask


def test_int8_is_computed_on_the_cpu_and_says_what_the_rest_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, openvino=True, gpu=True, bfloat16=False)
    chosen = place(dtype="int8")
    assert (chosen.engine, chosen.device.type, chosen.dtype) == ("openvino", "cpu", "int8")
    assert chosen.reason.endswith("layers that are not rounded run in float32")


def test_int8_is_refused_for_networks_that_do_not_round(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, openvino=True)
    with pytest.raises(ValueError, match=r'`dtype="int8"` is for shared features \(`features="shared"`\)'):
        make_engine(Tiny(), place(device="cpu", dtype="int8"), size=SIDE)


def test_graphs_get_batches_of_a_few_sizes() -> None:
    cpu = place(device="cpu", engine="torch", dtype="float32")
    engine = TorchEngine(Limited(40), replace(cpu, engine="graph"), batch_size=32)
    engine.device = torch.device("meta")  # sizes are fixed where the device is no CPU
    engine._shares, engine._any_size = FIXED_SHARES, False
    assert [engine._padded(count) for count in (1, 4, 5, 9, 17, 32)] == [4, 4, 8, 16, 32, 32]


def test_what_is_asked_for_is_taken() -> None:
    chosen = place(device="cpu", engine="torch", dtype="float16")
    assert (chosen.engine, chosen.device.type, chosen.dtype) == ("torch", "cpu", "float16")
    assert chosen.reason == "torch float16 on cpu: as requested"


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ({"engine": "tensorrt"}, "`engine` 'tensorrt' is not one of auto, torch, compiled, graph, openvino"),
        ({"dtype": "int4"}, "`dtype` 'int4' is not one of auto, float32, bfloat16, float16, int8"),
        ({"dtype": "int8", "engine": "torch"}, '`dtype="int8"` needs OpenVINO on a CPU (pip install openvino)'),
        ({"device": "cpu", "engine": "graph"}, '`engine="graph"` is for NVIDIA GPUs, not for cpu'),
        ({"device": "cuda:99"}, "`device` 'cuda:99' cannot be used here: "),
        ({"device": "gpu"}, "`device` 'gpu' cannot be used here: "),
        ({"device": ""}, "`device` '' cannot be used here: "),
        ({"device": "meta"}, "`device` 'meta' cannot be used here: "),
        ({"device": "hpu"}, "`device` 'hpu' cannot be used here: "),
    ],
)
def test_wrong_options_are_named(wanted: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        place(**wanted)
    assert str(raised.value).startswith(complaint)
    assert "\n" not in str(raised.value)


def test_a_missing_openvino_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, openvino=False)
    with pytest.raises(ValueError, match=r'`engine="openvino"` needs OpenVINO: pip install openvino$'):
        place(engine="openvino")


def test_openvino_is_refused_on_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, openvino=True, gpu=True)
    with pytest.raises(ValueError, match='runs on the CPU here, not on cuda; take `device="cpu"`'):
        _engine("openvino", torch.device("cuda"))


@needs_openvino
def test_openvino_is_what_a_cpu_gets_where_it_is_installed() -> None:
    assert place(device="cpu").engine == "openvino"
    assert isinstance(tiny_engine("openvino"), OpenVinoEngine)
    assert tiny_engine("openvino").reason == "openvino float32 on cpu: as requested"


@needs_openvino
def test_a_precision_that_the_processor_lacks_is_not_passed_off_as_another() -> None:
    from classifier.converted import openvino_core

    if "FP16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has float16")
    with pytest.raises(ValueError, match=r"`dtype` float16: OpenVINO computes in .* on this processor instead"):
        tiny_engine("openvino", dtype="float16")


def test_without_a_compiler_the_other_engine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(module: nn.Module, **options: Any) -> Any:
        def run(batch: torch.Tensor) -> torch.Tensor:
            raise TorchDynamoException("No working C++ compiler found\nin ...")

        return run

    monkeypatch.setattr(torch, "compile", cannot)
    engine = make_engine(nn.Conv2d(3, 2, 3), place(device="cpu", engine="compiled", dtype="float32"), size=8)
    with pytest.raises(ValueError, match=r'take `engine="torch"` \(No working C\+\+ compiler found\)'):
        engine(torch.zeros(1, 3, 8, 8))


SIGNALLED = """
import gc, os, signal
import torch
from classifier.engines import make_engine
from classifier.placement import place
placement = place(device="cpu", engine="openvino", dtype="float32")
engines = [make_engine(torch.nn.Conv2d(3, 2, 3), placement, size=8, batch_size=1) for _ in range(3)]
while engines:
    engines.pop(0)
    gc.collect()
got = []
signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
os.kill(os.getpid(), signal.SIGUSR1)
print("alive", len(got))
"""


@needs_openvino
@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal here")
def test_a_signal_after_engines_are_gone_does_no_harm() -> None:
    """Ctrl-C, or the end of a child process, was a segmentation fault: OpenVINO took its signal stack with it."""
    root = Path(__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", SIGNALLED], cwd=root, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "alive 1\n"), run.stderr
