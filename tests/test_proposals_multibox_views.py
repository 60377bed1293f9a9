"""Views: boxes there and back, what is drawn where, and training samples from a seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.weights.preprocessing import CAFFE
from proposals.multibox.paper import squares
from proposals.multibox.samples import batches, on_canvas, random_sample, random_view, sample_generator
from proposals.multibox.views import CANVASES, MEAN_COLOUR, CanvasView, scaled_canvas, whole_photo
from structures.boxes import as_boxes, mirror
from tests.boxes import truth


def photo_of(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(
    st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.floats(60, 400), st.floats(60, 400)),
    st.lists(st.tuples(*[st.floats(0, 500)] * 4), max_size=4),
)
def test_boxes_come_back_from_the_canvas(window, boxes):
    view = CanvasView(window, (320, 448))
    given_boxes = as_boxes(boxes)
    np.testing.assert_allclose(view.to_photo(view.to_canvas(given_boxes)), given_boxes, atol=1e-2)


@pytest.mark.parametrize("image_size", [(375, 500), (500, 375), (400, 400), (20, 900), (900, 20), (1, 1), (3000, 4000)])
def test_whole_photo_is_on_the_canvas_and_touches_two_edges(image_size):
    view = whole_photo(image_size)
    assert view.canvas in CANVASES
    corner = view.to_canvas(as_boxes([[0, 0, image_size[1], image_size[0]]]))[0]
    assert corner[:2].tolist() == [0, 0]
    assert corner[2] <= view.canvas[1] + 1e-2
    assert corner[3] <= view.canvas[0] + 1e-2
    assert max(corner[2] / view.canvas[1], corner[3] / view.canvas[0]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(("image_size", "canvas"), [((375, 500), 0), ((400, 400), 1), ((500, 375), 2)])
def test_the_canvas_that_is_filled_best_is_taken(image_size, canvas):
    assert whole_photo(image_size).canvas == CANVASES[canvas]


def test_larger_canvases_keep_to_whole_steps():
    assert scaled_canvas((448, 448), 1.5) == (640, 640)
    assert scaled_canvas((384, 512), 0.01) == (64, 64)


def test_a_view_in_its_own_size_is_the_photo():
    photo = photo_of(64, 128)
    assert np.array_equal(CanvasView((0, 0, 128, 64), (64, 128)).draw(photo), photo)


def test_a_moved_view_shows_the_moved_pixels_and_the_mean_colour_outside():
    photo = photo_of(64, 64)
    canvas = CanvasView((32, -16, 96, 48), (64, 64)).draw(photo)
    assert np.array_equal(canvas[16:, :32], photo[:48, 32:])
    assert (canvas[:16] == MEAN_COLOUR).all()
    assert (canvas[:, 32:] == MEAN_COLOUR).all()


@pytest.mark.parametrize("factor", [2, 5])
def test_shrinking_averages(factor):
    photo = photo_of(64 * factor, 64 * factor)
    canvas = CanvasView((0, 0, 64 * factor, 64 * factor), (64, 64)).draw(photo).astype(float)
    means = photo.reshape(64, factor, 64, factor, 3).mean(axis=(1, 3))
    assert np.abs(canvas - means).max() <= 1


def test_a_coloured_box_is_where_its_mapped_corners_say():
    photo = np.zeros((300, 400, 3), np.uint8)
    photo[90:150, 120:200] = 255
    view = CanvasView((-20.0, 10.0, 300.0, 250.0), (384, 512))
    box = view.to_canvas(as_boxes([[120, 90, 200, 150]]))[0]
    rows, columns = np.nonzero(view.draw(photo)[..., 0] > 127)
    drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(drawn, box, atol=1)


def test_mirrored_drawing_is_the_drawing_mirrored():
    photo, view = photo_of(100, 120), CanvasView((5, 5, 90, 80), (128, 192))
    assert np.array_equal(view.draw(photo, mirrored=True), view.draw(photo)[:, ::-1])


@pytest.mark.parametrize("image_size", [(375, 500), (500, 375), (200, 1000), (64, 64)])
def test_squares_cover_the_photo_and_overlap(image_size):
    views = squares(image_size, side=0.5)
    covered = np.zeros(image_size, int)
    for view in views:
        x1, y1, x2, y2 = (round(value) for value in view.window)
        assert min(x1, y1) >= 0
        assert x2 <= image_size[1] + 1
        assert y2 <= image_size[0] + 1
        covered[y1:y2, x1:x2] += 1
    assert covered.min() >= 1
    assert covered[image_size[0] // 2, image_size[1] // 2] >= 2


def test_objects_that_are_mostly_outside_are_ignored_and_those_outside_left_out():
    objects = truth([0, 0, 40, 40], [30, 30, 80, 80], [90, 90, 99, 99], [5, 5, 6, 30])
    boxes, ignore, _ = on_canvas(objects, CanvasView((0, 0, 50, 50), (100, 100)))
    assert boxes.tolist() == [[0, 0, 80, 80], [60, 60, 100, 100], [10, 10, 12, 60]]
    assert ignore.tolist() == [False, True, True]


def test_difficult_objects_are_ignored():
    objects = truth([0, 0, 40, 40], [10, 10, 50, 50], ignore=[True, False], image_size=(50, 50))
    assert on_canvas(objects, CanvasView((0, 0, 50, 50), (64, 64)))[1].tolist() == [True, False]


@pytest.mark.parametrize("seed", range(8))
def test_a_sample_shows_its_objects_where_its_boxes_are(seed):
    photo = np.full((375, 500, 3), 20, np.uint8)
    photo[100:220, 150:290] = 230
    objects = truth([150, 100, 290, 220], image_size=(375, 500))
    sample = random_sample(photo, objects, np.random.default_rng(seed))
    assert sample.ignore.tolist() == [False]  # with these seeds the object is always in sight
    rows, columns = np.nonzero(sample.canvas.astype(int).sum(axis=2) > 400)
    np.testing.assert_allclose([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], sample.boxes[0], atol=2)


def test_same_seed_epoch_and_photo_give_the_same_sample():
    photo, objects = photo_of(200, 300), truth([10, 10, 90, 90], image_size=(200, 300))
    first, again, other = (random_sample(photo, objects, sample_generator(1, e, 7)) for e in (0, 0, 1))
    assert np.array_equal(first.canvas, again.canvas)
    assert np.array_equal(first.boxes, again.boxes)
    assert not np.array_equal(first.canvas, other.canvas)


@pytest.mark.parametrize("seed", range(20))
def test_random_windows_lie_in_the_photo_or_around_it(seed):
    height, width = 375, 500
    x1, y1, x2, y2 = random_view((height, width), np.random.default_rng(seed)).window
    for first, last, extent in ((x1, x2, width), (y1, y2, height)):
        inside = first >= -1e-6 and last <= extent + 1e-6
        around = first <= 1e-6 and last >= extent - 1e-6
        assert inside or around


def test_every_photo_is_in_one_batch_of_its_own_canvas():
    sizes = [(375, 500), (500, 375), (400, 400)] * 7
    found = list(batches(sizes, 4, seed=0, epoch=0))
    assert sorted(index for batch in found for index in batch) == list(range(21))
    assert all(len({whole_photo(sizes[i]).canvas for i in batch}) == 1 for batch in found)
    assert found == list(batches(sizes, 4, seed=0, epoch=0)) != list(batches(sizes, 4, seed=0, epoch=1))


def test_convention_mirroring_boxes_and_canvas_agree():
    photo = np.zeros((64, 128, 3), np.uint8)
    photo[10:20, 30:50] = 255
    boxes = mirror(as_boxes([[30, 10, 50, 20]]), (64, 128))[0].astype(int)
    drawn = CanvasView((0, 0, 128, 64), (64, 128)).draw(photo, mirrored=True)
    assert (drawn[boxes[1] : boxes[3], boxes[0] : boxes[2]] == 255).all()


def test_what_lies_outside_has_the_colour_that_was_asked_for():
    """Half of the canvas lies beyond the photo; training and detection fill it with the network's own mean."""
    view = CanvasView((0, 0, 40, 20), (20, 40), fill=(1, 2, 3))
    assert (view.draw(np.full((20, 20, 3), 200, np.uint8))[:, 21:] == (1, 2, 3)).all()
    assert whole_photo((100, 100), fill=(1, 2, 3)).fill == (1, 2, 3)
    assert whole_photo((100, 100)).fill == CAFFE.mean_colour == MEAN_COLOUR  # of BVLC's weights, and those from them
    nothing = truth(image_size=(20, 20))
    photo = np.full((20, 20, 3), 200, np.uint8)

    def drawn(seed: int, fill: tuple[int, int, int]) -> np.ndarray:
        return random_sample(photo, nothing, np.random.default_rng(seed), fill=fill).canvas

    pairs = [(drawn(seed, MEAN_COLOUR), drawn(seed, (0, 0, 0))) for seed in range(8)]  # some lie within the photo
    assert not all(np.array_equal(*pair) for pair in pairs)
