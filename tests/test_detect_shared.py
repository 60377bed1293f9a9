"""One pass per photo: how often the network runs, what proposals and classes come to, odd photos, odd weights."""

import concurrent.futures
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from classifier.cascade import Cascade
from classifier.placement import place
from classifier.regions import Ensemble, GoogLeNetRegions
from classifier.weights.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from classifier.weights.fitting import WeightsError
from classifier.weights.preprocessing import TORCHVISION
from detect import generators
from detect.classifiers import Features, choose_weights, load_classifier, load_to_train_crops, shared_features
from detect.detector import Detector
from detect.generators import load_proposals
from detect.networks.canvas_runner import CanvasRunner
from detect.networks.shared import from_checkpoint
from detect.networks.shared_features import SharedFeatures, SharedRegions
from proposals.multibox.memory import CanvasMemory
from proposals.multibox.views import whole_photo
from structures.boxes import as_boxes, mirror, whole_image
from structures.errors import InputError
from structures.records import Image
from structures.shared_lock import MODULES
from tests.boxes import keeps_protocol
from tests.networks import make, make_shared

TORCH = place(device="cpu", engine="torch", dtype="float32")
CLASSES = ("cat", "dog")


@pytest.fixture(scope="module")
def weights() -> Checkpoint:
    return make_shared(CLASSES)


@pytest.fixture
def features(weights: Checkpoint) -> SharedFeatures:
    return SharedFeatures(weights, TORCH)


