"""Several processes train a region classifier as one would, and MultiBox together; torchrun starts them."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from classifier.processes import ALONE, Process, own_rows, share_of, take_own_gpu
from classifier.training import TrainingRun
from detect.training import regions as train_regions
from tests.shapes import write_voc

ROOT = Path(__file__).resolve().parent.parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
TRAIN = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
from classifier.engines import place
from classifier.googlenet import GoogLeNet
from classifier.processes import current_process, joined
from classifier.recipes import Recipe
from classifier.training import TrainingRun
from classifier.weights.checkpoint import CAFFE, Checkpoint
from detect.training import regions as module
from detect.training.region_recipe import Examples
from eval.voc import VocDataset
from proposals.baselines import Random

voc, out = Path(sys.argv[1]), Path(sys.argv[2])
torch.nn.Dropout.forward = lambda self, x: x  # without dropout, halves of a batch make up the whole
torch.manual_seed(0)
start = Checkpoint(GoogLeNet(5).state_dict(), tuple("abcde"), replace(CAFFE, size=32, context=2))
draw_regions, learn = module.draw_regions, TrainingRun.learn
with joined(torch.device("cpu")):
    here, drawn, rows, losses, states = current_process(), [], [], [], []
    module.draw_regions = lambda *some, **more: (drawn.append(here.rank), draw_regions(*some, **more))[1]
    TrainingRun.learn = lambda self, i, batch: (rows.append(len(batch[1])), learn(self, i, batch))[1]
    for frozen in ("inception5a", None):
        trained = module.train_regions(
            start,
            VocDataset(voc, "train"),
            Random(count=60),
            work=out / str(frozen),
            recipe=Recipe(4, learning_rate=0.01, warmup=2, dtype="float32"),
            examples=Examples(positives=6, negatives=8, batch_size=8, positive_share=0.5),
            placement=place(device="cpu", engine="torch", dtype="float32"),
            frozen=frozen,
            report=lambda step: losses.append(step.loss),
        )
        states.append(dict(trained.state))
    record = {"losses": losses, "drawn": drawn, "rows": rows, "states": states}
    torch.save(record, out / f"rank{here.rank}of{here.total}.pt")
"""


def test_two_processes_train_regions_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On kept features, then on fresh crops. Regions are drawn by the first process alone, and both read them."""
    script, voc = tmp_path / "script.py", tmp_path / "voc"
    write_voc(voc, "train", range(8))
    script.write_text(TRAIN)
    for changed, name in ((torch.nn.Dropout, "forward"), (TrainingRun, "learn"), (train_regions, "draw_regions")):
        monkeypatch.setattr(changed, name, getattr(changed, name))  # the script changes it; this brings it back
    monkeypatch.setattr(sys, "argv", [str(script), str(voc), str(tmp_path / "one")])
    runpy.run_path(str(script))
    subprocess.run(
        [*TORCHRUN, str(script), str(voc), str(tmp_path / "two")],
        check=True,
        capture_output=True,
        timeout=600,
        env=ENVIRONMENT,
    )
    alone = torch.load(tmp_path / "one" / "rank0of1.pt", weights_only=True)
    ranks = [torch.load(tmp_path / "two" / f"rank{rank}of2.pt", weights_only=True) for rank in range(2)]
    assert [rank["drawn"] for rank in ranks] == [[0, 0], []]
    assert (alone["rows"], ranks[0]["rows"], ranks[1]["rows"]) == ([8] * 8, [4] * 8, [4] * 8)
    assert ranks[0]["losses"] == ranks[1]["losses"]
    assert ranks[0]["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    assert len(set(alone["losses"])) == 8
    for place, state in enumerate(alone["states"]):
        for name, value in state.items():
            assert torch.equal(ranks[0]["states"][place][name], ranks[1]["states"][place][name])
            assert torch.allclose(ranks[0]["states"][place][name], value, atol=1e-5), name


MULTIBOX = """
import sys
from pathlib import Path
import torch
from classifier.engines import place
from classifier.processes import current_process, joined
from detect.training.multibox_recipe import MultiBoxRecipe
from detect.training.multibox import train_multibox
from eval.voc import VocDataset
from tests.shapes import random_start

