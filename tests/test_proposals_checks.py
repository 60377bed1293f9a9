"""Boxes of other programs that fit no photo are counted by kind, and one of each is named."""

import numpy as np
import pytest

from proposals.stored.checks import BoxChecks
from structures.boxes import as_boxes

SIZE = (20, 30)  # height, width


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([0, 0, 30, 20], ""),
        ([-0.5, 0, 30.5, 20], ""),  # rounded
        ([0, 0, 31, 20], "reaching beyond the edge of the photo"),
        ([30, 0, 40, 20], "outside the photo or without area"),
        ([5, 5, 5, 9], "outside the photo or without area"),
        ([9, 5, 5, 9], "with x2 < x1 or y2 < y1"),
        ([5, 99, 9, 50], "with x2 < x1 or y2 < y1"),
    ],
)
def test_a_box_is_of_one_kind(box: list[float], words: str) -> None:
    checks = BoxChecks()
    checks.look("a.jpg", as_boxes([box, [1, 1, 2, 2]]), SIZE)
    lines = checks.lines()
    assert len(lines) == bool(words)
    assert all(line.startswith(f"1 of 2 boxes on 1 of 1 photo {words}, such as [") for line in lines)


def test_photos_count_once_and_the_example_does_not_depend_on_the_order() -> None:
    told = []
    for names in (["b", "a", "c", "a"], ["a", "c", "b"]):
        checks = BoxChecks()
        for name in names:
            number = ord(name)
            checks.look(name, as_boxes([[number, 0, number + 9, 9]] * 2), SIZE)
        told.append(checks.lines())
    assert told[0] == told[1]
    assert told[0][0].startswith("6 of 6 boxes on 3 of 3 photos outside the photo or without area, such as [97, 0,")


def test_photos_without_boxes_are_not_odd() -> None:
    checks = BoxChecks()
    checks.look("a", np.zeros((0, 4), np.float32), SIZE)
    assert checks.lines() == []
