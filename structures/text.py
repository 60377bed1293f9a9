r"""How text from outside is shown: names of files and classes must not steer the terminal."""

import re
from collections.abc import Collection, Sequence

# C0 and C1 controls, which move the cursor or set titles; line ends of Unicode; marks that turn the direction of
# writing, so that `a\u202egpj.exe` looks like `aexe.jpg`; halves of surrogate pairs, from names that are not UTF-8.
STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

MOST_NAMED = 3  # complaints that an error quotes


def printable(text: object) -> str:
    r"""Return a text on one line with all that would steer a terminal written as in a Python string.

    >>> printable("photo\x1b[2J.jpg"), printable("two\nlines"), printable("Käse 猫")
    ('photo\\x1b[2J.jpg', 'two\\nlines', 'Käse 猫')
    """
    return STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def number_of(number: int, noun: str) -> str:
    """Return a number of things in words, with a noun that takes "s", "es" or "ies".

    >>> number_of(1, "photo"), number_of(0, "photo"), number_of(2, "box"), number_of(3, "category")
    ('1 photo', '0 photos', '2 boxes', '3 categories')
    """
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y"):  # after a consonant: nothing that is counted here ends like "key"
        return f"{number} {noun[:-1]}ies"
    return f"{number} {noun}{'es' if noun.endswith(('s', 'x')) else 's'}"


def aligned(rows: Sequence[Sequence[str]], *, left: Collection[int] = ()) -> list[str]:
    """Return rows of words, made printable, as lines with columns two blanks apart.

    Args:
        rows: all of the same length.
        left: columns that are aligned on the left; the others are on the right.

    >>> aligned([("label", "score"), ("dog", "0.5")], left={0})
    ['label  score', 'dog      0.5']
    """
    columns = [[printable(word) for word in column] for column in zip(*rows, strict=True)]
    for at, words in enumerate(columns):
        width = max(map(len, words))
        columns[at] = [word.ljust(width) if at in left else word.rjust(width) for word in words]
    return ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]


def some_of(complaints: Sequence[str]) -> str:
    """Join the first complaints, and count the others.

    >>> some_of(["a: no such file", "b: no such file", "c: no such file", "d: no such file"])
    'a: no such file; b: no such file; c: no such file; and 1 more'
    """
    more = len(complaints) - MOST_NAMED
    return "; ".join([*complaints[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])])
