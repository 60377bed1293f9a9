"""Batches out of torch's DataLoader by the number of their step: asked for in order, they are made ahead."""

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class LoadedBatches(Generic[T]):
    """The batches of a loader, which begins again where another step than the next is asked for.

    Args:
        begin: returns the batches from a step on, such as a DataLoader.
    """

    def __init__(self, begin: Callable[[int], Iterable[T]]) -> None:
        self._begin, self._next = begin, -1
        self._batches: Iterator[T] = iter(())

    def __call__(self, step: int) -> T:
        """Return the batch of a step."""
        if step != self._next:
            self._batches = iter(self._begin(step))
        self._next = step + 1
        return next(self._batches)
