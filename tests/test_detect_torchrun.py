"""Several processes train a classifier as one would, and MultiBox together; torchrun starts them, also again."""

import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from classifier.processes import ALONE, Process, own_rows, share_of, take_own_gpu
from classifier.training import TrainingRun
from classifier.weights import read_checkpoint
from detect.training import regions as train_regions
from tests.shapes import draw_photo, write_voc

ROOT = Path(__file__).resolve().parent.parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
JOINED = """
import runpy, sys
import torch
from classifier.processes import joined

with joined(torch.device("cpu")):
    for script in sys.argv[1:]:
        runpy.run_path(script)
"""
APART = """
from pathlib import Path
from classifier.processes import current_process
from classifier.training_state import require_same_start
from classifier.weights.fitting import WeightsError

rank = current_process().rank
require_same_start(Path("state.pt"), 7)
try:
    require_same_start(Path("state.pt"), 10 * rank)
except WeightsError as error:
    Path(__file__).with_name(f"apart{rank}.txt").write_text(str(error))
"""
PARTLY = """
from pathlib import Path
import torch
from torch import nn
from classifier.processes import current_process
from classifier.recipes import Recipe
from classifier.training import parameter_groups, train

class Three(nn.Module):
    def __init__(self):
        super().__init__()
        self.both, self.first, self.none = (nn.Parameter(torch.zeros(2)) for _ in range(3))

def plain(network, batch):
    parts = {"both": (network.both * batch).sum()}
    if current_process().rank == 0:
        return {**parts, "first": (network.first * torch.tensor([4.0, 6.0])).sum()}
    return {**parts, "first": network.both.sum() * 0}

def drawn(network, batch):
    return plain(network, batch * torch.rand(2))

def batches(step):
    return torch.tensor([1.0, 2.0]) if current_process().rank == 0 else torch.tensor([3.0, -4.0])

def run(loss, file, steps, stop=0):
    network, recipe, losses = Three(), Recipe(steps, 1.0, warmup=0, average=0, dtype="float32"), []
    def report(done):
        losses.append(done.loss)
        if done.step == stop:
            raise KeyboardInterrupt
    optimiser = torch.optim.SGD(parameter_groups((network.parameters(), 1.0)), momentum=0.5 if loss is drawn else 0)
    options = {"recipe": recipe, "state_file": out / file, "save_every": 2, "report": report}
    try:
        train(network, loss, batches, [optimiser], recipe.schedule, **options)
    except KeyboardInterrupt:
        return losses[: stop // 2 * 2], None
    return losses, network.state_dict()

out = Path(__file__).parent / "two"
state = run(plain, "plain.pt", 2)[1]
whole, expected = run(drawn, "whole.pt", 5)
begun, _ = run(drawn, "killed.pt", 5, stop=3)
ended, found = run(drawn, "killed.pt", 5)
record = {"plain": state, "whole": whole, "resumed": begun + ended, "expected": expected, "found": found}
torch.save(record, out / f"partly{current_process().rank}.pt")
"""
MULTIBOX = """
from pathlib import Path
import torch
from classifier.placement import place
from classifier.processes import current_process
from detect.training.bookkeeping import Bookkeeping
from detect.training.multibox_recipe import MultiBoxRecipe
from detect.training.multibox import train_multibox
from eval.voc import VocDataset
from tests.shapes import random_start

here, losses = Path(__file__).parent, []
trained = train_multibox(
    random_start(size=64, context=4),
    VocDataset(here / "voc", "some"),
    recipe=MultiBoxRecipe(epochs=1, batch_size=2, warmup=1, width=32, priors_a_cell=1, regions=8, dtype="float32"),
    placement=place(device="cpu", engine="torch", dtype="float32"),
    books=Bookkeeping(here / "two" / "multibox", report=lambda step: losses.append(step.loss)),
)
torch.save({"losses": losses, "state": dict(trained.state)}, here / "two" / f"multibox{current_process().rank}.pt")
"""
IMAGES = """
from pathlib import Path
import torch
from classifier.googlenet import GoogLeNet
from classifier.image_training import BatchOrder, LabelledPhotos, PhotoBatches
from classifier.processes import current_process
from classifier.recipes import Recipe
from classifier.weights.preprocessing import Preprocessing
from detect.runs.class_folders import read_class_folders
from tests.training import train_classifier

here, device = current_process(), torch.device("cpu")
out = Path(__file__).parent / ("one" if here.total == 1 else "two")
data = read_class_folders(Path(__file__).parent / "photos")
torch.manual_seed(0)
network = GoogLeNet(2)
network.dropout.p = 0.0  # without batch statistics and dropout, halves of a batch make up the whole
order = BatchOrder(len(data.paths), 4, 0, process=here)
size = Preprocessing(size=32, resize=32)
batches = PhotoBatches(LabelledPhotos(data.paths, data.labels, data.classes), order, size, device, seed=0, workers=0)
recipe = Recipe(4, learning_rate=0.001, warmup=0, dtype="float32", average=1.0)
losses = []
state = train_classifier(
    network, batches, recipe, state_file=out / "images.state", report=lambda step: losses.append(step.loss)
)
torch.save({"losses": losses, "state": state}, out / f"images{here.rank}.pt")
"""
REGIONS = """
from dataclasses import replace
from pathlib import Path
import torch
from classifier.placement import place
from classifier.googlenet import GoogLeNet
from classifier.processes import current_process
from classifier.recipes import Recipe
from classifier.training import TrainingRun
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.preprocessing import CAFFE
from detect.training import regions as module
from detect.training.bookkeeping import Bookkeeping
from detect.training.region_recipe import ExampleRecipe
from eval.voc import VocDataset
from proposals.baselines import Random

here = current_process()
out = Path(__file__).parent / ("one" if here.total == 1 else "two")
torch.nn.Dropout.forward = lambda self, x: x  # without dropout, halves of a batch make up the whole
torch.manual_seed(0)
start = Checkpoint(GoogLeNet(5).state_dict(), tuple("abcde"), replace(CAFFE, size=32, context=2))
draw_regions, learn = module.draw_regions, TrainingRun.learn
drawn, rows, losses, states = [], [], [], []
module.draw_regions = lambda *some, **more: (drawn.append(here.rank), draw_regions(*some, **more))[1]
TrainingRun.learn = lambda self, i, batch: (rows.append(len(batch[1])), learn(self, i, batch))[1]
for frozen in ("inception5a", None):
    trained = module.train_regions(
        start,
        VocDataset(Path(__file__).parent / "voc", "all"),
        Random(count=60),
        recipe=Recipe(4, learning_rate=0.01, warmup=2, dtype="float32"),
        examples=ExampleRecipe(positives=6, negatives=8, batch_size=8, positive_share=0.5),
        placement=place(device="cpu", engine="torch", dtype="float32"),
        books=Bookkeeping(out / str(frozen), report=lambda step: losses.append(step.loss)),
        frozen=frozen,
    )
    states.append(dict(trained.state))
torch.save({"losses": losses, "drawn": drawn, "rows": rows, "states": states}, out / f"regions{here.rank}.pt")
"""
SCRIPTS = {"apart": APART, "partly": PARTLY, "multibox": MULTIBOX, "images": IMAGES, "regions": REGIONS}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run all scripts in the same two processes, which take seconds to start; return the folder of the scripts."""
    folder = tmp_path_factory.mktemp("torchrun")
    write_voc(folder / "voc", "some", range(4))
    write_voc(folder / "voc", "all", range(8))
    for number in range(12):
        (folder / "photos" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        draw_photo(number)[0].save(folder / "photos" / "ab"[number % 2] / f"{number}.png")
    for name, script in {**SCRIPTS, "joined": JOINED}.items():
        (folder / f"{name}.py").write_text(script)
    for name in ("one", "two"):
        (folder / name).mkdir()
    done = subprocess.run(
        [*TORCHRUN, *(str(folder / f"{name}.py") for name in ("joined", *SCRIPTS))],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return folder


def both(ran: Path, name: str) -> list[dict[str, Any]]:
    """Return what the two processes wrote."""
    return [torch.load(ran / "two" / f"{name}{rank}.pt", weights_only=True) for rank in range(2)]


def alone(ran: Path, name: str) -> dict[str, Any]:
    """Run a script in this process, which is the only one, and return what it wrote."""
    runpy.run_path(str(ran / f"{name}.py"))
    record: dict[str, Any] = torch.load(ran / "one" / f"{name}0.pt", weights_only=True)
    return record


def test_two_processes_train_regions_as_one(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On kept features, then on fresh crops. Regions are drawn by the first process alone, and both read them."""
    for changed, name in ((torch.nn.Dropout, "forward"), (TrainingRun, "learn"), (train_regions, "draw_regions")):
        monkeypatch.setattr(changed, name, getattr(changed, name))  # the script changes it; this brings it back
    one, ranks = alone(ran, "regions"), both(ran, "regions")
    assert [rank["drawn"] for rank in ranks] == [[0, 0], []]
    assert (one["rows"], ranks[0]["rows"], ranks[1]["rows"]) == ([8] * 8, [4] * 8, [4] * 8)
    assert ranks[0]["losses"] == ranks[1]["losses"]
    assert ranks[0]["losses"] == pytest.approx(one["losses"], rel=1e-4)
    assert len(set(one["losses"])) == 8
    for place, state in enumerate(one["states"]):
        for name, value in state.items():
            assert torch.equal(ranks[0]["states"][place][name], ranks[1]["states"][place][name])
            assert torch.allclose(ranks[0]["states"][place][name], value, atol=1e-5), name


