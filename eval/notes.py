"""What was odd about a dataset: counted by kind, with the first file that showed it."""

from collections import Counter
from pathlib import Path

from structures.text import number_of


def notes_of(dataset: object) -> list[str]:
    """Return what was odd about a dataset, one line each; nothing where it does not say."""
    return list(getattr(dataset, "notes", []))


class Notes:
    """A tally of oddities that did not stop the reading.

    >>> notes = Notes()
    >>> notes.add("object without area left out", Path("a.xml"), 2)
    >>> notes.add("crowd left out", "b.json: annotation 7")
    >>> notes.lines()
    ['2 objects without area left out (first: a.xml)', '1 crowd left out (b.json: annotation 7)']
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, Path | str] = {}

    def add(self, kind: str, place: Path | str, count: int = 1) -> None:
        """Count an oddity that was seen in a file, or at a row of one.

        Args:
            kind: what it is, in words that fit one and many: a noun in the singular, and what is odd about it.
            place: the file, the row, or the name of what is odd.
            count: how often it was seen there.
        """
        self._counts[kind] += count
        self._first.setdefault(kind, place)

    def lines(self) -> list[str]:
        """Return one line per kind, in the order of their first appearance."""
        return [_line(kind, count, self._first[kind]) for kind, count in self._counts.items()]


def _line(kind: str, count: int, place: Path | str) -> str:
    noun, _, rest = kind.partition(" ")
    return f"{number_of(count, noun)} {rest} ({place if count == 1 else f'first: {place}'})"
