"""The paths of a GPU on a pretended one: no tensors of two devices mix, and results are those of the CPU."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from classifier.cascade import Cascade
from classifier.image_training import LabelledPhotos, train_images, untrained_classifier
from classifier.images import ImageClassifier
from classifier.placement import Placement
from classifier.recipes import Recipe, paper_recipe
from classifier.region_draw import RegionDraw
from classifier.regions import GoogLeNetRegions
from classifier.training import StepProgress
from classifier.weights.checkpoint import Checkpoint
from classifier.whole_photos import photo_layer, presence
from detect.detector import Detector
from detect.generators import load_proposals
from detect.networks.multibox import start_network, to_checkpoint
from detect.networks.shared import with_ranges
from detect.networks.shared_features import SharedFeatures, SharedRegions
from detect.training.bookkeeping import Bookkeeping
from detect.training.few_photos import PhotoRegionCache
from detect.training.multibox import train_multibox
from detect.training.multibox_measure import MultiBoxMeasure
from detect.training.multibox_recipe import MultiBoxRecipe
from detect.training.region_measure import SharedMeasure
from detect.training.region_recipe import ExampleRecipe
from detect.training.regions import train_regions
from detect.training.shared import train_shared
from detect.training.shared_recipe import SharedRecipe
from eval.voc import VocDataset
from proposals.baselines import Grid, Random
from structures.images import read_image
from tests.networks import CLASSES, TINY, make, make_shared, photo, quarter_canvases
from tests.pretended_gpu import GPU, is_there, on_both, pretended_gpu
from tests.shapes import FEW_BOXES, random_start, write_voc

Report = Callable[[StepProgress], None]
STEPS = 2
EVERY = {"cpu": STEPS, "cuda": 1}  # steps between two states
PHOTOS = [photo(60, 80, 1), photo(120, 80, 2), photo(60, 80, 3), photo(60, 80, 5)]


@pytest.fixture(scope="module", autouse=True)
def small_canvases() -> Iterator[None]:
    with quarter_canvases(TINY):
        yield


def where(device: str) -> Placement:
    return Placement("torch", torch.device(device), "float32", f"torch float32 on {device}")


def test_the_pretence_can_fail() -> None:
    with pretended_gpu() as gpu:
        there, here = torch.arange(3, device="cuda"), torch.arange(3)
        assert there.device == GPU
        assert is_there(there * 2 + torch.tensor(1))  # a single number mixes with any
        assert is_there(there[torch.tensor([0, 2])])  # so do places
        assert not is_there(there.cpu() + here)
        network = torch.nn.Linear(3, 2).to("cuda")
        network(there.float()).sum().backward()
        assert network.weight.grad is not None
        assert is_there(network.weight.grad)
        alike = (lambda: there + here, lambda: torch.cat([there, here]), lambda: network(here.float()))
        for wrong in (*alike, lambda: here[there], there.numpy, partial(np.asarray, there), there.pin_memory):
            with pytest.raises((RuntimeError, TypeError), match=r"same device|NumPy|pinned"):
                wrong()
        assert gpu.waits == ["cpu"]
        assert (there > 1).any()
        assert there[there > 0].tolist() == [1, 2]
        assert gpu.waits[1:] == ["__bool__", "__getitem__", "tolist"]


def crops(device: str) -> Detector:
    return Detector(
        Grid(), GoogLeNetRegions(make(), where(device), batch_size=8, mirrored=True), max_boxes=13, score_floor=0.001
    )


def shared(device: str) -> Detector:
    features = SharedFeatures(make_shared(CLASSES), where(device), batch_size=2)
    regions = SharedRegions(features, mirrored=True, with_features=True)
    return Detector(load_proposals("ranked:grid+multibox", shared=features), regions, score_floor=0.001)


def both(device: str) -> Detector:
    features = SharedFeatures(make_shared(CLASSES), where(device))
    exact = GoogLeNetRegions(make(), where(device), batch_size=8)
    return Detector(features.multibox(), Cascade(SharedRegions(features), exact, count=3), score_floor=0.001)


@pytest.mark.parametrize("make_detector", [crops, shared, both])
def test_detection(make_detector: Callable[[str], Detector]) -> None:
    def work(device: str) -> list[tuple[Any, Any]]:
        found = make_detector(device).many(PHOTOS, workers=2, together=3)
        return [(each.boxes, each.scores) for each in found]

    expected, found = on_both(work)
    assert sum(len(boxes) for boxes, _ in expected) > 5
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other[0], one[0], atol=1e-2)
        np.testing.assert_allclose(other[1], one[1], atol=1e-4)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> VocDataset:
    folder = tmp_path_factory.mktemp("voc")
    write_voc(folder, "train", range(STEPS))
    return VocDataset(folder, "train")


@pytest.fixture(scope="module")
def multibox() -> Checkpoint:
    start = random_start(size=224, context=16)
    shapes = torch.tensor([[[30.0, 30.0]], [[90.0, 90.0]], [[150.0, 150.0]], [[300.0, 300.0]]])
    network = start_network(start, shapes, width=16)
    return to_checkpoint(network, start, network.state_dict(), {})


MULTIBOX = MultiBoxRecipe(epochs=1, frozen="inception4d", batch_size=1, warmup=1, regions=8, dtype="float32")


def on_canvases(device: str, report: Report, work: Path, start: Checkpoint, dataset: VocDataset) -> None:
    books = Bookkeeping(work, save_every=EVERY[device], report=report)
    found = train_multibox(start, dataset, recipe=MULTIBOX, placement=where(device), books=books)
    if device != "cpu":
        assert 0 <= MultiBoxMeasure(dataset, where(device))(found) <= 1


def on_shared(device: str, report: Report, work: Path, start: Checkpoint, dataset: VocDataset) -> None:
    books = Bookkeeping(work, save_every=EVERY[device], report=report)
    recipe = SharedRecipe(MULTIBOX, regions=RegionDraw(count=8, positives=3))
    found = train_shared(start, dataset, recipe=recipe, propose=Grid(), placement=where(device), books=books)
    if device == "cpu":
        return
    assert 0 <= SharedMeasure(dataset, protocol="voc07", placement=where(device))(found) <= 1
    first = dataset.image_ids[0]
    photos = [read_image(dataset.image_path(first))]
    shown = presence(dataset.ground_truth(first), len(dataset.classes))
    with_ranges(photo_layer(found, photos, [shown], where(device)), photos)


def on_regions(
    device: str, report: Report, work: Path, start: Checkpoint, dataset: VocDataset, *, frozen: str | None
) -> None:
    examples = ExampleRecipe(positives=6, negatives=8, batch_size=8, positive_share=0.5)
    recipe = Recipe(STEPS, learning_rate=0.01, warmup=2, dtype="float32", hard_examples=6)
    books = Bookkeeping(work, save_every=EVERY[device], report=report)
    options = {"recipe": recipe, "examples": examples, "placement": where(device), "books": books, "frozen": frozen}
    found = train_regions(random_start(size=32, context=2), dataset, Random(count=60), **options)  # type: ignore[arg-type]
    assert not is_there(found.state["fc.weight"])


def on_whole_photos(device: str, report: Report, work: Path, start: Checkpoint, dataset: VocDataset) -> None:
    paths = [dataset.image_path(image_id) for image_id in dataset.image_ids]
    photos = LabelledPhotos(paths, np.arange(len(paths)) % 2, ("even", "odd"))
    recipe = replace(paper_recipe(STEPS, 1), dtype="float32")
    options = {"state_file": work / "state.pt", "device": torch.device(device), "batch_size": 2, "workers": 0}
    begun = untrained_classifier(photos.classes, size=32)
    found = train_images(begun, photos, recipe, report=report, save_every=EVERY[device], **options)  # type: ignore[arg-type]
    classify = ImageClassifier([found], crops=10, placement=where(device))
    assert classify.many([read_image(path) for path in paths]).shape == (STEPS, 2)


TRAININGS = {
    "multibox": on_canvases,
    "shared": on_shared,
    "kept features": partial(on_regions, frozen="inception5a"),
    "fresh crops": partial(on_regions, frozen=None),
    "whole photos": on_whole_photos,
}


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator")
@pytest.mark.parametrize("name", TRAININGS)
def test_training_and_resuming(name: str, multibox: Checkpoint, dataset: VocDataset, tmp_path: Path) -> None:
    def work(device: str) -> list[float]:
        losses, stop_at = dict[int, float](), 0 if device == "cpu" else STEPS
        folder = tmp_path / device
        folder.mkdir()

        def report(progress: StepProgress) -> None:
            losses[progress.step] = progress.loss
            if progress.step == stop_at:
                raise KeyboardInterrupt

        if stop_at:
            with pytest.raises(KeyboardInterrupt):
                TRAININGS[name](device, report, folder, multibox, dataset)
            stop_at = 0
        TRAININGS[name](device, report, folder, multibox, dataset)
        return list(losses.values())

    expected, found = on_both(work)
    assert len(expected) == STEPS
    assert found == pytest.approx(expected, rel=1e-4)


def test_learning_from_a_few_examples(dataset: VocDataset, tmp_path: Path) -> None:
    weights = make_shared(("cat",))

    def work(device: str) -> np.ndarray:
        features = SharedFeatures(weights, where(device), last_map=True)
        cache = PhotoRegionCache(weights, features, FEW_BOXES["grid"](), tmp_path / device)
        return np.concatenate(
            [each.maps[0] for each in cache.all(dataset, lambda items, total, name: items)], axis=None
        )

    expected, found = on_both(work)
    np.testing.assert_allclose(found.astype(np.float32), expected.astype(np.float32), atol=1e-2)


def test_more_regions_do_not_make_the_cpu_wait_more_often() -> None:
    waits = []
    with pretended_gpu() as gpu:
        for detector in (crops("cuda"), shared("cuda")):
            for count in (4, 13):
                image, gpu.waits[:] = photo(60, 80, count), []
                detector.classify(image, Grid()(image).boxes[:count])
                waits.append(len(gpu.waits))
    assert waits[0] == waits[1]
    assert waits[2] == waits[3]
    assert 0 < max(waits) <= 4
