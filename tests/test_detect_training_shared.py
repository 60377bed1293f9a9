"""Training shared features: every part learns, exact resume, what it begins with, the command from end to end."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from classifier.googlenet import DROPOUT, GoogLeNet, Variant
from classifier.placement import place
from classifier.region_draw import RegionDraw
from classifier.regions import GoogLeNetRegions
from classifier.training import StepProgress
from classifier.weights.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from classifier.weights.fitting import WeightsError
from classifier.weights.on_trunk import crop_classifier
from classifier.weights.preprocessing import CAFFE
from detect.commands import train_shared as command
from detect.networks.multibox import start_network, to_checkpoint
from detect.networks.shared import SharedNetwork
from detect.networks.shared import to_checkpoint as to_shared_checkpoint
from detect.training.bookkeeping import Bookkeeping
from detect.training.crop_losses import CropLoss
from detect.training.multibox import check_frozen
from detect.training.multibox_recipe import MultiBoxRecipe
from detect.training.presets import Preset
from detect.training.shared import LAST_FROZEN_SHARED, start_shared, train_shared
from detect.training.shared_recipe import SharedRecipe
from eval.voc import VocDataset
from proposals.baselines import Grid
from proposals.stored.reader import ProposalStore
from structures.boxes import as_boxes
from tests.networks import make, quarter_canvases
from tests.shapes import write_voc

TORCH = place(device="cpu", engine="torch", dtype="float32")
MULTIBOX = MultiBoxRecipe(epochs=1, frozen="inception4d", batch_size=1, warmup=1, regions=8, dtype="float32")
RECIPE = SharedRecipe(MULTIBOX, regions=RegionDraw(count=8, positives=3), crops=RegionDraw(count=2, positives=1))
PARTS = {"confidence", "boxes", "refined_confidence", "refined_boxes", "classes", "crops"}


@pytest.fixture(scope="module", autouse=True)
def small_canvases() -> Iterator[None]:
    with quarter_canvases():
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> VocDataset:
    folder = tmp_path_factory.mktemp("voc")
    write_voc(folder, "train", range(3))
    return VocDataset(folder, "train")


@pytest.fixture(scope="module")
def trunk() -> GoogLeNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GoogLeNet(3)


@pytest.fixture(scope="module")
def multibox(trunk: GoogLeNet) -> Checkpoint:
    shapes = torch.tensor([[[30.0, 30.0]], [[90.0, 90.0]], [[150.0, 150.0]], [[300.0, 300.0]]])
    start = Checkpoint(state=trunk.state_dict(), classes=())
    network = start_network(start, shapes, width=16)
    return to_checkpoint(network, start, network.state_dict(), {})


@pytest.fixture(scope="module")
def regions(trunk: GoogLeNet) -> Checkpoint:
    state = {
        name: value + 0.01 if name.startswith("inception5b") else value for name, value in trunk.state_dict().items()
    }
    return Checkpoint(state=state, classes=("disc", "square"), task="regions")


def run(
    multibox: Checkpoint, photos: VocDataset, work: Path, report: Callable[[StepProgress], None], **options: Any
) -> Checkpoint:
    options = {"recipe": RECIPE, "propose": Grid(), **options}
    books = Bookkeeping(work, save_every=1, report=report)
    return train_shared(multibox, photos, placement=TORCH, books=books, **options)


@pytest.fixture(scope="module")
def trained(
    multibox: Checkpoint, photos: VocDataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Checkpoint, list[StepProgress]]:
    seen: list[StepProgress] = []
    return run(multibox, photos, tmp_path_factory.mktemp("whole"), seen.append), seen


def test_every_part_of_the_loss_is_reported(trained: tuple[Checkpoint, list[StepProgress]]) -> None:
    assert all(progress.parts.keys() == PARTS for progress in trained[1])
    assert all(np.isfinite(list(progress.parts.values())).all() for progress in trained[1])


def test_all_that_is_not_frozen_learns(trained: tuple[Checkpoint, list[StepProgress]], multibox: Checkpoint) -> None:
    state = trained[0].state
    same = {name: torch.equal(state[name], value.float()) for name, value in multibox.state.items()}
    assert same["trunk.inception4d.branch1.conv.weight"]
    assert not same["trunk.inception4e.branch1.conv.weight"]
    assert not same["trunk.inception5b.branch4.1.conv.weight"]
    assert not same["head.predict.weight"]
    assert not same["refine.predict.weight"]
    assert not torch.equal(
        state["crops.weight"], start_shared(multibox, None, ("disc", "square")).state_dict()["crops.weight"]
    )


def test_a_killed_run_goes_on_to_the_bit(
    multibox: Checkpoint, photos: VocDataset, trained: tuple[Checkpoint, list[StepProgress]], tmp_path: Path
) -> None:
    losses: list[float] = []

    def stop_at_two(progress: StepProgress) -> None:
        losses.append(progress.loss)
        if progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(multibox, photos, tmp_path, stop_at_two)
    losses.pop()  # the second step was taken but not written down: it is taken again
    again = run(multibox, photos, tmp_path, lambda progress: losses.append(progress.loss), workers=1)
    assert losses == [progress.loss for progress in trained[1]]
    assert all(torch.equal(value, trained[0].state[name]) for name, value in again.state.items())


def test_the_folder_of_another_training_is_refused(
    multibox: Checkpoint, regions: Checkpoint, photos: VocDataset, tmp_path: Path
) -> None:
    def stop(progress: StepProgress) -> None:  # the first step was written down by then
        if progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(multibox, photos, tmp_path, stop)
    with pytest.raises(WeightsError, match="more weights"):
        run(multibox, photos, tmp_path, stop, regions=regions)


def test_it_begins_with_both_networks(multibox: Checkpoint, regions: Checkpoint) -> None:
    network = start_shared(multibox, regions, ("square", "disc"), blend=0.25)
    for name in ("inception4e.branch1.conv.bias", "inception5b.branch1.conv.bias"):
        one, other = multibox.state[f"trunk.{name}"], regions.state[name]
        torch.testing.assert_close(network.trunk.get_parameter(name).data, 0.25 * one + 0.75 * other)
    parts = network.regions.parts.weight.reshape(3, 9, 1024)
    torch.testing.assert_close(parts[1, 4], regions.state["fc.weight"][0])  # disc was the first, and is the second
    torch.testing.assert_close(parts[2, 0], regions.state["fc.weight"][2])  # background
    assert network.crops is not None
    torch.testing.assert_close(network.crops.weight.data, regions.state["fc.weight"][[1, 0, 2]])


@pytest.mark.parametrize("variant", ["paper", "batchnorm"])
def test_the_loss_of_crops_is_that_of_the_classifier_that_they_make(
    variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DROPOUT, variant, 0.0)
    start = make(variant, CAFFE)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SharedNetwork(torch.full((4, 1, 2), 40.0), start.preprocessing, 3, variant=variant, width=16)
    network.begin_crops()
    canvases = np.random.default_rng(0).integers(0, 256, (2, 64, 128, 3), np.uint8)
    boxes, labels = as_boxes([[4, 8, 50, 60], [70, 5, 120, 40]]), [torch.tensor([2, 0]), torch.tensor([1])]
    given = [torch.from_numpy(boxes), torch.from_numpy(boxes[:1])]
    pixels = torch.from_numpy(canvases).permute(0, 3, 1, 2)
    loss = CropLoss(start, 3)(network.train(), pixels, given, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    assert network.crops is not None
    assert network.crops.weight.grad is not None
    assert network.trunk.conv1.conv.weight.grad is not None  # nothing is frozen here
    network.trunk.eval()
    weights = to_shared_checkpoint(network, start, ("cat", "cup"), network.state_dict(), {})
    classify = GoogLeNetRegions(crop_classifier(weights), TORCH)
    rows = [classify(canvas, own) for canvas, own in zip(canvases, (boxes, boxes[:1]), strict=True)]
    chosen = np.concatenate(rows)[[0, 1, 2], [2, 0, 1]]
    assert loss.item() == pytest.approx(-np.log(chosen).mean(), rel=1e-4)


def test_shared_weights_are_trained_further(trained: tuple[Checkpoint, list[StepProgress]]) -> None:
    start = trained[0]
    again = start_shared(start, None, start.classes)
    assert all(torch.equal(value, start.state[name].float()) for name, value in again.state_dict().items())
    older = replace(start, state={name: v for name, v in start.state.items() if not name.startswith("crops.")})
    added = start_shared(older, None, start.classes)
    assert added.crops is not None
    torch.testing.assert_close(added.crops.weight, again.regions.mean_part()[0])
    other = start_shared(start, None, ("cat",))
    assert torch.equal(other.trunk.inception4a.branch1.conv.weight, again.trunk.inception4a.branch1.conv.weight)  # type: ignore[union-attr]
    assert other.regions.columns == 2


def test_weights_that_do_not_fit_are_refused(multibox: Checkpoint, regions: Checkpoint) -> None:
    with pytest.raises(WeightsError, match="only from those of MultiBox"):
        start_shared(regions, None, ("cat",))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        other = Checkpoint(state=GoogLeNet(3, variant="batchnorm").state_dict(), classes=("a", "b"), task="regions")
    with pytest.raises(WeightsError, match="have different networks"):
        start_shared(multibox, other, ("cat",))


@pytest.mark.parametrize("frozen", ["inception5a", "conv2", "inception9"])
def test_layers_that_cannot_be_the_last_frozen_one(frozen: str) -> None:
    with pytest.raises(ValueError, match=frozen):
        check_frozen(frozen, LAST_FROZEN_SHARED)


@pytest.mark.usefixtures("torch_engine")
def test_the_command_from_end_to_end(
    rcnn: Callable[..., int],
    multibox: Checkpoint,
    regions: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_voc(tmp_path / "voc", "train", range(1))
    write_voc(tmp_path / "other", "train", range(1, 2), named=range(1))  # a photo of the same name
    save_checkpoint(multibox, tmp_path / "multibox.safetensors", dtype=torch.float32)
    save_checkpoint(regions, tmp_path / "regions.safetensors", dtype=torch.float32)
    preset = Preset(purpose="a trial", weights="multibox", phases=(RECIPE,), proposals="grid")
    monkeypatch.setattr(command, "SHARED", {"shared": preset})
    begin = ("--weights", tmp_path / "multibox.safetensors", "--region-weights", tmp_path / "regions.safetensors")
    data = ("--voc", tmp_path / "voc", "--voc", tmp_path / "other")
    data += ("--val", "train", "--val-every", 1, "--dtype", "float32")
    out = tmp_path / "shared.safetensors"
    more = ("--epochs", 1, "--trunk-rate", 0.35, "--work", tmp_path / "kept")
    assert rcnn("train", "regions", "--features", "shared", *begin, *data, "--out", out, *more) == 0
    weights = read_checkpoint(out)
    assert (weights.task, weights.classes) == ("shared", ("disc", "square"))
    recipe = weights.training["recipe"]["multibox"]
    assert (recipe["epochs"], recipe["trunk_factor"]) == (1, 0.35)
    assert [weights.training[name] for name in ("preset", "data", "photos")] == ["shared", "voc+other", 2]
    assert sorted(ProposalStore(tmp_path / "kept" / "proposals").image_ids) == ["other/000", "voc/000"]
    photo = tmp_path / "voc" / "JPEGImages" / "000.png"
    found = tmp_path / "found"
    asked = ("--weights", out, "--proposals", "multibox", "--features", "shared", "--score", 0, "--dtype", "float32")
    assert rcnn("detect", photo, "--out", found, *asked) == 0
    line = json.loads((found / "detections.jsonl").read_text())
    assert line["boxes"]
    assert crop_classifier(weights).classes == weights.classes
    again = ("--weights", tmp_path / "multibox.safetensors", "--region-weights", out, *data)
    assert rcnn("train", "regions", "--features", "shared", *again, "--out", tmp_path / "again.safetensors") == 0
    assert crop_classifier(read_checkpoint(tmp_path / "again.safetensors")).classes == weights.classes
    assert set(line["sources"]) == {"multibox"}
    capsys.readouterr()
    monkeypatch.setattr("detect.runs.propose.propose_to_folder", lambda *some: pytest.fail("proposals were made"))
    of_multibox, of_regions = begin[1], begin[3]
    last = ("--out", tmp_path / "no.safetensors")
    for start, more in ((of_regions, ()), (of_multibox, ("--region-weights", of_multibox))):
        assert rcnn("train", "regions", "--features", "shared", "--weights", start, *more, *data, *last) == 2
        assert f"{start} with " in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "no.work").exists()


def test_options_of_the_other_kind_are_refused(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_voc(tmp_path / "voc", "train", range(2))
    data = ("train", "regions", "--voc", tmp_path / "voc", "--out", tmp_path / "w.safetensors")
    for named in (("--features", "shared"), ("--preset", "shared")):
        for option, value in (("--balance", 1), ("--workers", 2), ("--val-proposals", "grid"), ("--only-new", None)):
            assert rcnn(*data, *named, option, *([] if value is None else [value])) == 2
            assert f"{option} has no effect with --" in capsys.readouterr().err
    assert rcnn(*data, "--epochs", 1) == 2
    assert "--epochs has no effect with --features crops" in capsys.readouterr().err