@pytest.fixture
def runs(features: SharedFeatures, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Note the shape of what the network is run on."""
    found: list[tuple[int, ...]] = []
    run = features.memory._run

    def noted(pixels: torch.Tensor) -> torch.Tensor:
        found.append(tuple(pixels.shape))
        return run(pixels)

    monkeypatch.setattr(features.memory, "_run", noted)
    return found


def noise(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_proposals_and_classes_come_of_one_run(features: SharedFeatures, runs: list[tuple[int, ...]]) -> None:
    photo = noise(90, 120)
    detector = Detector(features.multibox(), SharedRegions(features), score_floor=0.0)
    found = detector(photo)
    assert len(found) > 0
    assert runs == [(1, 3, 384, 512)]
    detector(photo)
    assert len(runs) == 1
    detector(noise(90, 120, seed=1))
    assert len(runs) == 2


def test_proposals_and_classes_are_seen_against_the_networks_own_mean(weights: Checkpoint) -> None:
    features = SharedFeatures(replace(weights, preprocessing=TORCHVISION), TORCH)
    photo = noise(60, 120)  # leaves a part of its canvas free
    looks = [features.multibox().begin(photo), SharedRegions(features).begin(photo)]
    canvases = {look.canvas.tobytes() for found in looks for look in found}
    assert len(canvases) == 1  # so that the network runs once
    assert looks[1][0].canvas[-1, -1].tolist() == [*TORCHVISION.mean_colour]


def test_only_the_last_maps_are_kept(weights: Checkpoint) -> None:
    runs, canvases = [], [np.full((64, 64, 3), level, np.uint8) for level in range(4)]

    def run(pixels: torch.Tensor) -> torch.Tensor:
        runs.append(len(pixels))
        return pixels[:, 0]

    memory = CanvasMemory(run, most_bytes=3 * 64 * 64 * 4)
    for canvas in [*canvases, canvases[0], canvases[0], canvases[3]]:
        (found,) = memory([canvas])
        assert (found == int(canvas[0, 0, 0])).all()
    assert len(runs) == 4 + 1  # the first was forgotten by then
    assert [int(row[0, 0]) for row in memory([canvases[n] for n in (1, 2, 1, 3)])] == [1, 2, 1, 3]
    assert runs[5:] == [1]  # of equal canvases one is run; 2 and 3 were known


def test_the_order_of_other_proposals_comes_of_the_same_run(
    features: SharedFeatures, runs: list[tuple[int, ...]]
) -> None:
    propose = load_proposals("ranked:grid+multibox", shared=features)
    found = Detector(propose, SharedRegions(features))(noise(90, 120))
    assert len(runs) == 1
    assert set(found.source_names) == {"grid", "multibox"}


def test_its_multibox_keeps_the_protocol(features: SharedFeatures) -> None:
    keeps_protocol(features.multibox()(noise(70, 90)), (70, 90))


def test_probabilities_of_regions(features: SharedFeatures) -> None:
    photo, classify = noise(90, 120), SharedRegions(features)
    boxes = as_boxes([[5, 5, 60, 70], [0, 0, 120, 90], [7, 7, 8, 8], [5, 5, 60, 70]])
    rows = classify(photo, boxes)
    assert rows.shape == (4, 3)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(rows[0], rows[3])
    np.testing.assert_allclose(classify(photo, boxes[1:2])[0], rows[1], atol=1e-5)
    assert classify(photo, as_boxes([])).shape == (0, 3)
    with pytest.raises(ValueError, match="not finite"):
        classify(photo, as_boxes([[0, 0, np.nan, 5]]))


def test_features_are_the_last_hidden_layer(features: SharedFeatures) -> None:
    boxes, plain = as_boxes([[3, 4, 60, 70], [10, 20, 100, 80]]), SharedRegions(features)
    both = SharedRegions(features, with_features=True)
    found = both(noise(90, 120), boxes)
    width = features.head.predict.in_features
    assert (both.feature_count, found.shape) == (width, (2, 3 + width))
    np.testing.assert_array_equal(found[:, :3], plain(noise(90, 120), boxes))
    assert found[:, 3:].min() == 0  # of a rectifier
    assert found[:, 3:].max() > 0
    assert both(noise(90, 120), boxes[:0]).shape == (0, 3 + width)


def test_mirrored_looks_are_those_of_the_mirrored_photo(features: SharedFeatures) -> None:
    """So the mean of both looks does not care which way round the photo is."""
    photo, boxes = noise(96, 128), as_boxes([[5, 5, 60, 70], [30, 20, 128, 96]])  # fills its canvas
    classify = SharedRegions(features, mirrored=True)
    flipped = np.ascontiguousarray(photo[:, ::-1])
    np.testing.assert_allclose(classify(flipped, mirror(boxes, (96, 128))), classify(photo, boxes), atol=0.02)


def test_heads_wait_while_a_network_is_traced(features: SharedFeatures) -> None:
    """Tracing changes torch for the whole process: a module that runs meanwhile would be taken for a part of it."""
    photo, propose, classify = noise(60, 80), features.multibox(), SharedRegions(features)
    boxes = whole_image((60, 80))
    classify(photo, boxes)  # so that the network has run
    works: list[Callable[[], Any]] = [lambda: propose(photo), lambda: propose.score(photo, boxes)]
    for work in [*works, lambda: classify(photo, boxes)]:
        with ThreadPoolExecutor(1) as pool:
            with MODULES.exclusive():
                done = pool.submit(work)
                with pytest.raises(concurrent.futures.TimeoutError):  # until Python 3.11 not the built-in one
                    done.result(timeout=0.1)
            assert len(done.result(timeout=20)) > 0


def test_the_engine_of_a_photo_is_begun_before_regions_are_proposed(
    weights: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, events = SharedFeatures(weights, place(device="cpu", engine="torch")), list[Any]()
    expect = shared.run.expect
    monkeypatch.setattr(shared.run, "expect", lambda size: events.append(size) or expect(size))  # type: ignore[func-returns-value]

    def propose(image: Image) -> Any:
        events.append("propose")
        return load_proposals("grid")(image)

    propose.name, propose.parameters = "grid", {}  # type: ignore[attr-defined]
    (found,) = Detector(propose, SharedRegions(shared)).many([noise(100, 120)])  # type: ignore[arg-type]
    assert found.image_size == (100, 120)
    assert events[:2] == [(384, 512), "propose"]


def test_the_engine_of_the_first_photo_is_begun_before_its_generator_is_loaded(
    rcnn: Callable[..., int], weights: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(weights, tmp_path / "net.safetensors")
    events, expect, load = list[Any](), CanvasRunner.expect, generators.load_proposals
    monkeypatch.setattr(CanvasRunner, "expect", lambda self, size: events.append(size) or expect(self, size))  # type: ignore[func-returns-value]
    monkeypatch.setattr(
        generators, "load_proposals", lambda name, *place, **more: events.append(name) or load(name, *place, **more)
    )
    PIL.Image.fromarray(noise(120, 100)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no photo")
    options = ("--weights", tmp_path / "net.safetensors", "--proposals", "grid", "--engine", "torch", "--device", "cpu")
    assert rcnn("detect", tmp_path / "a.png", "--out", tmp_path / "a", *options, "--max-boxes", 2) == 0
    assert events[:2] == [(512, 384), "grid"]
    del events[:]
    assert rcnn("detect", tmp_path / "b.png", "--out", tmp_path / "b", *options) == 2
    assert events == ["grid"]


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (500, 2), (6000, 8000)])
def test_photos_of_any_size(features: SharedFeatures, size: tuple[int, int]) -> None:
    photo = np.zeros((*size, 3), np.uint8)
    rows = SharedRegions(features)(photo, whole_image(size))
    assert np.isfinite(rows).all()
    assert features.multibox()(photo).image_size == size


def test_what_an_engine_gives_comes_apart_again(weights: Checkpoint) -> None:
    network = from_checkpoint(weights)
    pixels = torch.rand(2, 3, 64, 128) * 255
    with torch.no_grad():
        joined, maps = network.split(network(pixels), (64, 128))
        trunk = network.maps_from(network.stem(pixels, "inception4e"), "inception4e")
        expected = network.head.joined(trunk.for_multibox(network.offset)), *network.regions.maps(*trunk)
    for found, wanted in zip((joined, *maps), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_weights_there_and_back(weights: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(weights, tmp_path / "w.safetensors", dtype=torch.float32)
    again = read_checkpoint(tmp_path / "w.safetensors")
    assert (again.task, again.classes) == ("shared", CLASSES)
    photo, boxes = noise(60, 80), whole_image((60, 80))
    before, now = (SharedRegions(SharedFeatures(each, TORCH))(photo, boxes) for each in (weights, again))
    np.testing.assert_array_equal(before, now)


def test_weights_are_loaded_by_what_they_are(weights: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_checkpoint(weights, path)
    classify = load_classifier(path, TORCH)
    assert isinstance(classify, SharedRegions)
    assert shared_features(classify) is classify.features
    with pytest.raises(WeightsError, match="weights for regions are needed"):
        load_classifier(path, features="crops")
    with pytest.raises(WeightsError, match="weights for shared are needed"):
        load_classifier("default", features="shared")


def test_an_ensemble_of_both_kinds_shares_the_features(weights: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_checkpoint(weights, path)
    classify = load_classifier([path, path], TORCH)
    assert shared_features(classify) is not None


def test_both_features_want_weights_of_each_kind(tmp_path: Path) -> None:
    shared, crops = tmp_path / "shared.safetensors", tmp_path / "crops.safetensors"
    save_checkpoint(make_shared(make().classes), shared)
    save_checkpoint(make(), crops)
    for names, features in (([shared, crops], "both"), ([crops, shared], "both"), ([crops, shared], "auto")):
        classify = load_classifier(names, TORCH, features=features, exact=3)
        assert isinstance(classify, Cascade)
        assert isinstance(classify.quick, SharedRegions)
        assert (classify.count, classify.parameters["exact"]) == (3, 3)
        assert shared_features(classify) is classify.quick.features
    for names in ([shared, shared], [shared], [crops], [shared, crops, crops]):
        with pytest.raises(WeightsError, match="both features need one for shared features and one for crops, or"):
            load_classifier(names, TORCH, features="both")
    first, *others = make().classes
    save_checkpoint(make_shared(tuple(others)), shared)
    with pytest.raises(WeightsError, match=f"those for crops know '{first}', which those for shared features do not"):
        load_classifier([shared, crops], TORCH)


def test_one_trunk_can_do_both(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_checkpoint(make_shared(CLASSES, crops=True), path)
    for features in ("auto", "both"):
        classify = load_classifier(path, TORCH, features=features)  # type: ignore[arg-type]
        assert isinstance(classify, Cascade)
        assert isinstance(classify.quick, SharedRegions)
        assert isinstance(classify.exact, GoogLeNetRegions)
    boxes, alone = as_boxes([[5, 5, 60, 70]]), load_classifier(path, TORCH, features="crops")
    assert isinstance(alone, GoogLeNetRegions)
    np.testing.assert_array_equal(alone(noise(90, 120), boxes), classify.exact(noise(90, 120), boxes))
    assert isinstance(load_classifier(path, TORCH, features="shared"), SharedRegions)
    assert isinstance(load_classifier([path, path], TORCH), Ensemble)
    assert (classify.count, load_classifier(path, TORCH, exact=5).parameters["exact"]) == (16, 5)


@pytest.mark.parametrize(("features", "how_many"), [("shared", 1), ("crops", 1), ("auto", 2)])
def test_a_number_of_crops_is_refused_where_it_has_no_effect(tmp_path: Path, features: Features, how_many: int) -> None:
    path = tmp_path / "w.safetensors"
    save_checkpoint(make_shared(CLASSES, crops=True), path)
    with pytest.raises(InputError, match="`exact` has no effect without both kinds of features"):
        load_classifier([path] * how_many, TORCH, features=features, exact=5)


def test_a_training_on_crops_can_start_from_the_trunk_of_both(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.safetensors" for name in ("both", "shared", "crops")}
    save_checkpoint(make_shared(CLASSES, crops=True), files["both"])
    save_checkpoint(make_shared(CLASSES), files["shared"])
    save_checkpoint(make(), files["crops"])
    tasks = {name: load_to_train_crops(file).task for name, file in files.items()}
    assert tasks == {"both": "regions", "shared": "shared", "crops": "regions"}
    assert load_to_train_crops(files["both"]).classes == CLASSES


@pytest.mark.parametrize("name", ["crops.weight", "regions.hidden1.bias"])
def test_weights_whose_parts_do_not_fit_are_named(name: str, tmp_path: Path) -> None:
    shared, crops = tmp_path / "net.safetensors", tmp_path / "crops.safetensors"
    made = make_shared(make().classes, crops=True)
    save_checkpoint(replace(made, state={**made.state, name: torch.zeros(7)}), shared)
    save_checkpoint(make(), crops)
    said = r"^`weights` \S*net\.safetensors.*" + re.escape(name.rpartition(".")[0])
    for weights, features in ((shared, "auto"), (shared, "shared"), (shared, "both"), ([shared, crops], "both")):
        with pytest.raises(WeightsError, match=said):
            load_classifier(weights, TORCH, features=features)  # type: ignore[arg-type]
    if name == "crops.weight":
        with pytest.raises(WeightsError, match=r"^`weights` \S*net\.safetensors: crops\.weight"):
            load_classifier(shared, TORCH, features="crops")


def test_what_is_taken_where_no_weights_are_named() -> None:
    assert choose_weights(None, "auto") == choose_weights([], "both") == (("shared", "default"), "both")
    assert choose_weights(None, "crops") == (("default",), "crops")
    assert choose_weights("mine.safetensors", "auto") == (("mine.safetensors",), "auto")


def test_weights_of_other_tasks_are_refused(weights: Checkpoint) -> None:
    with pytest.raises(WeightsError, match="shared features are needed"):
        from_checkpoint(replace(weights, task="multibox"))
    broken = {name: value for name, value in weights.state.items() if name != "regions.hidden1.bias"}
    with pytest.raises(WeightsError, match=r"missing.*regions\.hidden1\.bias"):
        from_checkpoint(replace(weights, state=broken))


def test_openvino_gives_what_torch_gives(weights: Checkpoint) -> None:
    pytest.importorskip("openvino")
    photo, boxes = noise(90, 120), as_boxes([[5, 5, 60, 70], [0, 0, 120, 90]])
    there = SharedFeatures(weights, place(device="cpu", engine="openvino", dtype="float32"))
    here = SharedFeatures(weights, TORCH)
    canvas = whole_photo((90, 120)).draw(photo)
    torch.testing.assert_close(there([canvas]).joined, here([canvas]).joined, atol=1e-3, rtol=1e-3)
    np.testing.assert_allclose(SharedRegions(there)(photo, boxes), SharedRegions(here)(photo, boxes), atol=1e-3)
