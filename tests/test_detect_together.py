"""Photos that go through the networks together: the same results as alone, to the last bit on a CPU."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from classifier.engines import TorchEngine, in_batches
from classifier.placement import place
from classifier.protocol import RegionClassifier
from classifier.regions import Ensemble, GoogLeNetRegions, Probabilities
from detect.detector import Detector
from detect.found import Found
from detect.generators import load_proposals
from detect.networks.shared_features import SharedFeatures, SharedRegions
from proposals.baselines import Grid
from proposals.multibox.memory import CanvasMemory
from proposals.union import Union
from structures.records import Image
from tests.networks import CLASSES, SMALL, make, make_shared, photo, quarter_canvases

TORCH = place(device="cpu", engine="torch", dtype="float32")
PHOTOS = [photo(60, 80, 1), photo(120, 80, 2), photo(60, 80, 3), photo(60, 160, 4), photo(60, 80, 5)]


@pytest.fixture(scope="module", autouse=True)
def small_canvases() -> Iterator[None]:
    with quarter_canvases():
        yield


@pytest.fixture(scope="module")
def classify() -> GoogLeNetRegions:
    return GoogLeNetRegions(make(), TORCH, batch_size=8)


@pytest.fixture(scope="module")
def features() -> SharedFeatures:
    return SharedFeatures(make_shared(CLASSES), TORCH, batch_size=2)


def columns(found: Sequence[Found]) -> list[tuple[Any, ...]]:
    return [(each.boxes.tolist(), each.labels.tolist(), each.scores.tolist(), each.source.tolist()) for each in found]


def crops(classify: GoogLeNetRegions, features: SharedFeatures) -> Detector:
    return Detector(Grid(), classify, score_floor=0.01, max_boxes=13)


def shared(classify: GoogLeNetRegions, features: SharedFeatures) -> Detector:
    regions = SharedRegions(features, mirrored=True)
    return Detector(load_proposals("ranked:grid+multibox", shared=features), regions, score_floor=0.01)


def both(classify: GoogLeNetRegions, features: SharedFeatures) -> Detector:
    members: list[RegionClassifier] = [classify, SharedRegions(features)]
    return Detector(Union([Grid(), features.multibox(max_boxes=5)]), Ensemble(members), max_boxes=20)


@pytest.mark.parametrize("detector", [crops, shared, both])
def test_results_do_not_depend_on_company_workers_and_order(
    detector: Callable[..., Detector], classify: GoogLeNetRegions, features: SharedFeatures
) -> None:
    model = detector(classify, features)
    alone = columns([model(image) for image in PHOTOS])
    assert sum(len(boxes) for boxes, *_ in alone) > 5
    features.memory = CanvasMemory(features.memory._run)  # else the network would not be run again
    assert columns(list(model.many(PHOTOS, workers=3, together=4))) == alone
    assert columns(list(model.many(PHOTOS[::-1], together=3)))[::-1] == alone


def test_canvases_of_several_photos_are_run_together(features: SharedFeatures) -> None:
    ran: list[tuple[int, ...]] = []
    run = features.memory._run

    def noted(pixels: Tensor) -> Tensor:
        ran.append(tuple(pixels.shape))
        return run(pixels)

    features.memory = CanvasMemory(noted)
    detector = Detector(features.multibox(), SharedRegions(features))
    assert len(list(detector.many(PHOTOS, together=5))) == 5
    assert sorted(ran) == [(1, 3, 192, 256), (1, 3, 256, 192), (3, 3, 192, 256)] or sum(shape[0] for shape in ran) == 5
    assert {"trunk", "propose", "classify", "suppress"} == detector.seconds.keys()


def test_regions_of_several_photos_fill_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    classify, seen = GoogLeNetRegions(make(), TORCH, batch_size=8), list[int]()
    run = TorchEngine.__call__
    monkeypatch.setattr(TorchEngine, "__call__", lambda self, batch: seen.append(len(batch)) or run(self, batch))
    boxes = [Grid()(image).boxes[:count] for image, count in zip(PHOTOS, (5, 0, 9, 1, 6), strict=True)]
    rows = classify.finish(PHOTOS, boxes)
    assert seen == [8, 8, 5]
    assert [len(each) for each in rows] == [5, 0, 9, 1, 6]
    for image, own, found in zip(PHOTOS, boxes, rows, strict=True):
        np.testing.assert_array_equal(classify(image, own), found)


@torch.inference_mode()
def test_heads_of_several_photos_at_once_are_those_of_each(features: SharedFeatures) -> None:
    """As a GPU runs them; there rounding may differ, and the bound is this one."""
    images = [PHOTOS[0], PHOTOS[2], PHOTOS[4]]
    regions = SharedRegions(features)
    looks = [regions.begin(image)[0] for image in images]
    boxes = [Grid()(image).boxes[:count] for image, count in zip(images, (7, 0, 3), strict=True)]
    for found, look, own in zip(regions._group(looks, boxes), looks, boxes, strict=True):
        np.testing.assert_allclose(found, regions._group([look], [own])[0], atol=1e-5)
    predict = features.multibox()._predict
    canvases = np.stack([look.canvas for look in looks])
    for together, canvas in zip(predict._boxes(canvases), canvases, strict=True):  # type: ignore[attr-defined]
        (alone,) = predict(canvas[None])
        np.testing.assert_allclose(together.boxes, alone.boxes, atol=1e-2)
        np.testing.assert_allclose(together.scores, alone.scores, atol=1e-4)


class Hungry:
    """An engine on a GPU that has room for three crops."""

    name, dtype, reason, device = "hungry", "float32", "", torch.device("cpu")

    def __init__(self, batch_size: int) -> None:
        self.batch_size, self.ran = batch_size, list[int]()

    def __call__(self, batch: Tensor) -> Tensor:
        if len(batch) > 3:
            raise torch.cuda.OutOfMemoryError("too much")
        self.ran.append(len(batch))
        return batch[:, 0, 0, :1]


def rows(part: slice) -> Tensor:
    return torch.arange(part.start, part.stop, dtype=torch.float32).reshape(-1, 1, 1, 1)


def test_batches_are_halved_when_memory_ends_also_while_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    engine: Any = Hungry(16)
    assert in_batches(engine, 20, rows)[:, 0].tolist() == list(range(20))
    assert (engine.batch_size, engine.ran) == (2, [2] * 10)
    cut: Any = Hungry(16)

    def make_few(part: slice) -> Tensor:
        if part.stop - part.start > 5:
            raise torch.cuda.OutOfMemoryError("too much to cut")
        return rows(part)

    assert in_batches(cut, 7, make_few)[:, 0].tolist() == list(range(7))

    def make_none(part: slice) -> Tensor:
        raise torch.cuda.OutOfMemoryError("nothing left")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        in_batches(Hungry(4), 3, make_none)  # type: ignore[arg-type]


def test_one_input_is_tried_once_more_when_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TorchEngine(Probabilities(make().network()), TORCH, batch_size=1)
    forward, failed = engine._forward, list[int]()

    def sometimes(batch: Tensor) -> Tensor:
        if not failed:
            failed.append(len(batch))
            raise torch.cuda.OutOfMemoryError("for now")
        return forward(batch)

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(engine, "_forward", sometimes)
    assert engine(torch.zeros(1, 3, SMALL.size, SMALL.size)).shape == (1, 4)
    assert failed == [1]


def test_an_image_of_any_kind_goes_through(classify: GoogLeNetRegions) -> None:
    detector = Detector(Grid(), classify, max_boxes=3)
    empty: list[Image] = []
    assert list(detector.many(empty, together=4)) == []
    with pytest.raises(ValueError, match="`together` must be a whole number of at least 1, got 0"):
        detector.many(PHOTOS, together=0)
