"""RegionClassifier: photo and boxes in, probabilities out; batches, twins, mirrored crops and ensembles."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from classifier.crops import RegionCrops, normalise
from classifier.engines import Engine
from classifier.placement import place
from classifier.protocol import feature_count
from classifier.regions import Ensemble, GoogLeNetRegions
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.fitting import WeightsError
from classifier.weights.preprocessing import TORCHVISION
from structures.boxes import mirror
from tests.networks import CLASSES, SMALL, make, photo, some_boxes

PLAIN = place(device="cpu", engine="torch", dtype="float32")


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return make()


@pytest.fixture(scope="module")
def classify(checkpoint: Checkpoint) -> GoogLeNetRegions:
    return GoogLeNetRegions(checkpoint, PLAIN, batch_size=4)


def test_probabilities_are_those_of_the_network_on_the_crops(
    checkpoint: Checkpoint, classify: GoogLeNetRegions
) -> None:
    boxes = some_boxes(6)
    crops = RegionCrops(normalise(photo(), SMALL), size=64, context=5)(torch.from_numpy(boxes))
    with torch.no_grad():
        expected = checkpoint.network()(crops).softmax(dim=1).numpy()
    found = classify(photo(), boxes)
    assert found.shape == (6, 4)
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-5)
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5)
    assert np.ptp(found, axis=0).max() > 0.05  # the regions differ


def test_features_follow_the_probabilities(checkpoint: Checkpoint, classify: GoogLeNetRegions) -> None:
    boxes, both = some_boxes(5), GoogLeNetRegions(checkpoint, PLAIN, batch_size=4, with_features=True)
    found = both(photo(), boxes)
    assert (feature_count(both), feature_count(classify), found.shape) == (1024, 0, (5, 4 + 1024))
    np.testing.assert_allclose(found[:, :4], classify(photo(), boxes), atol=1e-6)
    logits = found[:, 4:] @ checkpoint.state["fc.weight"].numpy().T + checkpoint.state["fc.bias"].numpy()
    again = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found[:, :4], again, atol=1e-4)  # they are what the last layer sees
    assert both(photo(), some_boxes(0)).shape == (0, 4 + 1024)


def test_an_ensemble_has_no_features(checkpoint: Checkpoint, classify: GoogLeNetRegions) -> None:
    with pytest.raises(ValueError, match="features are kept of one network: name one `weights`"):
        Ensemble([classify, GoogLeNetRegions(checkpoint, PLAIN, with_features=True)])


def test_convention_background_is_the_last_column(checkpoint: Checkpoint) -> None:
    bias = torch.tensor([0.0, 0.0, 0.0, 500.0])
    nothing = replace(checkpoint, state={**checkpoint.state, "fc.bias": bias})
    found = GoogLeNetRegions(nothing, PLAIN)(photo(), some_boxes(3))
    assert np.allclose(found, [[0, 0, 0, 1]] * 3, atol=1e-5)


def test_no_boxes_give_no_rows(classify: GoogLeNetRegions) -> None:
    found = classify(photo(), np.zeros((0, 4), np.float32))
    assert found.shape == (0, 4)
    assert found.dtype == np.float32


def test_a_box_gets_the_same_row_alone_and_in_any_company(checkpoint: Checkpoint, classify: GoogLeNetRegions) -> None:
    boxes = some_boxes(9)
    together = classify(photo(), boxes)
    for row in range(0, 9, 4):
        assert np.allclose(classify(photo(), boxes[row : row + 1]), together[row], atol=1e-5)
    assert np.allclose(classify(photo(), boxes[::-1]), together[::-1], atol=1e-5)
    assert np.allclose(GoogLeNetRegions(checkpoint, PLAIN, batch_size=7)(photo(), boxes), together, atol=1e-5)


class Counting:
    """An engine that counts its inputs."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.device, self.batch_size, self.seen = engine, engine.device, engine.batch_size, list[int]()

    def __call__(self, batch: Tensor) -> Tensor:
        self.seen.append(len(batch))
        return self.engine(batch)


