"""Training on whole photos: the recipe, the variations, and runs that can be killed, resumed and shared."""

import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel
from typer import Typer
from typer.testing import CliRunner

from classifier.augmentation import ASPECT, EIGENVALUES, EIGENVECTORS, Augmentation, Lighting
from classifier.googlenet import GoogLeNet, TrainingLogits
from classifier.image_training import (
    AUXILIARY_SIZES,
    BatchOrder,
    LabelledPhotos,
    PhotoBatches,
    train_images,
    untrained_classifier,
)
from classifier.processes import Process
from classifier.recipes import Recipe, paper_recipe
from classifier.training import NonFiniteLoss, StepProgress
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.fitting import WeightsError
from classifier.weights.load import load_weights
from detect.commands.train_classifier import classifier
from detect.training.folder import occupied
from detect.training.progress import read_curve
from structures.images import ImageError
from tests.training import train_classifier as train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> LabelledPhotos:
    """Two classes, bright and dark, six photos each."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for label, name in enumerate(("bright", "dark")):
        (root / name).mkdir()
        for number in range(6):
            pixels = rng.integers(0, 100, (40, 50, 3)) + (0 if label else 150)
            PIL.Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number}.png")
    paths = sorted(root.glob("*/*.png"))
    return LabelledPhotos(paths, np.array([0] * 6 + [1] * 6), ("bright", "dark"))


class Losses:
    """Remembers the losses of a run, and can kill it."""

    def __init__(self, kill_after: int = 0) -> None:
        self.kept: list[float] = []
        self._kill_after = kill_after

    def __call__(self, step: StepProgress) -> None:
        self.kept.append(step.loss)
        if step.step == self._kill_after:
            raise KeyboardInterrupt


def run(photos: LabelledPhotos, folder: Path, report: Losses, **changes) -> Checkpoint:
    start = untrained_classifier(photos.classes, size=32, seed=3)
    recipe = replace(paper_recipe(2, 3), dtype="float32", seed=3, **changes)
    options = {"device": CPU, "batch_size": 4, "workers": 0, "save_every": 2, "report": report}
    return train_images(start, photos, recipe, state_file=folder / "state.pt", **options)


@pytest.fixture(scope="module")
def whole(photos: LabelledPhotos, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[float], Checkpoint]:
    losses = Losses()
    return losses.kept, run(photos, tmp_path_factory.mktemp("whole"), losses)


def test_a_killed_run_goes_on_with_the_same_losses(photos: LabelledPhotos, tmp_path: Path, whole) -> None:
    losses, trained = whole
    first, second = Losses(kill_after=5), Losses()
    with pytest.raises(KeyboardInterrupt):
        run(photos, tmp_path, first)
    resumed = run(photos, tmp_path, second)
    assert len(losses) == 6
    assert first.kept == losses[:5]
    assert second.kept == losses[4:]  # the state of iteration 4 was the last on disk
    for name, value in trained.state.items():
        assert torch.equal(resumed.state[name], value), name


def test_the_result_has_no_auxiliary_classifiers_and_knows_how_it_was_made(whole) -> None:
    _, trained = whole
    assert not any(name.startswith("aux") for name in trained.state)
    trained.check()
    assert trained.training["recipe"]["momentum"] == 0.9
    assert trained.training["auxiliary"] is True
    assert trained.classes == ("bright", "dark")


def test_batches_read_by_other_processes_are_the_same(photos: LabelledPhotos) -> None:
    preprocessing = untrained_classifier(photos.classes, size=32).preprocessing

    def batches(workers: int) -> PhotoBatches:
        return PhotoBatches(photos, BatchOrder(12, 4, 0), preprocessing, CPU, seed=0, workers=workers)

    here, there = batches(0), batches(2)
    for iteration in (0, 1, 2, 3, 7):  # 7 is a jump, as after a resume
        assert torch.equal(here(iteration)[0], there(iteration)[0])
        assert torch.equal(here(iteration)[1], there(iteration)[1])


def test_batches_are_a_function_of_seed_and_number_whatever_was_drawn_before(photos: LabelledPhotos) -> None:
    preprocessing = untrained_classifier(photos.classes, size=32).preprocessing
    one, two = (PhotoBatches(photos, BatchOrder(12, 4, 5), preprocessing, CPU, seed=5, workers=0) for _ in range(2))
    first = one(4)
    torch.manual_seed(99)
    two(0)
    assert torch.equal(two(4)[0], first[0])
    other = PhotoBatches(photos, BatchOrder(12, 4, 6), preprocessing, CPU, seed=6, workers=0)
    assert not torch.equal(other(4)[0], first[0])
    assert first[0].is_contiguous(memory_format=torch.channels_last)


def test_every_photo_is_seen_once_an_epoch_in_a_new_order() -> None:
    order = BatchOrder(13, 4, seed=1)
    epochs = [[row for i in range(3 * e, 3 * e + 3) for row in order.rows(i)] for e in range(2)]
    assert all(len(set(rows)) == 12 for rows in epochs)
    assert epochs[0] != epochs[1]
    parts = [BatchOrder(13, 4, seed=1, process=Process(rank, 2)) for rank in range(2)]
    for iteration in range(6):
        assert sorted(parts[0].rows(iteration) + parts[1].rows(iteration)) == sorted(order.rows(iteration))
    with pytest.raises(ValueError, match="3 photos cannot fill a batch of 4"):
        BatchOrder(3, 4, seed=0)
    with pytest.raises(ValueError, match="cannot be shared by 3 processes"):
        BatchOrder(30, 4, seed=0, process=Process(0, 3))


def test_the_learning_rate_falls_by_four_percent_every_eight_epochs() -> None:
    recipe = paper_recipe(60, 10)
    assert recipe.steps == 600
    assert [round(recipe.schedule.learning_rate_at(e * 10), 8) for e in (0, 7, 8, 15, 16)] == [
        0.01,
        0.01,
        0.0096,
        0.0096,
        0.009216,
    ]
    assert paper_recipe(60, 10, schedule="cosine").schedule.learning_rate_at(599) < 1e-6
    with pytest.raises(ValueError, match="'linear' is not one of paper, cosine"):
        paper_recipe(1, 1, schedule="linear")
    with pytest.raises(ValueError, match="not a share of the run"):
        paper_recipe(1, 1, average_from=2)
    for epochs in (0, -1, 1e308, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"`epochs` .* must be above 0"):
            paper_recipe(epochs, 1)
    with pytest.raises(ValueError, match="the seed must be from 0 to 4294967295"):
        replace(paper_recipe(1, 1), seed=2**32)


def test_inputs_that_the_auxiliary_classifiers_take() -> None:
    def fits(size: int) -> bool:
        with torch.device("meta"):
            network = GoogLeNet(2, variant="paper", auxiliary=True).train()
            try:
                network(torch.zeros(2, 3, size, size))
            except RuntimeError:
                return False
        return True

    sizes = [AUXILIARY_SIZES[0] - 1, AUXILIARY_SIZES[0], 224, AUXILIARY_SIZES[-1], AUXILIARY_SIZES[-1] + 1]
    assert [fits(size) for size in sizes] == [False, True, True, True, False]


def test_training_remembers_where_it_began_and_keeps_known_classes(photos: LabelledPhotos, tmp_path: Path) -> None:
    start = untrained_classifier(("dark", "bright", "grey"), size=32, seed=3)
    start = replace(start, training={"source": "somewhere"})
    recipe = replace(paper_recipe(1, 3), learning_rate=0.0, dtype="float32")
    options = {"device": CPU, "batch_size": 4, "workers": 0}
    trained = train_images(start, photos, recipe, state_file=tmp_path / "state.pt", **options)
    assert trained.training["start"] == {"source": "somewhere"}
    assert torch.equal(trained.state["fc.weight"], start.state["fc.weight"][[1, 0]])


class Line(nn.Module):
    """Two weights: small enough to follow by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Linear(2, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x)


