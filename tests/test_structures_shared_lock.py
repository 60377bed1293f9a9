"""Who may hold a shared lock at the same time."""

import threading
from contextlib import AbstractContextManager

import pytest

from structures.shared_lock import SharedLock

SOON = 5.0  # seconds that nothing here takes
NOT_YET = 0.05


def entered(held: AbstractContextManager[None]) -> tuple[threading.Event, threading.Event]:
    """Enter in a thread; return what says that it is inside, and what lets it out."""
    inside, leave = threading.Event(), threading.Event()

    def run() -> None:
        with held:
            inside.set()
            leave.wait(SOON)

    threading.Thread(target=run, daemon=True).start()
    return inside, leave


def test_many_share_it_and_one_alone_waits_for_them() -> None:
    lock = SharedLock()
    first, second = entered(lock.shared()), entered(lock.shared())
    assert first[0].wait(SOON)
    assert second[0].wait(SOON)
    alone = entered(lock.exclusive())
    assert not alone[0].wait(NOT_YET)
    late = entered(lock.shared())
    assert not late[0].wait(NOT_YET)  # the one that waits goes first
    first[1].set()
    assert not alone[0].wait(NOT_YET)
    second[1].set()
    assert alone[0].wait(SOON)
    assert not late[0].wait(NOT_YET)
    alone[1].set()
    assert late[0].wait(SOON)
    late[1].set()


def test_one_alone_waits_for_another() -> None:
    lock = SharedLock()
    first = entered(lock.exclusive())
    assert first[0].wait(SOON)
    second = entered(lock.exclusive())
    assert not second[0].wait(NOT_YET)
    first[1].set()
    assert second[0].wait(SOON)
    second[1].set()


@pytest.mark.parametrize("way", ["shared", "exclusive"])
def test_an_error_inside_lets_the_others_in(way: str) -> None:
    lock = SharedLock()
    with pytest.raises(ZeroDivisionError), getattr(lock, way)():
        raise ZeroDivisionError
    with lock.exclusive():
        pass
    with lock.shared():
        pass
