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
    r"""Say whether a file can have a name: not without a last part, with NUL, or with what the system cannot encode.

    >>> possible("a.jpg"), possible("a\0.jpg"), possible("\ud800.jpg"), possible("a/.."), possible(".")
    (True, False, False, False, False)
    """
    if name[-1:] in ("", ".", "/") and PurePosixPath(name).name in ("", ".."):  # most names need no path
        return False
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
    the last part of its own name, and by either without the suffix, where no other photo has the same. Windows'
    backslashes are understood on both sides.

    Args:
        names: of the photos.

    >>> photos = PhotoNames([r"val\01.jpg", "train/02"])
    >>> photos.find("01.jpg"), photos.find("val/01.jpg"), photos.find(r"train\02.png"), photos.find("03")
    ('val\\01.jpg', 'val\\01.jpg', 'train/02', None)
    >>> photos.find("val/01"), photos.find("01"), photos.find("01.png")
    ('val\\01.jpg', 'val\\01.jpg', None)
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = dict.fromkeys(names)

    def find(self, name: str, *, without_suffix: bool = True) -> str | None:
        """Return the photo's own name; None if no photo is meant.

        Args:
            name: of a photo.
            without_suffix: it may be a photo's name without the suffix.
        """
        if name in self._names:  # the most exact, and nearly always so
            return name
        known = (self._meant[spelling] for spelling in spellings(name) if spelling in self._meant)
        return next(known, None) or (self._by_stem.get(forward(name)) if without_suffix else None)

    @cached_property
    def _meant(self) -> dict[str, str]:
        meant = self._only([PurePosixPath(forward(name)).name for name in self._names])
        meant.update({forward(name): name for name in self._names})
        meant.update({name: name for name in self._names})
        return meant

    @cached_property
    def _by_stem(self) -> dict[str, str]:
        """For names without a suffix alone: 01.png is not 01.jpg."""
        paths = [PurePosixPath(forward(name)) for name in self._names]
        return self._only([path.stem for path in paths]) | self._only([str(path.with_suffix("")) for path in paths])

    def _only(self, others: Sequence[str]) -> dict[str, str]:
        """Return the name of each photo by another one that it has, if no other photo has that."""
        counts = Counter(others)
        return {other: name for other, name in zip(others, self._names, strict=True) if counts[other] == 1}
