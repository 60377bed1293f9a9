"""Whole photos: the views of the paper's protocol, what is cut for them, and how their softmax is averaged."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as tv

from classifier.googlenet import GoogLeNet
from classifier.images import ImageClassifier, best_classes, cut_views, resize_pixels
from classifier.placement import place
from classifier.views import LONGEST, View, list_views, resized, without_the_unseen
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.fitting import WeightsError
from classifier.weights.load import load_weights
from classifier.weights.preprocessing import CAFFE, TORCHVISION, Preprocessing
from structures.images import read_image

SMALL = replace(CAFFE, size=56, resize=64)  # a quarter of the paper's sizes: quick, and every scale is still whole
PLAIN = place(device="cpu", engine="torch", dtype="float32")


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random picture: noise alone would hide a shift by a pixel in the average."""
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 1)
    return (fine * 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.manual_seed(1)
    network = GoogLeNet(4)
    for parameter in network.fc.parameters():
        parameter.data *= 20  # so that the crops disagree
    return Checkpoint(network.state_dict(), ("a", "b", "c", "d"), SMALL)


def classifier(*checkpoints: Checkpoint, **options) -> ImageClassifier:
    return ImageClassifier(checkpoints, placement=PLAIN, **options)


def squares(views: dict[View, int], short: int) -> list[tuple[int, int]]:
    return sorted({(v.top, v.left) for v in views if v.side == short})


def test_views_of_a_landscape_photo_by_hand() -> None:
    views = list_views((500, 1000), 144, CAFFE)
    assert len(views) == 144
    assert set(views.values()) == {1}
    assert {(v.height, v.width) for v in views} == {(256, 512), (288, 576), (320, 640), (352, 704)}
    assert squares(views, 256) == [(0, 0), (0, 128), (0, 256)]
    assert squares(views, 352) == [(0, 0), (0, 176), (0, 352)]
    crops = sorted({(v.top, v.left) for v in views if v.height == 256 and v.side == 224})
    of_left = [(0, 0), (0, 32), (16, 16), (32, 0), (32, 32)]
    assert crops == sorted((top, left + start) for start in (0, 128, 256) for top, left in of_left)
    assert sum(v.mirrored for v in views) == 72


def test_views_of_a_portrait_photo_are_those_of_the_landscape_turned() -> None:
    turned = {View(v.width, v.height, v.left, v.top, v.side, v.mirrored) for v in list_views((500, 1000), 144, CAFFE)}
    assert turned == set(list_views((1000, 500), 144, CAFFE))


def test_a_square_photo_has_48_distinct_views_each_counted_three_times() -> None:
    views = list_views((300, 300), 144, CAFFE)
    assert len(views) == 48
    assert set(views.values()) == {3}


def test_ten_views_are_corners_and_centre_of_the_centre_square() -> None:
    views = list_views((256, 384), 10, CAFFE)
    corners = {(0, 64), (0, 96), (32, 64), (32, 96), (16, 80)}
    assert set(views) == {View(256, 384, t, x, 224, mirrored) for t, x in corners for mirrored in (False, True)}
    assert list_views((256, 384), 1, CAFFE) == {View(256, 384, 16, 80, 224, False): 1}
    assert list_views((100, 384), 1, CAFFE, warp=True) == {View(256, 256, 16, 16, 224, False): 1}


@pytest.mark.parametrize("crops", [1, 10, 144])
def test_a_squeezed_photo_has_the_views_of_a_square_one(crops) -> None:
    assert list_views((100, 384), crops, CAFFE, warp=True) == list_views((300, 300), crops, CAFFE)


def test_a_squeezed_photo_is_seen_from_edge_to_edge() -> None:
    pixels = torch.from_numpy(photo(60, 100)).permute(2, 0, 1)
    ours = list(cut_views(pixels, list_views((60, 100), 144, SMALL, warp=True), SMALL))
    square = tv.resize(pixels, [64, 64], InterpolationMode.BILINEAR, antialias=False)
    whole = tv.resize(square, [56, 56], InterpolationMode.BILINEAR, antialias=False)
    expected = whole.flip(0).float() - torch.tensor([104.0, 117.0, 123.0]).view(3, 1, 1)
    assert len(ours) == 48
    assert any(torch.equal(each, expected) for each in ours)


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([1, 10, 144]))
def test_views_lie_inside_the_photo_and_count_up(height: int, width: int, crops) -> None:
    views = list_views((height, width), crops, CAFFE)
    assert sum(views.values()) == crops
    for view in views:
        assert min(view.height, view.width) in (256, 288, 320, 352)
        assert 0 <= view.top <= view.height - view.side
        assert 0 <= view.left <= view.width - view.side


