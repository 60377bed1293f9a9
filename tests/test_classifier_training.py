"""The training loop against a plain one, exact resume, hard examples; crops and kept features against slow loops."""

import copy
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from classifier.ahead import batches_ahead, map_ahead
from classifier.crops import RegionCrops, cut_regions, normalise
from classifier.engines import Engine, make_engine
from classifier.googlenet import GoogLeNet
from classifier.placement import place
from classifier.recipes import Recipe
from classifier.region_batches import FreshCrops, KeptFeatures
from classifier.region_features import Head, Trunk, keep_features
from classifier.sampling import BatchDraw, LabelledRegions
from classifier.training import NonFiniteLoss, StepProgress
from classifier.weights.fitting import WeightsError
from classifier.weights.preprocessing import CAFFE
from structures.errors import InputError
from structures.images import ImageError
from structures.records import Image
from structures.seeds import step_seed
from tests.training import train_classifier as train

CPU = torch.device("cpu")
PLAIN = place(device="cpu", engine="torch", dtype="float32")
RECIPE = Recipe(11, learning_rate=0.05, warmup=3, average=0.9, dtype="float32", seed=4)


class Small(nn.Module):
    """A frozen layer, a trained one, dropout, and a last layer called fc."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.stem = nn.Linear(6, 8).requires_grad_(False)
            self.middle = nn.Linear(8, 8)
            self.norm = nn.BatchNorm1d(8)
            self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        features = functional.relu(self.norm(self.middle(self.stem(x))))
        logits: Tensor = self.fc(functional.dropout(features, 0.5, self.training))
        return logits


def batches(iteration: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1000 + iteration)
    return torch.randn((16, 6), generator=generator), torch.randint(0, 3, (16,), generator=generator)


class Stop(Exception):
    """What stands for kill -9: nothing in the loop catches it."""


def stop_after(step_number: int, losses: list[float]) -> Callable[[StepProgress], None]:
    def report(step: StepProgress) -> None:
        losses.append(step.loss)
        if step.step == step_number:
            raise Stop

    return report


@pytest.mark.parametrize(
    "changes", [{}, {"hard_examples": 5, "label_smoothing": 0.1}, {"dtype": "bfloat16"}, {"average": 0}]
)
def test_a_killed_run_goes_on_to_the_bit(tmp_path: Path, changes: dict[str, object]) -> None:
    recipe = replace(RECIPE, **changes)  # type: ignore[arg-type]
    whole: list[float] = []
    expected = train(Small(), batches, recipe, state_file=tmp_path / "a.pt", report=stop_after(0, whole))
    losses: list[float] = []
    for end in (2, 8, 9, 0):  # killed before the first state, between two, and right after one
        state_file, before = tmp_path / "b.pt", len(losses)
        torch.manual_seed(before)  # what the process drew before must not matter
        try:
            found = train(Small(), batches, recipe, state_file=state_file, save_every=3, report=stop_after(end, losses))
        except Stop:
            kept = torch.load(state_file, weights_only=True)["step"] if state_file.exists() else 0
            assert kept == end // 3 * 3 - (3 if end % 3 == 0 else 0)  # stopped before that state was written
            del losses[kept:]
    assert losses == whole
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_a_finished_run_gives_its_result_again(tmp_path: Path) -> None:
    expected = train(Small(), batches, RECIPE, state_file=tmp_path / "state.pt")
    again = train(Small(), batches, RECIPE, state_file=tmp_path / "state.pt", report=stop_after(1, []))
    assert all(torch.equal(again[name], value) for name, value in expected.items())


def test_the_loop_is_plain_gradient_descent(tmp_path: Path) -> None:
    recipe = replace(RECIPE, average=0, last_layer_factor=3, label_smoothing=0.1, steps=6, warmup=2, weight_decay=0.01)
    network = Small()
    network.norm = nn.Identity()  # type: ignore[assignment]
    expected = Small()
    expected.norm = nn.Identity()  # type: ignore[assignment]
    found = train(network, batches, recipe, state_file=tmp_path / "state.pt")
    fast = list(expected.fc.parameters())
    slow = list(expected.middle.parameters())
    optimiser = torch.optim.SGD([{"params": slow}, {"params": fast}], lr=1, momentum=0.9, weight_decay=0.01)
    for iteration in range(6):
        rate = 0.05 * [0.5, 1, 1, 0.853553, 0.5, 0.146447][iteration]  # up in two steps, then half a cosine
        optimiser.param_groups[0]["lr"], optimiser.param_groups[1]["lr"] = rate, 3 * rate
        torch.manual_seed(step_seed(4, 0, iteration))
        inputs, labels = batches(iteration)
        loss = functional.cross_entropy(expected.train()(inputs), labels, label_smoothing=0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for name, value in expected.state_dict().items():
        assert torch.allclose(found[name], value, atol=1e-6), name
    assert torch.equal(found["stem.weight"], Small().stem.weight)  # frozen
    assert not torch.allclose(found["middle.weight"], Small().middle.weight, atol=1e-3)


def test_the_average_by_hand(tmp_path: Path) -> None:
    network, kept = Small(), Small().fc.weight.detach().clone()

    def follow(step: StepProgress) -> None:
        decay = min(0.5, step.step / (9 + step.step))
        kept.mul_(decay).add_(network.fc.weight.detach() * (1 - decay))

    found = train(network, batches, replace(RECIPE, average=0.5), state_file=tmp_path / "state.pt", report=follow)
    assert torch.allclose(found["fc.weight"], kept, atol=1e-6)
    assert not torch.allclose(found["fc.weight"], network.fc.weight, atol=1e-5)
    assert torch.equal(found["norm.num_batches_tracked"], torch.tensor(11))


def test_hard_examples_are_those_with_the_greatest_loss(tmp_path: Path) -> None:
    """Training on the four hardest of each batch is training on batches of those four alone."""

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 3)
            nn.init.eye_(self.fc.weight)
            nn.init.zeros_(self.fc.bias)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.fc(x)
            return logits

    recipe = replace(RECIPE, steps=1, warmup=0)
    inputs, labels = batches(0)
    losses = functional.cross_entropy(inputs[:, :3], labels, reduction="none")
    hardest = losses.argsort(descending=True)[:4]
    assert losses[hardest].min() > losses.mean()
    reported: list[float] = []
    chosen = train(
        Plain(),
        batches,
        replace(recipe, hard_examples=4),
        state_file=tmp_path / "a.pt",
        report=lambda step: reported.append(step.loss),
    )
    given = train(Plain(), lambda _: (inputs[hardest], labels[hardest]), recipe, state_file=tmp_path / "b.pt")
    assert torch.allclose(chosen["fc.weight"], given["fc.weight"], atol=1e-7)
    assert reported == pytest.approx([losses[hardest].mean().item()], abs=1e-5)
    everything = train(Plain(), batches, replace(recipe, hard_examples=16), state_file=tmp_path / "c.pt")
    usual = train(Plain(), batches, recipe, state_file=tmp_path / "d.pt")
    assert torch.equal(everything["fc.weight"], usual["fc.weight"])


def test_hard_examples_are_chosen_without_dropout(tmp_path: Path) -> None:
    class Watched(Small):
        """Keeps the inputs that it learns from."""

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                self.learned = x
            return super().forward(x)

    network, inputs, labels = Watched(), *batches(0)
    with torch.no_grad():
        losses = functional.cross_entropy(network.eval()(inputs), labels, reduction="none")
    network.train()
    train(network, batches, replace(RECIPE, steps=1, hard_examples=6), state_file=tmp_path / "state.pt")
    hardest = inputs[losses.argsort(descending=True)[:6]]
    assert sorted(network.learned[:, 0].tolist()) == sorted(hardest[:, 0].tolist())


def test_weights_that_are_not_finite_are_never_kept(tmp_path: Path) -> None:
    class Edge(nn.Module):
        """Its loss is finite, its gradient is not: the root of a difference that is 0."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            return torch.sqrt(self.weight) * x[:, :3]

    with pytest.raises(NonFiniteLoss, match="weights are not finite after step 1; lower the learning rate"):
        train(Edge(), batches, RECIPE, state_file=tmp_path / "state.pt", save_every=1)
    assert not (tmp_path / "state.pt").exists()


