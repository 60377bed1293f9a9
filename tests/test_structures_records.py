"""The records check their columns when made."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from structures.boxes import as_boxes
from structures.errors import InputError
from structures.records import Detection, Detections, GroundTruth, Proposals

BOXES = [[0, 0, 4, 4], [1, 1, 3, 3]]


class Column:
    """A column of a table, as pandas has them: neither an array nor a sequence."""

    def __init__(self, values: list[bool]) -> None:
        self._values = np.array(values, bool)

    def __array__(self, *args: Any, **options: Any) -> Any:
        return self._values

    def __len__(self) -> int:
        return len(self._values)


def proposals(**changes: Any) -> Proposals:
    values: dict[str, Any] = {"boxes": BOXES, "scores": [0.9, 0.1], "image_size": (10, 20)}
    return Proposals(**values | changes)


def detections(**changes: Any) -> Detections:
    values: dict[str, Any] = {"boxes": BOXES, "labels": [3, 0], "scores": [0.9, 0.1], "image_size": (10, 20)}
    return Detections(**values | changes)


def ground_truth(**changes: Any) -> GroundTruth:
    values: dict[str, Any] = {"boxes": BOXES, "labels": [3, 0], "ignore": [False, True], "area": [16, 4]}
    return GroundTruth("a.jpg", image_size=(10, 20), **values | changes)


def test_columns_get_their_types() -> None:
    assert (proposals().boxes.dtype, proposals().scores.dtype, proposals().source.dtype) == (
        np.float32,
        np.float32,
        np.uint8,
    )
    assert (detections().labels.dtype, ground_truth().ignore.dtype, ground_truth().area.dtype) == (
        np.int64,
        np.bool_,
        np.float32,
    )


def test_without_a_source_all_boxes_come_from_the_one_generator() -> None:
    assert proposals().source.tolist() == detections().source.tolist() == [0, 0]


@pytest.mark.parametrize("make", [proposals, detections, ground_truth])
def test_convention_no_boxes_are_fine_and_keep_their_shapes(make: Any) -> None:
    columns = {f.name for f in dataclasses.fields(make())} & {"scores", "labels", "ignore", "area"}
    empty = make(boxes=[], **{name: [] for name in columns})
    assert len(empty) == 0
    assert empty.boxes.shape == (0, 4)
    assert all(getattr(empty, name).shape == (0,) for name in columns)


@pytest.mark.parametrize("make", [proposals, detections, ground_truth])
def test_records_cannot_be_changed(make: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().boxes = np.zeros((0, 4))


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (proposals, {"scores": [0.5]}, r"scores must have shape \(2,\), got \(1,\)"),
        (proposals, {"boxes": [[0, 0, np.nan, 1], [0, 0, 1, 1]]}, "boxes holds values that are not finite"),
        (proposals, {"scores": [np.inf, 0]}, "scores holds values that are not finite"),
        (proposals, {"source": [0, 1]}, "source 1 has no name"),
        (detections, {"labels": [1, 2, 3]}, "labels must have shape"),
        (detections, {"scores": [np.nan, 0]}, "scores holds values"),
        (detections, {"boxes": [[0, 0, 1]]}, r"shape \(N, 4\)"),
        (detections, {"source": [0, 1]}, "source 1 has no name"),
        (detections, {"classes": ("cat", "dog", "cow")}, "labels 0 to 3, expected 0 to 2"),
        (ground_truth, {"ignore": [True]}, "ignore must have shape"),
        (ground_truth, {"area": [1]}, "area must have shape"),
        (ground_truth, {"boxes": [[0, 0, np.inf, 1], [0, 0, 1, 1]]}, "boxes holds values"),
    ],
)
def test_columns_that_do_not_fit_are_refused(make: Any, changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_take_by_indices_mask_and_slice_keeps_the_rows_together() -> None:
    named = {"source": [1, 0], "source_names": ("a", "b")}
    for rows in (np.array([1]), np.array([False, True]), slice(1, 2)):
        some, found = proposals(**named).take(rows), detections(**named).take(rows)
        assert some.boxes.tolist() == found.boxes.tolist() == [[1, 1, 3, 3]]
        assert some.source.tolist() == found.source.tolist() == [0]
        assert found.labels.tolist() == [0]
        assert some.image_size == found.image_size == (10, 20)
        assert some.source_names == found.source_names == ("a", "b")


NAMED: Any = {"labels": [1, 0], "classes": ("cat", "dog"), "source": [1, 0], "source_names": ("trees", "learned")}


def test_detections_are_a_sequence_of_what_was_found() -> None:
    found = detections(**NAMED)
    dog = Detection("dog", 0.9, (0, 0, 4, 4), "learned")
    cat = Detection("cat", 0.1, (1, 1, 3, 3), "trees")
    assert list(found) == [found[0], found[1]] == [found[np.int64(0)], found[-1]] == [dog, cat]
    assert [type(value) for value in (found[0].label, found[0].score, *found[0].box, found[0].source)] == [
        str,
        *[float] * 5,
        str,
    ]
    assert np.array_equal(np.float32([each.score for each in found]), found.scores)
    for row in (2, -3):
        with pytest.raises(IndexError):
            found[row]
    assert [each.label for each in detections()] == detections().names() == ["3", "0"]


@given(st.lists(st.booleans(), min_size=2, max_size=2))
def test_rows_by_mask_indices_slice_and_lists_are_the_same_rows(mask: list[bool]) -> None:
    found, rows = detections(**NAMED), [row for row in range(2) if mask[row]]
    expected = [list(found)[row] for row in rows]
    for chosen in (np.array(mask), mask, rows, np.array(rows, int), Column(mask), torch.tensor(mask)):
        assert list(found[chosen]) == expected
    assert list(found[::-1]) == list(found)[::-1]
    assert found[0:0].classes == found[[]].classes == ("cat", "dog")


def test_where_keeps_what_is_good_enough_and_of_the_classes() -> None:
    found = detections(**NAMED)
    assert found.where().names() == ["dog", "cat"]
    assert found.where(score=0.9).names() == found.where(labels="Dog").names() == ["dog"]  # 0.9 of float32 itself
    assert found.where(labels=["cat", "dog"], score=0.05).names() == ["dog", "cat"]
    assert found.where(labels=[]).names() == found.where(labels="cat", score=0.5).names() == []
    for name, complaint in [
        ("dgo", r"^no class is called 'dgo'; did you mean 'dog'\?$"),
        ("zebra", r"^no class is called 'zebra'; there are: cat, dog$"),
        (7, "^no class is called 7; there are: cat, dog$"),
    ]:
        for labels in ([name], name):
            with pytest.raises(InputError, match=complaint):
                found.where(labels=labels)  # type: ignore[arg-type]
    for score in (float("nan"), "high"):
        with pytest.raises(InputError, match=r"^`score` .* must be a number$"):
            found.where(score=score)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no names are known"):
        detections().where(labels="dog")


def test_detections_are_printed_as_a_short_table() -> None:
    found = detections(**NAMED)
    assert str(found).splitlines() == [
        "2 objects in 20 x 10 pixels",
        "label  score   x1   y1   x2   y2  source",
        "dog     0.90  0.0  0.0  4.0  4.0  learned",
        "cat     0.10  1.0  1.0  3.0  3.0  trees",
    ]
    assert repr(found) == "<Detections: 2 objects in 20 x 10 pixels, dog 0.90, cat 0.10>"
    assert str(found[0:0]) == "no objects in 20 x 10 pixels"
    many = found.take(np.zeros(100, int))
    assert len(str(many).splitlines()) == 23
    assert str(many).endswith("... and 80 more")
    assert repr(many).endswith("dog 0.90, ...>")
    assert "\x1b" not in str(detections(labels=[0, 0], classes=("\x1b[2J",)))


def test_proposals_after_the_first_are_left_out_ahead_of_those_left_out_before() -> None:
    cut = Proposals(as_boxes([[0, 0, 9, 9]]), np.ones(1, np.float32), (9, 9), source_names=("b",))
    boxes = as_boxes([[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]])
    source = np.array([0, 1, 0], np.uint8)
    found = Proposals(boxes, np.array([3, 2, 1], np.float32), (9, 9), source, ("a", "b"), left_out=cut).first(1)
    assert found.boxes.tolist() == [[0, 0, 1, 1]]
    assert found.left_out is not None
    assert found.left_out.boxes[:, 2].tolist() == [2, 3, 9]
    assert [found.left_out.source_names[at] for at in found.left_out.source] == ["b", "a", "b"]
    joined = found.followed_by(found.left_out)
    assert joined.boxes[:, 2].tolist() == [1, 2, 3, 9]
    assert joined.left_out is None
