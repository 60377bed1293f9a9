"""What is needed next is made in background threads, while the last is worked with; what comes out is the same."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
HELD_PER_THREAD = 2  # items in work or waiting to be taken; one would leave threads idle when items differ


class Ahead(Generic[R]):
    """Makes something for each number, and while it is worked with what belongs to the next number.

    Args:
        make: what it makes must depend on the number alone.
        count: the numbers are below it.
    """

    def __init__(self, make: Callable[[int], R], count: int) -> None:
        self._make, self._count, self._thread = make, count, ThreadPoolExecutor(1)
        self._next: dict[int, Future[R]] = {}

    def __call__(self, number: int) -> R:
        """Return what belongs to a number; what went wrong in making it is raised here, and not before."""
        making, following = self._next.get(number) or self._thread.submit(self._make, number), number + 1
        self._next = {following: self._thread.submit(self._make, following)} if following < self._count else {}
        return making.result()


def map_ahead(pool: ThreadPoolExecutor, do: Callable[[T], R], items: Iterable[T], *, held: int) -> Iterator[R]:
    """Yield what becomes of each item, in order; no more than `held` are in work or wait to be yielded."""
    remaining, waiting = iter(items), deque[Future[R]]()
    while True:
        waiting.extend(pool.submit(do, item) for item in islice(remaining, held - len(waiting)))
        if not waiting:
            return
        yield waiting.popleft().result()