def test_a_state_with_other_trained_layers_is_refused(tmp_path: Path) -> None:
    train(Small(), batches, RECIPE, state_file=tmp_path / "state.pt")
    network = Small()
    network.middle.requires_grad_(False)
    with pytest.raises(
        WeightsError, match=r"state\.pt: of another network, or of other trained layers; remove it to start again"
    ):
        train(network, batches, RECIPE, state_file=tmp_path / "state.pt")


def test_a_network_of_one_layer(tmp_path: Path) -> None:
    found = train(nn.Linear(6, 3), batches, RECIPE, state_file=tmp_path / "state.pt")
    assert found.keys() == {"weight", "bias"}


SMALL = replace(CAFFE, size=32, context=4)


def photo(number: int) -> Image:
    height, width = 40 + number % 7, 50 + number % 5
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


def regions_of(photos: int, each: int) -> LabelledRegions:
    rng = np.random.default_rng(photos)
    count = photos * each
    corners = rng.uniform(0, 30, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(3, 12, (count, 2))], axis=1).astype(np.float32)
    labels = np.arange(count) % 3
    photo_of = np.repeat(np.arange(photos) * 2, each)  # not every photo has regions
    return LabelledRegions(photo_of, boxes, labels, labels, np.zeros(count, np.float32), rng.random(count) < 0.5)


