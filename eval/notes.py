"""What was odd about a dataset: counted by kind, with the first file that showed it."""

from collections import Counter
from pathlib import Path


def notes_of(dataset: object) -> list[str]:
    """Return what was odd about a dataset, one line each; nothing where it does not say."""
    return list(getattr(dataset, "notes", []))


class Notes:
    """A tally of oddities that did not stop the reading.

    >>> notes = Notes()
    >>> notes.add("objects without area left out", Path("a.xml"), 2)
    >>> notes.lines()
    ['2 objects without area left out, first in a.xml']
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, Path | str] = {}

    def add(self, kind: str, place: Path | str, count: int = 1) -> None:
        """Count an oddity that was seen in a file, or at a row of one."""
        self._counts[kind] += count
        self._first.setdefault(kind, place)

    def lines(self) -> list[str]:
        """Return one line per kind, in the order of their first appearance."""
        return [f"{count} {kind}, first in {self._first[kind]}" for kind, count in self._counts.items()]
