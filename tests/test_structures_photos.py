"""Every form of the same photo gives the same pixels, and anything else is refused by name."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from structures.images import ORIENTATION, ImageError, read_image
from structures.photos import as_image, name_of, several

SIDES = st.tuples(st.integers(1, 6), st.integers(1, 6))


def pixels(seed: int = 0, shape: tuple[int, ...] = (5, 7, 3)) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def forms(image: Any) -> dict[str, Any]:
    """Return the forms in memory of one RGB photo."""
    first = torch.from_numpy(image).permute(2, 0, 1)
    return {
        "array": image,
        "backwards": image[::-1, ::-1].copy()[::-1, ::-1],
        "fractions": image / 255,
        "half": (image / 255).astype(np.float16).astype(np.float32),
        "16 bits": image.astype(np.uint16) * 257,
        "picture": PIL.Image.fromarray(image),
        "opaque": np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]),
        "tensor": first,
        "fractions in a tensor": first / 255,
        "with a gradient": (first.float() / 255).requires_grad_(),
        "16 bits in a tensor": torch.from_numpy(np.moveaxis(image, 2, 0).astype(np.uint16) * 257),
    }


@settings(max_examples=25)
@given(SIDES.flatmap(lambda sides: arrays.arrays(np.uint8, (*sides, 3))))
def test_every_form_of_a_photo_gives_the_same_pixels(image: Any) -> None:
    for name, form in forms(image).items():
        found = as_image(form)
        assert (found.dtype, found.flags.c_contiguous) == (np.uint8, True), name
        np.testing.assert_array_equal(found, image, err_msg=name)


@settings(max_examples=25)
@given(SIDES.flatmap(lambda sides: arrays.arrays(np.uint8, sides)))
def test_grey_equals_its_rgb(grey: Any) -> None:
    tensor = torch.from_numpy(grey)
    for form in (grey, grey[..., None], grey / 255, tensor, tensor[None], PIL.Image.fromarray(grey)):
        np.testing.assert_array_equal(as_image(form), np.dstack([grey] * 3))


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "CMYK", "1", "I;16"])
def test_a_file_and_its_picture_and_its_array_give_what_reading_gives(tmp_path: Path, suffix: str, mode: str) -> None:
    picture = PIL.Image.fromarray(pixels(shape=(5, 7, 4)), "RGBA")
    if mode == "I;16":
        picture = PIL.Image.fromarray(pixels(shape=(5, 7)).astype(np.uint16) * 255)
    elif mode != "RGBA":
        picture = (picture.convert("RGB") if mode in ("P", "CMYK", "1") else picture).convert(mode)
    path = tmp_path / f"a.{suffix}"
    try:
        picture.save(path, **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    except OSError:
        pytest.skip(f"no {mode} in {suffix}")
    image = read_image(path)
    with PIL.Image.open(path) as opened:
        for form in (str(path), path, opened):
            np.testing.assert_array_equal(as_image(form), image)
        if mode in ("RGB", "L", "RGBA", "I;16") and suffix != "webp":
            np.testing.assert_array_equal(as_image(np.asarray(opened)), image)


def test_transparent_pixels_are_laid_over_white() -> None:
    clear = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 0, 0, 51]]], np.uint8)
    assert as_image(clear).tolist() == [[[255] * 3, [10, 20, 30], [204] * 3]]
    assert as_image(torch.from_numpy(clear).permute(2, 0, 1)).tolist() == as_image(clear).tolist()


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("loaded", [False, True])
def test_exif_is_applied_to_paths_and_pictures(tmp_path: Path, suffix: str, loaded: bool) -> None:
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = 6
    path = tmp_path / f"a.{suffix}"
    PIL.Image.fromarray(pixels()).save(path, exif=exif)
    with PIL.Image.open(path) as picture:
        if loaded:
            picture.load()
        np.testing.assert_array_equal(as_image(picture), read_image(path))
        assert as_image(picture).shape == (7, 5, 3)
    with PIL.Image.open(path) as picture:
        np.testing.assert_array_equal(as_image(picture, exif="ignore"), read_image(path, exif="ignore"))


def test_a_photo_that_is_rgb_already_is_not_copied_and_no_input_is_changed() -> None:
    image = pixels()
    assert np.shares_memory(as_image(image), image)
    for form in forms(image).values():
        as_image(form)
    assert np.array_equal(image, pixels())


@pytest.mark.parametrize(
    ("photo", "complaint"),
    [
        (None, "a photo is a path .*, a PIL image, a NumPy array .* or a torch tensor .*, not NoneType$"),
        (b"a.jpg", "not bytes$"),
        (io.BytesIO(), "not BytesIO$"),
        ([pixels()], "not list; pass several photos one at a time"),
        (np.zeros((2, 5, 7, 3), np.uint8), r"a NumPy array \(2, 5, 7, 3\) of uint8 .*one at a time"),
        (np.zeros((3, 5, 7), np.uint8), r"expected \(H, W, 3\); np\.moveaxis\(photo, 0, 2\)"),
        (np.zeros((5, 7, 2), np.uint8), r"\(5, 7, 2\) of uint8 is not a photo"),
        (np.zeros(7, np.uint8), "is not a photo"),
        (np.zeros((0, 7, 3), np.uint8), "holds no pixels"),
        (PIL.Image.new("RGB", (0, 3)), "holds no pixels"),
        (np.zeros((5, 7, 3), int), "of int64: expected uint8 from 0 to 255"),
        (np.zeros((5, 7, 3), bool), "of bool: expected uint8"),
        (np.full((5, 7, 3), 255.0), "floats must be from 0 .* to 1 .*, these are from 255 to 255"),
        (np.full((5, 7), -0.1), "these are from -0.1 to -0.1"),
        (np.full((5, 7), np.nan), "these are from nan to nan"),
        (torch.zeros(5, 7, 3), r"a torch tensor \(5, 7, 3\) of float32 .*photo\.permute\(2, 0, 1\)"),
        (torch.zeros(2, 3, 5, 7), "one at a time"),
        (torch.zeros(3, 5, 7, dtype=torch.int32), "of int32: expected uint8"),
        ("", "no such file|not a picture|directory"),
        ("none.jpg", "none.jpg: no such file"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_not_a_photo_is_refused_with_what_was_expected(photo: Any, complaint: str) -> None:
    with pytest.raises(ImageError, match=complaint) as error:
        as_image(photo)
    assert "\n" not in str(error.value)


def test_a_picture_that_is_cut_off_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    PIL.Image.fromarray(pixels(shape=(50, 70, 3))).save(path)
    path.write_bytes(path.read_bytes()[:-3000])
    with PIL.Image.open(path) as picture, pytest.raises(ImageError, match=r"a\.png .*: cannot be decoded: "):
        as_image(picture)


def test_the_name_of_a_photo_is_its_path() -> None:
    assert name_of("a/b.jpg") == name_of(Path("a") / "b.jpg") == "a/b.jpg"
    assert [name_of(photo) for photo in (pixels(), PIL.Image.fromarray(pixels()), torch.zeros(3, 2, 2))] == [""] * 3


def test_several_photos_are_not_a_single_one() -> None:
    for one in ("a.jpg", Path("a.jpg"), PIL.Image.fromarray(pixels()), pixels(), torch.zeros(3, 2, 2), 5):
        with pytest.raises(ImageError, match=r"^`photos` must be "):
            several(one)  # type: ignore[arg-type]
    for some in ([pixels()], iter("ab"), torch.zeros(2, 3, 5, 7), np.zeros((2, 5, 7, 3))):
        assert several(some) is some
