"""A quick classifier for all regions and an exact one for the first: which is asked what, and the mean of the two."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.cascade import Cascade
from classifier.protocol import RegionClassifier, feature_count
from classifier.regions import Ensemble
from structures.boxes import Boxes, Floats
from structures.errors import InputError
from structures.records import Image

PHOTO = np.zeros((40, 60, 3), np.uint8)


class Sure:
    """A stand-in that gives every region the same row, and notes how many it was asked for."""

    def __init__(self, *row: float, classes: Sequence[str] = ("cat", "dog"), features: int = 0) -> None:
        self.row, self.classes, self.asked = row, tuple(classes), list[int]()
        self.parameters = {"mirrored": False}
        if features:
            self.feature_count = features

    def __call__(self, image: Image, boxes: Boxes) -> Floats:
        self.asked.append(len(boxes))
        return np.tile(np.float32(self.row), (len(boxes), 1))


def boxes(count: int) -> Boxes:
    return np.tile(np.float32([0, 0, 10, 10]), (count, 1))


@given(n=st.integers(0, 9), count=st.integers(1, 6), share=st.sampled_from([0.25, 0.5, 1.0]))
def test_the_first_are_the_mean_and_the_others_the_quick_ones(n: int, count: int, share: float) -> None:
    quick, exact = Sure(0.5, 0.25, 0.25), Sure(0, 1, 0)
    rows = Cascade(quick, exact, count=count, share=share)(PHOTO, boxes(n))
    first = min(n, count)
    assert (quick.asked, exact.asked) == ([n], [first])
    expected = [share * e + (1 - share) * q for e, q in zip(exact.row, quick.row, strict=True)]
    assert rows.tolist() == [expected] * first + [list(quick.row)] * (n - first)
    assert rows.dtype == np.float32


def test_more_exact_regions_than_there_are_is_an_ensemble() -> None:
    a, b = Sure(0.5, 0.25, 0.25), Sure(0.25, 0.75, 0)
    both: RegionClassifier = Ensemble([a, b])
    np.testing.assert_array_equal(Cascade(a, b, count=99, share=0.5)(PHOTO, boxes(4)), both(PHOTO, boxes(4)))


@given(row=st.lists(st.floats(0.01, 1), min_size=4, max_size=4), share=st.sampled_from([0.25, 0.75, 1.0]))
def test_an_exact_one_with_fewer_classes_leaves_the_others_alone(row: list[float], share: float) -> None:
    cow, cat, dog, background = (value / sum(row) for value in row)
    quick = Sure(cow, cat, dog, background, classes=("cow", "cat", "dog"))
    exact = Sure(0.7, 0.2, 0.1, classes=("dog", "cat"))
    found = Cascade(quick, exact, count=1, share=share)(PHOTO, boxes(2))
    known = 1 - cow
    expected = [
        cow,
        share * known * 0.2 + (1 - share) * cat,
        share * known * 0.7 + (1 - share) * dog,
        share * known * 0.1 + (1 - share) * background,
    ]
    np.testing.assert_allclose(found, [expected, [cow, cat, dog, background]], rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_features_are_those_of_the_quick_one() -> None:
    quick = Sure(0.5, 0.25, 0.25, 7, 8, features=2)
    cascade = Cascade(quick, Sure(0, 1, 0), count=1, share=1.0)
    assert feature_count(cascade) == 2
    assert cascade(PHOTO, boxes(2)).tolist() == [[0, 1, 0, 7, 8], [0.5, 0.25, 0.25, 7, 8]]


def test_photos_together_are_as_photos_alone() -> None:
    cascade = Cascade(Sure(0.5, 0.25, 0.25), Sure(0, 1, 0), count=2)
    own = [boxes(3), boxes(0), boxes(1)]
    begun = [cascade.begin(PHOTO) for _ in own]
    cascade.look(begun)
    for rows, each in zip(cascade.finish(begun, own), own, strict=True):
        np.testing.assert_array_equal(rows, cascade(PHOTO, each))


def test_its_settings_are_in_the_record() -> None:
    made = Cascade(Sure(1, 0, 0), Sure(0, 1, 0), count=5, share=0.5)
    assert made.parameters == {"mirrored": False, "exact": 5, "share": 0.5}
    assert made.engines == ()


@pytest.mark.parametrize(
    ("exact", "options", "message"),
    [
        (Sure(1, 0, classes=("cow",)), {}, "knows 'cow', which that of all does not"),
        (Sure(1, 0, 0, 9, features=1), {}, "features come from the classifier of all regions"),
        (Sure(1, 0, 0), {"count": 0}, "`exact` must be a whole number of at least 1, got 0"),
        (Sure(1, 0, 0), {"share": 0.0}, r"share must be above 0 and at most 1, got 0\.0"),
        (Sure(1, 0, 0), {"share": 1.5}, r"share must be above 0 and at most 1, got 1\.5"),
    ],
)
def test_what_does_not_fit_is_refused(exact: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Cascade(Sure(1, 0, 0), exact, **{"count": 3, **options})
