"""One limit for the threads of all libraries."""

import importlib.util
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from classifier import converted
from detect.runs.cores import one_core_per_photo
from proposals.selective_search.search import SelectiveSearch
from proposals.selective_search.strategy import fast
from structures import cores
from structures.cores import OPENMP_THREADS, keep_to, thread_limit, within_limit


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without a limit."""
    monkeypatch.setattr(cores, "_kept", [])
    monkeypatch.delenv(OPENMP_THREADS, raising=False)


@pytest.mark.parametrize(
    ("stated", "limit"), [("3", 3), (" 2 ,4", 2), ("", None), ("0", None), ("-1", None), ("many", None), ("1.5", None)]
)
def test_the_limit_is_that_of_openmp(monkeypatch: pytest.MonkeyPatch, stated: str, limit: int | None) -> None:
    monkeypatch.setenv(OPENMP_THREADS, stated)
    assert thread_limit() == limit
    assert within_limit(8) == (limit or 8)


def test_what_was_asked_for_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_to(5)
    assert (thread_limit(), within_limit(8), within_limit(2)) == (5, 5, 2)
    monkeypatch.setenv(OPENMP_THREADS, "1")
    assert thread_limit() == 5


def test_opencv_keeps_to_the_limit() -> None:
    before = cv2.getNumThreads()
    for limit, photos, expected in ((1, 1, 1), (before + 1, 1, before), (before + 1, 2, 1)):
        keep_to(limit)
        with one_core_per_photo(photos):
            assert cv2.getNumThreads() == expected
        assert cv2.getNumThreads() == before


def test_selective_search_keeps_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> Iterator[None]:
        raise AssertionError("no thread was allowed")

    search, image = SelectiveSearch(fast(), threads=2), np.zeros((30, 30, 3), np.uint8)
    expected = search(image)
    monkeypatch.setattr("proposals.selective_search.search._helpers", refused)
    keep_to(1)
    np.testing.assert_array_equal(search(image).boxes, expected.boxes)
    keep_to(2)
    with pytest.raises(AssertionError, match="no thread"):
        search(image)


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_openvino_keeps_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []

    class Core:
        def set_property(self, *words: object) -> None:
            said.append(words)

    monkeypatch.setattr("openvino.Core", Core)
    converted.openvino_core.__wrapped__()
    assert said == []
    monkeypatch.setenv(OPENMP_THREADS, "3")
    converted.openvino_core.__wrapped__()
    assert said == [("CPU", {"INFERENCE_NUM_THREADS": 3})]
