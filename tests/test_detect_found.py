"""From Python: every form of a photo, many of them in order, and a result that knows names, photo and other formats."""

import gc
import json
import re
import time
import weakref
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

import detect
from detect.detector import Detector
from detect.drawing.picture import draw
from detect.found import Found
from eval.results import read_line
from proposals.baselines import Grid
from structures.boxes import Boxes, Floats
from structures.errors import InputError
from structures.images import ORIENTATION, ImageError, read_image
from structures.records import Image

SIDE = 40


class Brightness:
    """Calls a region bright by its mean, and dark by the rest."""

    classes = ("bright", "dark")

    def __call__(self, image: Image, boxes: Boxes) -> Floats:
        bright = np.array([image[int(b) : int(d), int(a) : int(c)].mean() / 255 for a, b, c, d in boxes], np.float32)
        return np.stack([bright, 1 - bright, 0 * bright], axis=1)


@pytest.fixture
def model() -> Detector:
    return Detector(Grid(areas=(0.25,), aspects=(1,)), Brightness(), score_floor=0.6)


def photo(seed: int = 0) -> Any:
    """Return a photo of four quarters of different brightness."""
    quarters = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), np.uint8)
    return quarters.repeat(SIDE // 2, axis=0).repeat(SIDE // 2, axis=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    PIL.Image.fromarray(photo()).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def columns(found: Found) -> Any:
    return found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), found.source.tolist(), found.image_size


def test_every_form_of_a_photo_gives_the_same_detections(model: Detector, path: Path) -> None:
    expected = columns(model(photo()))
    assert len(expected[0]) > 2
    tensor = torch.from_numpy(photo()).permute(2, 0, 1)
    for form in (path, str(path), PIL.Image.fromarray(photo()), tensor, tensor / 255, photo() / 255):
        assert columns(model(form)) == expected
    forms: list[Any] = [path, str(path), PIL.Image.fromarray(photo()), tensor, photo()]
    assert [columns(found) for found in model.many(forms)] == [expected] * len(forms)
    assert [columns(found) for found in model.many(torch.stack([tensor, tensor]))] == [expected] * 2


def test_many_photos_come_in_order(model: Detector) -> None:
    found = model.many(map(photo, range(12)), workers=2)
    assert list(map(columns, found)) == [columns(model(photo(seed))) for seed in range(12)]
    assert list(model.many([])) == []


@pytest.mark.parametrize(("workers", "together"), [(1, 1), (2, 1), (1, 3)])
def test_many_photos_are_taken_only_a_few_ahead(model: Detector, workers: int, together: int) -> None:
    asked = []

    def photos() -> Iterator[Any]:
        for seed in count():
            asked.append(seed)
            yield photo(seed)

    found = model.many(photos(), workers=workers, together=together)
    assert asked == []
    proposed = 2 if workers == 1 else 2 * workers + 1
    ahead = proposed + 2 * together + 2 * together + 2  # by the stages: propose, trunk, classify, suppress
    for taken in range(1, 30):
        next(found)
        assert len(asked) <= taken + ahead
    time.sleep(0.05)  # what would read on, reads on
    assert len(asked) <= 29 + ahead
    found.close()


