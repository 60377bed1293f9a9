"""MultiBox with its trunk: one training step, exact resume, errors, checkpoints there and back, shipped weights."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage.data
import torch

from classifier.engines import make_engine
from classifier.googlenet import LAYERS, GoogLeNet
from classifier.placement import place
from classifier.processes import ALONE, Process
from classifier.training import NonFiniteLoss, TrainingRun
from classifier.weights.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from classifier.weights.fitting import WeightsError
from detect.commands import train_multibox as command
from detect.generators import load_proposals, unlearned_warning
from detect.networks.canvas_runner import CanvasRunner
from detect.networks.multibox import (
    LAST_FROZEN,
    MAPS,
    Stem,
    from_checkpoint,
    kept_layers,
    learned_classes,
    load_multibox,
    make_multibox,
    start_network,
    unflatten,
)
from detect.training.bookkeeping import Bookkeeping
from detect.training.canvases import freeze
from detect.training.multibox import check_frozen, make_optimiser, train_multibox
from detect.training.multibox_batches import CanvasBatches, Order, find_shapes
from detect.training.multibox_losses import MultiBoxLoss
from detect.training.multibox_recipe import MultiBoxRecipe
from detect.training.presets import Preset
from detect.training.progress import read_curve
from proposals.multibox.generator import SCORE
from proposals.multibox.losses import NOTHING
from proposals.multibox.samples import Sample, draw_regions
from structures.boxes import as_boxes, iou, mirror
from structures.errors import InputError
from structures.images import ImageError
from structures.records import GroundTruth
from tests.boxes import keeps_protocol
from tests.networks import quarter_canvases
from tests.shapes import write_voc

SHIPPED = Path(__file__).resolve().parent.parent / "detect" / "weights" / "multibox.safetensors"
TORCH = place(device="cpu", engine="torch", dtype="float32")
RECIPE = MultiBoxRecipe(epochs=2, batch_size=2, warmup=2, width=32, priors_a_cell=1, regions=8, dtype="float32")


class FewPhotos:
    """Four small photos, one of them without objects."""

    classes = ("thing",)
    image_ids = ("0", "1", "2", "3")

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        rng = np.random.default_rng(0)
        for name in self.image_ids:
            pixels = rng.integers(0, 60, (150, 200, 3), dtype=np.uint8)
            pixels[30:90, 40:120] = 220
            PIL.Image.fromarray(pixels).save(self.image_path(name))

    def __len__(self):
        return len(self.image_ids)

    def __iter__(self):
        return (self.ground_truth(name) for name in self.image_ids)

    def image_path(self, image_id):
        return self._folder / f"{image_id}.png"

    def ground_truth(self, image_id):
        boxes = as_boxes([] if image_id == "3" else [[40, 30, 120, 90]])
        count = len(boxes)
        return GroundTruth(
            image_id, boxes, np.zeros(count, np.int64), np.zeros(count, bool), np.zeros(count, np.float32), (150, 200)
        )


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return FewPhotos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def trunk() -> Checkpoint:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Checkpoint(state=GoogLeNet(3).state_dict(), classes=("a", "b", "c"))


def run(trunk, photos, work, report=lambda progress: None, recipe=RECIPE, **options):
    books = Bookkeeping(work, save_every=1, report=report)
    return train_multibox(trunk, photos, recipe=recipe, placement=TORCH, books=books, **options)


@pytest.fixture(scope="module")
def trained(trunk, photos, tmp_path_factory):
    losses, work = [], tmp_path_factory.mktemp("whole")
    return run(trunk, photos, work, lambda p: losses.append(p.loss)), losses, work


@pytest.mark.parametrize("workers", [0, 1])
def test_a_killed_run_goes_on_to_the_bit(trunk, photos, trained, tmp_path, workers):
    """With another process that draws the samples, too: it is ahead of the training when that is killed."""
    losses = []

    def stop_at_two(progress):
        losses.append(progress.loss)
        if progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(trunk, photos, tmp_path, stop_at_two, workers=workers)
    losses.pop()  # the second step was taken but not written down: it is taken again
    again = run(trunk, photos, tmp_path, lambda p: losses.append(p.loss), workers=workers)
    assert losses == trained[1]
    assert all(torch.equal(value, trained[0].state[name]) for name, value in again.state.items())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_photo_is_named_in_one_line(trunk, tmp_path, workers):
    damaged = FewPhotos(tmp_path)
    damaged.image_path("1").write_bytes(damaged.image_path("0").read_bytes()[:500])
    with pytest.raises(ImageError, match=r"1\.png: cannot be decoded") as stop:
        run(trunk, damaged, tmp_path, workers=workers)
    assert str(stop.value).startswith(str(tmp_path))
    assert "\n" not in str(stop.value)


def test_every_part_of_the_loss_falls_where_the_same_objects_are_seen_again(trunk, photos):
    """Also that the trunk learns at its share of the rate."""
    canvas = np.random.default_rng(0).integers(0, 60, (128, 128, 3), dtype=np.uint8)
    canvas[30:90, 20:100] = 220
    sample = Sample(canvas, as_boxes([[20, 30, 100, 90]]), np.zeros(1, bool))
    recipe = replace(RECIPE, warmup=1, learning_rate=1e-3, trunk_factor=0.25)
    network = start_network(trunk, torch.full((4, 1, 2), 64.0), width=32, seed=0)
    freeze(network, recipe.frozen)
    optimiser, loss = make_optimiser(network, recipe), MultiBoxLoss(recipe.frozen, recipe.regions)
    training = TrainingRun(network, loss, [optimiser], recipe.schedule(1000))
    batch = CanvasBatches(photos, network, recipe, TORCH, workers=0).make([sample, sample])
    done = [training.learn(step, batch) for step in range(50)]
    parts = [list(each.parts.values()) for each in done]
    first, last = (torch.tensor(some).mean(dim=0) for some in (parts[:5], parts[-5:]))
    assert list(done[0].parts) == ["confidence", "boxes", "refined_confidence", "refined_boxes"]
    assert all(each.loss == pytest.approx(sum(each.parts.values())) for each in done)
    assert (last < 0.85 * first).all()
    heads, behind = (group["lr"] for group in optimiser.param_groups)
    assert heads == done[-1].learning_rate
    assert behind == done[-1].learning_rate / 4


def test_frozen_layers_stay_and_the_others_move(trunk, trained):
    state = trained[0].state
    assert torch.equal(state["trunk.inception3a.branch1.conv.weight"], trunk.state["inception3a.branch1.conv.weight"])
    assert not torch.equal(
        state["trunk.inception5b.branch1.conv.weight"], trunk.state["inception5b.branch1.conv.weight"]
    )


def test_a_state_of_another_recipe_is_refused(trunk, photos, tmp_path):
    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(trunk, photos, tmp_path, lambda p: stop(p) if p.step == 2 else None, recipe=replace(RECIPE, epochs=1))
    with pytest.raises(WeightsError, match=r"state\.pt: begun with epochs=1, not 2"):
        run(trunk, photos, tmp_path)


def test_a_folder_of_another_training_is_refused(trunk, photos, trained, tmp_path):
    record = trained[2] / "start.json"
    moved = {name: value + 0.01 for name, value in trunk.state.items()}
    with pytest.raises(WeightsError, match=r"start\.json: begun with other weights; name another `work` folder"):
        run(replace(trunk, state=moved), photos, record.parent)
    with pytest.raises(WeightsError, match=r"start\.json: begun with other objects"):
        run(trunk, Shifted(photos), record.parent)
    shutil.copy(record, tmp_path)
    (tmp_path / "state.pt").write_bytes(b"garbage")
    with pytest.raises(WeightsError, match=r"state\.pt: not a readable state of a training; remove it"):
        run(trunk, photos, tmp_path)


class Shifted:
    """The same photos with other objects."""

    def __init__(self, photos):
        self.classes, self.image_ids, self.image_path = photos.classes, photos.image_ids, photos.image_path
        self._photos = photos

    def __len__(self):
        return len(self._photos)

    def __iter__(self):
        return (replace(truth, boxes=truth.boxes + 1) for truth in self._photos)


@pytest.mark.usefixtures("torch_engine")
def test_the_command_judges_and_keeps_the_best_and_the_last(trunk, tmp_path, rcnn, monkeypatch, capsys):
    write_voc(tmp_path, "train", range(4))
    write_voc(tmp_path, "val", range(4, 8))
    save_checkpoint(trunk, tmp_path / "trunk.safetensors")
    tiny = {name: value for name, value in asdict(RECIPE).items() if name in ("width", "priors_a_cell", "regions")}
    phases = (
        MultiBoxRecipe(epochs=1, warmup=1, **tiny),
        MultiBoxRecipe(epochs=2, warmup=1, learning_rate=1e-5, **tiny),
    )
    preset = Preset("a test", str(tmp_path / "trunk.safetensors"), phases)
    monkeypatch.setattr(command, "MULTIBOX", {"tiny": preset})
    out = tmp_path / "boxes.safetensors"
    usual = ["train", "multibox", "--voc", tmp_path, "--val", "val", "--val-every", 1, "--val-photos", 2]
    usual += ["--preset", "tiny", "--out", out, "--batch", 2, "--device", "cpu", "--dtype", "float32"]
    assert rcnn(*usual) == 0
    curves = [
        read_curve(folder / "val.csv") for folder in (tmp_path / "boxes.work", tmp_path / "boxes.work" / "phase2")
    ]
    assert [int(row[0]) for row in curves[0]] == [1, 2]
    scores = {int(row[0]): float(row[1]) for row in curves[1]}
    assert list(scores) == [1, 2, 3, 4]
    best, last = read_checkpoint(out), read_checkpoint(tmp_path / "boxes.last.safetensors")
    record = best.training["validation"]
    by_phase = {(number, int(row[0])): float(row[1]) for number, curve in enumerate(curves, 1) for row in curve}
    assert record["value"] == max(by_phase.values()) == by_phase[best.training["phase"], record["step"]]
    assert (record["figure"], record["number of photos"]) == ("recall@0.50 of 200 boxes", 2)
    made = last.training
    assert (made["validation"]["step"], made["phase"]) == (4, 2)
    assert (best.task, best.training["multibox"]["width"]) == ("multibox", 32)
    assert (made["recipe"]["learning_rate"], made["recipe"]["epochs"]) == (1e-5, 2)
    assert (made["start"]["recipe"]["epochs"], made["start"]["phase"]) == (1, 1)
    assert made["recipe"]["seed"] == made["start"]["recipe"]["seed"] + 1  # other views of the photos
    assert made["start"]["validation"]["step"] == 2  # a phase starts from the last weights, not from the best
    assert rcnn(*usual, "--classes", "cube") == 2
    assert "no class cube: the classes are disc, square" in capsys.readouterr().err


def test_every_option_reaches_the_recipe(trunk, tmp_path, rcnn, monkeypatch):
    """Values that no default and no other option has."""
    write_voc(tmp_path, "train", range(4))
    given = {"epochs": 31, "learning_rate": 0.032, "trunk_factor": 0.33, "batch_size": 34, "average": 0.35}
    asked = []

    def enough(recipes, *some, **more):
        asked.extend(recipes)
        raise ValueError("enough")

    monkeypatch.setattr("detect.training.multibox.phases", enough)
    save_checkpoint(trunk, tmp_path / "trunk.safetensors")
    names = {"batch_size": "batch", "learning_rate": "learning-rate", "trunk_factor": "trunk-rate"}
    words = [word for name, value in given.items() for word in (f"--{names.get(name, name)}", value)]
    words += ["--freeze", "inception3a", "--seed", 36, "--dtype", "float32", "--out", tmp_path / "a.safetensors"]
    words += ["--weights", tmp_path / "trunk.safetensors", "--device", "cpu"]
    assert rcnn("train", "multibox", "--voc", tmp_path, *words) == 2
    assert asked == [MultiBoxRecipe(**given, frozen="inception3a", seed=36, dtype="float32")]


def test_a_loss_that_is_not_finite_stops_the_run(trunk, photos, tmp_path):
    state = dict(trunk.state) | {"conv1.conv.bias": torch.full((64,), torch.nan)}
    with pytest.raises(NonFiniteLoss, match="at step 1"):
        run(replace(trunk, state=state), photos, tmp_path)
    assert not (tmp_path / "state.pt").exists()


def test_checkpoint_there_and_back(trained, tmp_path):
    save_checkpoint(trained[0], tmp_path / "m.safetensors", dtype=torch.float32)
    network = from_checkpoint(read_checkpoint(tmp_path / "m.safetensors"))
    pixels = torch.rand(1, 3, 128, 128) * 255
    with torch.no_grad():
        torch.testing.assert_close(network(pixels), from_checkpoint(trained[0])(pixels))
    generator = load_multibox(tmp_path / "m.safetensors", place(device="cpu"))
    assert generator.name == "multibox"


def test_multibox_weights_are_trained_further(trained, photos, tmp_path):
    start = replace(trained[0], training={**trained[0].training, "classes": ["cow"]})
    found = run(start, photos, tmp_path, recipe=replace(RECIPE, epochs=1, learning_rate=1e-9))
    assert learned_classes(found) == ("cow", "thing")
    for name in (
        "head.shapes",
        "head.predict.weight",
        "refine.hidden1.weight",
        "trunk.inception5b.branch1.conv.weight",
    ):
        torch.testing.assert_close(found.state[name], trained[0].state[name], rtol=0, atol=1e-6)


def test_weights_of_another_task_are_refused(trunk):
    with pytest.raises(WeightsError, match="these weights are for images, MultiBox weights are needed"):
        make_multibox(trunk)


@pytest.mark.parametrize("frozen", LAST_FROZEN)
def test_the_frozen_part_and_the_rest_make_the_whole_trunk(trunk, frozen):
    network = start_network(trunk, torch.ones((4, 1, 2)), width=8).eval()
    pixels = torch.rand(2, 3, 64, 128) * 255
    with torch.no_grad():
        found = unflatten(Stem(network, frozen)(pixels), (64, 128), frozen)
        maps = network.from_stem(found, frozen)
        expected = network.stem(pixels, MAPS[-1])
    assert len(found) == len(kept_layers(frozen))
    for map_found, map_expected in zip(maps, expected, strict=True):
        torch.testing.assert_close(map_found, map_expected)


@pytest.mark.parametrize("frozen", ["none", "conv9", *sorted({*LAYERS} - {*LAST_FROZEN})])
def test_other_layers_cannot_be_the_last_frozen_one(frozen):
    with pytest.raises(ValueError, match=f"`frozen` '{frozen}' is not one of maxpool2, inception3a, "):
        check_frozen(frozen)


def test_processes_share_every_batch(photos):
    recipe = replace(RECIPE, epochs=1)
    sizes = [truth.image_size for truth in photos]
    whole = list(Order(sizes, recipe, 0, ALONE))
    parts = [list(Order(sizes, recipe, 0, Process(rank, 2))) for rank in range(2)]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(batch) for batch in whole]
    assert list(Order(sizes, recipe, 1, ALONE)) == whole[1:]


def test_shapes_of_a_single_training_box_are_repeated(photos):
    shapes = find_shapes(photos, replace(RECIPE, priors_a_cell=2))
    assert shapes.shape == (4, 2, 2)
    assert (shapes == shapes[0, 0]).all()


class FlatPhotos(FewPhotos):
    """Objects of many shapes, one of them without height, which COCO's files may hold."""

    def ground_truth(self, image_id):
        sides = np.arange(1, 31, dtype=np.float32)
        boxes = np.stack([0 * sides, 0 * sides, 4 * sides, 2 * sides], axis=1)
        boxes[0, 3] = 0
        none = np.zeros(len(boxes), bool)
        return GroundTruth(image_id, boxes, none.astype(np.int64), none, none.astype(np.float32), (150, 200))


