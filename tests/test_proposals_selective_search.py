"""Selective Search as a whole: ranking, settings, odd inputs, and what every photo's boxes must fulfil."""

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proposals.resizing import as_rgb, resize
from proposals.selective_search.colours import COLOUR_SPACES, convert
from proposals.selective_search.search import SelectiveSearch
from proposals.selective_search.strategy import Strategy, fast, quality, single, strategies
from structures.boxes import iou, mirror
from tests.boxes import keeps_protocol


@pytest.fixture(scope="module")
def photo():
    from skimage import data

    return data.astronaut()[:300, :400]


def boxes_of_photo(seed, height, width, noise=3):
    """A picture of flat rectangles with noise."""
    random = np.random.default_rng(seed)
    image = np.full((height, width, 3), 120, np.uint8)
    for _ in range(6):
        x1, x2 = np.sort(random.integers(0, width + 1, 2))
        y1, y2 = np.sort(random.integers(0, height + 1, 2))
        image[y1:y2, x1:x2] = random.integers(0, 256, 3)
    return np.clip(image + random.normal(0, noise, image.shape), 0, 255).astype(np.uint8)


def check(found, image_size):
    """Assert what the protocol promises, and that boxes are of whole pixels."""
    keeps_protocol(found, image_size)
    assert (found.boxes == np.rint(found.boxes)).all()


def test_named_settings_are_the_papers():
    assert len(single()) == 1
    assert len(fast()) == 8
    assert len(quality()) == 80
    assert {s.k for s in fast(2)} == {s.min_size for s in fast(2)} == {100, 200}
    assert {s.colour_space for s in quality()} == {"HSV", "Lab", "rgI", "H", "I"}


def test_photo_gives_the_protocol_and_the_same_boxes_again(photo):
    before = photo.copy()
    search = SelectiveSearch(fast(2), threads=2)
    found, again, alone = search(photo), search(photo), SelectiveSearch(fast(2), threads=1)(photo)
    check(found, (300, 400))
    assert len(found) > 200
    for other in (again, alone):
        np.testing.assert_array_equal(found.boxes, other.boxes)
        np.testing.assert_array_equal(found.scores, other.scores)
    np.testing.assert_array_equal(photo, before)


def test_twice_the_superpixels_give_about_half_the_boxes(photo):
    ratio = len(SelectiveSearch(fast(2))(photo)) / len(SelectiveSearch(fast(1))(photo))
    assert 0.35 < ratio < 0.65


def test_seed_changes_the_order_only(photo):
    one, two = (SelectiveSearch(single(), seed=seed)(photo) for seed in (0, 1))
    assert one.boxes.tolist() != two.boxes.tolist()
    assert sorted(one.boxes.tolist()) == sorted(two.boxes.tolist())


def test_ranking_by_hand():
    """Position from the top times the seeded number: the last region made is the whole image, position 1."""
    search = SelectiveSearch(single(), seed=7)
    random = np.random.default_rng((7, 3)).random(5)
    np.testing.assert_allclose(search._rank_values(3, 5), random * [5, 4, 3, 2, 1], rtol=1e-6)


def test_first_boxes_are_larger_than_last(photo):
    """The top of the trees comes first, which OpenCV has upside down."""
    boxes = SelectiveSearch(fast(2))(photo).boxes
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert np.median(area[:100]) > 3 * np.median(area[-100:])


def test_small_boxes_are_dropped_at_search_size(photo):
    small = photo[::2, ::2]  # 150 x 200: 20 px at width 500 are 8 px here
    boxes = SelectiveSearch(fast(1))(small).boxes
    sides = (boxes[:, 2:] - boxes[:, :2]).min()
    assert 7 <= sides <= 9


@settings(derandomize=True, max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 80), st.integers(1, 80))
def test_any_picture_fulfils_the_protocol(seed, height, width):
    check(SelectiveSearch(single(), width=120)(boxes_of_photo(seed, height, width)), (height, width))


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 2), (2, 1), (1, 300), (300, 1), (600, 20), (20, 600), (3, 5000), (5000, 3)]
)
def test_odd_shapes(shape):
    flat = np.full((*shape, 3), 200, np.uint8)
    assert SelectiveSearch(fast(2))(flat).boxes.tolist() == [[0, 0, shape[1], shape[0]]]
    noisy = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    check(SelectiveSearch(fast(2))(noisy), shape)
    check(SelectiveSearch(fast(1), width=None, min_side=0)(noisy), shape)


def test_two_pixels():
    """Two pixels are two superpixels when they differ enough: without resizing they and the whole are the boxes."""
    image = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    apart = SelectiveSearch([Strategy("RGB", "CTSF", 1, 0)], width=None, min_side=0, sigma=0)
    for turned in (image, image.swapaxes(0, 1)):
        height, width = turned.shape[:2]
        found = apart(turned).boxes.tolist()
        second = [width - 1, height - 1, width, height]
        assert sorted(found) == sorted([[0, 0, 1, 1], second, [0, 0, width, height]])
    together = SelectiveSearch([Strategy("RGB", "CTSF", 500, 0)], width=None, min_side=0, sigma=0)
    assert together(image).boxes.tolist() == [[0, 0, 2, 1]]


