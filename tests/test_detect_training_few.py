"""New classes from a few examples: photos looked at once, examples, honest judging, the command from end to end."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from classifier.few_examples import Examples, learn_columns
from classifier.placement import place
from classifier.region_columns import part_means
from classifier.weights.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from classifier.weights.fitting import WeightsError
from detect.detector import Detector
from detect.networks.shared_features import SharedFeatures, SharedRegions
from detect.training import few_photos
from detect.training.few import (
    FOLDS,
    FewResult,
    classes_to_learn,
    cross_validated,
    examples_of,
    folds_of,
    judged_classes,
    left_out,
    with_new_classes,
)
from detect.training.few_photos import PhotoRegionCache, PhotoRegions
from detect.training.few_recipe import FewRecipe
from eval.selection import Selection
from eval.voc import VocDataset
from proposals.generators import MAKERS
from structures.boxes import as_boxes
from structures.errors import InputError
from structures.records import GroundTruth
from tests.networks import make_shared, quarter_canvases
from tests.shapes import FEW_BOXES, write_coco, write_voc

TORCH = place(device="cpu", engine="torch", dtype="float32")
RECIPE = FewRecipe()
PHOTOS = 5


@pytest.fixture(scope="module", autouse=True)
def small_canvases() -> Iterator[None]:
    with quarter_canvases():
        yield


@pytest.fixture(scope="module")
def weights() -> Checkpoint:
    made = make_shared(("cat",))
    return replace(made, training={**made.training, "int8": {"pixels": 151.0}})


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Selection:
    folder = tmp_path_factory.mktemp("voc")
    write_voc(folder, "train", range(PHOTOS))
    return Selection(VocDataset(folder, "train"), to_learn=True)


@pytest.fixture(scope="module")
def looks(weights: Checkpoint) -> Callable[[Path], PhotoRegionCache]:
    features = SharedFeatures(weights, TORCH, last_map=True)
    return lambda folder: PhotoRegionCache(weights, features, FEW_BOXES["grid"](), folder)


@pytest.fixture(scope="module")
def seen(
    looks: Callable[[Path], PhotoRegionCache], photos: Selection, tmp_path_factory: pytest.TempPathFactory
) -> Sequence[PhotoRegions]:
    return looks(tmp_path_factory.mktemp("seen")).all(photos, lambda items, total, name: items)


def counted(made: list[int]) -> Callable[..., range]:
    def show(items: range, total: int, name: str) -> range:
        assert items.stop == total == PHOTOS or not made
        made.append(len(items))
        return items

    return show


def test_photos_are_looked_at_once(
    looks: Callable[[Path], PhotoRegionCache], photos: Selection, seen: Sequence[PhotoRegions], tmp_path: Path
) -> None:
    made: list[int] = []
    looks(tmp_path).all(Selection(photos, photos=3), counted(made))
    more = looks(tmp_path).all(photos, counted(made))
    assert made == [3, PHOTOS - 3]
    for one, other in zip(seen, more, strict=True):
        assert all(np.array_equal(vars(one)[name], vars(other)[name]) for name in vars(one))


def test_a_killed_run_goes_on_and_a_damaged_file_is_made_again(
    looks: Callable[[Path], PhotoRegionCache],
    photos: Selection,
    seen: Sequence[PhotoRegions],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(path: Path, regions: PhotoRegions) -> None:
        if len(list(tmp_path.iterdir())) == 2:
            raise KeyboardInterrupt
        write(path, regions)

    write = few_photos.write_photo_regions
    monkeypatch.setattr(few_photos, "write_photo_regions", stop)
    with pytest.raises(KeyboardInterrupt):
        looks(tmp_path).all(photos, counted([]))
    monkeypatch.undo()
    next(tmp_path.iterdir()).write_bytes(b"PK damaged")
    made: list[int] = []
    again = looks(tmp_path).all(photos, counted(made))
    assert made == [PHOTOS - 2]
    assert all(np.array_equal(one.maps, other.maps) for one, other in zip(seen, again, strict=True))
    next(tmp_path.iterdir()).unlink()  # while the run goes on
    assert all(np.array_equal(one.maps, other.maps) for one, other in zip(seen, again, strict=True))
    assert np.array_equal(again[-1].maps, again[1:][-1].maps)


def test_what_is_seen_in_the_mirror_belongs_to_the_same_boxes(seen: Sequence[PhotoRegions]) -> None:
    """A weak test: what both sides see of a region is more alike than what they see of different regions."""
    plain, turned = seen[0].inputs(np.arange(len(seen[0].boxes))).astype(np.float32)
    apart = torch.cdist(torch.from_numpy(plain), torch.from_numpy(turned))
    assert apart.diagonal().mean() < 0.8 * apart.mean()


def two_objects(ignore: bool) -> GroundTruth:
    boxes = as_boxes([[0, 0, 40, 40], [60, 60, 90, 90]])
    columns = (np.array([1, 0]), np.array([ignore, False]), np.array([1600, 900], np.float32))
    return GroundTruth("a", boxes, *columns, (96, 96))


def regions_of(boxes: list[list[float]]) -> PhotoRegions:
    """Regions of a photo that is its own canvas; the map says in the mirror twice what it says else."""
    count = len(boxes)
    logits = np.arange(2 * count * 2, dtype=np.float32).reshape(2, count, 2)
    places = np.tile(as_boxes(boxes), (2, 1, 1))
    maps = np.random.default_rng(0).random((1024, 6, 6)).astype(np.float16)
    both = np.stack([maps, 2 * maps])
    return PhotoRegions(as_boxes(boxes), np.ones(count, np.float32), count, logits, places, both, (96, 96))


HALVES: list[list[float]] = [[0, 0, 40, 40], [0, 0, 40, 24], [60, 60, 90, 75], [50, 0, 60, 20]]  # IoU 1, .6, .5, 0


def test_examples_by_hand() -> None:
    regions = regions_of(HALVES)
    found = examples_of(regions, two_objects(ignore=False), RECIPE)
    assert found.labels.tolist() == [1, 1, 0, -1] * 2
    assert found.shares.tolist() == pytest.approx([1, 0.5, 0.25, 0] * 2)
    sides = [part_means(torch.from_numpy(each), torch.from_numpy(as_boxes(HALVES))).numpy() for each in regions.maps]
    np.testing.assert_allclose(found.inputs, np.concatenate(sides), atol=2e-3)
    assert found.rest.tolist() == pytest.approx([np.logaddexp(n, n + 1) for n in range(0, 16, 2)])
    assert found.objects == 2
    assert not examples_of(regions, two_objects(ignore=False), FewRecipe(keep=False)).rest.any()


def test_of_many_photos_fewer_regions_without_an_object_are_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    regions = regions_of([*HALVES, *([50 + n, 0, 60 + n, 20] for n in range(9))])
    assert len(examples_of(regions, two_objects(ignore=False), RECIPE)) == 2 * (3 + 10)
    monkeypatch.setattr("detect.training.few.MOST_ROWS", 20)
    found = examples_of(regions, two_objects(ignore=False), RECIPE, photos=2)
    assert found.labels.tolist() == [1, 1, 0, *[-1] * 5] * 2
    logits = np.arange(2 * 13 * 2, dtype=np.float32).reshape(2, 13, 2)[0, [0, 1, 2, 3, 5, 7, 9, 11]]
    assert found.rest[:8].tolist() == pytest.approx(np.logaddexp(*logits.T).tolist())
    assert len(examples_of(regions, two_objects(ignore=False), RECIPE, photos=1000)) == 2 * (3 + 1)


def test_of_many_photos_fewer_regions_of_each_object_are_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    large: list[list[float]] = [[0, 0, 40, 40 - n] for n in range(9)]
    regions = regions_of([*large, [60, 60, 90, 90], [50, 0, 60, 20]])
    assert examples_of(regions, two_objects(ignore=False), RECIPE).labels.tolist() == [*[1] * 9, 0, -1] * 2
    monkeypatch.setattr("detect.training.few.MOST_OF_OBJECTS", 36)
    found = examples_of(regions, two_objects(ignore=False), RECIPE, photos=2)
    assert found.labels.tolist() == [1, 1, 1, 0, -1] * 2
    assert found.shares[:4].tolist() == pytest.approx([1, *np.clip((np.array([37, 34]) / 40 - 0.4) / 0.4, 0, 1), 1])
    least = examples_of(regions, two_objects(ignore=False), RECIPE, photos=1000)
    assert least.labels.tolist() == [1, 0, -1] * 2


def test_regions_on_objects_that_do_not_count_are_not_examples() -> None:
    boxes: list[list[float]] = [[0, 0, 40, 40], [5, 5, 20, 20], [60, 60, 90, 90], [50, 0, 60, 20]]
    found = examples_of(regions_of(boxes), two_objects(ignore=True), FewRecipe(use_ignored=False))
    assert found.labels.tolist() == [0, -1] * 2
    assert examples_of(regions_of(boxes), two_objects(ignore=True), RECIPE).labels.tolist() == [1, -1, 0, -1] * 2


def test_only_classes_that_the_weights_do_not_know_are_learned(weights: Checkpoint, photos: Selection) -> None:
    knows = replace(weights, classes=("DISC",))
    assert classes_to_learn(knows, photos, RECIPE) == ["square"]
    assert classes_to_learn(knows, photos, FewRecipe(keep=False)) == ["disc", "square"]
    with pytest.raises(
        InputError, match=r"already know disc; start from weights that do not, or .* \(`only_new=True`\)"
    ):
        classes_to_learn(knows, Selection(photos, classes=["disc"]), RECIPE)
    with pytest.raises(WeightsError, match="weights for regions cannot learn new classes"):
        classes_to_learn(replace(weights, task="regions"), photos, RECIPE)
    ignored = Selection(photos, ignored=["disc", "square"])
    with pytest.raises(InputError, match="all are ignored"):
        classes_to_learn(weights, ignored, FewRecipe(use_ignored=False))


def test_what_is_not_learned_is_said(weights: Checkpoint, photos: Selection) -> None:
    knows = replace(weights, classes=("DISC",))
    told = left_out(photos, classes_to_learn(knows, photos, RECIPE), RECIPE, asked=False)
    assert told == ["the weights already know disc: not learned again"]
    crowds = Selection(photos, ignored=["disc"])
    recipe = FewRecipe(use_ignored=False)
    told = left_out(crowds, classes_to_learn(weights, crowds, recipe), recipe, asked=False)
    assert told == ["no object that counts of disc, which will not be learned"]
    blank = Selection(photos, classes=["square"])
    blank.classes = ("square", "ring")
    assert not left_out(blank, ["square"], RECIPE, asked=False)
    assert left_out(blank, ["square"], RECIPE, asked=True) == [
        "no object that counts of ring, which will not be learned"
    ]


def test_a_class_on_a_single_photo_is_not_judged(photos: Selection) -> None:
    class Rare(Selection):
        def __iter__(self) -> Iterator[GroundTruth]:
            for number, truth in enumerate(super().__iter__()):
                yield truth if number == 2 else truth.take(truth.labels == 0)

    assert judged_classes(photos) == ["disc", "square"]
    assert judged_classes(Rare(photos)) == ["disc"]
    assert not judged_classes(Selection(photos, photos=1))


def test_photos_of_a_rare_class_are_dealt_out_to_different_parts(photos: Selection) -> None:
    class Rare(Selection):
        def __iter__(self) -> Iterator[GroundTruth]:
            for number, truth in enumerate(super().__iter__()):
                yield truth if number in (0, 2) else truth.take(truth.labels == 0)

    folds = folds_of(Rare(photos))
    assert folds[0] != folds[2]
    assert set(folds) == set(range(FOLDS))


def test_photos_are_judged_by_what_others_taught(
    weights: Checkpoint, photos: Selection, seen: Sequence[PhotoRegions]
) -> None:
    """A class that one photo alone shows is not found on it."""
    examples = [examples_of(each, truth, RECIPE) for each, truth in zip(seen, photos, strict=True)]
    squares = [each.labels == 1 for each in examples]
    rare = [
        each if number == 0 else replace(each, labels=np.where(square, -1, each.labels), shares=each.shares * ~square)
        for number, (each, square) in enumerate(zip(examples, squares, strict=True))
    ]
    lesson = FewResult(learn_columns(Examples.join(rare), photos.classes), seen, rare, known=[])
    features = SharedFeatures(with_new_classes(weights, lesson, RECIPE, {}), TORCH)
    detector = Detector(FEW_BOXES["grid"](), SharedRegions(features), score_floor=0.0001)
    found = cross_validated(photos, lesson, detector, RECIPE)
    assert found.keys() == set(photos.image_ids)
    assert 1 not in found[photos.image_ids[0]].labels
    assert all(0 in each.labels for each in found.values())


@pytest.fixture
def rcnn(rcnn: Callable[..., int], torch_engine: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the command line with torch and few boxes per photo."""
    for name, maker in FEW_BOXES.items():
        monkeypatch.setitem(MAKERS, name, maker)  # type: ignore[arg-type]
    return rcnn


