"""The structure: rooms come from this checkout, imports point down, nothing happens at import, --help is light."""

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import LONGEST_FIRST

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {"structures": 0, "proposals": 1, "classifier": 1, "eval": 1, "detect": 2}
INSIDE = {  # files and folders of a room, the lowest floor first; a new one must be given its place
    "detect": (
        "consoles defaults flow networks option_names settings stopping weights",
        "classifiers coverage drawing evaluation generators",
        "comparison found preview",
        "stages suppression",
        "detector",
        "runs",
        "training bench convert scored serving scaling",
        "report",
        "commands",
        "cli",
        "demo __main__",
    ),
    "proposals": (
        "compiling operators",
        "protocol resizing tidy",
        "baselines edge_boxes union selective_search multibox stored",
        "opencv store",
        "generators",
        "ranking",
    ),
    "classifier": (
        "googlenet ahead augmentation children converted graphs placement pooling recipes region_draw rounding "
        "running_average",
        "engines sampling",
        "processes weights",
        "crops protocol shared_regions shared_sampling views training_state loading",
        "region_columns region_features regions training",
        "cascade classification_loss export few_examples images region_batches",
        "image_training known_objects whole_photos",
    ),
}
PLACES = {f"{room}.{name}": at for room in INSIDE for at, names in enumerate(INSIDE[room]) for name in names.split()}
HEAVY = ("torch", "torchvision", "cv2", "numba", "scipy", "skimage", "matplotlib", "openvino")
FILES = sorted(path for room in FLOORS for path in (ROOT / room).rglob("*.py"))