def test_a_very_large_photo():
    image = np.zeros((6000, 8000, 3), np.uint8)
    image[1000:4000, 2000:7000] = (200, 30, 60)
    found = SelectiveSearch(fast(2))(image)
    check(found, (6000, 8000))
    assert iou(found.boxes, np.array([[2000, 1000, 7000, 4000]], np.float32)).max() > 0.98


def test_without_resizing_boxes_are_exact():
    image = np.zeros((90, 120, 3), np.uint8)
    image[20:70, 30:100] = (200, 30, 60)
    assert [30, 20, 100, 70] in SelectiveSearch(single(), width=None, sigma=0)(image).boxes.tolist()


def test_grey_and_16_bit_arrays(photo):
    grey = photo[:, :, 0]
    search = SelectiveSearch(strategies(["I"], ["CTSF"], [100]))
    expected = search(np.stack([grey] * 3, axis=2)).boxes
    for same in (grey, grey[:, :, None], grey.astype(np.uint16) * 257):
        np.testing.assert_array_equal(search(same).boxes, expected)


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_other_arrays_are_refused(wrong):
    with pytest.raises(ValueError, match="photo"):
        as_rgb(wrong)


def test_metamorphic_mirror(photo):
    """The mirrored photo gives the mirrored boxes, but for the few that hang on ties.

    The photo is laid out at search size and in floats there are no ties to speak of; grey levels do have some.
    """
    search = SelectiveSearch(strategies(["Lab"], ["CTSF"], [100]), width=None)
    straight = search(photo).boxes
    turned = mirror(search(np.ascontiguousarray(photo[:, ::-1])).boxes, (300, 400))
    best = iou(straight, turned).max(axis=1)
    assert (best > 0.9).mean() > 0.8
    flat = np.zeros((60, 90, 3), np.uint8)
    flat[10:30, 5:45] = (250, 60, 10)
    flat[35:55, 40:82] = (20, 60, 250)
    straight = search(flat).boxes
    turned = mirror(search(np.ascontiguousarray(flat[:, ::-1])).boxes, (60, 90))
    assert sorted(straight.tolist()) == sorted(turned.tolist())


def test_metamorphic_mirror_of_noisy_pictures():
    """Where ties are rare nearly every mirrored picture gives exactly the mirrored boxes."""
    same = 0
    for seed in range(40):
        height, width = np.random.default_rng(seed).integers(5, 80, 2)
        image = boxes_of_photo(seed, height, width, noise=40)
        search = SelectiveSearch(strategies(["RGB"], ["CTSF"], [40]), width=None, min_side=0)
        turned = mirror(search(np.ascontiguousarray(image[:, ::-1])).boxes, (height, width))
        same += sorted(search(image).boxes.tolist()) == sorted(turned.tolist())
    assert same >= 38


@pytest.mark.parametrize("space", list(COLOUR_SPACES))
def test_colour_spaces_stay_in_range_and_work(space, photo):
    channels = convert(photo, space)
    assert channels.dtype == np.float32
    assert channels.shape[1:] == photo.shape[:2]
    assert channels.min() >= 0
    assert channels.max() <= 255
    check(SelectiveSearch(strategies([space], ["CTSF"], [200]))(photo), (300, 400))


def test_colour_spaces_at_their_limits():
    corners = np.array(np.meshgrid([0, 255], [0, 255], [0, 255])).reshape(3, 1, 8).transpose(1, 2, 0).astype(np.uint8)
    for space in COLOUR_SPACES:
        channels = convert(corners, space)
        assert channels.min() >= 0
        assert channels.max() <= 255


@pytest.mark.parametrize(("space", "tolerance"), [("rgb", 3), ("C", 3), ("H", 4)])
def test_shadows_are_ignored_where_the_paper_says(space, tolerance):
    bright = np.random.default_rng(0).integers(100, 250, (20, 20, 3)).astype(np.uint8) & 0xFE
    bright[:, :, 0] |= 128  # keep some colour, hue is undefined without
    bright[:, :, 2] = 60
    shadow = bright // 2
    change = np.abs(convert(bright, space) - convert(shadow, space))
    assert np.median(change) < tolerance
    assert np.median(np.abs(convert(bright, "RGB") - convert(shadow, "RGB"))) > 10 * tolerance


def test_normalised_rg_and_intensity_by_hand():
    """In OpenCV's Selective Search rgI holds raw red and green; here a half-lit surface keeps its r and g."""
    bright, shadow = np.array([[[200, 100, 20]]], np.uint8), np.array([[[100, 50, 10]]], np.uint8)
    r, g, intensity = convert(bright, "rgI").ravel().tolist()
    np.testing.assert_allclose([r, g], [255 * 200 / 320, 255 * 100 / 320], rtol=1e-6)
    assert intensity == round(0.299 * 200 + 0.587 * 100 + 0.114 * 20)
    np.testing.assert_allclose(convert(shadow, "rgI").ravel(), [r, g, intensity / 2], atol=0.5)