@pytest.fixture
def start(weights: Checkpoint, tmp_path: Path) -> Path:
    path = tmp_path / "start.safetensors"
    save_checkpoint(weights, path, dtype=torch.float32)
    return path


def test_the_command_from_end_to_end(
    rcnn: Callable[..., int], start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_voc(tmp_path / "drawn", "train", range(6))
    write_coco(tmp_path / "mine.json", range(6))
    photos = tmp_path / "drawn" / "JPEGImages"
    out = tmp_path / "mine.safetensors"
    data = ("--coco", tmp_path / "mine.json", "--images", photos, "--weights", start, "--proposals", "grid")
    asked = ("train", "regions", "--preset", "few", *data, "--dtype", "float32", "--out", out)
    assert rcnn(*asked) == 0
    told = capsys.readouterr()
    assert f"weights written to {out}" in told.out
    assert "6 photos with 12 objects: disc 6, square 6" in told.err
    weights = read_checkpoint(out)
    assert (weights.task, weights.classes) == ("shared", ("cat", "disc", "square"))
    assert weights.training["few"]["classes"] == ["disc", "square"]
    assert weights.training["int8"] == {"pixels": 151.0}  # the layers with ranges are the same
    assert [weights.training[name] for name in ("preset", "data", "photos")] == ["few", "mine.json", 6]
    page = (tmp_path / "mine.html").read_text()
    assert "each photo was searched with what was learned from other photos only" in page
    assert "ground truth: mine.json<" in page

    found = tmp_path / "found"
    photo = photos / "003.png"
    boxes = ("--proposals", "grid", "--score", 0, "--dtype", "float32")
    assert rcnn("detect", photo, "--out", found, "--weights", out, *boxes) == 0
    line = json.loads((found / "detections.jsonl").read_text())
    assert {"disc", "square"} <= set(line["labels"])
    assert rcnn(*asked) == 0
    assert "photos looked at: 6, 0 of them now" in capsys.readouterr().err
    again = read_checkpoint(out)
    assert all(torch.equal(value, weights.state[name]) for name, value in again.state.items())


def test_all_in_one_folder_and_the_same_command_again(
    rcnn: Callable[..., int], start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_voc(tmp_path / "drawn", "train", range(3))
    mine = tmp_path / "drawn/JPEGImages"
    write_coco(mine / "mine.json", range(3))
    data = (
        "--coco",
        mine / "mine.json",
        "--images",
        mine,
        "--weights",
        start,
        "--proposals",
        "grid",
        "--dtype",
        "float32",
    )
    words = ("train", "regions", "--preset", "few", *data, "--out", mine / "mine.safetensors")
    assert rcnn(*words) == 0
    page = (mine / "mine.html").read_bytes()
    assert rcnn(*words) == 0
    assert (mine / "mine.html").stat().st_size == pytest.approx(len(page), rel=0.01)
    (mine / "mine.html").write_text("my notes")
    assert rcnn(*words) == 2
    assert "mine.html: is no page of ours, and would be written over; name another place with --html" in (
        capsys.readouterr().err
    )
    assert (mine / "mine.html").read_text() == "my notes"
    assert rcnn(*words, "--html", mine / "mine.html") == 0  # it was named
    assert (mine / "mine.html").read_text() != "my notes"


def test_a_single_photo_is_learned_and_not_judged(
    rcnn: Callable[..., int], start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_voc(tmp_path / "voc", "train", range(1))
    data = ("--voc", tmp_path / "voc", "--weights", start, "--proposals", "grid", "--dtype", "float32")
    assert rcnn("train", "regions", "--preset", "few", *data, "--out", tmp_path / "one.safetensors") == 0
    said = capsys.readouterr()
    assert "no page, and no score: not judged, since there is no other photo to learn it from: disc, square" in said.err
    assert "AP" not in said.out
    assert not (tmp_path / "one.html").exists()
    assert read_checkpoint(tmp_path / "one.safetensors").classes == ("cat", "disc", "square")


def test_difficult_objects_are_learned_from_although_another_class_is_ignored(
    rcnn: Callable[..., int], start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_voc(tmp_path / "voc", "train", range(2))
    for path in (tmp_path / "voc/Annotations").iterdir():
        path.write_text(path.read_text().replace("<difficult>0<", "<difficult>1<"))
    data = ("--voc", tmp_path / "voc", "--weights", start, "--proposals", "grid", "--dtype", "float32")
    out = tmp_path / "w.safetensors"
    assert rcnn("train", "regions", "--preset", "few", *data, "--ignore", "disc", "--out", out) == 0
    assert read_checkpoint(out).classes == ("cat", "square")
    assert "warning: no object that counts of disc, which will not be learned" in capsys.readouterr().err


@pytest.mark.parametrize("page", ["drawn/JPEGImages/000.png", "mine.safetensors", "mine.json"])
def test_the_page_takes_the_place_of_nothing_else(
    rcnn: Callable[..., int], start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], page: str
) -> None:
    write_voc(tmp_path / "drawn", "train", range(2))
    write_coco(tmp_path / "mine.json", range(2))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    data = ("--coco", tmp_path / "mine.json", "--images", tmp_path / "drawn/JPEGImages", "--weights", start)
    words = ("train", "regions", "--preset", "few", *data, "--out", tmp_path / "mine.safetensors")
    assert rcnn(*words, "--html", tmp_path / page) == 2
    assert f"{Path(page).name}: " in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_only_new_classes_and_photos_to_validate_on(
    rcnn: Callable[..., int], start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_voc(tmp_path / "voc", "train", range(3))
    write_voc(tmp_path / "voc", "val", range(3, 5))
    out = tmp_path / "mine.safetensors"
    data = ("--voc", tmp_path / "voc", "--val", "val", "--classes", "square", "--html", tmp_path / "page.html")
    more = ("--weights", start, "--proposals", "grid", "--dtype", "float32")
    for option, classes in (([], ("cat", "square")), (["--only-new"], ("square",))):
        assert rcnn("train", "regions", "--preset", "few", *data, *more, *option, "--out", out) == 0
        assert read_checkpoint(out).classes == classes
        page = (tmp_path / "page.html").read_text()
        assert "ground truth: voc, split val" in page
        assert f"weights: {out}" in page
        assert "Where objects were lost" not in page  # and no advice to detect in another way: nothing was detected
        assert "on 2 photos with 2 objects" in capsys.readouterr().out


def test_options_without_meaning_are_refused(
    rcnn: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_voc(tmp_path / "voc", "train", range(1))
    data = ("train", "regions", "--voc", tmp_path / "voc", "--out", tmp_path / "w.safetensors")
    for option in ("--steps", "--batch", "--epochs", "--val-every", "--workers", "--seed", "--save-every"):
        assert rcnn(*data, "--preset", "few", option, 1) == 2
        assert f"{option} has no effect with --preset few" in capsys.readouterr().err
    assert rcnn(*data, "--preset", "few", "--features", "crops") == 2
    assert "--features crops has no effect with --preset few" in capsys.readouterr().err
    assert rcnn(*data, "--only-new") == 2
    assert "--only-new has no effect with --preset quick" in capsys.readouterr().err
    assert rcnn(*data, "--preset", "fwe") == 2
    assert "--preset 'fwe' is not one of quick, shipped, shared, few" in capsys.readouterr().err
    assert rcnn(*data, "--preset", "few", "--dtype", "int8") == 2
    assert "--dtype int8 is not for training" in capsys.readouterr().err
    for work, said in (
        ("voc", "voc: holds files that no training wrote (Annotations)"),
        ("w.safetensors", "is the same as --out"),
    ):
        assert rcnn(*data, "--preset", "few", "--work", tmp_path / work) == 2
        assert said in capsys.readouterr().err
    assert rcnn(*data, "--preset", "few", "--html", tmp_path / "w.work") == 2
    assert "w.work: is the folder of the run" in capsys.readouterr().err
    assert rcnn(*data, "--ignore", "disc", "--use-ignored") == 2
    assert "--ignore has no effect with --use-ignored" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert rcnn(*data, "--preset", "few") == 2
    assert "--preset few runs in one process" in capsys.readouterr().err
    assert not (tmp_path / "w.work").exists()


def test_weights_that_cannot_be_taught_are_refused(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_voc(tmp_path / "voc", "train", range(1))
    out = tmp_path / "w.safetensors"
    data = ("train", "regions", "--preset", "few", "--voc", tmp_path / "voc", "--out", out)
    assert rcnn(*data, "--weights", "default") == 2
    assert "weights for regions cannot learn new classes" in capsys.readouterr().err
    assert not out.exists()