def test_wrong_choices_are_explained() -> None:
    with pytest.raises(ValueError, match="12 crops: not available, only 1, 10, 144"):
        list_views((10, 10), 12, CAFFE)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="brought to 200 hold no crop of 224"):
        list_views((10, 10), 1, replace(CAFFE, resize=200))


@pytest.mark.parametrize("size", [(300, 400), (401, 300), (77, 60)])
def test_one_crop_is_that_of_torchvision(size: tuple[int, int]) -> None:
    image = photo(*size)
    preprocessing = replace(TORCHVISION, resize=64, size=56)
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    (crop,) = cut_views(pixels, list_views(size, 1, preprocessing), preprocessing)
    theirs = v2.Compose([v2.Resize(64, antialias=True), v2.CenterCrop(56), v2.ToDtype(torch.float32, scale=True)])
    normal = v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert torch.allclose(crop, normal(theirs(pixels)), atol=1e-5)


def test_every_crop_against_a_slow_loop() -> None:
    """The paper's sentence, word by word, through torchvision's own functions."""
    image = photo(90, 150)
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    expected: list[torch.Tensor] = []
    for short in (64, 72, 80, 88):
        scaled = tv.resize(pixels, resized((90, 150), short), InterpolationMode.BILINEAR, antialias=False)
        length = scaled.shape[2]
        for left in (0, round((length - short) / 2), length - short):
            square = scaled[:, :, left : left + short]
            five = tv.five_crop(square, [56, 56])
            for crop in (*five, tv.resize(square, [56, 56], InterpolationMode.BILINEAR, antialias=False)):
                expected += [crop, tv.horizontal_flip(crop)]
    bgr = [each.flip(0).float() - torch.tensor([104.0, 117.0, 123.0]).view(3, 1, 1) for each in expected]
    ours = list(cut_views(pixels, list_views((90, 150), 144, SMALL), SMALL))
    assert len(ours) == len(bgr) == 144

    def fingerprints(crops: list[torch.Tensor]) -> Counter[bytes]:
        return Counter(crop.contiguous().numpy().tobytes() for crop in crops)

    assert fingerprints(ours) == fingerprints(bgr)


@pytest.mark.parametrize("crops", [1, 10, 144])
def test_softmax_is_averaged_over_crops(checkpoint: Checkpoint, crops) -> None:
    image = photo(70, 110)
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    views = list_views((70, 110), crops, SMALL)
    with torch.inference_mode():
        rows = checkpoint.network()(torch.stack(list(cut_views(pixels, views, SMALL)))).softmax(1)
    got = classifier(checkpoint, crops=crops)(image)
    assert np.allclose(got, rows.mean(0), atol=1e-5)
    assert got.dtype == np.float32
    assert crops == 1 or rows.std(0).max() > 0.01


