"""Which class a name means: upper and lower case may differ."""

from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from structures.errors import InputError

LISTED = 20  # classes that a message lists


class ClassNames:
    """Finds the class that a name means: the same name, or else the only one that differs in nothing but case.

    Args:
        classes: names in label order.

    >>> names = ClassNames(["cat", "Cat", "dog"])
    >>> names.find("cat"), names.find("Cat"), names.find("DOG"), names.find("CAT")
    (0, 1, 2, -1)
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = tuple(classes)
        folded = [name.casefold() for name in classes]
        counts = Counter(folded)
        self._exact = {name: label for label, name in enumerate(classes)}
        self._folded = {name: label for label, name in enumerate(folded) if counts[name] == 1}

    def find(self, name: str) -> int:
        """Return the label that a name means; -1 if there is none."""
        return self._exact.get(name, self._folded.get(name.casefold(), -1))

    def label(self, name: str) -> int:
        """Return the label that a name means.

        Raises:
            InputError: there is none; the message says which name comes near.
        """
        label = self.find(name)
        if label < 0:
            raise InputError(f"no class is called {name!r:.60}{near(name, self._classes)}")
        return label


def near(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about a name that is not known: the one that was meant, perhaps, or what there is.

    >>> near("Dgo", ["cat", "dog"]), near("zebra", ["cat", "dog"]), near("zebra", [])
    ("; did you mean 'dog'?", '; there are: cat, dog', '; no names are known')
    """
    folded = {each.casefold(): each for each in known}
    close = get_close_matches(name.casefold(), folded, n=1)
    if close:
        return f"; did you mean {folded[close[0]]!r}?"
    listed = list(folded.values())
    end = ", ..." if len(listed) > LISTED else ""
    return f"; there are: {', '.join(listed[:LISTED])}{end}" if listed else "; no names are known"
