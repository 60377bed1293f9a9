"""The house stands: rooms come from this checkout, imports point down, nothing happens at import, --help is light."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {"structures": 0, "proposals": 1, "classifier": 1, "eval": 1, "detect": 2}
HEAVY = ("torch", "torchvision", "cv2", "numba", "scipy", "skimage", "matplotlib", "openvino")
FILES = sorted(path for room in FLOORS for path in (ROOT / room).rglob("*.py"))


def imported_modules(path: Path) -> Iterator[str]:
    """Yield every absolute module that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: line {node.lineno}: relative import"
            yield str(node.module)


def may_import(room: str, other: str) -> bool:
    return other not in FLOORS or other == room or FLOORS[other] < FLOORS[room]


@pytest.mark.parametrize("room", FLOORS)
def test_each_room_is_imported_from_this_checkout(room: str) -> None:
    assert Path(str(importlib.import_module(room).__file__)) == ROOT / room / "__init__.py"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    upward = [name for name in imported_modules(path) if not may_import(room, name.split(".")[0])]
    assert upward == []


def test_the_check_of_imports_can_fail() -> None:
    assert not may_import("structures", "eval")
    assert not may_import("proposals", "classifier")
    assert may_import("detect", "eval")
    assert may_import("eval", "structures")
    assert may_import("eval", "numpy")


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "tests").glob("*.py"))], ids=lambda path: path.name)
def test_eval_is_never_imported_whole(path: Path) -> None:
    assert "eval" not in imported_modules(path)  # `import eval` would hide Python's own eval


def test_the_packages_of_the_wheel_are_the_folders_with_code() -> None:
    listed = {line.strip(' ",[]') for line in _packages_line().split("=")[1].split(",")}
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in FILES}
    assert found == listed


def _packages_line() -> str:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith("packages = ") and '"detect.commands"' in line)


@pytest.mark.parametrize("room", FLOORS)
def test_each_room_is_typed(room: str) -> None:
    assert (ROOT / room / "py.typed").is_file()


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_command_line_is_built_without_heavy_imports() -> None:
    code = f"import sys; from detect.cli import build; build(); print(*(sys.modules.keys() & set({HEAVY!r})))"
    assert run_python(code) == ""


@pytest.mark.parametrize("name", ["grid", "selective-search+random"])
def test_generators_without_a_network_do_without_torch(name: str) -> None:
    code = f"import sys; from detect.runs.propose import build_for_many; build_for_many({name!r})"
    assert run_python(f"{code}; print('torch' in sys.modules)") == "False"


def test_convention_nothing_happens_at_import() -> None:
    """A weak test: no output, no threads, and the random generators are where they were."""
    modules = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in FILES if p.name != "__main__.py"]
    code = f"""
import importlib, threading
import numpy, torch
before = numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
settings = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
for name in {modules!r}:
    importlib.import_module(name)
assert before == (numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
assert settings == (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled())
assert threading.active_count() == 1, threading.enumerate()
"""
    assert run_python(code) == ""