def test_square_photos_give_the_same_with_a_third_of_the_work(checkpoint: Checkpoint) -> None:
    image = photo(80, 80)
    views = list_views((80, 80), 144, SMALL)
    repeated = [view for view, count in views.items() for _ in range(count)]
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    with torch.inference_mode():
        expected = checkpoint.network()(torch.stack(list(cut_views(pixels, repeated, SMALL)))).softmax(1).mean(0)
    assert len(repeated) == 144
    model = classifier(checkpoint, crops=144)
    seen: list[int] = []
    engine = model.members[0].engine
    model.members[0].engine = type("Counting", (), {"device": engine.device, "batch_size": 16, "__call__": None})()
    type(model.members[0].engine).__call__ = lambda _, batch: seen.append(len(batch)) or engine(batch)
    assert np.allclose(model(image), expected, atol=1e-5)
    assert sum(seen) == 48


def test_a_mirrored_photo_gets_the_same_answer_from_10_and_144_crops(checkpoint: Checkpoint) -> None:
    image = photo(64, 128)
    for crops in (10, 144):
        model = classifier(checkpoint, crops=crops)
        assert np.allclose(model(image), model(np.ascontiguousarray(image[:, ::-1])), atol=2e-3), crops


def test_photos_together_are_as_photos_alone(checkpoint: Checkpoint) -> None:
    images = [photo(64, 90, 1), photo(90, 64, 2), photo(1, 1, 3), photo(64, 64, 4)]
    model = classifier(checkpoint, crops=10, batch_size=7)
    together = model.many(images)
    assert together.shape == (4, 4)
    assert np.allclose(together, [model(image) for image in images], atol=1e-6)
    assert np.allclose(together.sum(1), 1, atol=1e-5)
    assert model.many([]).shape == (0, 4)


def test_an_ensemble_averages_and_honours_each_preprocessing(checkpoint: Checkpoint) -> None:
    torch.manual_seed(2)
    state = GoogLeNet(4, variant="batchnorm").state_dict()
    other = Checkpoint(state, checkpoint.classes, replace(TORCHVISION, size=40, resize=44), "batchnorm")
    image = photo(60, 80)
    alone = [classifier(each, crops=10)(image) for each in (checkpoint, other)]
    assert np.allclose(classifier(checkpoint, other, crops=10)(image), np.mean(alone, axis=0), atol=1e-6)
    assert np.abs(alone[0] - alone[1]).max() > 1e-3


def test_weights_that_do_not_belong_together(checkpoint: Checkpoint) -> None:
    with pytest.raises(WeightsError, match="no weights"):
        ImageClassifier([])
    with pytest.raises(WeightsError, match="for regions"):
        ImageClassifier([replace(checkpoint, task="regions")])
    with pytest.raises(WeightsError, match="same classes"):
        ImageClassifier([checkpoint, replace(checkpoint, classes=("d", "c", "b", "a"))])
    with pytest.raises(ValueError, match="7 crops: not available"):
        ImageClassifier([checkpoint], crops=7)  # type: ignore[arg-type]


def test_photos_may_be_views_and_must_be_photos(checkpoint: Checkpoint) -> None:
    model, image = classifier(checkpoint), photo(60, 80)
    mirrored = image[:, ::-1]
    assert np.array_equal(model(mirrored), model(mirrored.copy()))
    image.setflags(write=False)
    model(image)
    for wrong in (np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3)), np.zeros((0, 5, 3), np.uint8)):
        with pytest.raises(ValueError, match="a photo must be RGB uint8"):
            model(wrong)


def test_best_classes_break_ties_by_column() -> None:
    rows = np.array([0.25, 0.25, 0.5], np.float32)
    assert [name for name, _ in best_classes(rows, ("x", "y", "z"))] == ["z", "x", "y"]


