"""Who may be inside at the same time."""

import threading
from contextlib import AbstractContextManager

import pytest

from structures.turns import Turns

SOON = 5.0  # seconds that nothing here takes
NOT_YET = 0.05


def entered(turn: AbstractContextManager[None]) -> tuple[threading.Event, threading.Event]:
    """Enter in a thread; return what says that it is inside, and what lets it out."""
    inside, leave = threading.Event(), threading.Event()

    def run() -> None:
        with turn:
            inside.set()
            leave.wait(SOON)

    threading.Thread(target=run, daemon=True).start()
    return inside, leave


def test_many_are_inside_together_and_one_waits_for_them() -> None:
    turns = Turns()
    first, second = entered(turns.together()), entered(turns.together())
    assert first[0].wait(SOON)
    assert second[0].wait(SOON)
    alone = entered(turns.alone())
    assert not alone[0].wait(NOT_YET)
    late = entered(turns.together())
    assert not late[0].wait(NOT_YET)  # the one that waits goes first
    first[1].set()
    assert not alone[0].wait(NOT_YET)
    second[1].set()
    assert alone[0].wait(SOON)
    assert not late[0].wait(NOT_YET)
    alone[1].set()
    assert late[0].wait(SOON)
    late[1].set()


def test_one_alone_waits_for_the_other() -> None:
    turns = Turns()
    first = entered(turns.alone())
    assert first[0].wait(SOON)
    second = entered(turns.alone())
    assert not second[0].wait(NOT_YET)
    first[1].set()
    assert second[0].wait(SOON)
    second[1].set()


@pytest.mark.parametrize("way", ["together", "alone"])
def test_an_error_inside_lets_the_others_in(way: str) -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError), getattr(turns, way)():
        raise ZeroDivisionError
    with turns.alone():
        pass
    with turns.together():
        pass