def random_batch(iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(iteration)
    return torch.randn(8, 2, generator=generator), torch.randint(0, 2, (8,), generator=generator)


def test_the_average_is_that_of_torch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Line()
    expected = AveragedModel(network)

    def follow(step: StepProgress) -> None:
        if step.step > 3:
            expected.update_parameters(network)

    recipe = Recipe(10, learning_rate=0.5, warmup=0, average=1.0, average_from=3, dtype="float32")
    state = train(network, random_batch, recipe, state_file=tmp_path / "state.pt", report=follow)
    for name, value in expected.module.state_dict().items():
        assert torch.allclose(state[name], value, atol=1e-6)
        assert not torch.allclose(state[name], network.state_dict()[name], atol=1e-4)


def test_each_auxiliary_loss_counts_three_tenths(tmp_path: Path) -> None:
    class Three(Line):
        """Like a network with auxiliary classifiers, whose logits are made of the main ones."""

        def forward(self, x: torch.Tensor) -> TrainingLogits:
            logits = super().forward(x)
            return TrainingLogits(logits, -logits, 2 * logits)

    network, (inputs, labels) = Three(), random_batch(0)
    with torch.no_grad():
        main, first, second = (functional.cross_entropy(each, labels).item() for each in network(inputs))
    losses = Losses()
    train(network, random_batch, Recipe(1, dtype="float32"), state_file=tmp_path / "state.pt", report=losses)
    assert losses.kept == [pytest.approx(main + 0.3 * first + 0.3 * second, abs=1e-5)]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    def batches(iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, labels = random_batch(iteration)
        return (inputs * float("inf") if iteration == 3 else inputs), labels

    recipe = Recipe(10, warmup=0, dtype="float32")
    losses = Losses()
    with pytest.raises(NonFiniteLoss, match="at step 4; lower the learning rate"):
        train(Line(), batches, recipe, state_file=tmp_path / "state.pt", save_every=2, report=losses)
    assert len(losses.kept) == 3
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 2


def test_a_state_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    recipe = Recipe(2, warmup=0, dtype="float32")
    train(Line(), random_batch, recipe, state_file=path)
    with pytest.raises(WeightsError, match=r"state\.pt: begun with weight_decay=0\.0005, not 0\.1; remove it"):
        train(Line(), random_batch, replace(recipe, weight_decay=0.1), state_file=path)
    with pytest.raises(WeightsError, match="of another network"):
        train(nn.Sequential(nn.Sequential(nn.Linear(2, 2))), random_batch, recipe, state_file=path)
    path.write_bytes(b"garbage")
    with pytest.raises(WeightsError, match=r"state\.pt: not a readable state of a training"):
        train(Line(), random_batch, recipe, state_file=path)


def test_another_photo_takes_the_place_of_one_that_cannot_be_read(photos: LabelledPhotos, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    some = LabelledPhotos([tmp_path / "bad.png", *photos.paths[1:4]], photos.labels[:4], photos.classes)
    preprocessing = untrained_classifier(photos.classes, size=32).preprocessing
    skipped: list[Path] = []
    batches = PhotoBatches(some, BatchOrder(4, 4, 0), preprocessing, CPU, seed=0, workers=0, skipped=skipped.append)
    for iteration in range(3):
        pixels, labels = batches(iteration)
        assert labels.tolist() == [0, 0, 0, 0]
        assert all(each.std() > 0 for each in pixels)  # no black picture that would count in batch statistics
    assert skipped == [tmp_path / "bad.png"]
    again = PhotoBatches(some, BatchOrder(4, 4, 0), preprocessing, CPU, seed=0, workers=0)
    assert torch.equal(again(2)[0], pixels)
    none = LabelledPhotos([tmp_path / "bad.png"] * 2, photos.labels[:2], photos.classes)
    with pytest.raises(ImageError, match=r"bad\.png: neither this photo nor 20 others can be read"):
        PhotoBatches(none, BatchOrder(2, 2, 0), preprocessing, CPU, seed=0, workers=0)(0)


def test_variations_are_a_function_of_photo_and_seed_and_leave_the_generator_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    vary = Augmentation(32)
    before = torch.get_rng_state()
    assert torch.equal(vary(image, 1), vary(image, 1))
    assert torch.equal(torch.get_rng_state(), before)
    varied = [vary(image, seed) for seed in range(8)]
    assert all(each.shape == (3, 32, 32) and each.dtype == torch.uint8 for each in varied)
    assert len({each.numpy().tobytes() for each in varied}) == 8


def test_crops_cover_8_to_100_percent_within_the_aspects() -> None:
    """A picture whose red is its column and green its row shows where each crop was cut."""
    image = np.zeros((200, 200, 3), np.uint8)
    image[..., 0] = np.arange(200)[None, :]
    image[..., 1] = np.arange(200)[:, None]
    transforms = Augmentation(20)._vary.transforms[:1]  # the crop without mirror and colours
    areas, aspects = [], []
    torch.manual_seed(0)
    for _ in range(300):
        crop = np.asarray(transforms[0](PIL.Image.fromarray(image))).astype(float)
        width, height = np.ptp(crop[..., 0]) / 0.95 + 1, np.ptp(crop[..., 1]) / 0.95 + 1
        areas.append(width * height / 200**2)
        aspects.append(width / height)
    assert 0.06 < min(areas) < 0.15
    assert max(areas) > 0.85
    assert np.quantile(aspects, 0.02) > ASPECT[0] * 0.9
    assert np.quantile(aspects, 0.98) < ASPECT[1] * 1.1


def test_half_of_the_variations_are_mirrored() -> None:
    bright_left = np.tile(np.linspace(150, 50, 80).astype(np.uint8)[:, None], (60, 1, 3))
    varied = [Augmentation(32)(bright_left, seed).float() for seed in range(100)]
    mirrored = sum(bool(each[..., :16].mean() < each[..., 16:].mean()) for each in varied)
    assert 35 <= mirrored <= 65


def test_brightness_contrast_and_colour_change_by_half_at_most() -> None:
    """A plain colour grows paler by less contrast as by less colour: the two together reach from 0.25 to 2.25."""
    plain = np.array([130, 110, 90], np.uint8)
    image = np.tile(plain, (40, 50, 1))
    varied = np.array([Augmentation(8)(image, seed)[:, 0, 0].numpy() for seed in range(300)]).astype(float)
    grey, grey_before = (colours @ (0.299, 0.587, 0.114) for colours in (varied, plain))
    brightness = grey / grey_before
    strength = (varied[:, 0] - varied[:, 2]) / grey / ((130 - 90) / grey_before)
    assert 0.4 < brightness.min() < 0.6  # the light that is added makes a little difference
    assert 1.4 < brightness.max() < 1.6
    assert 0.15 < strength.min() < 0.4
    assert 1.7 < strength.max() < 3


def test_light_is_added_along_the_colours_of_imagenet() -> None:
    torch.manual_seed(0)
    grey = torch.full((3, 4, 4), 128, dtype=torch.uint8)
    shifts = torch.stack([Lighting()(grey)[:, 0, 0].float() - 128 for _ in range(2000)])
    covariance = (shifts.T @ shifts) / len(shifts)
    vectors, values = torch.tensor(EIGENVECTORS), torch.tensor(EIGENVALUES)
    expected = vectors @ torch.diag((0.1 * values * 255) ** 2) @ vectors.T
    assert torch.allclose(covariance, expected, atol=1.5)
    assert torch.equal(Lighting()(torch.full((3, 2, 2), 255, dtype=torch.uint8)).amax(), torch.tensor(255).byte())


def command(*arguments: object):
    app = Typer()
    app.command()(classifier)
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_the_command_trains_judges_and_resumes(photos: LabelledPhotos, tmp_path: Path, monkeypatch) -> None:
    root, out = photos.paths[0].parent.parent, tmp_path / "net.safetensors"
    options = ["--size", 32, "--batch", 4, "--workers", 0, "--device", "cpu", "--dtype", "float32", "--save-every", 1]
    options += ["--seed", 5]
    result = command("--folder", root, "--out", out, "--val", root, "--epochs", 1, *options)
    assert result.exit_code == 0, result.exception
    trained = load_weights(out)
    assert trained.classes == ("bright", "dark")
    assert trained.preprocessing.size == 32
    told = dict(line.split()[:2] for line in result.stdout.splitlines()[1:3])
    assert trained.training["top-1"] == pytest.approx(float(told["top-1"]), abs=1e-4)
    assert trained.training["judged on photos"] == 12
    assert trained.training["recipe"]["seed"] == 5
    rows = read_curve(tmp_path / "net.work" / "curves.csv")
    assert [int(row[0]) for row in rows] == [1, 2, 3]
    monkeypatch.chdir(root.parent)
    finished = command("--folder", root.name, "--out", out, "--epochs", 1, *options)
    assert finished.exit_code == 0, finished.exception
    assert torch.equal(load_weights(out).state["fc.weight"], trained.state["fc.weight"])
    for changed, what in (
        (["--batch", 3], "batch"),
        (["--no-auxiliary"], "auxiliary classifiers"),
        (["--folder", shutil.copytree(root, tmp_path / "c", ignore=lambda *_: ["0.png"])], "photos"),
    ):
        refused = command("--folder", root, "--out", out, "--epochs", 1, *options, *changed)
        assert f"begun with other {what}; name another `work`" in str(refused.exception)
    assert "over an input" in str(command("--folder", root, "--out", out, "--weights", out, *options).exception)
    begun = ["--folder", root, "--out", tmp_path / "b.safetensors", "--weights", out, "--epochs", 1]
    begun += ["--work", out.with_suffix(".work")]
    assert "--weights have their own" in str(command(*begun, *options).exception)
    assert "begun with other weights" in str(command(*begun, *options[2:]).exception)
    again = command(*begun, "--work", tmp_path / "b", *options[2:])
    assert again.exit_code == 0, again.exception
    many = command("--folder", root, "--out", out, "--work", tmp_path / "d", *options, "--batch", 999)
    assert "take a smaller `batch_size`" in str(many.exception)
    fewer = command("--folder", root, "--out", out, "--work", tmp_path / "d", "--epochs", 1, *options)
    assert fewer.exit_code == 0, fewer.exception  # nothing was learned with the other batch
    with occupied(tmp_path / "d"):
        busy = command("--folder", root, "--out", out, "--work", tmp_path / "d", "--epochs", 1, *options)
    assert "another run is writing here" in str(busy.exception)
    for bad, complaint in (
        (["--schedule", "x"], "'x' is not one of"),
        (["--variant", "v9"], "variant 'v9'"),
        (["--dtype", "float16"], "is not for training; use bfloat16"),
        (["--out", tmp_path / "net.pth"], "written as .safetensors"),
        (["--variant", "paper"], "auxiliary classifiers do not fit an input of 32"),
    ):
        failed = command("--folder", root, "--out", out, "--work", tmp_path / "e", "--size", 32, "--batch", 4, *bad)
        assert complaint in str(failed.exception)


def test_every_option_reaches_the_recipe(photos: LabelledPhotos, tmp_path: Path, monkeypatch) -> None:
    """Values that no default and no other option has."""
    given = {"learning_rate": 0.031, "warmup": 2, "weight_decay": 0.033, "label_smoothing": 0.34, "average": 0.35}
    asked = {}

    def enough(start, photos, recipe, **more):
        asked.update({name: getattr(recipe, name) for name in given} | {"auxiliary": more["auxiliary"]})
        asked["average_begins"] = recipe.average_from
        raise ValueError("enough")

    monkeypatch.setattr("classifier.image_training.train_images", enough)
    words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]
    words += ["--average-from", 0.36, "--no-auxiliary", "--size", 32, "--batch", 4, "--device", "cpu"]
    root = photos.paths[0].parent.parent
    result = command("--folder", root, "--out", tmp_path / "a.safetensors", "--epochs", 100, *words)
    assert str(result.exception) == "enough"
    assert asked == {**given, "auxiliary": False, "average_begins": round(0.36 * 300)}


def test_photos_that_were_replaced_and_odd_names(photos: LabelledPhotos, tmp_path: Path) -> None:
    root = shutil.copytree(photos.paths[0].parent.parent, tmp_path / "photos")
    (root / "dark" / "5.png").rename(root / "dark" / os.fsdecode(b"caf\xe9.png"))
    options = ["--size", 32, "--batch", 4, "--workers", 0, "--device", "cpu", "--dtype", "float32", "--save-every", 1]
    arguments = ["--folder", root, "--out", tmp_path / "net.safetensors", "--epochs", 1, *options]
    assert command(*arguments).exit_code == 0
    PIL.Image.new("RGB", (99, 99)).save(root / "dark" / "1.png")
    assert "begun with other photos" in str(command(*arguments).exception)
    (root / "dark" / "1.png").write_text("no picture")
    judged = command(*arguments, "--val", root, "--work", tmp_path / "b")
    assert "validated on 11 photos, 1 skipped" in judged.stdout
    assert f"skipped: {root / 'dark' / '1.png'}" in judged.stderr


def test_curves_of_a_resumed_run_have_each_iteration_once(tmp_path: Path) -> None:
    from detect.training.progress import Curves

    path = tmp_path / "curves.csv"
    for first, last in ((1, 6), (4, 8)):
        curves = Curves(path, ("loss", "learning_rate"))
        for iteration in range(first, last):
            curves.add(iteration, first + iteration / 10, 0.1)
        curves.close()
    with path.open("a") as file:
        file.write("8,0.")  # a kill in the middle of a line
    rows = read_curve(path)
    assert [int(row[0]) for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [float(row[1]) for row in rows][2:4] == [1.3, 4.4]