@pytest.mark.parametrize(
    ("space", "red", "green", "blue"),
    [
        ("Lab", (136, 208, 195), (224, 42, 211), (82, 207, 20)),  # red is L* 53.2, a* 80.1, b* 67.2
        ("HSV", (0, 255, 255), (85, 255, 255), (170, 255, 255)),  # hues of 0, 120 and 240 degrees of 360
        ("H", (0,), (85,), (170,)),
        ("C", (255, 255), (0, 255), (127.5, 0)),  # O1 / O3 is 1.225, -1.225, 0; O2 / O3 0.707, 0.707, -1.414
    ],
)
def test_pure_colours_by_hand(space, red, green, blue):
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_allclose(convert(colours, space)[:, 0].T, [red, green, blue], atol=1)


def test_resizing_limits_the_height_of_narrow_photos():
    assert resize(np.zeros((100, 50, 3), np.uint8), 500).image.shape == (1000, 500, 3)
    assert resize(np.zeros((3000, 1000, 3), np.uint8), 500).image.shape == (1500, 500, 3)
    assert resize(np.zeros((4000, 4, 3), np.uint8), 500).image.shape == (2000, 2, 3)
    assert resize(np.zeros((1, 9000, 3), np.uint8), 500).image.shape == (1, 500, 3)
    for width in (499, 500, 501):
        assert resize(np.zeros((8000, width, 3), np.uint8), 500).image.shape == (2000, 125, 3)
    assert resize(np.zeros((2000, 500, 3), np.uint8), 500).image.shape == (2000, 500, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("CMYK", "CTSF", 50, 50), "colour space"),
        (("HSV", "CTSX", 50, 50), "CTSF"),
        (("HSV", "CTSF", 0, 50), "k must be"),
        (("HSV", "CTSF", float("nan"), 50), "k must be"),
    ],
)
def test_wrong_strategies_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Strategy(*arguments)


def test_no_strategy_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        SelectiveSearch([])


def test_nothing_is_compiled_at_import():
    code = (
        "import proposals.selective_search;"
        "from proposals.selective_search import segmentation as s, features as f, grouping as g;"
        "print(sum(len(d.signatures) for m in (s, f, g) for d in vars(m).values() if hasattr(d, 'signatures')))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert out.stdout.strip() == "0"


def test_a_search_goes_to_other_processes_also_after_it_used_threads():
    search = SelectiveSearch(fast(), threads=2)
    image = np.random.default_rng(5).integers(0, 256, (60, 70, 3), np.uint8)
    here = search(image)
    for method in ("fork", "spawn"):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
            there = pool.submit(search, image).result(timeout=120)
        np.testing.assert_array_equal(here.boxes, there.boxes)


def test_many_callers_share_the_threads_and_get_the_same_boxes():
    images = [np.random.default_rng(i).integers(0, 256, (50, 60, 3), np.uint8) for i in range(8)]
    search, alone = SelectiveSearch(fast(), threads=2), SelectiveSearch(fast(), threads=1)
    with ThreadPoolExecutor(4) as callers:
        found = list(callers.map(search, images))
    for image, proposals in zip(images, found, strict=True):
        np.testing.assert_array_equal(proposals.boxes, alone(image).boxes)


def test_an_error_in_a_thread_reaches_the_caller(monkeypatch):
    def broken(image, space):
        raise MemoryError(space)

    monkeypatch.setattr("proposals.selective_search.search.convert", broken)
    with pytest.raises(MemoryError):
        SelectiveSearch(fast(), threads=2)(np.zeros((40, 40, 3), np.uint8))


def run_compiled(folder, begin="pass"):
    """Return what a compiled function gives in a process of its own, with its cache in the folder."""
    (folder / "tiny.py").write_text(
        "from proposals.selective_search.compiled import compiled\n\n@compiled\ndef twice(x):\n    return 2 * x\n"
    )
    code = f"import sys; sys.path.append({str(folder)!r}); import tiny; {begin}; print(tiny.twice(21))"
    own = {"RCNN_CACHE": str(folder / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    env = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"} | own
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are those of Unix")
def test_a_cache_without_room_only_costs_time(tmp_path):
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
    assert run_compiled(tmp_path, full) == "42\n"
    assert not list(tmp_path.rglob("*.nb?"))


def test_a_damaged_cache_is_made_again(tmp_path):
    assert run_compiled(tmp_path) == "42\n"
    (index,), (code,) = tmp_path.rglob("*.nbi"), tmp_path.rglob("*.nbc")
    whole = index.read_bytes(), code.read_bytes()
    index.write_bytes(whole[0][:50])
    assert run_compiled(tmp_path) == "42\n"
    assert index.read_bytes() == whole[0]
    code.write_bytes(whole[1][:50])
    assert run_compiled(tmp_path) == "42\n"
    assert code.stat().st_size > 50
