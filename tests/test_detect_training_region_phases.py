"""`rcnn train regions` as a whole: presets and phases, chosen classes, best and last weights, a run killed for good."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
import typer

from classifier.processes import Process
from classifier.recipes import Recipe
from classifier.weights.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from detect.cli import build
from detect.commands import train_crops, train_regions
from detect.runs.propose import build_for_many
from detect.training.presets import MULTIBOX, NOT_MEASURED, REGIONS, Preset, describe
from detect.training.progress import read_curve
from detect.training.region_recipe import ExampleRecipe, RegionTraining
from proposals.generators import MAKERS
from tests.shapes import FEW_BOXES, random_start, write_coco, write_voc

ROOT = Path(__file__).resolve().parent.parent
QUICK = ["--proposals", "random", "--freeze", "inception5a", "--batch", 8, "--device", "cpu", "--dtype", "float32"]


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("voc")
    write_voc(root, "train", range(6))
    write_voc(root, "val", range(6, 12))
    write_coco(root / "train.json", range(6))
    write_coco(root / "val.json", range(6, 12))
    return root


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    save_checkpoint(random_start(size=32, context=2), path)
    return path


@pytest.fixture
def rcnn(rcnn: Callable[..., int], torch_engine: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run `rcnn train regions`, with torch and few boxes per photo; return its exit code."""
    for name, maker in FEW_BOXES.items():
        monkeypatch.setitem(MAKERS, name, maker)  # type: ignore[arg-type]
    return partial(rcnn, "train", "regions")


def first_columns(path: Path, count: int = 3) -> list[list[str]]:
    """Return the rows of a curve without the seconds."""
    return [row[:count] for row in read_curve(path)]


def test_help_says_score_and_hours_of_every_preset() -> None:
    for presets in (REGIONS, MULTIBOX):
        words = " ".join(describe(presets))
        for name, preset in presets.items():
            assert f"{name}: {preset.purpose}" in words
            for name, value in (("Score", preset.score), ("CPU", preset.cpu), ("GPU", preset.gpu)):
                assert (f"{name}: {value}." in preset.words()) == (value != NOT_MEASURED)


@pytest.mark.parametrize(
    ("name", "option"), [("regions", "steps"), ("regions", "learning_rate"), ("multibox", "epochs")]
)
def test_help_says_that_options_are_those_of_each_phase(name: str, option: str) -> None:
    rcnn: Any = typer.main.get_command(build())
    [found] = [each for each in rcnn.commands["train"].commands[name].params if each.name == option]
    assert "each phase" in found.help


