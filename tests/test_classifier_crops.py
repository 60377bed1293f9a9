"""Crops: each pixel against a slow loop, and what is promised of context, fill, mirroring, batches and huge photos."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from classifier import crops as module
from classifier.crops import RegionCrops, normalise, with_context
from classifier.weights.preprocessing import CAFFE, TORCHVISION

SIZE, CONTEXT = 14, 2


def smooth(height: int, width: int, seed: int = 0) -> Tensor:
    """A (3, H, W) picture with values around 0, other along every axis."""
    coarse = torch.randn(1, 3, 5, 7, generator=torch.Generator().manual_seed(seed)) * 50
    return functional.interpolate(coarse, (height, width), mode="bicubic")[0]


def boxes_of(*rows: tuple[float, float, float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def slow_crop(photo: np.ndarray, box: list[float], size: int, context: int) -> np.ndarray:
    """R-CNN's warp written out: the box on the middle pixels, bilinear between pixel centres, 0 outside the photo."""
    x1, y1, x2, y2 = box
    crop = np.zeros((3, size, size))
    for row in range(size):
        for column in range(size):
            x = x1 + (column + 0.5 - context) / (size - 2 * context) * (x2 - x1)
            y = y1 + (row + 0.5 - context) / (size - 2 * context) * (y2 - y1)
            crop[:, row, column] = bilinear(photo, x - 0.5, y - 0.5)
    return crop


def bilinear(photo: np.ndarray, x: float, y: float) -> np.ndarray:
    left, top = int(np.floor(x)), int(np.floor(y))
    total = np.zeros(3)
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < photo.shape[1] and 0 <= column < photo.shape[2]:
                total += photo[:, row, column] * (1 - abs(x - column)) * (1 - abs(y - row))
    return total


BOXES = [
    [3.0, 4.0, 17.0, 12.0],  # inside
    [0.0, 0.0, 30.0, 20.0],  # the whole photo
    [25.3, 15.7, 30.0, 20.0],  # in the corner
    [-8.0, -5.0, 6.0, 30.0],  # over three edges
    [7.2, 7.6, 7.5, 7.7],  # narrower than a pixel
    [4.0, 4.0, 4.0, 9.0],  # no width at all
    [100.0, 100.0, 130.0, 120.0],  # outside
    [0.0, 0.0, 30.0, 1.0],  # one row
]


@pytest.mark.parametrize("box", BOXES)
def test_every_pixel_against_a_slow_loop(box: list[float]) -> None:
    photo = smooth(20, 30)
    (crop,) = RegionCrops(photo, size=SIZE, context=CONTEXT)(torch.tensor([box]))
    assert crop.shape == (3, SIZE, SIZE)
    assert np.allclose(crop, slow_crop(photo.double().numpy(), box, SIZE, CONTEXT), atol=2e-3)


def test_the_slow_loop_can_fail() -> None:
    photo = smooth(20, 30)
    (crop,) = RegionCrops(photo, size=SIZE, context=CONTEXT)(torch.tensor([BOXES[0]]))
    wrong = slow_crop(photo.double().numpy(), [2.5, 3.5, 16.5, 11.5], SIZE, CONTEXT)  # no half-pixel centres
    assert np.abs(crop.numpy() - wrong).max() > 1


def test_convention_the_box_covers_the_middle_192_of_224_pixels() -> None:
    """On a ramp, whose value at any point is its x, the crop shows where each of its columns lies."""
    ramp = (torch.arange(300) + 0.5).expand(3, 300, 300).clone()
    (crop,) = RegionCrops(ramp, size=224, context=16)(boxes_of((50, 60, 146, 252)))  # 96 wide: half a pixel a column
    expected = 50 + (torch.arange(224) + 0.5 - 16) / 2
    assert torch.allclose(crop, expected.expand(3, 224, 224), atol=1e-3)
    turned = ramp.transpose(1, 2).contiguous()
    (crop,) = RegionCrops(turned, size=224, context=16)(boxes_of((60, 50, 252, 146)))
    assert torch.allclose(crop, expected[:, None].expand(3, 224, 224), atol=1e-3)


def test_growing_by_hand() -> None:
    grown = with_context(boxes_of((10, 20, 202, 212), (0, 0, 0, 0)), size=224, context=16)
    assert grown.tolist() == [[-6, 4, 218, 228], [0, 0, 0, 0]]
    box = boxes_of((1, 2, 5, 9))
    assert torch.equal(with_context(box, size=224, context=0), box)


def test_outside_is_the_mean_colour() -> None:
    image = np.full((40, 40, 3), 200, np.uint8)
    photo = normalise(image, CAFFE)
    inside, outside = RegionCrops(photo, size=224, context=16)(boxes_of((0, 0, 40, 40), (40, 40, 80, 80)))
    fade = 3  # half a pixel of the photo, at the rim
    assert (inside[:, : 16 - fade] == 0).all()
    assert (inside[:, :, fade - 16 :] == 0).all()
    middle = torch.tensor([96.0, 83.0, 77.0]).view(3, 1, 1).expand(3, 180, 180)
    assert torch.allclose(inside[:, 22:-22, 22:-22], middle, atol=1e-3)
    assert (outside[:, 24:, 24:] == 0).all()


def test_no_antialias_up_to_the_factor_that_skips_whole_pixels() -> None:
    """Stripes of one pixel, cut at half size: antialiasing would give grey, the plain warp picks what it meets."""
    stripes = torch.tensor([1.0, -1.0]).repeat(20).expand(3, 40, 40).clone()
    (crop,) = RegionCrops(stripes, size=10, context=0)(boxes_of((0, 0, 40, 40)))
    assert torch.allclose(crop, torch.zeros_like(crop), atol=1e-4)  # falls between +1 and -1 everywhere
    (crop,) = RegionCrops(stripes, size=10, context=0)(boxes_of((0.5, 0, 40.5, 40)))
    assert (crop[:, :, :-1].abs() > 0.99).all()