def slow_crop(regions: LabelledRegions, row: int, *, mirrored: bool) -> Tensor:
    """One region at a time, cut from its photo and flipped."""
    cut = RegionCrops(normalise(photo(int(regions.photo[row])), SMALL), size=32, context=4)
    crop = cut(torch.from_numpy(regions.boxes[row : row + 1]))[0]
    return crop.flip(2) if mirrored else crop


@pytest.fixture(scope="module")
def network() -> GoogLeNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GoogLeNet(3).eval()


def trunk_engine(network: GoogLeNet, last: str, batch_size: int = 4) -> Engine:
    return make_engine(Trunk(network, last), PLAIN, size=32, batch_size=batch_size)


@pytest.mark.parametrize("layer", ["conv1", "maxpool2", "inception4e", "maxpool4", "inception5b"])
def test_head_and_trunk_make_the_network(network: GoogLeNet, layer: str) -> None:
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 50
    with torch.no_grad():
        assert torch.allclose(Head(network, layer)(Trunk(network, layer)(x)), network(x), atol=1e-5)
        assert torch.equal(Head(network, None)(x), network(x))


def test_cut_regions_come_in_batches_each_mirrored_as_its_row_says() -> None:
    regions = regions_of(1, 7)
    parts = list(cut_regions(photo(0), regions.boxes, regions.mirrored, SMALL, CPU, batch_size=3))
    assert [len(part) for part in parts] == [3, 3, 1]
    expected = [slow_crop(regions, row, mirrored=bool(regions.mirrored[row])) for row in range(7)]
    assert regions.mirrored.any()
    assert not regions.mirrored.all()
    assert torch.allclose(torch.cat(parts), torch.stack(expected), atol=1e-3)


def test_kept_features_are_those_of_fresh_crops(network: GoogLeNet, tmp_path: Path) -> None:
    regions = regions_of(3, 6)
    kept = keep_features(tmp_path / "f.npy", regions, photo, trunk_engine(network, "maxpool2"), SMALL)
    crops = torch.stack([slow_crop(regions, row, mirrored=bool(regions.mirrored[row])) for row in range(18)])
    with torch.no_grad():
        expected = network.trunk(crops, last="maxpool2").numpy()
    assert kept.dtype == np.float16
    assert kept.shape == expected.shape
    assert np.allclose(kept, expected, rtol=2e-3, atol=2e-2)


def test_an_interrupted_extraction_goes_on(network: GoogLeNet, tmp_path: Path) -> None:
    regions, engine = regions_of(120, 1), trunk_engine(network, "maxpool1")
    whole = keep_features(tmp_path / "a.npy", regions, photo, engine, SMALL)
    seen: list[int] = []

    def fails_at(number: int) -> Callable[[int], Image]:
        def read(index: int) -> Image:
            seen.append(index // 2)
            if index // 2 == number:
                raise Stop
            return photo(index)

        return read

    for number in (30, 75, 110, 1000):
        seen.clear()
        try:
            found = keep_features(tmp_path / "b.npy", regions, fails_at(number), engine, SMALL)
        except Stop:
            continue
    assert seen == list(range(100, 120))  # from the last mark, each photo once
    assert np.array_equal(found, whole)
    seen.clear()
    assert np.array_equal(keep_features(tmp_path / "b.npy", regions, fails_at(0), engine, SMALL), whole)
    assert seen == []
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 0


def test_features_too_large_for_float16_are_an_error(network: GoogLeNet, tmp_path: Path) -> None:
    """They would be infinite, and the training would blame the learning rate."""
    large = copy.deepcopy(network)
    large.conv1.conv.weight.data *= 1e6
    engine = trunk_engine(large, "conv1")
    with pytest.raises(ValueError, match=r"f\.npy: features of photo 1 of 2 are not finite in float16"):
        keep_features(tmp_path / "f.npy", regions_of(2, 1), photo, engine, SMALL)


def test_features_that_are_gone_are_not_taken_for_done(network: GoogLeNet, tmp_path: Path) -> None:
    regions, engine = regions_of(60, 1), trunk_engine(network, "maxpool1")
    whole = keep_features(tmp_path / "a.npy", regions, photo, engine, SMALL).copy()
    (tmp_path / "a.npy").unlink()

    def stops(index: int) -> Image:
        if index // 2 == 10:
            raise Stop
        return photo(index)

    with pytest.raises(Stop):
        keep_features(tmp_path / "a.npy", regions, stops, engine, SMALL)
    assert np.array_equal(keep_features(tmp_path / "a.npy", regions, photo, engine, SMALL), whole)


def test_damaged_features_are_refused(network: GoogLeNet, tmp_path: Path) -> None:
    """A map for writing would lengthen a cut file with zeros, and the training would learn from them."""
    regions, engine, path = regions_of(3, 2), trunk_engine(network, "maxpool1"), tmp_path / "a.npy"
    keep_features(path, regions, photo, engine, SMALL)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"a\.npy: damaged .*; remove it to compute the features again"):
        keep_features(path, regions, photo, engine, SMALL)
    assert path.stat().st_size == len(content) // 2
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"holds \(6, 64, \d+, \d+\) float16, not 8 rows of features"):
        keep_features(path, regions_of(4, 2), photo, engine, SMALL)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are those of Unix")