def test_objects_without_area_give_no_priors(tmp_path):
    shapes = find_shapes(FlatPhotos(tmp_path), replace(RECIPE, priors_a_cell=2))
    assert torch.isfinite(shapes).all()
    assert (shapes > 0).all()


def test_photos_without_objects_that_count_are_refused(trunk, photos, tmp_path):
    nothing = FewPhotos(tmp_path)
    nothing.ground_truth = lambda name: replace(photos.ground_truth(name), ignore=photos.ground_truth(name).labels == 0)
    with pytest.raises(ValueError, match="no object that counts in the 4 photos: MultiBox has nothing to learn from"):
        run(trunk, nothing, tmp_path)


def test_regions_are_half_objects_and_never_ignored_ones():
    torch.manual_seed(0)
    objects = torch.tensor([[10.0, 10, 60, 60], [100, 100, 180, 160]])
    clutter = torch.tensor([[12.0 * column, 200, 12 * column + 10, 240] for column in range(20)])
    boxes = torch.cat([objects.repeat(20, 1) + torch.randn(40, 4) * 3, clutter])
    ignore = torch.tensor([False, True])
    rows, numbers = draw_regions(boxes, torch.randn(60), objects, ignore, (256, 256), 8)
    assert sorted(numbers.tolist()) == [NOTHING] * 4 + [0] * 4  # never IGNORED
    overlap = iou(rows.numpy(), objects.numpy())
    assert (overlap[numbers.numpy() == 0, 0] >= 0.5).all()
    assert (overlap[numbers.numpy() == NOTHING] < 0.5).all()
    empty = draw_regions(boxes, torch.randn(60), objects[:0], ignore[:0], (256, 256), 8)
    assert (empty[1] == NOTHING).all()