def test_an_unknown_preset(rcnn: Callable[..., int], voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rcnn("--voc", voc, "--out", "a.safetensors", "--preset", "slow") == 2
    assert "--preset 'slow' is not one of quick, shipped" in capsys.readouterr().err


def test_phases_follow_each_other_and_draw_their_own_regions(
    rcnn: Callable[..., int], voc: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = Preset(
        "a test",
        str(start),
        (
            RegionTraining(Recipe(3, warmup=1), ExampleRecipe(positives=4, negatives=5), "inception5a"),
            RegionTraining(Recipe(2, 0.001), ExampleRecipe(positives=4, negatives=5, balance=1), "inception4e"),
        ),
        "random",
    )
    for module in (train_crops, train_regions):
        monkeypatch.setattr(module, "REGIONS", {"two": two})
    out, work = tmp_path / "net.safetensors", tmp_path / "net.work"
    usual = ["--voc", voc, "--out", out, "--preset", "two", "--batch", 8, "--device", "cpu", "--val", "val"]
    assert rcnn(*usual, "--val-every", 1) == 0
    second = read_checkpoint(tmp_path / "net.last.safetensors").training
    assert (second["frozen"], second["recipe"]["learning_rate"], second["examples"]["balance"]) == (
        "inception4e",
        0.001,
        1,
    )
    assert (second["start"]["frozen"], second["start"]["recipe"]["steps"]) == ("inception5a", 3)
    assert second["examples"]["batch_size"] == second["start"]["examples"]["batch_size"] == 8
    assert (second["start"]["validation"]["step"], second["phase"]) == (3, 2)
    assert [len(read_curve(folder / "val.csv")) for folder in (work, work / "phase2")] == [3, 2]
    first, other = (np.load(folder / "regions.npz")["boxes"] for folder in (work, work / "phase2"))
    assert first.tolist() != other.tolist()
    assert sorted(path.name for path in work.glob("val-proposals/*.npz")) == ["shard-000000.npz"]
    assert sorted(path.name for path in work.glob("proposals/*.npz")) == ["shard-000000.npz"]
    assert second["proposals"] == "random"
    assert [path.parent.name for path in work.rglob("features.npy")] == ["phase2"]  # the first phase's are not needed
    before = read_checkpoint(out)
    monkeypatch.setattr("detect.training.regions.keep_features", lambda *some, **more: pytest.fail("made again"))
    (work / "phase2" / "features.npy").unlink()
    assert rcnn(*usual, "--val-every", 1) == 0
    assert same_weights(read_checkpoint(out), before)


def test_a_ranking_is_drawn_from_uncut_and_judged_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scorer:
        name = "order"
        learned_classes: tuple[str, ...] = ()
        parameters = MappingProxyType({"name": "order"})

        def score(self, image: Any, boxes: Any) -> Any:
            return np.linspace(1, 0, len(boxes), dtype=np.float32)

    monkeypatch.setattr("detect.generators._multibox", lambda *asked: Scorer())
    photo = np.zeros((90, 120, 3), np.uint8)
    whole, cut = (build_for_many("ranked:grid", cut=share) for share in (False, True))
    assert len(whole(photo)) == len(build_for_many("grid")(photo)) > len(cut(photo))
    assert whole.parameters != cut.parameters


def test_a_photo_that_cannot_be_read_is_named_before_anything_is_learned(
    rcnn: Callable[..., int], start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_voc(tmp_path, "train", range(6))
    damaged = tmp_path / "JPEGImages" / "003.png"
    damaged.write_bytes(damaged.read_bytes()[:5000])
    out = tmp_path / "net.safetensors"
    assert rcnn("--voc", tmp_path, "--out", out, "--weights", start, *QUICK, "--steps", 1) == 2
    assert "003.png: cannot be decoded" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "net.work" / "regions.npz").exists()
    write_voc(tmp_path, "train", range(6))
    assert rcnn("--voc", tmp_path, "--out", out, "--weights", start, *QUICK, "--steps", 1) == 0
    assert "5 of 6 photos done already" in capsys.readouterr().err


def test_best_and_last_weights_are_kept(
    rcnn: Callable[..., int], voc: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "net.safetensors"
    usual = ["--voc", voc, "--out", out, "--weights", start, *QUICK, "--steps", 7, "--save-every", 3]
    judged = ["--val", "val", "--val-every", 2, "--val-photos", 3, "--val-proposals", "grid"]
    assert rcnn(*usual, *judged) == 0
    scores = {int(row[0]): float(row[1]) for row in read_curve(tmp_path / "net.work" / "val.csv")}
    assert list(scores) == [2, 4, 6, 7]
    best, last = read_checkpoint(out), read_checkpoint(tmp_path / "net.last.safetensors")
    record = best.training["validation"]
    assert record["value"] == max(scores.values()) == scores[record["step"]]
    assert record["step"] == min(at for at, value in scores.items() if value == max(scores.values()))
    assert {name: record[name] for name in ("figure", "protocol", "number of photos", "proposals")} == {
        "figure": "mAP",
        "protocol": "voc07",
        "number of photos": 3,
        "proposals": "grid",
    }
    assert (last.training["validation"]["step"], last.training["validation"]["value"]) == (7, scores[7])
    assert best.training["data"] == voc.name
    said = capsys.readouterr()
    assert f"(step {record['step']}, mAP {100 * record['value']:.2f})" in said.out
    assert f"mAP {100 * scores[2]:.2f} after 2" in said.err
    size = sum(path.stat().st_size for path in (tmp_path / "net.work").rglob("*"))
    assert f"{size / 1e6:.1f} MB stay in {tmp_path / 'net.work'} for another training" in said.out
    assert "torch float32 on cpu: as requested; frozen layers: torch float32" in " ".join(said.err.split())
    plain = tmp_path / "plain.safetensors"
    assert rcnn(*usual, "--out", plain) == 0
    assert same_weights(read_checkpoint(plain), last)  # judging changes nothing
    assert not (tmp_path / "plain.last.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (["--batch", 9], "a batch of 9 cannot be shared by 2 processes"),
        (["--hard-examples", 3], "hard examples of 3 cannot be shared by 2 processes"),
        (["--freeze", "maxpol3"], "--freeze 'maxpol3' is not one of none, conv1, "),
        (
            ["--weights", "multibox"],
            "multibox: cannot start from weights for multibox, only from an image or region classifier",
        ),
        (["--best-share", 0.7], "--best-share 0.7 needs ranked proposals, such as ranked:selective-search"),
        (["--preset", "shipped"], "--best-share 0.7 needs ranked proposals"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_proposals_are_made(
    rcnn: Callable[..., int],
    voc: Path,
    start: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: list[Any],
    complaint: str,
) -> None:
    monkeypatch.setattr("classifier.processes.current_process", lambda: Process(0, 2))
    monkeypatch.setattr("detect.runs.propose.propose_to_folder", lambda *some: pytest.fail("proposals were made"))
    usual = ["--voc", voc, "--out", tmp_path / "net.safetensors", "--weights", start, *QUICK, "--steps", 1]
    assert rcnn(*usual, *changes) == 2
    assert complaint in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "net.work").exists()


def same_weights(a: Checkpoint, b: Checkpoint) -> bool:
    return all(torch.equal(a.state[name], value) for name, value in b.state.items())


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_some_classes_are_learned_and_the_others_are_background(
    rcnn: Callable[..., int], voc: Path, start: Path, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "net.safetensors"
    named = ["--voc", voc, "--val", "val"]
    if kind == "coco":
        named = ["--coco", voc / "train.json", "--images", voc / "JPEGImages", "--val-coco", voc / "val.json"]
    usual = [*named, "--out", out, "--weights", start, *QUICK, "--steps", 1]
    assert rcnn(*usual, "--classes", "square") == 0
    trained = read_checkpoint(out)
    assert trained.classes == ("square",)
    assert trained.state["fc.weight"].shape[0] == 2
    assert trained.training["validation"]["figure"] == ("mAP" if kind == "voc" else "AP")


def test_an_unknown_class_is_named(
    rcnn: Callable[..., int], voc: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = ["--voc", voc, "--out", tmp_path / "a.safetensors", "--weights", start, *QUICK]
    assert rcnn(*usual, "--classes", "disc, cube") == 2
    assert "no class cube: the classes are disc, square" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "a.work").exists()


PAUSED = """
import sys, time
sys.modules["openvino"] = None
from detect.training.progress import Reporter
from proposals.generators import MAKERS
from tests.shapes import FEW_BOXES
MAKERS.update(FEW_BOXES)
report = Reporter.report
def pause(self, step):
    report(self, step)
    if step.step == 9:
        print("9", flush=True)
        time.sleep(600)
Reporter.report = pause
from detect.cli import main
main()
"""


def test_a_run_that_was_killed_goes_on_as_if_nothing_had_happened(
    rcnn: Callable[..., int], voc: Path, start: Path, tmp_path: Path
) -> None:
    """A child process is ended by kill -9 after step 9, when the last state on disk is that of step 5."""
    usual = ["--voc", voc, "--weights", start, *QUICK, "--steps", 11, "--save-every", 5, "--learning-rate", 0.02]
    usual += ["--val", "val", "--val-every", 4, "--val-photos", 2]
    killed, whole = ([*usual, "--out", tmp_path / f"{name}.safetensors"] for name in ("killed", "whole"))
    child = subprocess.Popen(
        [sys.executable, "-c", PAUSED, "train", "regions", *map(str, killed)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "9"
    child.kill()
    child.communicate()
    assert child.returncode < 0
    work = tmp_path / "killed.work"
    assert torch.load(work / "state.pt", weights_only=True)["step"] == 5
    assert len(read_curve(work / "curves.csv")) == 9
    assert not (tmp_path / "killed.safetensors").exists()
    assert rcnn(*killed) == 0
    assert rcnn(*whole) == 0
    expected = first_columns(tmp_path / "whole.work" / "curves.csv")
    assert [int(row[0]) for row in expected] == list(range(1, 12))
    assert len({row[1] for row in expected}) == 11
    assert first_columns(work / "curves.csv") == expected
    assert first_columns(work / "val.csv", 2) == first_columns(tmp_path / "whole.work" / "val.csv", 2)
    for suffix in (".safetensors", ".last.safetensors"):
        a, b = (read_checkpoint(tmp_path / f"{name}{suffix}") for name in ("killed", "whole"))
        assert same_weights(a, b)
        assert a.training["validation"] == b.training["validation"]