def test_equal_boxes_are_computed_once(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    classify = GoogLeNetRegions(checkpoint, PLAIN, batch_size=4)
    counting = Counting(classify.engine)
    monkeypatch.setattr(GoogLeNetRegions, "engine", counting)
    distinct = some_boxes(5)
    rows = np.array([3, 3, 0, 1, 4, 2, 0, 3])
    found = classify(photo(), distinct[rows])
    assert counting.seen == [4, 1]
    assert np.allclose(found, classify(photo(), distinct)[rows], atol=1e-5)


def test_mirrored_crops_are_averaged_in(checkpoint: Checkpoint, classify: GoogLeNetRegions) -> None:
    both = GoogLeNetRegions(checkpoint, PLAIN, mirrored=True, batch_size=2)
    image, boxes = photo(), some_boxes(3)
    turned, turned_boxes = np.ascontiguousarray(image[:, ::-1]), mirror(boxes, (60, 80))
    mean = (classify(image, boxes) + classify(turned, turned_boxes)) / 2
    assert np.allclose(both(image, boxes), mean, atol=2e-4)
    assert np.abs(mean - classify(image, boxes)).max() > 1e-3
    assert np.allclose(both(turned, turned_boxes), both(image, boxes), atol=2e-4)


@pytest.mark.parametrize("kind", [list, np.float64, np.int64, "strided"])
def test_boxes_of_other_kinds(classify: GoogLeNetRegions, kind: object) -> None:
    boxes = some_boxes(3)
    padded = np.concatenate([boxes, boxes], axis=1)[:, :4]
    others = {list: boxes.tolist(), np.float64: boxes.astype(float), np.int64: boxes.astype(int), "strided": padded}
    assert np.array_equal(classify(photo(), others[kind]), classify(photo(), boxes))  # type: ignore[index]


def test_malformed_boxes_are_refused(classify: GoogLeNetRegions) -> None:
    with pytest.raises(ValueError, match="boxes hold values that are not finite"):
        classify(photo(), np.array([[0, 0, np.nan, 5]], np.float32))
    with pytest.raises(ValueError, match=r"shape \(N, 4\), got \(1, 5\)"):
        classify(photo(), np.zeros((1, 5), np.float32))


def test_inputs_are_left_as_they_were(classify: GoogLeNetRegions) -> None:
    image, boxes = photo(), some_boxes(4)
    before = image.copy(), boxes.copy()
    image.flags.writeable = boxes.flags.writeable = False
    classify(image, boxes)
    assert np.array_equal(image, before[0])
    assert np.array_equal(boxes, before[1])


def test_boxes_outside_the_photo_and_without_area_get_sound_rows(classify: GoogLeNetRegions) -> None:
    boxes = np.array([[500, 500, 600, 600], [10, 10, 10, 10], [-3000, -2000, 4000, 3000]], np.float32)
    found = classify(photo(), boxes)
    assert np.isfinite(found).all()
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5)


def test_answers_that_are_not_finite_are_an_error(checkpoint: Checkpoint) -> None:
    state = {**checkpoint.state, "conv1.conv.bias": torch.full((64,), float("nan"))}
    with pytest.raises(ValueError, match='not finite in float32; try `dtype="float32"`'):
        GoogLeNetRegions(replace(checkpoint, state=state), PLAIN)(photo(), some_boxes(1))


@pytest.mark.parametrize("task", ["images", "multibox"])
def test_weights_of_other_tasks_are_refused(checkpoint: Checkpoint, task: str) -> None:
    with pytest.raises(WeightsError, match=f"for {task}, a region classifier is needed"):
        GoogLeNetRegions(replace(checkpoint, task=task), PLAIN)  # type: ignore[arg-type]


def test_bfloat16_stays_near_and_its_rows_sum_to_one(checkpoint: Checkpoint, classify: GoogLeNetRegions) -> None:
    rough = GoogLeNetRegions(checkpoint, place(device="cpu", engine="torch", dtype="bfloat16"))
    found = rough(photo(), some_boxes(4))
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5)
    assert np.abs(found - classify(photo(), some_boxes(4))).max() < 0.1


def test_an_ensemble_averages_and_honours_each_preprocessing(classify: GoogLeNetRegions) -> None:
    other = GoogLeNetRegions(make("batchnorm", replace(TORCHVISION, size=48, context=0), seed=1), PLAIN)
    alone = [member(photo(), some_boxes(4)) for member in (classify, other)]
    ensemble = Ensemble([classify, other])
    found = ensemble(photo(), some_boxes(4))
    assert ensemble.classes == CLASSES
    assert found.dtype == np.float32
    assert np.allclose(found, (alone[0] + alone[1]) / 2, atol=1e-6)
    assert np.abs(alone[0] - alone[1]).max() > 1e-3
    assert ensemble(photo(), np.zeros((0, 4), np.float32)).shape == (0, 4)
    assert np.allclose(Ensemble([classify])(photo(), some_boxes(4)), alone[0], atol=1e-6)


def test_ensembles_that_make_no_sense(checkpoint: Checkpoint, classify: GoogLeNetRegions) -> None:
    with pytest.raises(ValueError, match="at least one classifier"):
        Ensemble([])
    turned = GoogLeNetRegions(replace(checkpoint, classes=CLASSES[::-1]), PLAIN)
    with pytest.raises(ValueError, match="the same classes in all of them"):
        Ensemble([classify, turned])