def test_mirrored_crops_are_flipped_crops() -> None:
    photo = smooth(20, 30)
    cut = RegionCrops(photo, size=SIZE, context=CONTEXT)
    boxes = torch.tensor(BOXES)
    assert torch.allclose(cut(boxes, mirrored=True), cut(boxes).flip(3), atol=2e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_the_mirrored_photo_gives_the_mirrored_crop(seed: int) -> None:
    photo = smooth(24, 33, seed)
    corners = np.sort(np.random.default_rng(seed).uniform(-10, 40, (2, 2)), axis=0)
    x1, y1, x2, y2 = corners.reshape(4).tolist()
    (crop,) = RegionCrops(photo, size=SIZE, context=CONTEXT)(boxes_of((x1, y1, x2, y2)))
    mirrored = RegionCrops(photo.flip(2), size=SIZE, context=CONTEXT)(boxes_of((33 - x2, y1, 33 - x1, y2)))[0]
    assert torch.allclose(mirrored.flip(2), crop, atol=5e-3)


def test_a_box_gives_the_same_crop_alone_and_in_any_company() -> None:
    photo = smooth(150, 120)
    boxes = torch.tensor([*BOXES, [0.0, 0.0, 120.0, 150.0], [-500.0, -500.0, 700.0, 600.0]])
    cut = RegionCrops(photo, size=SIZE, context=CONTEXT)
    together = cut(boxes)
    for row in reversed(range(len(boxes))):
        fresh = RegionCrops(photo, size=SIZE, context=CONTEXT)
        assert torch.equal(fresh(boxes[row : row + 1])[0], together[row]), row
    order = torch.randperm(len(boxes), generator=torch.Generator().manual_seed(0))
    assert torch.equal(cut(boxes[order]), together[order])


def test_no_boxes_give_no_crops() -> None:
    assert RegionCrops(smooth(5, 6), size=SIZE, context=CONTEXT)(torch.zeros(0, 4)).shape == (0, 3, SIZE, SIZE)


def test_photos_of_one_pixel_row_and_column() -> None:
    for shape in ((1, 1), (1, 500), (500, 1)):
        photo = torch.ones(3, *shape)
        box = boxes_of((0, 0, shape[1], shape[0]))
        (crop,) = RegionCrops(photo, size=24, context=0)(box)
        assert torch.isfinite(crop).all()
        assert torch.allclose(crop[:, 12, 12], torch.ones(3), atol=0.05), shape


@pytest.mark.parametrize("side", [130, 400, 1000])
def test_huge_boxes_are_averaged_not_sampled(side: int) -> None:
    """Noise of one pixel on a smooth picture: the crop stays close to the area average, a plain warp would not."""
    generator = torch.Generator().manual_seed(side)
    plain = smooth(side, side)
    photo = plain + torch.randn(3, side, side, generator=generator) * 30
    box = boxes_of((0, 0, side, side))
    (crop,) = RegionCrops(photo, size=SIZE, context=0)(box)
    reference = functional.interpolate(photo[None], (SIZE, SIZE), mode="area")[0]
    sampled = functional.interpolate(photo[None], (SIZE, SIZE), mode="bilinear", antialias=False)[0]
    edge = slice(1, -1)  # at the rim of the photo half a pixel fades into the mean colour
    error = (crop - reference)[:, edge, edge].abs().mean()
    assert error < 0.3 * (sampled - reference)[:, edge, edge].abs().mean()
    assert error < 4


def test_a_box_shrunk_by_exactly_the_limit_uses_the_photo_itself() -> None:
    photo = smooth(8 * SIZE, 8 * SIZE)
    side = module.MOST_SHRUNK * SIZE
    (crop,) = RegionCrops(photo, size=SIZE, context=0)(boxes_of((0, 0, side, side)))
    expected = functional.interpolate(photo[None, :, :side, :side], (SIZE, SIZE), mode="bilinear")[0]
    assert torch.allclose(crop, expected, atol=1e-2)


def test_boxes_in_float64_and_integers_are_taken() -> None:
    photo = smooth(20, 30)
    cut = RegionCrops(photo, size=SIZE, context=CONTEXT)
    box = boxes_of((3, 4, 17, 12))
    for other in (box.double(), box.long()):
        assert torch.allclose(cut(other), cut(box), atol=1e-3)


def test_normalising_by_hand() -> None:
    image = np.array([[[10, 20, 30]]], np.uint8)
    assert normalise(image, CAFFE).flatten().tolist() == [30 - 104, 20 - 117, 10 - 123]
    ours = normalise(image, TORCHVISION).flatten()
    theirs = (torch.tensor([10, 20, 30]) / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor(
        [0.229, 0.224, 0.225]
    )
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_arrays_as_other_libraries_give_them() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    expected = normalise(image, CAFFE)
    from_bgr = np.ascontiguousarray(image[:, :, ::-1])[:, :, ::-1]  # OpenCV's picture, turned round
    assert torch.equal(normalise(from_bgr, CAFFE), expected)
    locked = image.copy()
    locked.flags.writeable = False
    assert torch.equal(normalise(locked, CAFFE), expected)
    assert torch.equal(normalise(np.asfortranarray(image), CAFFE), expected)
    before = image.copy()
    normalise(image, TORCHVISION).zero_()
    assert np.array_equal(image, before)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 5), np.uint8),
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((4, 5, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"a photo must be RGB uint8 \(H, W, 3\), got"):
        normalise(image, CAFFE)