def test_two_processes_train_on_whole_photos_as_one(ran: Path) -> None:
    one, ranks = alone(ran, "images"), both(ran, "images")
    assert ranks[0]["losses"] == ranks[1]["losses"]
    assert ranks[0]["losses"] == pytest.approx(one["losses"], rel=1e-4)
    for name, value in one["state"].items():
        assert torch.equal(ranks[0]["state"][name], ranks[1]["state"][name])
        assert torch.allclose(ranks[0]["state"][name], value, atol=1e-5), name


def test_two_processes_train_one_multibox(ran: Path) -> None:
    """Each learns from photos of its own; gradients are their mean, so that both have the same weights all along."""
    ranks = both(ran, "multibox")
    assert ranks[0]["losses"] == ranks[1]["losses"]
    assert len(set(ranks[0]["losses"])) == 2
    for name, value in ranks[0]["state"].items():
        assert torch.equal(ranks[1]["state"][name], value), name


def test_gradients_are_means_and_two_processes_go_on_to_the_bit(ran: Path) -> None:
    """Also of parameters that have no part in the loss of one process, or of both."""
    ranks = both(ran, "partly")
    for rank in ranks:
        assert rank["plain"]["both"].tolist() == [-2 * 1.5, 1.5]  # learning rates 1 and 0.5, half a cosine
        assert rank["plain"]["first"].tolist() == [-2 * 1.5, -3 * 1.5]
        assert rank["plain"]["none"].tolist() == [0, 0]
        assert rank["resumed"] == rank["whole"] == ranks[0]["whole"]
        for name, value in rank["expected"].items():
            assert torch.equal(rank["found"][name], value), name
            assert torch.equal(ranks[0]["expected"][name], value), name