def module_of(path: Path) -> str:
    """Return the name that a file is imported by.

    >>> module_of(ROOT / "detect" / "runs" / "__init__.py"), module_of(ROOT / "eval" / "voc.py")
    ('detect.runs', 'eval.voc')
    """
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def imported_modules(path: Path) -> Iterator[str]:
    """Yield every absolute module that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: line {node.lineno}: relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else str(node.module) for name in whole)


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


def unit_of(module: str) -> str:
    """Return the file or folder of a room that a module is, or lies in; the room itself has none."""
    return ".".join(module.split(".")[:2])


def points_down(module: str, other: str) -> bool:
    """Say whether a module of a room may import another of the same room; those of one folder may as they like."""
    one, two = unit_of(module), unit_of(other)
    return one == two or PLACES[two] < PLACES[one]


@pytest.mark.parametrize("room", INSIDE)
def test_every_file_and_folder_of_a_room_has_its_floor(room: str) -> None:
    units = {unit_of(module) for module in MODULES if module.startswith(f"{room}.")}
    assert units == {unit for unit in PLACES if unit.startswith(f"{room}.")}


@pytest.mark.parametrize("room", INSIDE)
def test_imports_point_down_inside_the_rooms(room: str) -> None:
    inside = [module for module in MODULES if module.startswith(f"{room}.")]
    arrows = [(one, two) for one in inside for two in imported_modules(MODULES[one]) if two.startswith(f"{room}.")]
    assert [arrow for arrow in arrows if not points_down(*arrow)] == []


def test_the_check_inside_the_rooms_can_fail() -> None:
    assert not points_down("detect.runs.detect", "detect.training.data")
    assert not points_down("detect.evaluation", "detect.coverage")  # of one floor
    assert points_down("detect.training.multibox", "detect.networks.multibox")
    assert points_down("detect.training.regions", "detect.training.multibox")
    assert points_down("detect.commands.train", "detect.runs")


def circle(arrows: Mapping[str, Set[str]]) -> set[str]:
    """Return the modules on circles of imports, and those whose imports lead to one."""
    left = {one: set(two) for one, two in arrows.items()}
    while done := {one for one, two in left.items() if not two & left.keys()}:
        left = {one: two for one, two in left.items() if one not in done}
    return set(left)


def test_no_imports_go_in_a_circle() -> None:
    assert circle({module: set(imported_modules(path)) - {module} for module, path in MODULES.items()}) == set()


def test_the_check_of_circles_can_fail() -> None:
    assert circle({"a": {"b", "numpy"}, "b": {"c"}, "c": {"b"}, "d": set()}) == {"a", "b", "c"}


def test_no_file_hides_behind_a_folder_of_its_name() -> None:
    """Of detect/runs.py and detect/runs/ Python would take the folder, and never read the file."""
    assert [str(path.relative_to(ROOT)) for path in FILES if path.with_suffix("").is_dir()] == []


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


def test_the_tests_that_begin_first_are_there() -> None:
    assert [name for name in LONGEST_FIRST if not (ROOT / "tests" / f"test_{name}.py").is_file()] == []


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


@pytest.mark.parametrize(
    "package", ["proposals.selective_search", "proposals.stored", "detect.runs", "detect.training"]
)
def test_packages_without_a_network_do_without_torch(package: str) -> None:
    assert run_python(f"import sys, {package}; print('torch' in sys.modules)") == "False"


NOT_EVERYWHERE = (
    *("pycocotools", "openvino", "skimage", "hypothesis", "onnx", "onnxruntime", "simplejpeg", "filelock"),
    *("platformdirs", "scipy", "matplotlib", "jinja2", "plotly"),
)
STARTS = "runs.detect classifiers generators detector bench.detection training.regions training.multibox report".split()


def test_commands_start_where_packages_are_missing() -> None:
    code = f"import sys; sys.modules.update(dict.fromkeys({NOT_EVERYWHERE!r})); import importlib"
    code += f"; print(*(importlib.import_module('detect.' + name).__name__ for name in {STARTS!r}))"
    assert len(run_python(code).split()) == len(STARTS)


SLOW = ("torch._dynamo", "torch.onnx", "torchvision", "matplotlib", "scipy", "numba", "sympy")


def test_detecting_starts_without_what_is_slow_to_import() -> None:
    code = (
        "import sys; from detect import classifiers, detector, generators; from detect.runs import detect, draw, photos"
    )
    assert run_python(f"{code}; import detect.networks.multibox; print(*(set({SLOW!r}) & sys.modules.keys()))") == ""


def test_loading_networks_needs_nothing_that_is_slow_to_import() -> None:
    code = "import sys; from detect.classifiers import load_classifier; from classifier.placement import place"
    code += "; from detect.generators import load_proposals; place = place(device='cpu', engine='torch')"
    code += "; load_classifier(['shared', 'default'], place, features='both'); load_proposals('multibox', place)"
    slow = set(SLOW) - {"sympy"}  # which torch 2.5 imports for its device "meta"
    assert run_python(f"{code}; print(*({slow!r} & sys.modules.keys()))") == ""


EARLIER = {  # imports that the documents have shown since the first version
    "classifier.loading": "load_weights",
    "classifier.weights": "Checkpoint WeightsError load_weights read_checkpoint save_checkpoint",
    "detect.detector": "Detector",
    "proposals.multibox": "MultiBox",
    "proposals.resizing": "SEARCH_WIDTH resize",
    "proposals.selective_search": "SelectiveSearch Strategy quality strategies",
    "proposals.store": "ProposalStore",
    "proposals.stored": "StoredProposals",
    "proposals.tidy": "tidy",
}


@pytest.mark.parametrize("module", EARLIER)
def test_imports_of_the_documents_go_on_working(module: str) -> None:
    assert [name for name in EARLIER[module].split() if not hasattr(importlib.import_module(module), name)] == []


def test_the_list_of_moves_names_what_there_is() -> None:
    rows = re.findall(r"^\| `([\w.]+)`.* \| `([\w.]+)` \|$", (ROOT / "docs" / "moves.md").read_text(), re.MULTILINE)
    assert len(rows) > 50
    assert [now for _, now in rows if now not in MODULES and now.rpartition(".")[0] not in MODULES] == []


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


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_what_benchmarks_import_is_there(path: Path) -> None:
    """No test runs them whole, and most of their imports wait until they are needed."""
    wanted = [
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)
    ]
    ours = [
        node for node in wanted if node.module and node.module.partition(".")[0] in {*FLOORS, "benchmarks", "tests"}
    ]
    modules = [(importlib.import_module(str(node.module)), name.name) for node in ours for name in node.names]
    assert [f"{module.__name__}.{name}" for module, name in modules if not _has(module, name)] == []


def _has(module: ModuleType, name: str) -> bool:
    if hasattr(module, name):
        return True
    return importlib.util.find_spec(f"{module.__name__}.{name}") is not None
