"""Which class a name means, written in any case and with blanks around it; which name was meant by a misspelled one."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from structures.errors import InputError

ALIKE = 0.6  # least likeness of two names, from 0 to 1; difflib's own
LISTED = 20  # classes that a message lists


class ClassNames:
    """Finds the class that a name means: the same name, or the only one that differs just in case and outer blanks.

    Args:
        classes: names in label order.

    >>> names = ClassNames(["cat", "Cat", "dog"])
    >>> names.find("cat"), names.find("Cat"), names.find("DOG"), names.find("CAT")
    (0, 1, 2, -1)
    >>> ClassNames(["Gr\u00f6\u00dfe"]).find("Gro\u0308\u00dfe")
    0
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = tuple(classes)
        folded = [_fold(name) for name in classes]
        counts = Counter(folded)
        self._exact = {name: label for label, name in enumerate(classes)}
        self._folded = {name: label for label, name in enumerate(folded) if counts[name] == 1}

    def find(self, name: str) -> int:
        """Return the label that a name means; -1 if there is none."""
        return self._exact.get(name, self._folded.get(_fold(name), -1))

    def label(self, name: str) -> int:
        """Return the label that a name means.

        Raises:
            InputError: there is none; the message says which name is most like it.
        """
        label = self.find(name) if isinstance(name, str) else -1  # a number is none, not even that of a class
        if label < 0:
            raise InputError(f"no class is called {name!r:.60}{near(name, self._classes)}")
        return label


def near(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about a name that is not known: the one that was meant, perhaps, or what there is.

    >>> near("Dgo", ["cat", "dog"]), near("zebra", ["cat", "dog"]), near("zebra", [])
    ("; did you mean 'dog'?", '; there are: cat, dog', '; no names are known')
    """
    listed = list(known)
    end = ", ..." if len(listed) > LISTED else ""
    there_are = f"; there are: {', '.join(listed[:LISTED])}{end}" if listed else "; no names are known"
    return did_you_mean(name, listed) or there_are


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip()).casefold()  # macOS writes an umlaut as two characters


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of an error about a name that nothing has: the known name that is most like it, if one is.

    >>> did_you_mean("dgo", ["cat", "dog"]), did_you_mean("Selective_Search", ["selective-search"])
    ("; did you mean 'dog'?", "; did you mean 'selective-search'?")
    >>> did_you_mean("zebra", ["cat", "dog"])
    ''
    """
    folded = {each.casefold(): each for each in known}
    alike = get_close_matches(str(name).casefold(), folded, n=1, cutoff=ALIKE)
    return f"; did you mean {folded[alike[0]]!r}?" if alike else ""


def not_one_of(value: str, known: Iterable[str]) -> str:
    """Return what is wrong with a value that is not one of those known, for an error.

    >>> not_one_of("cuda0", ["cpu", "cuda"])
    "'cuda0' is not one of cpu, cuda; did you mean 'cuda'?"
    """
    names = list(known)
    return f"{value!r} is not one of {', '.join(names)}{did_you_mean(value, names)}"
