"""Training region classifiers, from drawn photos to a detector: phases, what is kept, resume, and the command line."""

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from classifier.placement import place
from classifier.recipes import Recipe
from classifier.sampling import LabelledRegions
from classifier.training import StepProgress
from classifier.weights.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from classifier.weights.digest import digest
from classifier.weights.fitting import WeightsError
from classifier.weights.preprocessing import CAFFE
from detect.detector import Detector
from detect.training import region_examples as module
from detect.training.bookkeeping import Bookkeeping
from detect.training.data import open_dataset
from detect.training.folder import kept_regions, require_same_origin
from detect.training.region_examples import PhotoCache, draw_regions
from detect.training.region_recipe import ExampleRecipe, RegionTraining
from detect.training.regions import train_regions
from detect.training.setup import check_out
from eval.protocols import voc07
from eval.voc import VocDataset
from proposals.baselines import Grid, Random
from proposals.protocol import ProposalGenerator
from proposals.stored.reader import StoreError
from structures.boxes import as_boxes, iou
from structures.images import ORIENTATION, ImageError, read_image
from structures.records import Image, Proposals
from tests.shapes import SIDE, random_start, write_coco, write_voc

PLAIN = place(device="cpu", engine="torch", dtype="float32")
EXAMPLES = ExampleRecipe(positives=6, negatives=8, batch_size=24, positive_share=0.5)
RECIPE = Recipe(6, learning_rate=0.01, warmup=2, dtype="float32")


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("voc")
    write_voc(root, "train", range(12))
    write_voc(root, "val", range(12, 18))
    return root


@pytest.fixture(scope="module")
def dataset(voc: Path) -> VocDataset:
    return VocDataset(voc, "train")


@pytest.fixture(scope="module")
def start() -> Checkpoint:
    return random_start(size=32, context=2)


@pytest.fixture(scope="module")
def start_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    save_checkpoint(random_start(size=64, context=4), path)
    return path


def run(start: Checkpoint, dataset: Any, work: Path, **changes: Any) -> Checkpoint:
    """Train from few proposals, with all but the last module frozen."""
    options: dict[str, Any] = {"recipe": RECIPE, "examples": EXAMPLES, "placement": PLAIN, "frozen": "inception5a"}
    options |= {"propose": Random(count=60), "report": lambda progress: None} | changes
    books = Bookkeeping(work, save_every=2, report=options.pop("report"))
    return train_regions(start, dataset, options.pop("propose"), books=books, **options)


@pytest.fixture(scope="module")
def trained(
    start: Checkpoint, dataset: VocDataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Checkpoint]:
    work = tmp_path_factory.mktemp("work")
    return work, run(start, dataset, work)


def test_the_result_is_a_region_classifier_that_knows_how_it_was_made(
    start: Checkpoint, trained: tuple[Path, Checkpoint]
) -> None:
    result = trained[1]
    assert (result.task, result.classes) == ("regions", ("disc", "square"))
    assert result.preprocessing == start.preprocessing
    result.check()
    assert result.training["recipe"] == asdict(RECIPE)
    assert result.training["examples"] == asdict(EXAMPLES)
    assert result.training["frozen"] == "inception5a"
    assert result.training["photos"] == 12
    json.dumps(dict(result.training))
    for name, value in result.state.items():
        learned = name.startswith(("inception5b", "fc."))
        before = start.state[name] if not name.startswith("fc.") else torch.zeros_like(value)
        assert torch.equal(value, before) != learned, name


def test_labels_may_rise_with_the_overlap(
    start: Checkpoint, dataset: VocDataset, trained: tuple[Path, Checkpoint], tmp_path: Path
) -> None:
    """The same regions in the same batches at the same weights, but other labels: another loss."""
    losses: dict[bool, list[float]] = {True: [], False: []}
    for soft, said in losses.items():
        examples = replace(EXAMPLES, ramp=(0.2, 0.9) if soft else None)
        run(
            start,
            dataset,
            tmp_path / str(soft),
            examples=examples,
            report=lambda step, said=said: said.append(step.loss),
        )
    assert losses[True][0] != losses[False][0]
    names = [tmp_path / str(soft) / "regions.npz" for soft in losses]
    drawn = [np.load(name) for name in names]
    assert all((drawn[0][name] == drawn[1][name]).all() for name in ("boxes", "labels", "nearest", "overlap"))


