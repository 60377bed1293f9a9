"""Every named generator keeps the protocol; names, unions and other packages; OpenCV's traps."""

import sys

import numpy as np
import pytest

from proposals.generators import MAKERS, build, makers, parts_of
from proposals.opencv import OpenCvSelectiveSearch
from proposals.protocol import ProposalGenerator
from proposals.tidy import clean_proposals
from proposals.union import Union, merge
from structures.boxes import as_boxes, iou
from structures.records import Proposals
from tests.boxes import keeps_protocol

SMALL = {"selective-search-quality": {"width": 120}, "opencv-selective-search": {"width": 200}}


@pytest.fixture(scope="module")
def photo():
    from skimage import data

    return data.coffee()[::2, ::2]  # 200 x 300


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_every_named_generator_keeps_the_protocol(name, photo):
    generator = build(name, **SMALL.get(name, {}))
    assert isinstance(generator, ProposalGenerator)
    assert generator.name == name
    before = photo.copy()
    found, again = generator(photo), build(name, **SMALL.get(name, {}))(photo)
    np.testing.assert_array_equal(photo, before)
    np.testing.assert_array_equal(found.boxes, again.boxes)
    np.testing.assert_array_equal(found.scores, again.scores)
    assert found.source_names == (name,)
    assert len(found) > 50
    keeps_protocol(found, (200, 300))


@pytest.mark.parametrize("name", ["selective-search", "opencv-selective-search", "edge-boxes", "grid", "random"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (2, 1)])
def test_generators_survive_tiny_pictures(name, shape):
    options = {} if name in ("grid", "random") else {"width": 60}
    for image in (np.zeros((*shape, 3), np.uint8), np.arange(shape[0] * shape[1] * 3).astype(np.uint8)):
        found = build(name, **options)(image.reshape(*shape, 3))
        assert [0, 0, shape[1], shape[0]] in found.boxes.tolist()


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_parameters_are_json_values_and_tell_settings_apart(name):
    import json

    assert json.loads(json.dumps(dict(build(name).parameters))) == dict(build(name).parameters)


def test_factor_reaches_the_parameters():
    one, two = build("selective-search", factor=1), build("selective-search")
    assert one.parameters != two.parameters
    assert one.parameters == build("selective-search-1x").parameters


def test_opencv_forgets_the_previous_photo(photo):
    """Strategy objects used twice give wrong boxes on the second photo, and nothing says so."""
    search = OpenCvSelectiveSearch(width=200)
    alone = search(photo).boxes
    search(photo[::-1])
    np.testing.assert_array_equal(search(photo).boxes, alone)


def test_opencv_native_order_holds_the_same_set(photo):
    ours, native = (OpenCvSelectiveSearch(width=200, order=order)(photo).boxes for order in ("largest", "native"))
    assert sorted(ours.tolist()) == sorted(native.tolist())
    area = (ours[:, 2] - ours[:, 0]) * (ours[:, 3] - ours[:, 1])
    assert area[0] == area.max()


def test_opencv_and_ours_find_alike(photo):
    """The same strategies in two implementations: counts and boxes agree roughly, not exactly."""
    theirs, ours = build("opencv-selective-search")(photo).boxes, build("selective-search")(photo).boxes
    assert 0.6 < len(ours) / len(theirs) < 1.6
    assert (iou(theirs, ours).max(axis=1) > 0.5).mean() > 0.8


def test_edge_boxes_find_a_bright_rectangle():
    """Both are wider than high, so that exchanged sides miss it."""
    photo = np.full((120, 300, 3), 40, np.uint8)
    photo[30:70, 180:270] = 220
    boxes = build("edge-boxes")(photo).boxes
    assert iou(as_boxes([[180, 30, 270, 70]]), boxes).max() > 0.8


def test_a_plus_in_the_name_of_a_file_splits_nothing(tmp_path):
    folder = tmp_path / "c++"
    folder.mkdir()
    assert parts_of(f"grid+file:{folder}+random") == ["grid", f"file:{folder}", "random"]
    assert parts_of(f"file:{folder}") == [f"file:{folder}"]
    assert parts_of("grid+file:nowhere+random") == ["grid", "file:nowhere", "random"]


