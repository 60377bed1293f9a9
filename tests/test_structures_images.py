"""Every kind of picture file becomes the RGB photo that a viewer shows, or an error that names the file."""

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from structures.images import MAX_PIXELS, ORIENTATION, ImageError, ImageTooLarge, decode_image, read_image, read_size

WIDTH, HEIGHT = 48, 32


def scene() -> np.ndarray[Any, Any]:
    """Return a smooth photo whose four quarters differ, so that every turn shows."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    red, green = x * 255 / (WIDTH - 1), y * 255 / (HEIGHT - 1)
    return np.stack([red, green, (red + green) / 2], axis=2).astype(np.uint8)


def save(path: Path, picture: PIL.Image.Image, **options: Any) -> Path:
    picture.save(path, **options)
    return path


def from_array(values: np.ndarray[Any, Any]) -> PIL.Image.Image:
    return PIL.Image.fromarray(values)


def assert_owned_rgb(image: np.ndarray[Any, Any], height: int, width: int) -> None:
    assert image.shape == (height, width, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable
    assert image.flags.owndata


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp"])
def test_lossless_formats_come_back_exactly(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    image = read_image(save(tmp_path / f"photo.{suffix}", from_array(scene()), **options))
    assert_owned_rgb(image, HEIGHT, WIDTH)
    np.testing.assert_array_equal(image, scene())


def test_the_content_decides_the_format_not_the_name(tmp_path: Path) -> None:
    path = save(tmp_path / "photo.jpg", from_array(scene()), format="PNG")
    np.testing.assert_array_equal(read_image(path), scene())


def test_jpeg_is_close(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "photo.jpg", from_array(scene()), quality=95))
    assert np.abs(image.astype(int) - scene()).mean() < 3


def test_grey_png_has_three_equal_channels(tmp_path: Path) -> None:
    grey = scene()[:, :, 0]
    image = read_image(save(tmp_path / "grey.png", from_array(grey)))
    np.testing.assert_array_equal(image, np.stack([grey] * 3, axis=2))


def test_16_bit_png_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH).astype(np.uint16)
    image = read_image(save(tmp_path / "deep.png", from_array(values)))
    assert_owned_rgb(image, HEIGHT, WIDTH)
    np.testing.assert_array_equal(image[:, :, 0], np.rint(values / 257).astype(np.uint8))
    assert len(np.unique(image)) == 256


def test_a_dark_16_bit_png_stays_dark(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "dark.png", from_array(np.full((4, 4), 200, np.uint16))))
    assert image.max() == 1


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_16_bit_tiff_of_either_byte_order(tmp_path: Path, order: str) -> None:
    mode = "I;16" if order == "<u2" else "I;16B"
    values = np.array([[0, 257, 65535]], order)
    picture = PIL.Image.frombytes(mode, (3, 1), values.tobytes())
    assert read_image(save(tmp_path / "deep.tif", picture))[0, :, 0].tolist() == [0, 1, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[-7, 100, 255]], np.float32), [0, 100, 255]),
        (np.array([[0, 257, 65535]], np.float32), [0, 1, 255]),
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[0, 65535, 131070]], np.int32), [0, 128, 255]),
    ],
)
def test_float_and_32_bit_pictures_are_brought_to_8_bits_by_range(
    tmp_path: Path, values: np.ndarray[Any, Any], expected: list[int]
) -> None:
    assert read_image(save(tmp_path / "float.tif", from_array(values)))[0, :, 0].tolist() == expected


def test_a_float_picture_with_nan_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "nan.tif", from_array(np.array([[0, np.nan]], np.float32)))
    with pytest.raises(ImageError, match=r"nan\.tif: .*not finite"):
        read_image(path)


def test_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "print.jpg", from_array(scene()).convert("CMYK"), quality=95))
    assert np.abs(image.astype(int) - scene()).mean() < 5


def test_transparent_pixels_are_laid_over_white(tmp_path: Path) -> None:
    rgba = np.dstack([scene(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    rgba[:, :10] = (10, 20, 30, 0)  # a colour that nobody is meant to see
    rgba[:, 10:20] = (0, 0, 0, 128)
    image = read_image(save(tmp_path / "cut.png", from_array(rgba)))
    assert (image[:, :10] == 255).all()
    assert np.abs(image[:, 10:20].astype(int) - 127).max() <= 1
    np.testing.assert_array_equal(image[:, 20:], scene()[:, 20:])


def test_grey_with_alpha_is_laid_over_white(tmp_path: Path) -> None:
    pixels = np.array([[[0, 255], [0, 0], [100, 255]]], np.uint8)
    image = read_image(save(tmp_path / "la.png", PIL.Image.frombytes("LA", (3, 1), pixels.tobytes())))
    assert image[0].tolist() == [[0, 0, 0], [255, 255, 255], [100, 100, 100]]


def palette_picture() -> PIL.Image.Image:
    picture = PIL.Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    return picture


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 255])], ids=["one colour", "alpha table"])
def test_palette_with_transparency_is_laid_over_white(tmp_path: Path, transparency: Any) -> None:
    path = save(tmp_path / "palette.png", palette_picture(), transparency=transparency)
    assert read_image(path)[0].tolist() == [[255, 0, 0], [255, 255, 255], [0, 0, 255]]


def test_palette_and_bilevel_pictures(tmp_path: Path) -> None:
    path = save(tmp_path / "palette.png", palette_picture())
    assert read_image(path)[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    path = save(tmp_path / "bilevel.png", from_array(np.array([[0, 255]], np.uint8)).convert("1"))
    assert read_image(path)[0].tolist() == [[0, 0, 0], [255, 255, 255]]


def test_of_an_animation_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [PIL.Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    path = save(tmp_path / "moving.gif", frames[0], save_all=True, append_images=frames[1:])
    assert (read_image(path) == [255, 0, 0]).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif"])
def test_a_single_pixel(tmp_path: Path, suffix: str) -> None:
    assert_owned_rgb(read_image(save(tmp_path / f"dot.{suffix}", PIL.Image.new("RGB", (1, 1)))), 1, 1)


# What the stored pixels must be turned by, written out with NumPy as a second opinion.
DISPLAYED = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", DISPLAYED)
def test_exif_orientation_is_applied_or_ignored(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"turned.{suffix}", from_array(scene()), exif=exif, **options)
    np.testing.assert_array_equal(read_image(path), DISPLAYED[orientation](scene()))
    np.testing.assert_array_equal(read_image(path, exif="ignore"), scene())


def test_convention_boxes_refer_to_the_photo_as_displayed(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = 6
    path = save(tmp_path / "turned.jpg", from_array(scene()), exif=exif, quality=95)
    assert_owned_rgb(read_image(path), WIDTH, HEIGHT)
    assert_owned_rgb(read_image(path, exif="ignore"), HEIGHT, WIDTH)
    assert np.abs(read_image(path).astype(int) - DISPLAYED[6](scene())).mean() < 3


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8, 9])
def test_the_size_is_that_of_the_photo_as_displayed(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    path = save(tmp_path / f"turned.{suffix}", from_array(scene()), exif=exif)
    assert read_size(path) == read_image(path).shape[:2]


def test_files_without_a_size_are_named(tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"no picture")
    for name, complaint in (("no.png", "not a picture"), ("none.png", "no such file")):
        with pytest.raises(ImageError, match=f"{name}: {complaint}"):
            read_size(tmp_path / name)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_exif_orientation_out_of_range_and_broken_exif_leave_the_photo_as_it_is(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = 99
    np.testing.assert_array_equal(read_image(save(tmp_path / "99.png", from_array(scene()), exif=exif)), scene())
    broken = save(tmp_path / "broken.png", from_array(scene()), exif=b"Exif\0\0MM\0*\0\0\0\x08garbage")
    np.testing.assert_array_equal(read_image(broken), scene())


@pytest.mark.parametrize("options", [{"format": "JPEG"}, {"format": "JPEG", "progressive": True}, {"format": "PNG"}])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.98])
def test_a_truncated_file_is_an_error_never_a_half_grey_photo(
    tmp_path: Path, options: dict[str, Any], share: float
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    from_array(noise).save(buffer, **options)
    path = tmp_path / "cut.jpg"
    path.write_bytes(buffer.getvalue()[: int(share * len(buffer.getvalue()))])
    with pytest.raises(ImageError, match=r"cut\.jpg: .+"):
        read_image(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"a shopping list\n", "not a picture"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "picture|decoded"),
    ],
)
def test_files_that_are_not_pictures(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "list.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"list\.jpg: .*({reason})"):
        read_image(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.jpg: no such file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="directory"):
        read_image(tmp_path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_small_file_that_unpacks_to_gigabytes_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    side = int(MAX_PIXELS**0.5) + 2
    path = tmp_path / "bomb.pgm"
    path.write_bytes(b"P5 %d %d 255\n" % (side, side))
    with pytest.raises(ImageError, match=rf"bomb\.pgm: more than {MAX_PIXELS} pixels"):
        read_image(path)


def test_names_with_spaces_and_accents(tmp_path: Path) -> None:
    path = save(tmp_path / "ünï cödé #1.png", from_array(scene()))
    np.testing.assert_array_equal(read_image(path), scene())
    np.testing.assert_array_equal(read_image(str(path)), scene())


def test_reading_in_threads(tmp_path: Path) -> None:
    path = save(tmp_path / "photo.png", from_array(scene()))
    results: list[bool] = []

    def read() -> None:
        results.extend(bool((read_image(path) == scene()).all()) for _ in range(5))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 20


def test_real_photos(data_dir: Path) -> None:
    path = data_dir / "voc2007" / "JPEGImages" / "000002.jpg"
    if not path.is_file():
        pytest.skip(f"no {path}")
    assert_owned_rgb(read_image(path), 500, 335)


def test_bytes_are_read_as_their_file_is(tmp_path: Path) -> None:
    file = save(tmp_path / "a.png", from_array(scene()))
    assert (decode_image(file.read_bytes()) == read_image(file)).all()


@pytest.mark.parametrize(("content", "word"), [(b"", "the file is empty"), (b"GIF", "not a picture")])
def test_bytes_that_are_not_a_picture_are_named(content: bytes, word: str) -> None:
    with pytest.raises(ImageError, match=f"^upload: {word}"):
        decode_image(content, name="upload")


def test_pictures_that_are_too_large_can_be_told_from_damaged_ones(tmp_path: Path) -> None:
    file = save(tmp_path / "a.png", from_array(scene()))
    with pytest.raises(ImageTooLarge):
        decode_image(file.read_bytes(), max_pixels=WIDTH * HEIGHT - 1)
    with pytest.raises(ImageTooLarge):
        read_image(file, max_pixels=10)