@pytest.mark.parametrize("ramp", [(0.5, 0.5), (0.6, 0.4), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 1)])
def test_a_ramp_that_does_not_rise_is_refused(ramp: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="`ramp` must rise"):
        replace(EXAMPLES, ramp=ramp)


def test_what_is_kept_is_used_again(
    start: Checkpoint, dataset: VocDataset, trained: tuple[Path, Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    work, result = trained
    monkeypatch.setattr(module, "read_image", lambda path: pytest.fail(f"read {path} again"))
    again = run(start, dataset, work, report=lambda step: pytest.fail("trained again"))
    assert all(torch.equal(again.state[name], value) for name, value in result.state.items())


class Stop(Exception):
    """What stands for kill -9."""


def failing(limit: int) -> Callable[[Path], Image]:
    left = iter(range(limit))

    def read(path: Path) -> Image:
        if next(left, None) is None:
            raise Stop
        return read_image(path)

    return read


def test_a_run_killed_in_every_part_gives_the_same_weights(
    start: Checkpoint,
    dataset: VocDataset,
    trained: tuple[Path, Checkpoint],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(step: StepProgress) -> None:
        if step.step == 5:
            raise Stop

    for limit in (5, 17):  # while regions are drawn, while features are made
        monkeypatch.setattr(module, "read_image", failing(limit))
        with pytest.raises(Stop):
            run(start, dataset, tmp_path, workers=1)
    monkeypatch.setattr(module, "read_image", read_image)
    with pytest.raises(Stop):
        run(start, dataset, tmp_path, report=stop)
    result = run(start, dataset, tmp_path)
    assert all(torch.equal(result.state[name], value) for name, value in trained[1].state.items())


def test_a_folder_of_another_training_is_refused(
    start: Checkpoint, dataset: VocDataset, trained: tuple[Path, Checkpoint], voc: Path
) -> None:
    work = trained[0]
    moved = {name: value + 0.001 for name, value in start.state.items()}
    for changes, complaint in [
        ({"start": replace(start, state=moved)}, "begun with other weights; name another `work`"),
        ({"frozen": "maxpool4"}, "begun with other frozen layers"),
        ({"start": replace(start, preprocessing=CAFFE)}, "begun with other preprocessing"),
        ({"placement": replace(PLAIN, dtype="bfloat16")}, "begun with other dtype"),
        ({"propose": Random(count=61)}, r"regions\.npz: drawn with other proposals; name another `work`"),
        ({"propose": Grid()}, r"regions\.npz: drawn with other proposals"),
        ({"examples": replace(EXAMPLES, negatives=9)}, r"regions\.npz: drawn with other examples"),
        ({"dataset": VocDataset(voc, "val")}, r"regions\.npz: drawn with other files and objects and photos"),
        ({"examples": replace(EXAMPLES, balance=1)}, r"begun with other balance; remove .*state\.pt to train again"),
        ({"recipe": replace(RECIPE, learning_rate=0.02)}, r"begun with learning_rate=0\.01, not 0\.02; remove it"),
    ]:
        options = {"start": start, "dataset": dataset, **changes}
        with pytest.raises(WeightsError, match=complaint):
            run(options.pop("start"), options.pop("dataset"), work, **options)


def test_kept_features_serve_another_mixture_once_the_state_is_removed(
    start: Checkpoint, dataset: VocDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(RECIPE, steps=1)
    run(start, dataset, tmp_path, recipe=short)
    (tmp_path / "state.pt").unlink()
    monkeypatch.setattr(module, "read_image", lambda path: pytest.fail(f"read {path} again"))
    result = run(start, dataset, tmp_path, recipe=short, examples=replace(EXAMPLES, balance=1, batch_size=8))
    assert result.training["examples"]["batch_size"] == 8


def test_a_finished_training_needs_no_features(
    start: Checkpoint, dataset: VocDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(start, dataset, tmp_path, recipe=replace(RECIPE, steps=2), keep=False)
    assert not list(tmp_path.glob("features.*"))
    monkeypatch.setattr("detect.training.regions.keep_features", lambda *some, **more: pytest.fail("made again"))
    again = run(start, dataset, tmp_path, recipe=replace(RECIPE, steps=2), keep=False)
    assert all(torch.equal(again.state[name], value) for name, value in first.state.items())


def test_a_finished_training_of_another_length_is_refused_before_features_are_made(
    start: Checkpoint, dataset: VocDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(start, dataset, tmp_path, recipe=replace(RECIPE, steps=2), keep=False)
    monkeypatch.setattr("detect.training.regions.keep_features", lambda *some, **more: pytest.fail("made again"))
    with pytest.raises(WeightsError, match=r"state\.pt: begun with steps=2, not 3; remove it to start again"):
        run(start, dataset, tmp_path, recipe=replace(RECIPE, steps=3), keep=False)


def test_features_that_were_removed_are_made_again(
    start: Checkpoint, dataset: VocDataset, trained: tuple[Path, Checkpoint], tmp_path: Path
) -> None:
    run(start, dataset, tmp_path)
    (tmp_path / "state.pt").unlink()
    (tmp_path / "features.npy").unlink()  # features.json still says that all photos are done
    again = run(start, dataset, tmp_path)
    assert all(torch.equal(again.state[name], value) for name, value in trained[1].state.items())


def test_regions_drawn_again_get_features_of_their_own(start: Checkpoint, dataset: VocDataset, tmp_path: Path) -> None:
    """As the errors advise: features of the old regions must not be taken for those of the new."""
    run(start, dataset, tmp_path)
    other: dict[str, Any] = {"examples": replace(EXAMPLES, negatives=5)}
    with pytest.raises(WeightsError, match=r"drawn with other examples; .* remove this file, state\.pt and"):
        run(start, dataset, tmp_path, **other)
    (tmp_path / "regions.npz").unlink()
    with pytest.raises(WeightsError, match=r"begun with other regions; .* remove state\.pt and start\.json"):
        run(start, dataset, tmp_path, **other)
    (tmp_path / "start.json").unlink()
    with pytest.raises(WeightsError, match=r"state\.pt: the start\.json of this training is missing"):
        run(start, dataset, tmp_path, **other)
    (tmp_path / "state.pt").unlink()
    again = run(start, dataset, tmp_path, **other)
    fresh = run(start, dataset, tmp_path / "fresh", **other)
    assert all(torch.equal(again.state[name], value) for name, value in fresh.state.items())


def test_photos_that_were_replaced_are_not_learned_from_with_the_old_regions(start: Checkpoint, tmp_path: Path) -> None:
    write_voc(tmp_path / "voc", "train", range(12))
    dataset = VocDataset(tmp_path / "voc", "train")
    run(start, dataset, tmp_path / "work", recipe=replace(RECIPE, steps=2))
    shutil.copy(dataset.image_path(dataset.image_ids[0]), dataset.image_path(dataset.image_ids[1]))
    with pytest.raises(WeightsError, match=r"regions\.npz.*files"):
        run(start, dataset, tmp_path / "work", recipe=replace(RECIPE, steps=2))


def test_features_that_the_disk_cannot_hold_are_refused_at_once(
    start: Checkpoint, dataset: VocDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def little(path: Path) -> Any:
        asked.append(path)
        return SimpleNamespace(free=100_000)

    monkeypatch.setattr("classifier.region_features.shutil.disk_usage", little)
    with pytest.raises(OSError, match=r"features take 0\.\d GB, and 0\.0 are free: .*features\.npy"):
        run(start, dataset, tmp_path)
    assert asked == [tmp_path]
    assert not list(tmp_path.glob("features.*"))


class Fitting(Random):
    """Random boxes whose scores say how well they fit the objects of a dataset."""

    scores_tell_fit = True

    def __init__(self, dataset: VocDataset) -> None:
        super().__init__(count=200)
        self._objects = {
            read_image(dataset.image_path(i)).tobytes(): dataset.ground_truth(i) for i in dataset.image_ids
        }

    def __call__(self, image: Image) -> Proposals:
        found = super().__call__(image)
        fit = iou(found.boxes, self._objects[image.tobytes()].boxes).max(axis=1)
        return Proposals(found.boxes, fit.astype(np.float32), found.image_size)


def test_negatives_are_drawn_from_the_best_boxes(dataset: VocDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEST", 30)
    show = lambda items, total, name: items  # noqa: E731
    some, best = (
        draw_regions(dataset, Fitting(dataset), replace(EXAMPLES, best_share=share), workers=1, show=show)
        for share in (0.0, 1.0)
    )
    assert len(some) == len(best)
    far = [part.overlap[part.labels == 2] for part in (some, best)]
    assert far[1].mean() > far[0].mean() + 0.02
    with pytest.raises(
        ValueError, match=r"`best_share` 0\.5 needs ranked proposals, .* not random; `best_share=0` needs no ranking"
    ):
        draw_regions(dataset, Random(count=5), replace(EXAMPLES, best_share=0.5), workers=1, show=show)


def test_all_layers_can_be_trained(start: Checkpoint, dataset: VocDataset, tmp_path: Path) -> None:
    few = replace(EXAMPLES, batch_size=4)
    result = run(start, dataset, tmp_path, frozen=None, examples=few, recipe=replace(RECIPE, steps=1, warmup=0))
    assert not torch.equal(result.state["conv1.conv.weight"], start.state["conv1.conv.weight"])
    assert not (tmp_path / "features.npy").exists()


def test_weights_of_regions_are_trained_further(
    dataset: VocDataset, trained: tuple[Path, Checkpoint], tmp_path: Path
) -> None:
    still = replace(RECIPE, steps=1, learning_rate=0.0, weight_decay=0.0)
    result = run(trained[1], dataset, tmp_path, recipe=still)
    assert torch.allclose(result.state["fc.weight"], trained[1].state["fc.weight"])
    other = replace(trained[1], classes=("cup", "dog"))
    fresh = run(other, dataset, tmp_path / "fresh", recipe=still)
    assert fresh.classes == ("disc", "square")
    assert not torch.allclose(fresh.state["fc.weight"], trained[1].state["fc.weight"], atol=1e-3)


def test_weights_and_layers_that_make_no_sense(start: Checkpoint, dataset: VocDataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`frozen` 'conv9' is not one of none, conv1, "):
        run(start, dataset, tmp_path, frozen="conv9")
    with pytest.raises(WeightsError, match="cannot start from weights for multibox, only from an image"):
        run(replace(start, task="multibox"), dataset, tmp_path)
    assert list(tmp_path.iterdir()) == []


class NoBoxes:
    name = "none"
    parameters: Mapping[str, Any] = {}

    def __call__(self, image: Image) -> Proposals:
        return Proposals(as_boxes([]), np.zeros(0, np.float32), (image.shape[0], image.shape[1]))


def test_a_set_without_background_is_explained(start: Checkpoint, dataset: VocDataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="24 positive and 0 negative regions: need both"):
        run(start, dataset, tmp_path, propose=NoBoxes())


def all_regions(dataset: Any, propose: ProposalGenerator = Random(count=200), workers: int = 1) -> LabelledRegions:  # noqa: B008
    return draw_regions(dataset, propose, EXAMPLES, workers=workers, show=lambda items, total, name: items)


class Part:
    """The first photos of a dataset."""

    def __init__(self, dataset: VocDataset, count: int) -> None:
        self._dataset, self.image_ids, self.classes = dataset, dataset.image_ids[:count], dataset.classes
        self.image_path, self.ground_truth = dataset.image_path, dataset.ground_truth

    def __len__(self) -> int:
        return len(self.image_ids)


def test_regions_of_a_photo_do_not_depend_on_others_or_on_threads(dataset: VocDataset) -> None:
    whole, part = all_regions(dataset), all_regions(Part(dataset, 5), workers=3)
    own = whole.photo < 5
    for name in ("photo", "boxes", "labels", "overlap", "mirrored"):
        assert np.array_equal(getattr(part, name), getattr(whole, name)[own]), name
    assert (np.diff(whole.photo) >= 0).all()
    assert set(whole.photo) == set(range(12))
    for number in range(12):
        rows = whole.photo == number
        truth = dataset.ground_truth(dataset.image_ids[number])
        best = iou(whole.boxes[rows], truth.boxes)
        assert np.allclose(best.max(axis=1), whole.overlap[rows])
        assert ((whole.labels[rows] < 2) == (best.max(axis=1) >= 0.5)).all()
        assert ((whole.labels[rows] < 2).sum()) <= 6


def test_a_photo_that_cannot_be_read_stops_the_draw_and_is_named(voc: Path, tmp_path: Path) -> None:
    write_voc(tmp_path, "train", range(6))
    (tmp_path / "JPEGImages" / "003.png").write_bytes(b"no picture")
    seen: list[int] = []

    def show(items: Any, total: int, name: str) -> Any:
        for item in items:
            seen.append(item)
            yield item

    with pytest.raises(ImageError, match=r"003\.png: not a picture"):
        draw_regions(VocDataset(tmp_path, "train"), Random(count=5), EXAMPLES, workers=2, show=show)
    assert seen == [0, 1, 2, 3]


def test_a_photo_whose_boxes_are_not_stored_is_named(dataset: VocDataset) -> None:
    class Stored(Random):
        def __call__(self, image: Image) -> Proposals:
            raise StoreError("boxes: holds no boxes of this photo")

    with pytest.raises(ValueError, match=r"000\.png: boxes: holds no boxes of this photo"):
        all_regions(dataset, propose=Stored(count=5))


def test_a_dataset_without_photos(dataset: VocDataset) -> None:
    with pytest.raises(ValueError, match="no photos to learn from"):
        all_regions(Part(dataset, 0))


def test_photos_are_kept_within_bounds(dataset: VocDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(module, "read_image", lambda path: (read.append(path), read_image(path))[1])
    photos = PhotoCache(dataset, memory=3 * (3 * SIDE * SIDE))
    for index in (0, 1, 2, 0, 1, 2):
        assert photos.read(index).shape == (SIDE, SIDE, 3)
    assert len(read) == 3
    photos.read(3)
    photos.read(0)
    assert len(read) == 5
    tight = PhotoCache(dataset, memory=10)
    assert np.array_equal(tight.read(0), photos.read(0))


def test_kept_regions_that_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "regions.npz"
    np.savez(path, boxes=np.zeros((3, 4)))
    for content in (path.read_bytes(), b"garbage", b"", path.read_bytes()[:50]):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"regions\.npz: cannot be read as a file of regions; remove it"):
            kept_regions(path, {}, lambda: pytest.fail("drawn again"))


def test_another_origin_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "start.json"
    require_same_origin(path, {"a": (1, 2), "b": None}, remedy="go away")
    require_same_origin(path, {"a": (1, 2), "b": None}, remedy="go away")
    with pytest.raises(WeightsError, match=r"start\.json: begun with other a and b; go away"):
        require_same_origin(path, {"a": (1, 3), "b": 0}, remedy="go away")
    path.write_text("{")
    with pytest.raises(WeightsError, match=r"start\.json: not a readable record .*; go away"):
        require_same_origin(path, {"a": 1}, remedy="go away")


def test_fingerprints_tell_contents_and_names_apart() -> None:
    a, b = np.array([1.0, 2.0], np.float32), np.array([1.0, 3.0], np.float32)
    assert digest([a, b]) == digest([a.copy(), b])
    assert len({digest(values) for values in ([a, b], [b, a], [a], {"x": a}, {"y": a}, [np.concatenate([a, b])])}) == 6
    assert digest({"x": torch.from_numpy(a)}) == digest({"x": a})
    assert digest({"x": torch.from_numpy(a).half()}) == digest({"x": a})


def test_photos_to_learn_from_are_named_by_one_option(tmp_path: Path, voc: Path) -> None:
    with pytest.raises(ValueError, match="name the photos to learn from as `ground_truth`"):
        open_dataset([])
    (tmp_path / "a.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(ValueError, match="one file without lists, so `split` 'val' has no meaning"):
        open_dataset([tmp_path / "a.json"], split="val")
    with pytest.raises(ValueError, match=r"nowhere: no such file or folder; looked for"):
        open_dataset([tmp_path / "nowhere"])
    assert len(open_dataset([voc])) == len(open_dataset([voc], split="train")) == 12


def test_photos_of_another_size_than_was_annotated_are_named(tmp_path: Path) -> None:
    """Photos that were shrunk, or turned by their EXIF, would teach boxes next to the objects."""
    write_voc(tmp_path, "train", range(5))
    half = SIDE // 2
    for number in range(4):
        PIL.Image.new("RGB", (half, SIDE)).save(tmp_path / "JPEGImages" / f"{number:03}.png")
    (tmp_path / "JPEGImages" / "001.png").unlink()
    with pytest.raises(
        ValueError, match=f"000.png: is {half} x {SIDE} pixels, but {SIDE} x {SIDE} were annotated"
    ) as e:
        open_dataset([tmp_path])
    assert ": no such file; " in str(e.value)
    assert str(e.value).endswith("; and 1 more")


def test_boxes_that_fill_the_photo_do_not_hide_that_it_is_larger_than_annotated(tmp_path: Path) -> None:
    """The same boxes in a COCO file that says no size would be of a photo as large as they reach, or larger."""
    write_voc(tmp_path, "train", range(1))
    size = f"<size><width>{SIDE}</width><height>{SIDE}</height></size>"
    whole = f"<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>{SIDE}</xmax><ymax>{SIDE}</ymax></bndbox>"
    content = f"<annotation>{size}<object><name>disc</name>{whole}</object></annotation>"
    (tmp_path / "Annotations" / "000.xml").write_text(content)
    PIL.Image.new("RGB", (2 * SIDE, 2 * SIDE)).save(tmp_path / "JPEGImages" / "000.png")
    with pytest.raises(ValueError, match=f"is {2 * SIDE} x {2 * SIDE} pixels, but {SIDE} x {SIDE} were annotated"):
        open_dataset([tmp_path])


def test_photos_that_lie_on_their_side_are_refused_with_a_remedy(tmp_path: Path) -> None:
    """Boxes drawn on stored pixels; without the orientation in the EXIF they fit."""
    write_voc(tmp_path, "train", range(1))
    annotation, path = tmp_path / "Annotations" / "000.xml", tmp_path / "JPEGImages" / "000.png"
    annotation.write_text(annotation.read_text().replace(f"<width>{SIDE}<", f"<width>{2 * SIDE}<"))
    picture, turned = PIL.Image.new("RGB", (2 * SIDE, SIDE)), PIL.Image.Exif()
    turned[ORIENTATION] = 6
    picture.save(path, exif=turned)
    remedy = r" were annotated \(if its EXIF turns it wrongly, exiftool -Orientation= FILE\)$"
    with pytest.raises(ValueError, match=f"000.png: is {SIDE} x {2 * SIDE} pixels, but {2 * SIDE} x {SIDE}{remedy}"):
        open_dataset([tmp_path])
    picture.save(path)
    assert len(open_dataset([tmp_path])) == 1


def test_coco_files_need_not_say_how_large_photos_are(tmp_path: Path) -> None:
    write_voc(tmp_path, "train", range(3))
    write_coco(tmp_path / "train.json", range(3))
    content = json.loads((tmp_path / "train.json").read_text())
    for image in content["images"]:
        del image["width"], image["height"]
    (tmp_path / "train.json").write_text(json.dumps(content))
    named = {"ground_truth": [tmp_path / "train.json"], "images": tmp_path / "JPEGImages"}
    assert len(open_dataset(**named, classes=["disc"])) == 3
    PIL.Image.new("RGB", (200, 9)).save(tmp_path / "JPEGImages" / "002.png")  # boxes reach beyond it
    with pytest.raises(ValueError, match=r"002\.png: is 200 x 9 pixels"):
        open_dataset(**named)


def test_photos_without_objects_are_nothing_to_learn_from(tmp_path: Path) -> None:
    write_voc(tmp_path, "train", range(2))
    for number in range(2):
        (tmp_path / "Annotations" / f"{number:03}.xml").write_text(
            f"<annotation><size><width>{SIDE}</width><height>{SIDE}</height></size></annotation>"
        )
    with pytest.raises(ValueError, match="no objects to learn from on the 2 photos"):
        open_dataset([tmp_path])


@pytest.mark.parametrize("name", ["a.pt", "file/a.safetensors", "folder.safetensors"])
def test_files_that_cannot_be_written_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(ValueError, match=r"(weights are written as \.safetensors|cannot be written|is a folder)"):
        check_out(tmp_path / name)
    check_out(tmp_path / "new" / "folder" / "a.safetensors")


@pytest.fixture
def rcnn(rcnn: Callable[..., int], torch_engine: None) -> Callable[..., int]:
    """Run `rcnn train regions`, with torch; return its exit code."""
    return partial(rcnn, "train", "regions")


def test_from_drawn_photos_to_a_detector(rcnn: Callable[..., int], voc: Path, start_file: Path, tmp_path: Path) -> None:
    """A weak test of quality: random trunk, 12 photos; but discs are distinguished from squares and from nothing."""
    out = tmp_path / "shapes.safetensors"
    assert rcnn(
        *("--voc", voc, "--out", out, "--weights", start_file, "--proposals", "grid", "--device", "cpu"),
        *("--steps", 30, "--batch", 24, "--positive-share", 0.5, "--positives", 8, "--negatives", 10),
        *("--learning-rate", 0.03, "--last-layer-rate", 3, "--freeze", "maxpool2"),
    ) == 0  # fmt: skip
    checkpoint = read_checkpoint(out)
    assert checkpoint.classes == ("disc", "square")
    assert checkpoint.training["split"] == "train"
    assert checkpoint.training["examples"]["use_ignored"] is True
    assert str(checkpoint.training["command"]).startswith("rcnn train regions --voc")
    curve = (tmp_path / "shapes.work" / "curves.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in curve] == ["step", *map(str, range(1, 31))]
    val = VocDataset(voc, "val")
    loaded = Detector.load(out, "grid", device="cpu", engine="torch", score_floor=0.01)
    detector = Detector(Grid(areas=(0.12,), aspects=(1,), step=0.25), loaded.classify, score_floor=0.01)
    found = [detector(read_image(val.image_path(name))) for name in val.image_ids]
    scores = dict(voc07(list(val), found, val.classes))
    assert scores["mAP"] >= 0.7, scores


EARLIER_NAMES = {
    "steps": "iterations",
    "learning_rate": "rate",
    "weight_decay": "decay",
    "label_smoothing": "smoothing",
}


@pytest.mark.parametrize("earlier", [False, True])
def test_every_option_reaches_the_recipe_and_the_examples(
    rcnn: Callable[..., int],
    voc: Path,
    start_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    earlier: bool,
) -> None:
    """Values that no default and no other option has."""
    recipe = {"steps": 31, "learning_rate": 0.032, "last_layer_factor": 3.3, "weight_decay": 0.034}
    recipe |= {"label_smoothing": 0.35, "hard_examples": 36}
    examples = {"batch_size": 37, "positives": 38, "negatives": 39, "positive_share": 0.41, "balance": 0.42}
    examples |= {"near_share": 0.43, "best_share": 0.44}
    asked: list[Any] = []

    def enough(trainings: Sequence[RegionTraining], *more: Any) -> None:
        asked.extend(trainings)
        raise ValueError("enough")

    monkeypatch.setattr("detect.training.region_phases.check", enough)
    names = {"batch_size": "batch", "last_layer_factor": "last_layer_rate"} | (EARLIER_NAMES if earlier else {})
    words = [
        word
        for name, value in (recipe | examples).items()
        for word in (f"--{names.get(name, name).replace('_', '-')}", value)
    ]
    words += ["--ramp", 0.45, 0.46, "--no-use-ignored", "--freeze", "conv2", "--seed", 47, "--dtype", "float32"]
    words += ["--proposals", "grid", "--device", "cpu"]
    assert rcnn("--voc", voc, "--out", tmp_path / "a.safetensors", "--weights", start_file, *words) == 2
    expected = RegionTraining(
        Recipe(**recipe, dtype="float32", seed=47),
        ExampleRecipe(**examples, ramp=(0.45, 0.46), use_ignored=False, seed=47),
        "conv2",
    )
    assert asked == [expected]


def test_crowds_of_coco_files_are_not_objects(
    rcnn: Callable[..., int], voc: Path, start_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "instances.json"
    write_coco(file, range(4))
    usual = ["--coco", file, "--images", voc / "JPEGImages", "--weights", start_file, "--proposals", "random"]
    usual += [
        "--freeze",
        "inception5b",
        "--steps",
        1,
        "--batch",
        4,
        "--device",
        "cpu",
        "--positives",
        2,
        "--negatives",
        3,
    ]
    assert rcnn(*usual, "--out", tmp_path / "a.safetensors") == 0
    checkpoint = read_checkpoint(tmp_path / "a.safetensors")
    assert checkpoint.training["examples"]["use_ignored"] is False
    assert checkpoint.training["data"] == "instances.json"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"--out": "weights.pt"}, "--out weights.pt: weights are written as .safetensors"),
        ({"--split": "nights"}, "nights.txt: no such image list"),
        ({"--weights": "nowhere.npz"}, "nowhere.npz: no such file or name"),
        ({"--proposals": "guessing"}, "unknown proposal generator 'guessing'"),
        ({"--freeze": "conv9"}, "--freeze 'conv9' is not one of"),
        ({"--device": "cuda:55"}, "--device 'cuda:55' cannot be used here"),
        ({"--positives": "0"}, "Invalid value for '--positives'"),
        ({"--negatives": "0"}, "Invalid value for '--negatives'"),
        ({"--positive-share": "0.01"}, "leaves no positive or no background region"),
        ({"--hard-examples": "500"}, "--hard-examples 500 is more than a batch of 4"),
        ({"--seed": "99999999999999"}, "the seed must be from 0 to 4294967295"),
        ({"--val-photos": "3"}, "--val-photos without --val or --val-ground-truth"),
        ({"--val-every": "3"}, "--val-every without --val or --val-ground-truth"),
        ({"--val-proposals": "grid"}, "--val-proposals without --val or --val-ground-truth"),
        ({"--val-images": "photos"}, "--val-images is the folder of --val-ground-truth"),
        ({"--learning-rate": "1e38"}, "lower the learning rate"),
        ({"--steps": "0"}, "Invalid value for '--steps'"),
        ({"--positive-share": "2"}, "Invalid value for '--positive-share'"),
    ],
)
def test_mistakes_become_one_line(
    rcnn: Callable[..., int],
    voc: Path,
    start_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = {"--voc": voc, "--out": "a.safetensors", "--weights": start_file, "--device": "cpu"}
    options |= {"--proposals": "random", "--freeze": "inception5b", "--steps": 4, "--batch": 4}
    options |= {"--positives": 2, "--negatives": 3} | changes
    assert rcnn(*(word for option in options.items() for word in option)) == 2
    error = capsys.readouterr().err
    assert complaint in " ".join(error.split())
    assert "Traceback" not in error
    assert not (tmp_path / "a.safetensors").exists()


FAULTS = """
import resource, sys
import torch
from detect.training.setup import training_placement

def faults_of(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.empty(64 * 2**20, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

training_placement("cpu", "auto")
print(faults_of(1), faults_of(29), faults_of(30))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
def test_a_training_on_the_cpu_keeps_the_memory_that_it_frees() -> None:
    shown = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True).stdout
    first, _, later = map(int, shown.split())  # aligned blocks take a few places in turn before they are used again
    assert later < first  # taken from the system each time it would be 30 times as many
