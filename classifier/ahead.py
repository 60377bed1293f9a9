"""Makes the next items in the background while the last ones are used; the items and their order stay the same."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Condition, Thread
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
HELD_PER_THREAD = 2  # items in work or waiting to be taken; one would leave threads idle when items differ


def map_ahead(pool: ThreadPoolExecutor, do: Callable[[T], R], items: Iterable[T], *, held: int) -> Iterator[R]:
    """Yield what becomes of each item, in order; no more than `held` are in work or wait to be yielded."""
    remaining, waiting = iter(items), deque[Future[R]]()
    while True:
        waiting.extend(pool.submit(do, item) for item in islice(remaining, held - len(waiting)))
        if not waiting:
            return
        yield waiting.popleft().result()


def begun(make: Callable[[], T]) -> Future[T]:
    """Begin to make something in a thread of its own; `result` waits for it, and raises what went wrong."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="begun")
    made = thread.submit(make)
    thread.shutdown(wait=False)
    return made


class LoadedBatches(Generic[T]):
    """Batches by the number of their step, out of a stream that makes them ahead: `map_ahead`, or torch's DataLoader.

    Args:
        begin: returns the batches from a step on. It is called again where another step than the next is asked for.
    """

    def __init__(self, begin: Callable[[int], Iterable[T]]) -> None:
        self._begin, self._next = begin, -1
        self._batches: Iterator[T] = iter(())

    def __call__(self, step: int) -> T:
        """Return the batch of a step; what went wrong in making it is raised here, and not before."""
        if step != self._next:
            self._batches = iter(self._begin(step))
        self._next = -1  # where making it fails, the stream has ended
        batch = next(self._batches)
        self._next = step + 1
        return batch


def batches_ahead(make: Callable[[int], T], steps: int) -> LoadedBatches[T]:
    """Return the batches of steps 0 to `steps` - 1, each made while the one before it is worked with.

    Args:
        make: what it makes must depend on the number of the step alone.
        steps: in all.
    """
    thread = ThreadPoolExecutor(1)
    return LoadedBatches(lambda step: map_ahead(thread, make, range(step, steps), held=2))


class InBackground(Generic[T]):
    """Takes items in a thread of its own, a few ahead of the iteration; their order stays.

    Args:
        items: taken one after the other; what they raise is raised here, in its turn.
        held: at most this many wait to be taken from here.
        name: of the thread.
    """

    def __init__(self, items: Iterable[T], *, held: int, name: str = "ahead") -> None:
        self._items, self._held, self._changed = items, held, Condition()
        self._ready, self._ended, self._closed = deque[T](), False, False
        self._error: BaseException | None = None
        self._thread = Thread(target=self._take, name=name, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._ended or self._closed)
            if self._ready and not self._closed:
                self._changed.notify_all()
                return self._ready.popleft()
        if self._error is not None and not self._closed:
            raise self._error
        raise StopIteration

    def close(self) -> None:
        """Take nothing more; what is being made when this is called is thrown away."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _take(self) -> None:
        try:
            for item in self._items:
                with self._changed:
                    self._changed.wait_for(lambda: len(self._ready) < self._held or self._closed)
                    if self._closed:
                        return
                    self._ready.append(item)
                    self._changed.notify_all()
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