@pytest.mark.parametrize(("processes", "complaint"), [(3, "3 processes"), (8, "4 photos for 8 processes")])
def test_processes_share_batches_evenly_or_not_at_all(trunk, photos, tmp_path, monkeypatch, processes, complaint):
    monkeypatch.setattr("detect.training.canvases.current_process", lambda: Process(0, processes))
    monkeypatch.setattr("detect.training.multibox_batches.current_process", lambda: Process(0, processes))
    with pytest.raises(ValueError, match=complaint):
        run(trunk, photos, tmp_path, recipe=replace(RECIPE, batch_size=8))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_canvases():
    with quarter_canvases():
        yield


@pytest.mark.usefixtures("torch_engine", "small_canvases")
def test_own_weights_propose_and_rank_by_their_file(trained, tmp_path):
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    moved = {name: value + 0.01 * value.is_floating_point() for name, value in trained[0].state.items()}
    for file, state in zip(files, (trained[0].state, moved), strict=True):
        save_checkpoint(replace(trained[0], state=state), file)
    photo = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    one, other = (load_proposals(f"multibox:{file}", place(device="cpu")) for file in files)
    assert np.array_equal(one(photo).boxes, load_multibox(files[0], place(device="cpu"))(photo).boxes)
    assert one.parameters != other.parameters  # the key of what is stored
    twice = load_proposals(f"multibox-multiscale:{files[0]}", place(device="cpu"))
    assert twice.parameters == {**one.parameters, "scales": [1.0, 2.0]}
    assert (one.name, twice.name) == ("multibox", "multibox-multiscale")
    again = load_multibox(files[0], place(device="cpu"), scales=(1.0, 2.0))
    assert np.array_equal(twice(photo).boxes, again(photo).boxes)
    by_one, by_other = (load_proposals(f"ranked:random+multibox:{file}", place(device="cpu")) for file in files)
    assert by_one.parameters["by"] == {**one.parameters, "score": SCORE}
    assert not np.array_equal(by_one(photo).scores, by_other(photo).scores)
    by_two = load_proposals(f"ranked:random+multibox-multiscale:{files[0]}", place(device="cpu"))
    assert by_two.parameters["by"] == {**twice.parameters, "score": SCORE}
    assert (by_one.parameters["own"], by_two.parameters["own"]) == ("multibox", "multibox-multiscale")
    with pytest.raises(WeightsError, match=r"`proposals` .*nowhere"):
        load_proposals(f"multibox:{tmp_path / 'nowhere.safetensors'}")


