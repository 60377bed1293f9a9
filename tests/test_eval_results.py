"""detections.jsonl is brought into the order of a dataset; all that does not fit is an error or a counted warning."""

import json
from pathlib import Path

import numpy as np
import pytest

from eval.aligned import align
from eval.results import ResultsError, read_lines
from structures.boxes import area, as_boxes
from structures.records import GroundTruth


class Album:
    """A dataset of the given image ids, each with one dog."""

    classes = ("cat", "dog")

    def __init__(self, *image_ids):
        self.image_ids = image_ids

    def image_path(self, image_id):
        return Path(image_id)

    def ground_truth(self, image_id):
        boxes = as_boxes([[1, 2, 3, 4]])
        return GroundTruth(image_id, boxes, [1], [False], area(boxes), (40, 50))

    def __len__(self):
        return len(self.image_ids)

    def __iter__(self):
        return map(self.ground_truth, self.image_ids)


def line(image, labels=("dog",), **changes):
    count = len(labels)
    entry = {"image": image, "width": 50, "height": 40, "boxes": [[1, 2, 3, 4]] * count, "scores": [0.5] * count}
    return json.dumps({**entry, "labels": list(labels), **changes})


@pytest.fixture
def read(tmp_path):
    def write_and_read(*lines):
        (tmp_path / "detections.jsonl").write_text("\n".join(lines))
        return read_lines(tmp_path / "detections.jsonl")

    return write_and_read


def test_detections_come_in_the_order_of_the_dataset(read):
    lines, notes = read(line("photos/b.jpg", ["Dog", "cat"], sources=[0, 1]), "", line("photos/a.jpg", []))
    aligned = align(lines, Album("a", "b", "c"))
    assert [len(found) for found in aligned.detections] == [0, 2, 0]
    assert aligned.detections[1].labels.tolist() == [1, 0]
    assert aligned.detections[1].scores.dtype == np.float32
    assert aligned.detections[2].image_size == (40, 50)
    assert aligned.missing == ["c"]
    assert notes == []
    assert "1 image (c) of the ground truth without results" in aligned.warnings()[0]


@pytest.mark.parametrize(
    ("image_id", "image"),
    [
        ("000004", "JPEGImages/000004.jpg"),
        ("000004.jpg", "val/000004.jpg"),
        ("val2017/000004.jpg", "000004.jpg"),
        ("sub/000004", "sub/000004.jpg"),
        ("a.b", "a.b.jpg"),
        ("sub/x", "sub\\x.png"),
    ],
)
def test_photos_are_found_by_name_stem_or_last_part(read, image_id, image):
    assert align(read(line(image))[0], Album("other", image_id)).missing == ["other"]


def test_equal_names_in_different_folders_stay_apart(read):
    album = Album("x/1.jpg", "y/1.jpg")
    assert align(read(line("y/1.jpg"))[0], album).missing == ["x/1.jpg"]
    with pytest.raises(ResultsError, match=r"line 1: 1\.jpg is not in the ground truth"):
        align(read(line("1.jpg"))[0], album)


def test_photos_beyond_the_ground_truth_are_an_error_or_counted(read):
    lines, _ = read(line("a.jpg"), line("z.jpg"))
    with pytest.raises(ResultsError, match=r"line 2: z\.jpg is not in the ground truth .`allow_extra=True`"):
        align(lines, Album("a"))
    aligned = align(lines, Album("a"), allow_extra=True)
    assert aligned.extra == ["z.jpg"]
    assert "1 image (z.jpg) not in the ground truth" in aligned.warnings()[0]


def test_two_photos_of_one_image_are_an_error(read):
    with pytest.raises(ResultsError, match=r"y/a\.jpg and x/a\.jpg are both image a"):
        align(read(line("x/a.jpg"), line("y/a.jpg"))[0], Album("a"))


def test_unknown_classes_are_counted_unless_all_are(read):
    aligned = align(read(line("a.jpg", ["dog", "yak", "yak"]))[0], Album("a"))
    assert aligned.unknown_labels == {"yak": 2}
    assert len(aligned.detections[0]) == 1
    assert aligned.warnings() == ["detections of classes not in the ground truth left out: yak (2)"]
    with pytest.raises(ResultsError, match="no detection is of a class of the ground truth: yak"):
        align(read(line("a.jpg", ["yak"]))[0], Album("a"))


def test_other_sizes_give_a_warning(read):
    aligned = align(read(line("a.jpg", width=500))[0], Album("a"))
    assert aligned.resized == ["a.jpg"]
    assert "of another size" in aligned.warnings()[0]


def test_a_last_line_that_is_cut_off_is_left_out_and_named(read, tmp_path):
    lines, notes = read(line("a.jpg"), line("b.jpg")[:-20])
    assert [result.image for result in lines] == ["a.jpg"]
    assert notes == [f"{tmp_path / 'detections.jsonl'}: line 2: the last line is cut off and was left out: 1 image"]


@pytest.mark.parametrize("end", ["hello", "hello\n", '{"image": "b.jpg"\n'])
def test_a_last_line_that_does_not_begin_like_results_is_an_error(tmp_path, end):
    path = tmp_path / "detections.jsonl"
    path.write_text(line("a.jpg") + "\n" + end)
    with pytest.raises(ResultsError, match="line 2: not readable as JSON"):
        read_lines(path)


def test_a_name_cut_within_a_letter_is_cut_off_too(tmp_path):
    path = tmp_path / "detections.jsonl"
    path.write_bytes('{"image": "ü'.encode()[:-1])
    assert len(read_lines(path)[1]) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable as JSON"),
        ("[]", "no image, width, height, boxes, labels, scores"),
        ('{"image": "a.jpg"}', "no width, height, boxes, labels, scores"),
        (line(""), "no image"),
        (line("a.jpg", scores=[float("nan")]), "a.jpg: scores holds values that are not finite"),
        (line("a.jpg", scores=[1e300]), "a.jpg: scores holds values that are not finite"),
        (line("a.jpg", scores=[0.5, 0.6]), "scores must have shape"),
        (line("a.jpg", boxes=[[1, 2, 3]]), "boxes must have shape"),
        (line("a.jpg", boxes=[[1, 2, 3, float("inf")]]), "boxes holds values that are not finite"),
        (line("a.jpg", boxes=None), "a.jpg: "),
        (line("a.jpg", scores=["high"]), "a.jpg: could not convert"),
        (line("a.jpg", width=None), "a.jpg: "),
        (line("a.jpg").replace('["dog"]', "null"), "a.jpg: "),
        (line("a.jpg", height=float("inf")), "a.jpg: height must be a whole number"),
        (line("a.jpg", scores=[10**400]), "a.jpg: int too large"),
        (line("a.jpg", boxes=[[1, 2, 3, 10**400]]), "a.jpg: int too large"),
    ],
)
def test_bad_lines_are_errors_that_name_the_line(read, text, message):
    with pytest.raises(ResultsError, match=f"line 1: .*{message}"):
        read(text, line("b.jpg"))


def test_a_photo_listed_twice_is_an_error(read):
    with pytest.raises(ResultsError, match=r"line 3: a\.jpg again, first at .*line 1"):
        read(line("a.jpg"), line("b.jpg"), line("a.jpg"))
