"""The benchmark for GPUs on a CPU: parts that fail are rows, and nothing beyond a few packages is needed."""

import json
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from benchmarks import gpu, gpu_parts
from benchmarks.gpu_parts import PARTS, Setting, prepare_photos
from eval.voc import VocDataset
from tests.networks import CLASSES, TINY, make, make_shared, quarter_canvases
from tests.pretended_gpu import pretended_gpu

ROOT = Path(__file__).resolve().parent.parent
NAMED = "torch torchvision numpy numba pillow rich typer safetensors opencv-contrib-python-headless".split()
LEFT_OUT = {"filelock", "jinja2"}  # torch's own, for its compiler; here they are for other things
OURS = {"structures", "proposals", "classifier", "eval", "detect", "benchmarks"}


def installed_with(names: list[str]) -> set[str]:
    """Return the distributions that pip installs with some, these included, as far as they are there."""
    found, waiting = set[str](), list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        with suppress(metadata.PackageNotFoundError):
            lines = [line for line in metadata.requires(name) or () if "extra ==" not in line]
            if name not in found | LEFT_OUT:
                found.add(name)
                waiting += [re.split(r"[^\w.-]", line)[0] for line in lines]
    return found


def importable_with(names: list[str]) -> set[str]:
    """Return what can be imported where only some distributions, and what comes with them, are installed."""
    there = installed_with(names)
    own = metadata.packages_distributions().items()
    return {module for module, by in own if there & {re.sub(r"[-_.]+", "-", each).lower() for each in by}}


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path, torch.device("cpu"), True, prepare_photos(tmp_path / "photos", None, count=3))


def test_drawn_photos_can_be_learned_from(setting: Setting) -> None:
    dataset = VocDataset(setting.photos, "train")
    assert len(dataset.image_ids) == 3
    assert all(len(truth.boxes) == 3 for truth in dataset)
    assert prepare_photos(setting.photos, None, count=99) == setting.photos
    again = prepare_photos(setting.out / "copied", setting.photos, count=2)
    assert len(list((again / "JPEGImages").iterdir())) == 2
    assert [image.shape for image in setting.images(9)] == [(375, 500, 3), (500, 375, 3)]


def test_networks_are_timed(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_parts, "load_regions", lambda name: None)

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.layer(x)
            return found

    rows = list(gpu_parts._network(setting, Plain, (8, 8), (1, 2), "crops"))
    assert [row["what"] for row in rows] == [
        f"eager {dtype}, {count} crops" for dtype in ("float32", "bfloat16") for count in (1, 2)
    ]
    assert all(row["median"] > 0 for row in rows)

    class Broken(Plain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no kernel")

    broken = list(gpu_parts._network(setting, Broken, (8, 8), (1,), "crops"))
    assert [row["why"] for row in broken] == ["RuntimeError: no kernel"] * 2


WEIGHTS = {"default": make(), "shared": make_shared(CLASSES)}


def test_a_gpu_is_held_against_the_cpu(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_parts, "load_regions", WEIGHTS.get)
    monkeypatch.setattr(Setting, "precisions", ("float32",))
    on_gpu = replace(setting, device=torch.device("cuda"))
    with quarter_canvases(TINY), pretended_gpu():
        rows = list(PARTS["parity"](on_gpu))
        monkeypatch.setattr(gpu_parts, "MOST_OFF", -1)
        wrong = [row["what"] for row in PARTS["parity"](on_gpu) if gpu_parts.WRONG in row]
    heads = ("crops", "shared", "multibox")
    assert [row["what"] for row in rows] == [f"{name} float32{how}" for how in (" without TF32", "") for name in heads]
    assert not any(gpu_parts.WRONG in row for row in rows)
    assert wrong == [f"{name} float32 without TF32" for name in heads]


def test_batches_are_halved_where_memory_seems_to_end(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_parts, "load_regions", WEIGHTS.get)
    (row,) = PARTS["memory"](setting)
    assert row["batch"] == 2
    assert gpu_parts.WRONG not in row
    monkeypatch.setattr(gpu_parts, "_end_memory_above", lambda most, engine: None)
    (row,) = PARTS["memory"](setting)
    assert row[gpu_parts.WRONG] == "not as on the CPU"


def options(out: Path, *words: str) -> Any:
    return gpu.arguments(["--out", str(out), "--device", "cpu", "--quick", *words])


def test_a_part_that_fails_or_hangs_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "script.py"
    monkeypatch.setattr(gpu, "__file__", str(script))
    script.write_text("raise SystemExit(3)")
    failed, took = gpu.run_part("crops", options(tmp_path), 60)
    assert failed == {"part": "crops", "what": "failed", "why": "ended with exit code 3, see crops.log"}
    assert took["what"] == "all of it"
    rows = json.dumps({"part": "crops", "what": "before"})
    script.write_text(f"open({str(tmp_path / 'crops.jsonl')!r}, 'w').write({rows!r} + '\\n{{half')\nwhile True: pass")
    before, stopped, _ = gpu.run_part("crops", options(tmp_path), 1)
    assert (before["what"], stopped["why"]) == ("before", "stopped after its 1 s")


def test_an_end_by_ctrl_c_ends_the_part_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, wait, begun = tmp_path / "script.py", subprocess.Popen.wait, list[Any]()
    monkeypatch.setattr(gpu, "__file__", str(script))
    script.write_text("while True: pass")

    def interrupted(part: Any, limit: float) -> int:
        if not begun:
            begun.append(part)
            raise KeyboardInterrupt
        return wait(part, limit)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gpu.run_part("crops", options(tmp_path), 60)
    assert begun[0].returncode is not None


def test_no_part_begins_when_the_time_is_spent(tmp_path: Path) -> None:
    assert sum(gpu.SECONDS.values()) <= gpu.BUDGET
    assert gpu.SECONDS.keys() == PARTS.keys()
    assert gpu.main(["--out", str(tmp_path), "--device", "cpu", "--budget", "1", "--parts", "crops"]) == 1
    assert not (tmp_path / "crops.log").exists()


def test_detecting_and_the_benchmark_do_without_other_packages(tmp_path: Path) -> None:
    """On a machine with just torch, torchvision, numpy, numba, pillow, rich, typer, safetensors and OpenCV."""
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)).save(tmp_path / "a.jpg")
    words = ["detect", "a.jpg", "--out", "out", "--features", "shared", "--proposals", "multibox", "--profile"]
    code = f"""
import importlib.machinery, sys
known = {{*sys.stdlib_module_names, *{OURS | importable_with(NAMED)!r}}}

class NothingElse(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        there = name.partition(".")[0] in known or name.startswith("_sysconfigdata")
        return super().find_spec(name, path, target) if there else None

sys.meta_path[:] = [importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter, NothingElse]
import benchmarks.gpu_parts, detect.commands.train_regions, detect.training.regions, detect.training.shared
from detect.cli import main
sys.argv = ["rcnn", *{words!r}, "--device", "cpu"]
main()
"""
    environment = {"PYTHONPATH": str(ROOT), "RCNN_CACHE": "off", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "out/run.json").read_text())["runs"][-1]
    assert run["done"] == 1
    assert "torch" in run["placement"][0]
    assert run["profile"]["trunk"]["seconds per photo"] > 0
