"""Photos through stages: order, bounds, groups, faults that stay with their photo, and the end of a run in between."""

import gc
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.ahead import InBackground
from detect.flow import MOST_PIXELS, PATIENCE, Stage, each, flow, pixels_of
from structures.images import ImageError
from structures.timing import Timer


def double(value: int) -> int:
    return 2 * value


@given(st.lists(st.integers(), max_size=30), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
def test_what_comes_out_does_not_depend_on_workers_and_groups(
    items: list[int], workers: int, first: int, second: int
) -> None:
    stages = [Stage("a", each(double), workers=workers, together=first), Stage("b", each(str), together=second)]
    done = list(flow(items, stages))
    assert [passed.item for passed in done] == items
    assert [passed.value for passed in done] == [str(2 * item) for item in items]
    assert all(passed.seconds.keys() == {"a", "b"} for passed in done)


def test_groups_are_full_but_for_the_last() -> None:
    seen: list[int] = []

    def note(group: Sequence[int]) -> Sequence[int]:
        seen.append(len(group))
        return group

    assert len(list(flow(range(10), [Stage("a", note, together=4)]))) == 10
    assert seen == [4, 4, 2]


def test_few_large_photos_are_in_a_group() -> None:
    seen: list[int] = []

    def note(group: Sequence[Any]) -> Sequence[Any]:
        seen.append(len(group))
        return group

    side = int((MOST_PIXELS / 2) ** 0.5)
    photo = np.broadcast_to(np.uint8(0), (side, side, 3))
    sizes = [Stage("read", each(lambda item: photo)), Stage("a", note, together=8)]
    assert len(list(flow(range(6), sizes, pixels=pixels_of))) == 6
    assert seen == [2, 2, 2]


def odd_fails(value: int) -> int:
    if value % 2:
        raise ValueError(f"{value} is odd")
    return value


def test_a_fault_stays_with_its_photo_whatever_company_it_is_in() -> None:
    later: list[int] = []
    stages = [Stage("a", each(odd_fails), together=3), Stage("b", each(lambda v: later.append(v) or v), together=2)]
    done = list(flow(range(6), stages))
    assert [str(passed.error) for passed in done[1::2]] == ["1 is odd", "3 is odd", "5 is odd"]
    assert {passed.stage for passed in done[1::2]} == {"a"}
    assert later == [0, 2, 4] == [passed.value for passed in done[::2]]


def test_faults_in_a_row_end_the_run_and_those_of_photos_do_not() -> None:
    stream = flow(range(1, 99, 2), [Stage("a", each(odd_fails), together=4)])
    assert [str(next(stream).error) for _ in range(PATIENCE - 1)] == ["1 is odd", "3 is odd"]
    with pytest.raises(ValueError, match="5 is odd"):
        next(stream)

    def unreadable(value: int) -> int:
        raise ImageError("no photo")

    assert len(list(flow(range(9), [Stage("a", each(unreadable))]))) == 9


def test_a_photo_that_fails_is_freed_as_soon_as_it_is_passed_on() -> None:
    contents: list[weakref.ref[Any]] = []

    def read(item: int) -> None:
        content = np.zeros(item + 1)
        contents.append(weakref.ref(content))
        try:
            raise ValueError(f"{len(content)} bytes")
        except ValueError as error:
            raise ImageError("damaged") from error

    gc.disable()  # it would free them, but rarely runs
    try:
        for passed in flow(range(9), [Stage("read", each(read))]):
            assert str(passed.error) == "damaged"
            assert contents[passed.item]() is None
    finally:
        gc.enable()


def test_what_the_items_raise_is_raised_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 2
        raise KeyError("no more")

    stream = flow(items(), [Stage("a", each(double)), Stage("b", each(double))])
    assert next(stream).value == 8
    with pytest.raises(KeyError, match="no more"):
        next(stream)


def test_stages_overlap_and_little_is_held() -> None:
    begun, gate = [0, 0], threading.Event()

    def first(value: int) -> int:
        begun[0] += 1
        if begun[0] == 3:
            gate.set()
        return value

    def second(value: int) -> int:
        begun[1] += 1
        assert gate.wait(10)  # only if the first goes on meanwhile
        return value

    stream = flow(count(), [Stage("a", each(first)), Stage("b", each(second))])
    assert next(stream).item == 0
    for taken in range(2, 12):
        next(stream)
        assert begun[0] <= taken + 6
    stream.close()
    before = threading.active_count()
    assert begun[0] <= 18
    assert not [thread for thread in threading.enumerate() if thread.name in ("a", "b")], before


def test_an_end_in_between_waits_for_nobody() -> None:
    stream = InBackground(iter(range(10)), held=1)
    assert next(stream) == 0
    stream.close()
    stream.join()
    assert list(stream) == []


def test_time_inside_other_time_is_counted_once() -> None:
    with Timer("heads") as timer:
        time.sleep(0.01)
        with Timer("trunk", settle=lambda: time.sleep(0.02)):
            with Timer("copy"):
                pass
    assert timer.seconds.keys() == {"heads", "trunk", "copy"}
    assert 0.02 <= timer.seconds["trunk"]
    assert 0.01 <= timer.seconds["heads"]
    alone: list[dict[str, float]] = []

    def other() -> None:
        with Timer("other") as own:
            pass
        alone.append(own.seconds)

    with Timer("outer") as outer:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert alone[0].keys() == {"other"}
    assert outer.seconds.keys() == {"outer"}
