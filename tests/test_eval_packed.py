"""Detections come out of few arrays as they went in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.packed import PackedDetections
from structures.records import Detections


def found(count: int, size: tuple[int, int]) -> Detections:
    rng = np.random.default_rng(count)
    boxes = rng.uniform(-5, 5000, (count, 4)).astype(np.float32)
    return Detections(boxes, rng.integers(0, 999, count), rng.uniform(0, 1, count).astype(np.float32), size)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(0, 5), max_size=8).flatmap(
        lambda counts: st.tuples(st.just(counts), st.permutations(range(len(counts))))
    )
)
def test_records_come_back_in_any_order(counts_and_order: tuple[list[int], list[int]]) -> None:
    counts, order = counts_and_order
    records, packed = [found(count, (3 + at, 2**31 - 1)) for at, count in enumerate(counts)], PackedDetections()
    for record in records:
        packed.add(record) if len(record) else packed.add_empty(record.image_size)
    assert len(packed) == len(records)
    for got, record in zip(packed.in_order(order), [records[place] for place in order], strict=True):
        assert got.image_size == record.image_size
        for column in ("boxes", "labels", "scores"):
            assert getattr(got, column).dtype == getattr(record, column).dtype
            np.testing.assert_array_equal(getattr(got, column), getattr(record, column))


def test_it_is_a_sequence() -> None:
    packed = PackedDetections()
    for count in (1, 2, 3):
        packed.add(found(count, (9, 9)))
    assert [len(each) for each in packed[1:]] == [2, 3]
    assert len(packed[-1]) == 3
    with pytest.raises(IndexError):
        packed[3]
