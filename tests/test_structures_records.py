"""The records check their columns when made."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from structures.records import Detections, GroundTruth, Proposals

BOXES = [[0, 0, 4, 4], [1, 1, 3, 3]]


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
