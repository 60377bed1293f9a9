"""Detections come out of few arrays as they went in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.packed import DetectionPacker, PackedByName, laid_out, positions
from structures.records import Detections


def found(count: int, size: tuple[int, int]) -> Detections:
    rng = np.random.default_rng(count)
    boxes = rng.uniform(-5, 5000, (count, 4)).astype(np.float32)
    return Detections(boxes, rng.integers(0, 999, count), rng.uniform(0, 1, count).astype(np.float32), size)


def assert_same(got: Detections, record: Detections) -> None:
    assert got.image_size == record.image_size
    for column in ("boxes", "labels", "scores"):
        assert getattr(got, column).dtype == getattr(record, column).dtype
        np.testing.assert_array_equal(getattr(got, column), getattr(record, column))


ORDERS = st.lists(st.integers(0, 5), max_size=8).flatmap(
    lambda counts: st.tuples(st.just(counts), st.permutations(range(len(counts))))
)


@settings(deadline=None, max_examples=50)
@given(ORDERS, st.randoms(use_true_random=False))
def test_records_come_back_in_any_order(counts_and_order: tuple[list[int], list[int]], random) -> None:
    counts, order = counts_and_order
    records, packer = [found(count, (3 + at, 2**31 - 1)) for at, count in enumerate(counts)], DetectionPacker()
    for record in records:
        packer.add(record) if len(record) else packer.add_empty(record.image_size)
    assert len(packer) == len(records)
    packed, ordered = packer.packed(order), [records[place] for place in order]
    assert len(packed) == len(ordered)
    for got, record in zip(packed, ordered, strict=True):
        assert_same(got, record)
    np.testing.assert_array_equal(positions(packed), positions(ordered))
    none = np.zeros(0, np.float32)
    np.testing.assert_array_equal(
        laid_out(packed, lambda each: each.scores, none), laid_out(ordered, lambda each: each.scores, none)
    )
    rows = np.array([random.random() < 0.5 for _ in range(sum(counts))], bool)
    for got, record, mask in (
        zip(packed.keep(rows), ordered, np.split(rows, np.cumsum(list(map(len, ordered)))[:-1]), strict=True)
        if ordered
        else ()
    ):
        assert_same(got, record.take(mask))


def test_it_is_a_sequence() -> None:
    packer = DetectionPacker()
    for count in (1, 2, 3):
        packer.add(found(count, (9, 9)))
    packed = packer.packed(range(3))
    assert [len(each) for each in packed[1:]] == [2, 3]
    assert len(packed[-1]) == 3
    with pytest.raises(IndexError):
        packed[3]


def test_records_by_name() -> None:
    packer = DetectionPacker()
    packer.add(found(2, (9, 9)))
    packer.add_empty((9, 9))
    by_name = PackedByName(packer.packed([0, 1]), {"a.jpg": 0})
    assert [(name, len(each)) for name, each in by_name.items()] == [("a.jpg", 2)]
    assert "b.jpg" not in by_name
    assert by_name.get("b.jpg") is None
