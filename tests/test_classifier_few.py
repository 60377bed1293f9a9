"""Columns for new classes: what they are made of, weights that get or lose them, learning them from examples."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from classifier.few_examples import Examples, learn_columns, log_sum_exp
from classifier.placement import place
from classifier.region_columns import PART_INPUTS, Columns, part_means, with_columns, without_columns
from classifier.shared_regions import LAST_MAP, RegionMaps
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.fitting import WeightsError
from detect.networks.shared import from_checkpoint
from detect.networks.shared_features import SharedFeatures, SharedRegions
from structures.boxes import Floats
from structures.errors import InputError
from tests.networks import make_shared, photo, quarter_canvases, some_boxes

TORCH = place(device="cpu", engine="torch", dtype="float32")
OLD = ("cat", "cup")
ONCE = np.ones(160, np.float32)


@pytest.fixture(scope="module", autouse=True)
def small_canvases() -> Iterator[None]:
    with quarter_canvases():
        yield


@pytest.fixture(scope="module")
def weights() -> Checkpoint:
    made = make_shared(OLD)
    layer = {"photos.weight": torch.ones(2, LAST_MAP), "photos.bias": torch.ones(2)}
    return replace(made, state={**made.state, **layer})


@pytest.fixture(scope="module")
def new() -> Columns:
    made = torch.Generator().manual_seed(0)
    weight = torch.randn(2, PART_INPUTS, generator=made) * 0.02
    return Columns(("zebra", "kite"), weight, torch.tensor([0.5, -0.25]))


def maps_and_boxes(features: SharedFeatures) -> tuple[RegionMaps, torch.Tensor]:
    """Return the maps of a photo, and a few boxes on its canvas."""
    look = SharedRegions(features).begin(photo())[0]
    with torch.inference_mode():
        return features([look.canvas]).regions, torch.from_numpy(look.placed(some_boxes(6)))


def rows_of(weights: Checkpoint, *, last_map: bool = False) -> torch.Tensor:
    """Return the logits that the region head gives for a few boxes of a photo."""
    features = SharedFeatures(weights, TORCH, last_map=last_map)
    maps, boxes = maps_and_boxes(features)
    with torch.inference_mode():
        found: torch.Tensor = features.head(maps, [boxes])
    return found


def test_a_head_that_keeps_5b_gives_the_same_logits(weights: Checkpoint) -> None:
    torch.testing.assert_close(rows_of(weights, last_map=True), rows_of(weights))


def test_the_network_computes_a_column_as_it_was_learned(weights: Checkpoint, new: Columns) -> None:
    maps, boxes = maps_and_boxes(SharedFeatures(weights, TORCH, last_map=True))
    found = rows_of(with_columns(weights, new))
    torch.testing.assert_close(found[:, 2:4], new.logits(maps.parts[0], boxes))
    learned_from = part_means(maps.parts[0], boxes)
    assert learned_from.shape == (6, PART_INPUTS)
    torch.testing.assert_close(found[:, 2:4], learned_from @ new.weight.T + new.bias)


def test_the_logits_of_old_classes_and_background_stay(weights: Checkpoint, new: Columns) -> None:
    before, after = rows_of(weights), rows_of(with_columns(weights, new))
    torch.testing.assert_close(after[:, [0, 1, 4]], before)
    assert with_columns(weights, new).classes == (*OLD, "zebra", "kite")


def test_without_the_old_classes_the_background_is_a_logit_of_0(weights: Checkpoint, new: Columns) -> None:
    alone = with_columns(weights, new, keep=False)
    assert alone.classes == ("zebra", "kite")
    found = rows_of(alone)
    torch.testing.assert_close(found[:, 2], torch.zeros(6))
    torch.testing.assert_close(found[:, :2], rows_of(with_columns(weights, new))[:, 2:4])


def test_columns_that_are_taken_away_leave_the_weights_as_they_were(weights: Checkpoint, new: Columns) -> None:
    again = without_columns(with_columns(weights, new), ["kite", "zebra"])
    assert again.classes == OLD
    assert again.state.keys() == {name for name in weights.state if not name.startswith("photos.")}
    assert all(torch.equal(value, weights.state[name]) for name, value in again.state.items())
    assert torch.equal(rows_of(without_columns(weights, ["cat"]))[:, 0], rows_of(weights)[:, 1])


def test_columns_of_roots_can_be_trained_further(weights: Checkpoint, new: Columns) -> None:
    """A root has no slope at 0, and most of inception5b is 0."""
    head = from_checkpoint(with_columns(weights, new)).regions
    five_b = torch.zeros(1, LAST_MAP, 2, 2, requires_grad=True)
    head.part_logits(five_b).sum().backward()
    assert five_b.grad is not None
    assert bool(five_b.grad.isfinite().all())
    assert bool(five_b.grad.any())


def test_weights_without_columns_of_regions_are_refused(weights: Checkpoint, new: Columns) -> None:
    with pytest.raises(WeightsError, match="these weights are for regions"):
        with_columns(replace(weights, task="regions"), new)
    with pytest.raises(WeightsError, match="no class 'dog'"):
        without_columns(weights, ["dog"])


def drawn(seed: int = 0, rest: float = 0.0) -> Examples:
    """Two classes along two axes, and twice as many regions of neither in between."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1, -1, -1], 40)
    middles = np.array([[3, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 0]])[labels]
    inputs = (middles + rng.normal(size=(160, 4)) * 0.3).astype(np.float32)
    return Examples(inputs, np.full(160, rest, np.float32), labels, (labels >= 0).astype(np.float32), ONCE, objects=80)