def test_classes_that_multibox_never_learned_from_are_warned_of(trained, tmp_path):
    assert learned_classes(trained[0]) == ("thing",)
    save_checkpoint(trained[0], tmp_path / "a.safetensors")
    own = f"multibox:{tmp_path / 'a.safetensors'}"

    def warning(name, *classes):
        return unlearned_warning(load_proposals(name, TORCH), classes)

    assert warning(own, "Thing") == ""
    for name in (own, f"ranked:grid+{own}", f"multibox-multiscale:{tmp_path / 'a.safetensors'}+{own}"):
        assert warning(name, "thing", "cow").endswith("did not learn from cow, and may miss them (docs/multibox.md)")
    for name in (f"grid+{own}", "selective-search"):  # others look, too, and all boxes stay
        assert warning(name, "cow") == ""
    few = "did not learn from ant, bee, elk and 2 more, and"
    assert few in warning("ranked:grid", "dog", "ant", "bee", "elk", "emu", "fox")
    assert warning("multibox", "dog", "TVmonitor") == ""
    saved = {**trained[0].training, "classes": None, "data": "photos"}
    save_checkpoint(replace(trained[0], training={k: v for k, v in saved.items() if v}), tmp_path / "b.safetensors")
    assert warning(f"multibox:{tmp_path / 'b.safetensors'}", "cow") == ""  # nobody knows