voc, out = Path(sys.argv[1]), Path(sys.argv[2])
with joined(torch.device("cpu")):
    rank, losses = current_process().rank, []
    trained = train_multibox(
        random_start(size=64, context=4),
        VocDataset(voc, "train"),
        recipe=MultiBoxRecipe(epochs=1, batch_size=2, warmup=1, width=32, priors_a_cell=1, regions=8, dtype="float32"),
        placement=place(device="cpu", engine="torch", dtype="float32"),
        work=out,
        report=lambda step: losses.append(step.loss),
    )
    record = {"losses": losses, "state": dict(trained.state)}
    torch.save(record, out / f"rank{rank}.pt")
"""


def test_two_processes_train_one_multibox(tmp_path: Path) -> None:
    """Each learns from photos of its own; gradients are their mean, so that both have the same weights all along."""
    script, voc, out = tmp_path / "script.py", tmp_path / "voc", tmp_path / "out"
    write_voc(voc, "train", range(4))
    script.write_text(MULTIBOX)
    subprocess.run(
        [*TORCHRUN, str(script), str(voc), str(out)], check=True, capture_output=True, timeout=600, env=ENVIRONMENT
    )
    ranks = [torch.load(out / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    assert ranks[0]["losses"] == ranks[1]["losses"]
    assert len(set(ranks[0]["losses"])) == 2
    for name, value in ranks[0]["state"].items():
        assert torch.equal(ranks[1]["state"][name], value), name


PARTLY = """
import sys
from pathlib import Path
import torch
from torch import nn
from classifier.processes import current_process, joined
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

out = Path(sys.argv[1])
with joined(torch.device("cpu")):
    state = run(plain, "plain.pt", 2)[1]
    whole, expected = run(drawn, "whole.pt", 5)
    begun, _ = run(drawn, "killed.pt", 5, stop=3)
    ended, found = run(drawn, "killed.pt", 5)
    record = {"plain": state, "whole": whole, "resumed": begun + ended, "expected": expected, "found": found}
    torch.save(record, out / f"rank{current_process().rank}.pt")
"""


def test_gradients_are_means_and_two_processes_go_on_to_the_bit(tmp_path: Path) -> None:
    """Also of parameters that have no part in the loss of one process, or of both."""
    script = tmp_path / "script.py"
    script.write_text(PARTLY)
    command = [*TORCHRUN, str(script), str(tmp_path)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600, env=ENVIRONMENT)
    assert "unused" not in told.stderr  # torch's advice for trainings whose parameters all have a part in every step
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    for rank in ranks:
        assert rank["plain"]["both"].tolist() == [-2 * 1.5, 1.5]  # learning rates 1 and 0.5, half a cosine
        assert rank["plain"]["first"].tolist() == [-2 * 1.5, -3 * 1.5]
        assert rank["plain"]["none"].tolist() == [0, 0]
        assert rank["resumed"] == rank["whole"] == ranks[0]["whole"]
        for name, value in rank["expected"].items():
            assert torch.equal(rank["found"][name], value), name
            assert torch.equal(ranks[0]["expected"][name], value), name


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


APART = """
import sys
from pathlib import Path
import torch
from classifier.processes import current_process, joined
from classifier.training_state import require_same_start
from classifier.weights.checkpoint import WeightsError

with joined(torch.device("cpu")):
    rank = current_process().rank
    require_same_start(Path("state.pt"), 7)
    try:
        require_same_start(Path("state.pt"), 10 * rank)
    except WeightsError as error:
        Path(sys.argv[1], f"rank{rank}.txt").write_text(str(error))
"""


def test_processes_that_would_begin_at_different_places_all_stop(tmp_path: Path) -> None:
    """As on machines without a common folder: each would go on from a state of its own, or from none."""
    script = tmp_path / "script.py"
    script.write_text(APART)
    subprocess.run([*TORCHRUN, str(script), str(tmp_path)], check=True, timeout=600, env=ENVIRONMENT)
    for rank in range(2):
        assert "state.pt: not all processes see the same state" in (tmp_path / f"rank{rank}.txt").read_text()


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