def test_very_long_photos_are_cut_without_a_change_of_answer(checkpoint: Checkpoint, monkeypatch) -> None:
    image = photo(20, 20 * LONGEST + 40)
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    shorter = without_the_unseen(pixels)
    assert shorter.shape == (3, 20, 120)
    for ours, theirs in (
        (slice(0, 40), slice(0, 40)),
        (slice(40, 80), slice(80, 120)),
        (slice(80, 120), slice(-40, None)),
    ):
        assert torch.equal(shorter[:, :, ours], pixels[:, :, theirs])
    assert torch.equal(without_the_unseen(pixels.transpose(1, 2)), shorter.transpose(1, 2))
    assert without_the_unseen(torch.zeros(3, 1, 5000)).shape == (3, 1, 6)
    model = classifier(checkpoint, crops=144)
    cut = model(image)
    monkeypatch.setattr("classifier.views.LONGEST", 1000)
    assert np.allclose(model(image), cut, atol=2e-5)


def test_a_warp_sees_all_of_a_very_long_photo(checkpoint: Checkpoint) -> None:
    image = photo(20, 20 * LONGEST + 80)
    changed = image.copy()
    changed[:, 45:85] = 255 - changed[:, 45:85]  # beside what any square crop reaches
    plain, warped = classifier(checkpoint), classifier(checkpoint, warp=True)
    assert np.allclose(plain(changed), plain(image), atol=1e-6)
    assert np.abs(warped(changed) - warped(image)).max() > 1e-4


def test_answers_that_are_not_finite_are_an_error(checkpoint: Checkpoint) -> None:
    large = replace(checkpoint, state={**checkpoint.state, "fc.bias": torch.tensor([3e38, -3e38, 0, 0]) * 2})
    with pytest.raises(ValueError, match="outputs are not finite in float32"):
        classifier(large)(photo(60, 80))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "area"])
def test_every_interpolation_keeps_a_plain_colour(interpolation) -> None:
    preprocessing = Preprocessing(mean=(0, 0, 0), size=56, resize=64, interpolation=interpolation)
    pixels = torch.full((3, 50, 70), 9, dtype=torch.uint8)
    for crop in cut_views(pixels, list_views((50, 70), 144, preprocessing), preprocessing):
        assert crop.shape == (3, 56, 56)
        assert (crop == 9).all()


def test_halving_by_area_averages_and_by_nearest_skips() -> None:
    pixels = torch.from_numpy(photo(8, 12)).permute(2, 0, 1)
    means = pixels.float().unfold(1, 2, 2).unfold(2, 2, 2).mean((3, 4)).round()
    assert torch.equal(resize_pixels(pixels, 4, 6, Preprocessing(interpolation="area")).float(), means)
    assert torch.equal(resize_pixels(pixels, 4, 6, Preprocessing(interpolation="nearest")), pixels[:, ::2, ::2])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_smooth_interpolations_are_those_of_pillow(interpolation) -> None:
    image = photo(50, 70)
    preprocessing = Preprocessing(interpolation=interpolation, antialias=True)
    ours = resize_pixels(torch.from_numpy(image).permute(2, 0, 1), 21, 33, preprocessing).permute(1, 2, 0).numpy()
    theirs = PIL.Image.fromarray(image).resize((33, 21), PIL.Image.Resampling[interpolation.upper()])
    assert np.abs(ours.astype(int) - np.asarray(theirs)).max() <= 1


def test_bvlc_tells_photos_apart(data_dir: Path) -> None:
    """Weak: twenty photos; the full figures stand in docs/classification.md."""
    checkpoint = load_weights(data_dir / "weights" / "bvlc_googlenet.npz")
    synsets = [line.split()[0] for line in (data_dir / "imagenet1000" / "classes.txt").read_text().splitlines()]
    folders = sorted((data_dir / "imagenet1000" / "images").iterdir())[::25]
    images = [read_image(next(folder.iterdir())) for folder in folders]
    rows = classifier(checkpoint, warp=True, batch_size=10).many(images)
    labels = np.array([synsets.index(folder.name) for folder in folders])
    assert (rows.argmax(1) == labels).mean() >= 0.6
    assert np.mean([label in row.argsort()[-5:] for row, label in zip(rows, labels, strict=True)]) >= 0.85
