"""Lists of class names as people give them: `a,b`, several values, or a file with one name per line."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from structures.errors import InputError
from structures.files import file_within
from structures.names import ClassNames

SUFFIX = ".txt"  # a name that ends so is that of a file, whether it is there or not
MOST_BYTES = 2**24  # of a list of classes: half a million names


def read_class_names(given: Sequence[str], *, known: Sequence[str] = ()) -> list[str]:
    """Return the class names that were listed, in their order, without blanks around them.

    Args:
        given: each is a class of `known`, commas and all; or a file with one name per line, in which anything after a
            tab is ignored; or names with commas between them.
        known: the classes that may be meant, where they are known already.

    Raises:
        InputError: no name at all, a name twice, or a file that is not a list in UTF-8; names it.
        OSError: there is no such file, or it cannot be read.

    >>> read_class_names(["dog, traffic light", "crane, bird"], known=["crane, bird", "dog", "traffic light"])
    ['dog', 'traffic light', 'crane, bird']
    """
    names = [name for value in given for name in _names(value.strip(), ClassNames([each.strip() for each in known]))]
    where = ", ".join(given)
    if not names:
        raise InputError(f"{where or '`classes`'}: names no class")
    repeated = max(names, key=names.count)
    if names.count(repeated) > 1:
        raise InputError(f"{where}: names a class twice: {repeated}")
    return names


def _names(value: str, known: ClassNames) -> Iterator[str]:
    if known.find(value) >= 0:
        yield value
        return
    listed = _lines(value) if _is_file(value) else value.split(",")
    yield from (name.strip() for name in listed if name.strip())


def _is_file(value: str) -> bool:
    return value.endswith(SUFFIX) or os.sep in value or Path(value).is_file()


def _lines(path: str) -> list[str]:
    try:
        text = file_within(path, MOST_BYTES, "a list of classes", InputError).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a list of classes, one per line in UTF-8") from None
    return [line.split("\t")[0] for line in text.splitlines()]
