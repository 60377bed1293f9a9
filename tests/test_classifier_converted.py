"""Networks converted for OpenVINO: the cache gives the same to the last bit, and only to the network that it is of."""

import builtins
import importlib.util
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from classifier import converted
from classifier.converted import module_key, openvino_core, openvino_model
from classifier.engines import make_engine
from classifier.placement import place
from structures.cache import CACHE_VARIABLE, cache_folder, keep
from structures.errors import InputError

if importlib.util.find_spec("openvino") is None:
    pytest.skip("OpenVINO is not installed", allow_module_level=True)

ROOT = Path(__file__).resolve().parent.parent
ALONE = """
import sys
from structures.extras import import_openvino
sys.addaudithook(lambda event, arguments: event in ("os.fork", "socket.connect") and print(event))
import_openvino().Core()
"""
EXAMPLE = torch.zeros(2, 3, 12, 12)


class Scaled(nn.Module):
    """A convolution, and a factor that is neither parameter nor buffer."""

    def __init__(self, factor: object = 2.0, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(3, 4, 3)
        self.factor = factor
        self.register_buffer("shift", torch.ones(4, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.shift, Tensor)
        return (self.conv(x) * self.factor + self.shift).mean(dim=(2, 3))


class NotConvertible(nn.Module):
    """A function that OpenVINO does not have."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j1(x)


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return an empty folder that is the cache."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Return the list of modules that were converted, not read."""
    seen: list[nn.Module] = []

    def note(module: nn.Module, example: Tensor) -> Any:
        seen.append(module)
        key = module_key(module, example)
        if key not in DONE:
            DONE[key] = convert(module, example)
        return DONE[key].clone()

    monkeypatch.setattr(converted, "_convert", note)
    return seen


def engine(dtype: str, module: nn.Module | None = None) -> Any:
    placement = place(device="cpu", engine="openvino", dtype=dtype)  # type: ignore[arg-type]
    return make_engine(module or Scaled(), placement, size=12, batch_size=2)


def kept_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("error", [RuntimeError("iostream error"), FileNotFoundError("no usable temporary folder")])
def test_no_room_for_temporary_files_is_not_an_error(
    empty: Path, conversions: list[nn.Module], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(model: Any, path: Path, **options: bool) -> None:
        raise error

    monkeypatch.setattr("openvino.save_model", full)
    for _ in range(2):
        assert openvino_model(Scaled(), EXAMPLE) is not None
    assert len(conversions) == 2
    assert kept_files(empty) == []


convert = converted._convert
DONE: dict[str | None, Any] = {}  # conversions, which take seconds, so that tests share them
BATCH = torch.randn((2, 3, 12, 12), generator=torch.Generator().manual_seed(0))


def test_the_cache_changes_no_bit(empty: Path, conversions: list[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    dtypes = ["float32"]
    if "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        dtypes.append("bfloat16")
    monkeypatch.setenv(CACHE_VARIABLE, "off")
    expected = {dtype: engine(dtype)(BATCH) for dtype in dtypes}
    assert len(conversions) == len(dtypes)
    monkeypatch.setenv(CACHE_VARIABLE, str(empty))
    first = {dtype: engine(dtype)(BATCH) for dtype in dtypes}
    second = {dtype: engine(dtype)(BATCH) for dtype in dtypes}
    assert len(conversions) == len(dtypes) + 1  # one serves all precisions
    for dtype in dtypes:
        assert torch.equal(first[dtype], expected[dtype])
        assert torch.equal(second[dtype], expected[dtype])
    assert len(kept_files(empty)) == 1


def changed(module: Scaled, name: str) -> Scaled:
    with torch.no_grad():
        dict(module.named_parameters() if "conv" in name else module.named_buffers())[name].view(-1)[0] += 1e-3
    return module


def test_a_key_is_the_same_for_equal_modules_only() -> None:
    key = module_key(Scaled(), EXAMPLE)
    assert key is not None
    assert module_key(Scaled(), EXAMPLE) == key
    others = [
        module_key(Scaled(2.5), EXAMPLE),
        module_key(Scaled(seed=1), EXAMPLE),
        module_key(Scaled().eval(), EXAMPLE),
        module_key(changed(Scaled(), "conv.bias"), EXAMPLE),
        module_key(changed(Scaled(), "shift"), EXAMPLE),
        module_key(nn.Sequential(Scaled()), EXAMPLE),
        module_key(Scaled(), EXAMPLE[:1]),
        module_key(Scaled(), torch.zeros(2, 3, 12, 16)),
    ]
    assert len({key, *others}) == 1 + len(others)


@pytest.mark.parametrize("package", ["torch", "openvino"])
def test_other_versions_have_other_keys(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = module_key(Scaled(), EXAMPLE)
    monkeypatch.setattr(f"{package}.__version__", "0.1")
    assert module_key(Scaled(), EXAMPLE) != key


def test_other_code_has_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    key = module_key(Scaled(), EXAMPLE)
    monkeypatch.setattr(converted, "_code_around", lambda module: b"edited")
    assert module_key(Scaled(), EXAMPLE) != key


@pytest.mark.parametrize("setting", [object(), partial(max, 1), [lambda x: x]])
def test_what_cannot_be_told_apart_has_no_key(setting: object, empty: Path) -> None:
    assert module_key(Scaled(setting), EXAMPLE) is None


def test_a_hook_has_no_key() -> None:
    module = Scaled()
    module.register_forward_hook(lambda module, inputs, output: output * 2)
    assert module_key(module, EXAMPLE) is None


def test_a_module_without_a_key_is_converted_and_not_kept(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converted, "_convert", lambda module, example: "converted")
    assert openvino_model(Scaled(object()), EXAMPLE) == "converted"
    assert kept_files(empty) == []


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, b"\xff" * 100, b"\5\0\0\0\0\0\0\0<net>", b"\3\0\0\0\0\0\0\0\xff\xff\xff"]
)
def test_what_openvino_cannot_read_is_converted_again(
    content: bytes, empty: Path, conversions: list[nn.Module]
) -> None:
    key = module_key(Scaled().eval(), EXAMPLE)
    assert key is not None
    keep(converted.KIND, key, content)
    engine("float32")
    assert len(conversions) == 1
    engine("float32")
    assert len(conversions) == 1


def test_the_model_of_another_input_is_converted_again(empty: Path, conversions: list[nn.Module]) -> None:
    key = module_key(Scaled().eval(), EXAMPLE)
    assert key is not None
    other = converted._convert(Scaled().eval(), torch.zeros(2, 3, 6, 6))
    keep(converted.KIND, key, converted._packed(other))
    assert engine("float32")(BATCH).shape == (2, 4)
    assert len(conversions) == 2


def test_a_network_without_weights_is_kept(empty: Path, conversions: list[nn.Module]) -> None:
    for _ in range(2):
        assert torch.equal(engine("float32", nn.ReLU())(BATCH), BATCH.relu())
    assert len(conversions) == 1


def test_a_folder_that_cannot_be_written_to_is_not_an_error(
    tmp_path: Path, conversions: list[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    assert cache_folder(converted.KIND) is None
    assert engine("float32")(BATCH).shape == (2, 4)
    assert len(conversions) == 1


WARM = """
import sys
import torch
from classifier.engines import make_engine
from classifier.placement import place
module = torch.nn.Conv2d(3, 2, 3)
torch.nn.init.constant_(module.weight, 0.5)
torch.nn.init.constant_(module.bias, 0.25)
engine = make_engine(module, place(device="cpu", engine="openvino", dtype="float32"), size=8, batch_size=1)
assert engine(torch.ones(1, 3, 8, 8)).mean() == 13.75
print(*({"torch._dynamo", "torch.export._trace", "torch.onnx", "torchvision"} & sys.modules.keys()))
"""


def test_with_a_warm_cache_no_compiler_is_imported(empty: Path) -> None:
    """Takes seconds, as another process must import torch: it is what start-up is about."""
    module = nn.Conv2d(3, 2, 3)
    nn.init.constant_(module.weight, 0.5)
    assert module.bias is not None
    nn.init.constant_(module.bias, 0.25)
    openvino_model(module.eval(), torch.zeros(1, 3, 8, 8))
    done = subprocess.run([sys.executable, "-c", WARM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


class Watched(nn.Conv2d):
    """Notes whenever its tensors are moved or brought to another precision."""

    moved = 0

    def _apply(self, *arguments: Any, **more: Any) -> Any:
        self.moved += 1
        return super()._apply(*arguments, **more)


def test_a_network_that_another_thread_converts_is_left_alone(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While torch traces a network it holds on to its tensors, and they cannot be moved."""
    module, tracing, go_on = Watched(3, 3, 1), threading.Event(), threading.Event()

    def convert(module: nn.Module, example: Tensor) -> str:
        tracing.set()
        assert go_on.wait(60)
        return "converted"

    monkeypatch.setattr(converted, "_convert", convert)
    module.register_forward_hook(lambda *_: None)  # so that it has no key, and is not kept
    cpu = place(device="cpu", engine="openvino", dtype="float32")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(openvino_model, module, EXAMPLE)
        assert tracing.wait(60)
        before = module.moved
        second = pool.submit(make_engine, module, cpu, size=16)
        wait([second], timeout=0.2)
        while_traced = module.moved
        go_on.set()
        assert (first.result(), while_traced) == ("converted", before)
        with pytest.raises(RuntimeError, match="converted"):  # of OpenVINO, which compiles no such thing
            second.result()


@pytest.mark.usefixtures("empty")
def test_a_conversion_leaves_pythons_own_functions_alone() -> None:
    """Other threads use them: torch.export replaces `min`, and Numba could not compile what uses it."""
    seen: list[bool] = []

    class Watching(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((builtins.min, builtins.max, builtins.len) == plain)
            return super().forward(x)

    plain = (builtins.min, builtins.max, builtins.len)
    openvino_model(Watching(3, 3, 1), EXAMPLE)
    assert seen == [True]


@pytest.mark.usefixtures("empty")
def test_what_openvino_cannot_convert_is_one_line_that_says_what_to_upgrade() -> None:
    with pytest.raises(InputError, match=r"^OpenVINO 20\d\d\.\d\.\d cannot convert .* torch 2\.\d+\.\d .* upgrade it"):
        engine("float32", NotConvertible())


def test_openvino_tells_nobody_that_it_is_used(tmp_path: Path) -> None:
    """Its telemetry forks the process, and leaves files in the home folder."""
    environment = {key: value for key, value in os.environ.items() if key not in ("CI", "TF_BUILD", "JENKINS_URL")}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", ALONE], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, [*tmp_path.iterdir()]) == ("", [])