def test_a_disk_that_fills_up_is_an_error(network: GoogLeNet, tmp_path: Path) -> None:
    """Through a map, the process would die of a signal."""
    import resource  # here, since Windows has none

    regions, engine, path = regions_of(3, 2), trunk_engine(network, "maxpool1"), tmp_path / "a.npy"
    whole = keep_features(path, regions, photo, engine, SMALL).copy()
    path.with_suffix(".json").unlink()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fills_up(index: int) -> Image:
        resource.setrlimit(resource.RLIMIT_FSIZE, (whole.nbytes // 2, before[1]))
        return photo(index)

    try:
        with pytest.raises(OSError, match=r"a\.npy"):
            keep_features(path, regions, fills_up, engine, SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert np.array_equal(keep_features(path, regions, photo, engine, SMALL), whole)


def test_regions_out_of_order_would_be_mixed_up(network: GoogLeNet, tmp_path: Path) -> None:
    regions = replace(regions_of(2, 1), photo=np.array([2, 0]))
    with pytest.raises(AssertionError, match="sorted by photo"):
        keep_features(tmp_path / "f.npy", regions, photo, trunk_engine(network, "conv1"), SMALL)


def test_batches_of_kept_features(network: GoogLeNet, tmp_path: Path) -> None:
    regions = regions_of(4, 5)
    kept = keep_features(tmp_path / "f.npy", regions, photo, trunk_engine(network, "maxpool1"), SMALL)
    draw = BatchDraw(regions.labels, background=2, batch_size=8)
    source = KeptFeatures(kept, regions.labels, draw, CPU, steps=10)
    for iteration in (3, 4, 5, 9, 4):  # the next one has been read ahead, or another one
        features, labels = source(iteration)
        rows = np.sort(draw(iteration))
        assert features.dtype == torch.float32
        assert np.array_equal(features.numpy(), kept[rows].astype(np.float32))
        assert labels.tolist() == regions.labels[rows].tolist()


def test_a_feature_file_that_was_cut_off_is_an_error(network: GoogLeNet, tmp_path: Path) -> None:
    regions = regions_of(4, 5)
    kept = keep_features(tmp_path / "f.npy", regions, photo, trunk_engine(network, "maxpool1"), SMALL)
    source = KeptFeatures(kept, regions.labels, BatchDraw(regions.labels, background=2, batch_size=64), CPU, steps=10)
    with (tmp_path / "f.npy").open("r+b") as file:
        file.truncate(kept.offset + kept.nbytes // 2)
    with pytest.raises(InputError, match=r"f\.npy: ends in row"):
        source(0)


def test_batches_of_fresh_crops() -> None:
    regions = regions_of(4, 5)
    draw = BatchDraw(regions.labels, background=2, batch_size=12)
    read: list[int] = []
    source = FreshCrops(
        regions, regions.labels, draw, lambda index: (read.append(index), photo(index))[1], SMALL, CPU, steps=10
    )
    crops, labels = source(2)
    rows = draw(2)
    once = np.unique(regions.photo[rows])
    assert sorted(read[: len(once)]) == once.tolist()  # each photo once a batch; then those of the next batch
    rows = rows[np.argsort(regions.photo[rows], kind="stable")]
    assert labels.tolist() == regions.labels[rows].tolist()
    turned = []
    for crop, row in zip(crops, rows, strict=True):
        plain, flipped = (slow_crop(regions, int(row), mirrored=way) for way in (False, True))
        assert min((crop - plain).abs().max(), (crop - flipped).abs().max()) < 1e-3
        turned.append(bool((crop - flipped).abs().max() < 1e-3))
    assert 0 < sum(turned) < 12
    again = FreshCrops(regions, regions.labels, draw, photo, SMALL, CPU, steps=10, readers=3)
    for iteration in (1, 2, 5, 2):  # made ahead, or not
        assert torch.equal(again(iteration)[0], crops) == (iteration == 2)
    other = FreshCrops(regions, regions.labels, draw, photo, SMALL, CPU, steps=10, seed=1)(2)
    assert not torch.equal(other[0], crops)
    assert torch.equal(other[1], labels)


def test_the_photos_of_the_next_batch_are_read_while_one_is_learned_from() -> None:
    regions = regions_of(4, 5)
    draw = BatchDraw(regions.labels, background=2, batch_size=12)
    read = SimpleQueue[int]()
    source = FreshCrops(
        regions, regions.labels, draw, lambda index: (read.put(index), photo(index))[1], SMALL, CPU, steps=10
    )
    source(0)
    for iteration in (0, 1):
        wanted = np.unique(regions.photo[draw(iteration)]).tolist()
        assert sorted(read.get(timeout=60) for _ in wanted) == wanted


def test_a_damaged_photo_stops_the_batch_that_needs_it_and_is_named() -> None:
    def read(index: int) -> Image:
        if index == 2:
            raise ImageError("2.jpg: cannot be decoded")
        return photo(index)

    regions, rows = regions_of(2, 5), [[0, 1], [0, 7]]
    draw = lambda iteration: np.array(rows[iteration])  # noqa: E731
    source = FreshCrops(regions, regions.labels, draw, read, SMALL, CPU, steps=2)
    assert len(source(0)[0]) == 2
    for _ in range(2):
        with pytest.raises(ImageError, match=r"^2\.jpg: cannot be decoded$"):
            source(1)


def test_nothing_is_made_beyond_the_last_step() -> None:
    made: list[int] = []
    ahead = batches_ahead(lambda number: made.append(number), 3)
    for number in range(3):
        ahead(number)
    assert made == [0, 1, 2]


def test_the_next_batch_is_made_while_the_last_is_worked_with() -> None:
    second = threading.Event()
    ahead = batches_ahead(lambda number: (number == 1 and second.set(), number)[1], 9)
    assert ahead(0) == 0
    assert second.wait(10)  # though nobody has asked for it yet


def test_a_batch_that_could_not_be_made_can_be_asked_for_again() -> None:
    failing = {1}

    def make(number: int) -> int:
        if number in failing:
            raise OSError(f"no batch {number}")
        return number

    ahead = batches_ahead(make, 4)
    assert ahead(0) == 0
    with pytest.raises(OSError, match="no batch 1"):
        ahead(1)
    failing.clear()
    assert [ahead(number) for number in (1, 2, 3)] == [1, 2, 3]


def test_no_more_is_made_ahead_than_may_be_held() -> None:
    begun: list[int] = []
    with ThreadPoolExecutor(2) as pool:
        made = map_ahead(pool, lambda item: (begun.append(item), 2 * item)[1], range(10), held=3)
        assert [next(made), next(made)] == [0, 2]
    assert sorted(begun) == [0, 1, 2, 3]
    with ThreadPoolExecutor(2) as pool:
        assert list(map_ahead(pool, str, range(10), held=3)) == list("0123456789")


def test_mirroring_does_not_follow_the_draw() -> None:
    """The rows of a batch and their mirroring come from streams of their own, whatever the seed."""
    for seed in range(3):
        draws = np.random.default_rng((seed, 5)).random(64)
        labels = np.array([0] * 64 + [1] * 64)
        regions = replace(regions_of(1, 128), labels=labels)
        draw = BatchDraw(labels, background=1, batch_size=64, positive_share=1, seed=seed)
        rows = draw(5)
        source = FreshCrops(regions, regions.labels, draw, photo, SMALL, CPU, steps=10, seed=seed)(5)[0]
        plain = torch.stack([slow_crop(regions, int(row), mirrored=False) for row in rows])
        mirrored = ((source - plain).abs().amax(dim=(1, 2, 3)) > 1e-2).numpy()
        assert 15 < (mirrored == (draws < 0.5)).sum() < 49
