"""Regions of what shared weights know, in their file: there and back, beside new columns, what they teach."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from classifier.few_examples import Examples, learn_columns
from classifier.known_objects import KNOWN_WEIGHT, KnownObjects, known_objects, with_known_objects
from classifier.placement import place
from classifier.region_columns import PART_INPUTS, Columns, with_columns, without_columns
from classifier.weights.checkpoint import KNOWN_OBJECTS, Checkpoint, read_checkpoint, save_checkpoint
from classifier.weights.eight_bits import STORED, narrowed, widened
from classifier.weights.fitting import WeightsError
from detect.networks.multibox import weights_facts
from detect.training import known_objects as finding
from detect.training.few import FewResult, with_new_classes
from detect.training.few_recipe import FewRecipe
from detect.training.known_objects import find_known_objects, known_examples
from eval.selection import Selection
from eval.voc import VocDataset
from tests.networks import make_shared, quarter_canvases
from tests.shapes import write_voc

TORCH = place(device="cpu", engine="torch", dtype="float32")
A, S = "regions.hidden1.weight", "regions.hidden1.weight.scale"
KEEP, ONLY_NEW = FewRecipe(), FewRecipe(keep=False)


@pytest.fixture(scope="module", autouse=True)
def small_canvases() -> Iterator[None]:
    with quarter_canvases():
        yield


@pytest.fixture(scope="module")
def weights() -> Checkpoint:
    return make_shared(("disc", "square"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Selection:
    folder = tmp_path_factory.mktemp("voc")
    write_voc(folder, "train", range(3))
    return Selection(VocDataset(folder, "train"))


@pytest.fixture(scope="module")
def known(weights: Checkpoint, photos: Selection) -> KnownObjects:
    return find_known_objects(weights, photos, TORCH)


@pytest.fixture(scope="module")
def new() -> Columns:
    weight = torch.randn(2, PART_INPUTS, generator=torch.Generator().manual_seed(0)) * 0.02
    return Columns(("zebra", "kite"), weight, torch.tensor([0.5, -0.25]))


def taught(new: Columns, known: KnownObjects, shares: list[float]) -> FewResult:
    """A result of learning from three examples: two of the first new class, one of no class."""
    columns = (np.array([0, 0, -1]), np.array([*shares, 0], np.float32), np.ones(3, np.float32))
    examples = Examples(known.inputs[:3], known.rest[:3], *columns, objects=2)
    return FewResult(new, seen=[], examples=[examples], known=[])


@pytest.mark.parametrize("seed", range(3))
def test_eight_bits_are_off_by_half_a_step_of_the_row_at_most(seed: int) -> None:
    value = torch.randn(5, 40, generator=torch.Generator().manual_seed(seed)) * torch.logspace(-2, 2, 5)[:, None]
    stored = narrowed(A, value)
    assert {name: each.dtype for name, each in stored.items()} == {A: torch.int8, S: torch.float32}
    back = widened({**stored, "b": value})
    assert back["b"] is value
    assert back.keys() == {A, "b"}
    step = value.abs().amax(dim=1, keepdim=True) / 127
    assert bool(((back[A].float() - value).abs() <= 0.51 * step + 1e-3 * value.abs()).all())


def test_rows_of_nothing_stay_nothing() -> None:
    assert not widened(narrowed(A, torch.zeros(2, 3)))[A].any()
    assert widened(narrowed(A, torch.zeros(0, 3)))[A].shape == (0, 3)


def test_the_large_matrices_and_no_others_take_8_bits(weights: Checkpoint, known: KnownObjects, tmp_path: Path) -> None:
    save_checkpoint(with_known_objects(weights, known), tmp_path / "net.safetensors")
    with safe_open(tmp_path / "net.safetensors", framework="pt") as file:
        small = {name for name in file.keys() if file.get_tensor(name).dtype == torch.int8}
    assert small == {*STORED} == {A, KNOWN_OBJECTS + "inputs"}


def test_what_only_has_the_name_of_a_large_matrix_is_stored_as_it_is(weights: Checkpoint, tmp_path: Path) -> None:
    odd = {"regions.hidden1.weight": torch.ones(3), "objects.inputs": torch.ones(2, 2, dtype=torch.int64)}
    save_checkpoint(replace(weights, state=odd), tmp_path / "odd.safetensors")
    back = read_checkpoint(tmp_path / "odd.safetensors").state
    assert {name: each.tolist() for name, each in back.items()} == {name: each.tolist() for name, each in odd.items()}


def test_what_float16_cannot_hold_is_stored_as_it_is(weights: Checkpoint, tmp_path: Path) -> None:
    large = replace(weights, state={A: torch.full((2, 3), 70_000.0)})
    save_checkpoint(large, tmp_path / "large.safetensors")
    assert torch.equal(read_checkpoint(tmp_path / "large.safetensors").state[A], large.state[A])


@pytest.mark.parametrize(
    "change",
    [
        {A: torch.zeros(2, 3)},
        {A: None},
        {S: torch.ones(3)},
        {S: torch.ones(2, dtype=torch.uint16)},
        {S: torch.ones(2, dtype=torch.complex64)},
    ],
)
def test_eight_bits_without_fitting_scales_are_refused(
    weights: Checkpoint, tmp_path: Path, change: dict[str, torch.Tensor | None]
) -> None:
    stored = {name: v for name, v in {**narrowed(A, torch.ones(2, 3)), **change}.items() if v is not None}
    save_checkpoint(replace(weights, state=stored), tmp_path / "net.safetensors", dtype=None)
    with pytest.raises(WeightsError, match=r"net\.safetensors: regions\.hidden1\.weight and .* are not 8-bit rows"):
        read_checkpoint(tmp_path / "net.safetensors")


def test_weights_bring_what_they_know(weights: Checkpoint, known: KnownObjects, tmp_path: Path) -> None:
    assert sorted(known.labels.tolist()) == [0, 0, 0, 1, 1, 1]
    brings = with_known_objects(weights, known)
    save_checkpoint(brings, tmp_path / "small.safetensors")
    save_checkpoint(brings, tmp_path / "large.safetensors", dtype=torch.float32)
    for name, tolerance in (("small", 5e-3), ("large", 1e-3)):
        back = known_objects(read_checkpoint(tmp_path / f"{name}.safetensors"))
        assert back is not None
        assert back.labels.tolist() == known.labels.tolist()
        np.testing.assert_allclose(back.rest, known.rest, atol=5e-3)
        np.testing.assert_allclose(back.inputs, known.inputs, atol=tolerance * float(known.inputs.max()))
    assert known_objects(weights) is None


def test_of_each_class_only_some_are_looked_at(
    weights: Checkpoint, photos: Selection, known: KnownObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "OF_EACH_CLASS", 1)
    found = find_known_objects(weights, photos, TORCH)
    assert sorted(found.labels.tolist()) == [0, 1]
    rows = [known.labels.tolist().index(label) for label in found.labels.tolist()]
    np.testing.assert_array_equal(found.inputs, known.inputs[rows])


def test_photos_whose_objects_are_all_ignored(weights: Checkpoint, photos: Selection, tmp_path: Path) -> None:
    """A training does not end without weights because of them."""
    ignored = Selection(photos, ignored=["disc", "square"])
    save_checkpoint(
        with_known_objects(weights, find_known_objects(weights, ignored, TORCH)), tmp_path / "net.safetensors"
    )
    back = known_objects(read_checkpoint(tmp_path / "net.safetensors"))
    assert back is not None
    assert len(back) == len(back.as_examples()) == 0


def test_damaged_regions_are_named_by_the_command(
    weights: Checkpoint, tmp_path: Path, rcnn: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    odd = replace(weights, state={**weights.state, "objects.labels": torch.tensor(1)})
    save_checkpoint(odd, tmp_path / "odd.safetensors")
    assert rcnn("weights", "show", tmp_path / "odd.safetensors") == 2
    said = "odd.safetensors: the regions of known objects do not fit together"
    assert said in capsys.readouterr().err
    write_voc(tmp_path / "voc", "train", range(1))
    few = ("--preset", "few", "--voc", tmp_path / "voc", "--only-new", "--weights", tmp_path / "odd.safetensors")
    assert rcnn("train", "regions", *few, "--out", tmp_path / "mine.safetensors") == 2
    assert said in capsys.readouterr().err


def test_of_very_many_classes_each_brings_fewer(known: KnownObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "MOST", 4)
    labels = np.array([0, 0, 0, -1, 1, 1, 1])
    assert finding._evenly(labels, 2).tolist() == [0, 1, 4, 5]
    assert finding._evenly(labels, 3).tolist() == [0, 4]
    assert KnownObjects(known.inputs[:0], known.rest[:0], known.labels[:0]).as_examples().weights.tolist() == []
    rows = np.zeros(1_000, np.int64)
    assert known.take(rows).as_examples().weights[0] == pytest.approx(24.0)


def test_adding_objects_leaves_what_was_seen_of_photos_valid(weights: Checkpoint, known: KnownObjects) -> None:
    brings = with_known_objects(weights, known)
    assert weights_facts(brings) == weights_facts(weights)
    assert weights_facts(with_columns(weights, Columns(("a",), torch.ones(1, PART_INPUTS), torch.ones(1)))) != (
        weights_facts(weights)
    )


def test_the_rest_is_what_the_network_says(weights: Checkpoint, photos: Selection, new: Columns) -> None:
    """Further columns change it as looking again with these columns does."""
    before, after = (find_known_objects(each, photos, TORCH) for each in (weights, with_columns(weights, new)))
    np.testing.assert_allclose(before.with_columns(new).rest, after.rest, atol=2e-3)
    assert (after.rest > before.rest).all()


@pytest.mark.parametrize(
    "change",
    [
        {"objects.rest": torch.zeros(2)},
        {"objects.inputs": torch.zeros(6, 9)},
        {"objects.labels": torch.full((6,), 2)},
        {"objects.labels": torch.full((6,), -1)},
        {"objects.labels": torch.zeros(6, dtype=torch.uint16)},
        {"objects.rest": torch.tensor(1.0)},
        {"objects.inputs": torch.full((6, PART_INPUTS), 1e6)},
        {"objects.more": torch.zeros(1)},
    ],
)
def test_damaged_regions_are_refused(weights: Checkpoint, known: KnownObjects, change: dict[str, torch.Tensor]) -> None:
    brings = with_known_objects(weights, known)
    with pytest.raises(WeightsError, match="known objects do not fit together"):
        known_objects(replace(brings, state={**brings.state, **change}))


def test_known_objects_are_examples_of_no_new_class(weights: Checkpoint, known: KnownObjects) -> None:
    brings = with_known_objects(weights, known)
    [examples] = known_examples(brings, ["zebra"], keep=True)
    assert examples.labels.tolist() == [-1] * 6
    assert examples.weights.tolist() == [KNOWN_WEIGHT] * 6
    assert not examples.shares.any()
    assert examples.objects == 0
    np.testing.assert_array_equal(examples.rest, known.rest)
    [alone] = known_examples(brings, ["zebra", "Disc"], keep=False)
    assert len(alone) == 3
    assert not alone.rest.any()
    assert known_examples(weights, ["zebra"], keep=True) == []


@pytest.mark.parametrize(("old", "new"), [("sofa", "Couch"), ("tv", "tvmonitor"), ("Potted Plant", "pottedplant")])
def test_what_the_weights_know_by_another_name_is_not_against_it(
    weights: Checkpoint, known: KnownObjects, old: str, new: str
) -> None:
    brings = with_known_objects(replace(weights, classes=(old, "cat")), known)
    [examples] = known_examples(brings, ["zebra", new], keep=True)
    np.testing.assert_array_equal(examples.rest, known.rest[known.labels == 1])


def test_a_new_class_leaves_known_objects_alone() -> None:
    """What is like an example in one respect and like a known object in another becomes none of the new class."""
    rng = np.random.default_rng(0)
    middles = np.array([[3, 3, 0], [0, 0, 0]], np.float32)[np.repeat([0, 1], 40)]
    inputs = middles + rng.normal(size=(80, 3)).astype(np.float32) * 0.3
    labels = np.repeat([0, -1], 40)
    ones, shares = np.ones(80, np.float32), (labels == 0).astype(np.float32)
    examples = Examples(inputs, 0 * ones, labels, shares, ones, objects=40)
    others = np.tile(np.float32([[0, 3, 0]]), (4, 1))
    known = KnownObjects(others, np.zeros(4, np.float32), np.zeros(4, np.int64)).as_examples()
    plain, warned = learn_columns(examples, ["a"]), learn_columns(Examples.join([examples, known]), ["a"])
    before, after = (float((torch.from_numpy(others) @ each.weight.T + each.bias).mean()) for each in (plain, warned))
    assert after < before - 0.5


def test_weights_with_new_classes_bring_these_as_well(weights: Checkpoint, known: KnownObjects, new: Columns) -> None:
    result = taught(new, known, [1.0, 0.5])
    brings = with_known_objects(weights, known)
    found = known_objects(with_new_classes(brings, result, KEEP, {}))
    assert found is not None
    assert found.labels.tolist() == [*known.labels.tolist(), 2]  # the second example shows the class too badly
    expected = KnownObjects.join([known, known.take(np.array([0]))]).with_columns(new)
    np.testing.assert_allclose(found.rest, expected.rest, rtol=1e-5)
    alone = known_objects(with_new_classes(brings, result, ONLY_NEW, {}))
    assert alone is not None
    assert alone.labels.tolist() == [0]
    assert known_objects(without_columns(brings, ["disc"])) is None  # the rest would be that of other columns