def part(boxes, scores, name):
    return Proposals(np.array(boxes, np.float32), np.array(scores, np.float32), (10, 10), source_names=(name,))


def test_merge_keeps_sources_and_the_first_of_twins():
    joined = merge(
        [part([[0, 0, 5, 5], [0, 0, 9, 9]], [0.9, 0.5], "a"), part([[0, 0, 9, 9], [1, 1, 4, 4]], [0.8, 0.7], "b")]
    )
    assert joined.boxes.tolist() == [[0, 0, 5, 5], [0, 0, 9, 9], [1, 1, 4, 4]]
    assert [joined.source_names[i] for i in joined.source] == ["a", "a", "b"]
    np.testing.assert_allclose(joined.scores, [0.9, 0.5, 0.7])


def test_merge_of_unions_keeps_every_name():
    a, b = part([[0, 0, 5, 5]], [1], "a"), part([[0, 0, 6, 6]], [1], "b")
    twice = merge([merge([a, b]), part([[0, 0, 7, 7]], [1], "b"), part(np.zeros((0, 4)), [], "c")])
    assert twice.source_names == ("a", "b", "c")
    assert twice.source.tolist() == [0, 1, 1]


def test_merge_refuses_different_photos():
    other = Proposals(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), (9, 9))
    with pytest.raises(ValueError, match="image sizes"):
        merge([part([], [], "a"), other])


def test_union_by_name(photo):
    union = build("grid+random")
    assert isinstance(union, Union)
    assert union.name == "grid+random"
    found = union(photo)
    assert found.source_names == ("grid", "random")
    assert len(found) == len(np.unique(found.boxes, axis=0))
    assert len(build("grid")(photo)) < len(found) <= len(build("grid")(photo)) + len(build("random")(photo))


def test_extra_makers_are_known():
    assert build("mine", extra={"mine": lambda: build("grid")}).name == "grid"
    assert build("mine+random", extra={"mine": lambda: build("grid")}).name == "grid+random"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nothing", {}, "known: .*selective-search"),
        ("grid", {"colour": 3}, "colour"),
        ("grid+random", {"seed": 3}, "seed"),
        ("grid+", {}, "unknown"),
        ("random", {"count": -1}, "negative"),
    ],
)
def test_wrong_names_and_options_are_explained(name, options, message):
    with pytest.raises(ValueError, match=message):
        build(name, **options)


PLUG_IN = """
import numpy as np
from structures.boxes import whole_image
from structures.records import Proposals

class WholeImage:
    name = "whole-image"
    parameters = {}

    def __call__(self, image):
        size = image.shape[:2]
        return Proposals(whole_image(size), np.ones(1, np.float32), size, source_names=(self.name,))
"""


def test_another_package_plugs_in(tmp_path, monkeypatch, photo):
    """A package with an entry point of our group, as pip would lay it out."""
    (tmp_path / "whole_image_proposals.py").write_text(PLUG_IN)
    info = tmp_path / "whole_image_proposals-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: whole-image-proposals\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[googlenet_rcnn.proposals]\nwhole-image = whole_image_proposals:WholeImage\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "whole-image" in makers()
    assert build("whole-image+grid")(photo).boxes[0].tolist() == [0, 0, 300, 200]
    sys.modules.pop("whole_image_proposals")


def test_tidy_of_nothing_is_the_whole_image():
    found = clean_proposals(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), (3, 7), "x")
    assert found.boxes.tolist() == [[0, 0, 7, 3]]


def test_tidy_cuts_rounds_and_drops():
    raw = np.array([[-3, -3, 2.4, 2.6], [1, 1, 1.2, 5], [0, 0, 2, 3], [9, 9, 12, 12]], np.float32)
    found = clean_proposals(raw, np.array([0.1, 0.2, 0.3, 0.4], np.float32), (5, 6), "x")
    assert found.boxes.tolist() == [[0, 0, 2, 3], [0, 0, 6, 5]]
    np.testing.assert_allclose(found.scores, [0.3, 0.1])