def test_the_engine_of_a_size_is_made_once_ahead_and_again_where_that_failed(monkeypatch):
    asked = []

    def make(network, placement, *, size, batch_size):
        asked.append(size)
        if len(asked) == 1:
            raise MemoryError("none left")
        return make_engine(network, TORCH, size=size, batch_size=batch_size)

    monkeypatch.setattr("classifier.engines.make_engine", make)
    run = CanvasRunner(torch.nn.Conv2d(3, 1, 1), replace(TORCH, engine="openvino"))
    pixels = torch.zeros(1, 3, 64, 128)
    run.expect((64, 128))
    with pytest.raises(MemoryError):
        run(pixels)
    run.expect((64, 128))
    assert [run(pixels).shape, run(pixels).shape] == 2 * [(1, 1, 64, 128)]
    assert asked == [(64, 128), (64, 128)]


def test_a_ranked_union_runs_the_network_once_for_each_look_at_a_photo(trained, tmp_path, monkeypatch):
    save_checkpoint(trained[0], tmp_path / "a.safetensors")
    ran, run = [], CanvasRunner.__call__
    monkeypatch.setattr(
        CanvasRunner, "__call__", lambda self, pixels: ran.append(pixels.shape[2:]) or run(self, pixels)
    )
    name = f"ranked:grid+multibox-multiscale:{tmp_path / 'a.safetensors'}"
    load_proposals(name, TORCH)(np.zeros((100, 120, 3), np.uint8))
    assert ran == [(384, 512), (768, 1024)]


