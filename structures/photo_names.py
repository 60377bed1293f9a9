"""Which photo a name means: the one rule for results, annotations and proposals, whoever wrote them."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import PurePosixPath


def forward(name: str) -> str:
    r"""Return a name with forward slashes: one that has only the others was written on Windows.

    >>> forward(r"val\1.jpg"), forward(r"a/b\c")
    ('val/1.jpg', 'a/b\\c')
    """
    return name if "/" in name else name.replace("\\", "/")


def possible(name: str) -> bool:
    r"""Say whether a file can have a name: no system has names with NUL, or with characters that it cannot encode.

    >>> possible("a.jpg"), possible("a\0.jpg"), possible("\ud800.jpg")
    (True, False, False)
    """
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def spellings(name: str) -> Iterator[str]:
    r"""Yield the names that a photo may be listed under, the most exact first.

    >>> list(spellings("val/01.jpg"))
    ['val/01.jpg', 'val/01', '01.jpg', '01']
    >>> list(spellings(r"val\01.jpg"))[1:]
    ['val/01.jpg', 'val/01', '01.jpg', '01']
    """
    yield name
    if forward(name) != name:  # its dots may be those of a folder, not of a suffix
        yield from spellings(forward(name))
        return
    path = PurePosixPath(name)
    if path.name:
        yield from (str(path.with_suffix("")), path.name, path.stem)
    if "\\" in name:  # written on Windows, perhaps
        yield from spellings(name.replace("\\", "/"))


class PhotoNames:
    r"""Finds the photo that a name means.

    A name is tried as it is, without its suffix, without its folders, and without both. A photo may also be called by
    the last part of its own name, where no other photo has the same. Windows' backslashes are understood on both sides.

    Args:
        names: of the photos.

    >>> photos = PhotoNames([r"val\01.jpg", "train/02"])
    >>> photos.find("01.jpg"), photos.find("val/01.jpg"), photos.find(r"train\02.png"), photos.find("03")
    ('val\\01.jpg', 'val\\01.jpg', 'train/02', None)
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = dict.fromkeys(names)

    def find(self, name: str) -> str | None:
        """Return the photo's own name; None if no photo is meant."""
        if name in self._names:  # the most exact, and nearly always so
            return name
        return next((self._meant[spelling] for spelling in spellings(name) if spelling in self._meant), None)

    @cached_property
    def _meant(self) -> dict[str, str]:
        last_parts = [PurePosixPath(forward(name)).name for name in self._names]
        counts = Counter(last_parts)
        meant = {last: name for last, name in zip(last_parts, self._names, strict=True) if counts[last] == 1}
        meant.update({forward(name): name for name in self._names})
        meant.update({name: name for name in self._names})
        return meant
