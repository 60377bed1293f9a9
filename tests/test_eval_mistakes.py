"""False detections are sorted by kind, missed objects by size: by hand on one small scene each."""

import numpy as np
import pytest

from eval.mistakes import KINDS, find_mistakes, judge
from structures.boxes import area, as_boxes
from structures.records import Detections, GroundTruth

CAT, DOG = 0, 1
OBJECT = [0, 0, 40, 40]


def mistakes(objects, detections, ignore=None):
    boxes = as_boxes([box for _, box in objects])
    ignore = np.zeros(len(boxes)) if ignore is None else ignore
    truth = GroundTruth("a", boxes, [label for label, _ in objects], ignore, area(boxes), (200, 200))
    found = Detections(
        as_boxes([box for _, box in detections]),
        [label for label, _ in detections],
        np.linspace(0.9, 0.5, len(detections)),
        (200, 200),
    )
    return find_mistakes(judge([truth], [found], ["cat", "dog"]))


@pytest.mark.parametrize(
    ("kind", "label", "box"),
    [
        ("duplicate", CAT, [0, 0, 40, 39]),
        ("localisation", CAT, [0, 0, 40, 16]),
        ("confusion", DOG, OBJECT),
        ("both", DOG, [0, 0, 40, 10]),
        ("background", DOG, [100, 100, 140, 140]),
        ("background", CAT, [0, 0, 40, 3]),
    ],
)
def test_each_kind_of_false_detection(kind, label, box):
    """The class has two objects, so that the two best detections of each class count; one of each is hit first."""
    objects = [(CAT, OBJECT), (CAT, [150, 150, 190, 190]), (DOG, [150, 0, 190, 40]), (DOG, [0, 150, 40, 190])]
    found = [(CAT, OBJECT), (label, box)]
    result = mistakes(objects, found)
    assert result.best == (1, 1)
    assert result.kinds == {name: int(name == kind) for name in KINDS}
    assert result.by_class["cat" if label == CAT else "dog"][kind] == 1


def test_confusions_are_named():
    result = mistakes([(CAT, OBJECT), (DOG, [100, 100, 150, 150])], [(DOG, OBJECT)])
    assert result.confusions == [("dog", "cat", 1)]


def test_only_as_many_detections_as_objects_are_looked_at():
    far = [(CAT, [100 + i, 100, 140 + i, 140]) for i in range(5)]
    result = mistakes([(CAT, OBJECT), (CAT, [0, 100, 40, 140])], far)
    assert result.best == (0, 2)
    assert result.kinds["background"] == 2


def test_gain_is_what_a_mistake_costs():
    """A false alarm before the only hit halves AP."""
    result = mistakes([(CAT, OBJECT)], [(CAT, [100, 100, 140, 140]), (CAT, OBJECT)])
    assert result.gain["background"] == pytest.approx(0.5)
    assert result.gain["duplicate"] == 0


def test_ignored_detections_are_not_mistakes():
    result = mistakes([(CAT, OBJECT), (CAT, [100, 0, 140, 40])], [(CAT, OBJECT)], ignore=[True, False])
    assert result.best == (0, 0)


def test_missed_objects_by_size():
    objects = [(CAT, [0, 0, 10, 10]), (CAT, [20, 20, 60, 60]), (CAT, [80, 80, 180, 180]), (CAT, [100, 0, 140, 40])]
    result = mistakes(objects, [(CAT, [20, 20, 60, 60]), (CAT, [80, 80, 180, 180])], ignore=[0, 0, 0, 1])
    assert result.sizes == {"small": (1, 0), "medium": (1, 1), "large": (1, 1)}


def test_nothing_found_and_nothing_there():
    assert mistakes([], []).best == (0, 0)
    assert mistakes([(CAT, OBJECT)], []).sizes["medium"] == (1, 0)