def logits_of(columns: Columns, inputs: Floats) -> torch.Tensor:
    return torch.from_numpy(inputs) @ columns.weight.T + columns.bias


def test_separable_classes_are_told_apart() -> None:
    columns = learn_columns(drawn(), ["a", "b"])
    others = drawn(seed=1)
    logits = torch.cat([logits_of(columns, others.inputs.astype(np.float32)), torch.zeros(160, 1)], dim=1)
    assert np.array_equal(logits.argmax(dim=1).numpy(), np.where(others.labels < 0, 2, others.labels))


def test_new_logits_rise_with_those_of_the_old_classes() -> None:
    low, high = (learn_columns(drawn(rest=rest), ["a", "b"]) for rest in (0.0, 5.0))
    torch.testing.assert_close(high.bias, low.bias + 5, atol=0.3, rtol=0)
    torch.testing.assert_close(high.weight, low.weight, atol=0.2, rtol=0.1)


def test_a_region_that_an_old_class_holds_for_sure_is_no_reason_to_change() -> None:
    """What an old class claims is far from being taken for a new one: its gradient is nothing."""
    inputs = drawn().inputs
    claimed = replace(drawn(), rest=np.where(drawn().labels < 0, 40, 0).astype(np.float32))
    columns = learn_columns(claimed, ["a", "b"])
    background = inputs[drawn().labels < 0].astype(np.float32)
    assert logits_of(columns, background).max() > logits_of(learn_columns(drawn(), ["a", "b"]), background).max()


def test_more_objects_are_trusted_more() -> None:
    """With one object the weights stay smaller than with many that show the same."""
    few, many = (learn_columns(replace(drawn(), objects=objects), ["a", "b"]) for objects in (2, 80))
    assert few.weight.norm() < many.weight.norm()


def test_a_class_is_taught_alike_however_many_are() -> None:
    """The weight of its examples is its own, not a share of what all classes have."""
    both_drawn = drawn()
    both = learn_columns(both_drawn, ["a", "b"])
    rows = both_drawn.labels != 1
    columns = (getattr(both_drawn, name)[rows] for name in ("inputs", "rest", "labels", "shares", "weights"))
    alone = learn_columns(Examples(*columns, objects=40), ["a"])
    assert alone.weight[0, 0] == pytest.approx(float(both.weight[0, 0]), rel=0.1)


def test_a_class_without_examples_is_named() -> None:
    with pytest.raises(InputError, match="no example of c"):
        learn_columns(drawn(), ["a", "b", "c"])


def test_log_sum_exp_by_hand() -> None:
    assert log_sum_exp(np.log(np.array([[1, 2, 5]], np.float32))).tolist() == pytest.approx([np.log(8)])