def test_a_bad_photo_among_many_is_an_error_in_its_turn(model: Detector, path: Path) -> None:
    found = model.many([path, "none.jpg", path])
    assert len(next(found)) > 2
    with pytest.raises(ImageError, match=r"none\.jpg: no such file"):
        next(found)
    for wrong in (path, photo(), 5):
        with pytest.raises(InputError, match="`photos` must be"):
            model.many(wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`workers` must be a whole number of at least 1, got 0"):
        model.many([path], workers=0)
    with pytest.raises(ImageError, match="not list; pass several"):
        model([path])  # type: ignore[arg-type]


def test_results_of_many_photos_hold_paths_and_no_pixels(model: Detector, path: Path) -> None:
    image = photo()
    alive = weakref.ref(image)
    (kept,) = model.many([path])
    assert kept.photo is path
    results = list(model.many(iter([image])))
    assert results[0].photo is None
    del image
    gc.collect()
    assert alive() is None


def test_the_photo_is_known_and_drawn_as_the_command_draws_it(model: Detector, path: Path, tmp_path: Path) -> None:
    image = photo()
    found = model(image)
    assert found.photo is image
    expected = np.asarray(draw(image, found.where(score=0.7), found.classes))
    for drawn in (
        found.draw(score=0.7),
        model(path).draw(score=0.7),
        found.draw(PIL.Image.fromarray(photo()), score=0.7),
    ):
        np.testing.assert_array_equal(np.asarray(drawn), expected)
    assert np.array_equal(image, photo())
    assert np.array_equal(np.asarray(found.draw(score=1.01)), image)
    (unknown,) = model.many([image])
    with pytest.raises(InputError, match=r"pass it, as in `found\.draw\(photo\)`"):
        unknown.draw()
    with pytest.raises(InputError, match=r"found in a photo of \(height, width\) \(40, 40\), not \(2, 3\)"):
        found.draw(np.zeros((2, 3, 3), np.uint8))
    gone = model(path)
    path.unlink()
    with pytest.raises(ImageError, match="no such file"):
        gone.draw()


def test_a_turned_photo_is_drawn_as_it_was_read(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = 6
    PIL.Image.fromarray(photo()[:30]).save(tmp_path / "a.png", exif=exif)
    for policy, size in (("apply", (30, 40)), ("ignore", (40, 30))):
        model = Detector(Grid(), Brightness(), exif=policy)  # type: ignore[arg-type]
        assert model(tmp_path / "a.png").draw().size == size
        assert model.settings()["exif"] == policy


def test_the_line_of_a_result_reads_back_as_the_same_result(model: Detector, path: Path) -> None:
    found = model(path)
    line = json.loads(json.dumps(found.to_dict()))
    assert line["image"] == path.as_posix() == found.image
    read = read_line(line, "here").found
    assert list(read) == list(found)
    assert np.array_equal(read.boxes, found.boxes)
    assert np.array_equal(read.scores, found.scores)
    assert read.image_size == found.image_size
    assert found.to_dict("b.png") == {**line, "image": "b.png"}
    assert model(photo()).to_dict()["image"] == ""


def test_rows_of_a_result_still_know_their_photo(model: Detector, path: Path) -> None:
    found = model(path)
    some = found.where(labels="bright")[:1]
    assert isinstance(some, Found)
    assert (some.photo, some.image, some.classes) == (path, path.as_posix(), ("bright", "dark"))
    assert str(found).startswith(f"{path.as_posix()}: {len(found)} objects in 40 x 40 pixels\nlabel ")


def test_a_notebook_shows_the_photo_if_it_is_known_and_the_table(model: Detector, path: Path) -> None:
    found = model(path)
    (unknown,) = model.many([photo()])
    assert re.match('<img src="data:image/jpeg;base64,[A-Za-z0-9+/=]+"><pre>', found._repr_html_())
    path.unlink()
    for shown in (found._repr_html_(), unknown._repr_html_()):
        assert shown.startswith("<pre>")
        assert "label" in shown
    named = Found([[0, 0, 1, 1]], [0], [0.5], (2, 2), classes=("<b>",))  # type: ignore[arg-type]
    assert "&lt;b&gt;" in named._repr_html_()


def test_a_table_of_pandas_has_a_row_per_detection(model: Detector, path: Path) -> None:
    pytest.importorskip("pandas")
    found = model(path)
    table = found.to_pandas()
    assert list(table.columns) == ["image", "label", "score", "x1", "y1", "x2", "y2", "source"]
    assert table["label"].tolist() == found.names()
    assert np.array_equal(table[["x1", "y1", "x2", "y2"]].to_numpy(), found.boxes)
    assert table["source"].tolist() == [each.source for each in found]
    assert len(found[0:0].to_pandas()) == 0


def test_detections_of_supervision_have_the_same_columns(model: Detector) -> None:
    pytest.importorskip("supervision")
    found = model(photo())
    for part in (found, found[0:0]):
        other = part.to_supervision()
        assert np.array_equal(other.xyxy, part.boxes)
        assert np.array_equal(other.confidence, part.scores)
        assert np.array_equal(other.class_id, part.labels)
        assert other.data["class_name"].tolist() == part.names()


def test_a_library_that_is_missing_is_named_with_how_to_get_it(
    model: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = model(photo())
    for name in ("pandas", "supervision"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
        with pytest.raises(InputError, match=rf"^{name} is not installed: pip install 'googlenet-rcnn\[{name}\]'$"):
            getattr(found, f"to_{name}")()


def test_the_detector_is_there_by_a_short_name_as_well() -> None:
    assert detect.Detector is Detector
    with pytest.raises(AttributeError, match="module 'detect' has no attribute 'Defector'"):
        detect.Defector  # noqa: B018


def test_reading_is_the_detector_s_own_step(model: Detector, path: Path) -> None:
    image = model.read(path)
    assert np.array_equal(image, read_image(path))
    assert columns(model.detect(image, model.regions(image))) == columns(model(path))