@pytest.fixture(scope="module")
def shipped():
    return load_multibox(SHIPPED, place(device="cpu"))


@pytest.fixture(scope="module")
def photo():
    return skimage.data.astronaut()[:400]


def test_shipped_weights_give_boxes_inside_the_photo(shipped, photo):
    found = shipped(photo)
    assert 1 < len(found) <= shipped.max_boxes
    keeps_protocol(found, photo.shape[:2])
    assert np.array_equal(found.boxes, shipped(photo.copy()).boxes)


def test_shipped_weights_give_mirrored_boxes_for_the_mirrored_photo(shipped, photo):
    """Weak: most of the best boxes come back, none exactly."""
    plain, other = shipped(photo), shipped(np.ascontiguousarray(photo[:, ::-1]))
    overlap = iou(mirror(plain.boxes[:20], plain.image_size), other.boxes).max(axis=1)
    assert np.mean(overlap >= 0.5) >= 0.7


def test_shipped_weights_say_how_they_were_made():
    training = read_checkpoint(SHIPPED).training
    assert {"data", "split", "command", "commit", "recipe"} <= set(training)
    assert SHIPPED.stat().st_size < 18e6


def test_options_of_photos_and_of_the_run_reach_the_plan(trunk, tmp_path, rcnn, monkeypatch):
    write_voc(tmp_path / "voc", "train", range(3))
    write_voc(tmp_path / "other", "val", range(3, 5))
    save_checkpoint(trunk, tmp_path / "trunk.safetensors")
    plans = []

    def enough(plan):
        plans.append(plan)
        raise InputError("enough")

    monkeypatch.setattr("detect.training.phases.run_phases", enough)
    words = ["--weights", tmp_path / "trunk.safetensors", "--device", "cpu", "--dtype", "float32"]
    words += ["--ignore", "square", "--val-ground-truth", tmp_path / "other", "--val-every", 5]
    words += ["--val-images", tmp_path / "other" / "JPEGImages", "--work", tmp_path / "kept", "--save-every", 7]
    data = ["--voc", tmp_path / "voc", "--out", tmp_path / "a.safetensors"]
    assert rcnn("train", "multibox", *data, *words) == 2
    (plan,) = plans
    assert (plan.work, plan.save_every, plan.measure_every) == (tmp_path / "kept", 7, 5)
    assert plan.about["ignored"] == ["square"]
    assert plan.measure is not None
