"""Which class a name means: upper and lower case may differ."""

from collections import Counter
from collections.abc import Sequence


class ClassNames:
    """Finds the class that a name means: the same name, or else the only one that differs in nothing but case.

    Args:
        classes: names in label order.

    >>> names = ClassNames(["cat", "Cat", "dog"])
    >>> names.find("cat"), names.find("Cat"), names.find("DOG"), names.find("CAT")
    (0, 1, 2, -1)
    """

    def __init__(self, classes: Sequence[str]) -> None:
        folded = [name.casefold() for name in classes]
        counts = Counter(folded)
        self._exact = {name: label for label, name in enumerate(classes)}
        self._folded = {name: label for label, name in enumerate(folded) if counts[name] == 1}

    def find(self, name: str) -> int:
        """Return the label that a name means; -1 if there is none."""
        return self._exact.get(name, self._folded.get(name.casefold(), -1))