def train_elastically(photos: Path, out: Path) -> subprocess.Popen[str]:
    """Train in two processes; if one ends, torchrun starts both again."""
    command = [*TORCHRUN, "--max-restarts", "2", "-m", "detect", "train", "classifier", "--folder", str(photos)]
    command += ["--out", str(out), "--size", "32", "--batch", "4", "--epochs", "6", "--workers", "0", "--no-auxiliary"]
    command += ["--device", "cpu", "--dtype", "float32", "--save-every", "3"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=-1, stderr=subprocess.STDOUT, env=environment)


def process_of_rank(rank: int, torchrun: int) -> int:
    """Return the process that torchrun started by a rank."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # ended meanwhile, or of somebody else
            continue
        if parent == torchrun and b"RANK=%d" % rank in words:
            return int(folder.name)
    raise AssertionError(f"no process has rank {rank}")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_a_process_that_was_killed_is_started_again_and_changes_nothing(ran: Path, tmp_path: Path) -> None:
    """The first process, which holds the folder's lock and writes the states."""
    running = train_elastically(ran / "photos", tmp_path / "killed.safetensors")
    begin = time.monotonic()
    while not (tmp_path / "killed.work" / "state.pt").exists():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() - begin < 100
        time.sleep(0.02)
    os.kill(process_of_rank(0, running.pid), signal.SIGKILL)
    said, _ = running.communicate(timeout=100)
    assert running.returncode == 0, said
    undisturbed = train_elastically(ran / "photos", tmp_path / "whole.safetensors")
    said, _ = undisturbed.communicate(timeout=500)
    assert undisturbed.returncode == 0, said
    killed, whole = (read_checkpoint(tmp_path / f"{name}.safetensors") for name in ("killed", "whole"))
    assert killed.state.keys() == whole.state.keys()
    for name, value in whole.state.items():
        assert torch.equal(killed.state[name], value), name


def test_processes_that_would_begin_at_different_places_all_stop(ran: Path) -> None:
    """As on machines without a common folder: each would go on from a state of its own, or from none."""
    for rank in range(2):
        assert "state.pt: not all processes see the same state" in (ran / f"apart{rank}.txt").read_text()


def test_processes_take_turns_at_the_rows_of_a_batch() -> None:
    rows = np.arange(12)
    parts = [own_rows(rows, Process(rank, 3)) for rank in range(3)]
    assert [part.tolist() for part in parts] == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]
    assert own_rows(rows, ALONE).tolist() == rows.tolist()
    assert share_of(12, Process(1, 3)) == 4
    with pytest.raises(ValueError, match="a batch of 12 cannot be shared by 5 processes"):
        own_rows(rows, Process(0, 5))
    with pytest.raises(ValueError, match="hard examples of 7 cannot be shared by 2 processes"):
        share_of(7, Process(0, 2), what="hard examples")


@pytest.mark.parametrize(("gpus", "taken"), [(0, []), (4, [2])])
def test_each_process_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch, gpus: int, taken: list[int]) -> None:
    seen: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", seen.append)
    take_own_gpu()  # a lone process takes what it is given
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "2")
    take_own_gpu()
    assert seen == taken
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    with pytest.raises(ValueError, match='4 processes, but 3 GPUs: start at most 3, or take `device="cpu"`'):
        take_own_gpu()
