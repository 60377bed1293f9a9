"""Several datasets as one: the photos of one after those of the other, each under a name of its own."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from eval.notes import notes_of
from structures.errors import InputError
from structures.records import Dataset, GroundTruth


class JoinedDataset:
    """The photos of several datasets with the same classes.

    Args:
        parts: datasets by the names that go in front of those of their photos, with a slash between: photos of equal
            names stay apart.

    Attributes:
        parts: the datasets by these names.
        classes: class names; a label is an index into them.
        image_ids: names of the photos, such as VOC2007/000005.

    Raises:
        InputError: the classes of two parts differ, or there is no part.
    """

    def __init__(self, parts: Mapping[str, Dataset]) -> None:
        if not parts:
            raise InputError("no dataset to join")
        first, *others = parts
        self.classes: Sequence[str] = tuple(parts[first].classes)
        for name in others:
            _require_same(first, self.classes, name, tuple(parts[name].classes))
        self.parts: Mapping[str, Dataset] = dict(parts)
        self._places = {f"{name}/{each}": (name, each) for name, part in parts.items() for each in part.image_ids}
        self.image_ids: Sequence[str] = tuple(self._places)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __iter__(self) -> Iterator[GroundTruth]:
        return map(self.ground_truth, self.image_ids)

    @property
    def split(self) -> str:
        """The splits of the parts, each named once; "" where they have none."""
        return "+".join(dict.fromkeys(filter(None, (getattr(part, "split", "") for part in self.parts.values()))))

    @property
    def notes(self) -> list[str]:
        """What was odd about the annotations of each part."""
        return [line for part in self.parts.values() for line in notes_of(part)]

    def image_path(self, image_id: str) -> Path:
        """Return where the photo lies."""
        name, inner = self._place(image_id)
        return self.parts[name].image_path(inner)

    def ground_truth(self, image_id: str) -> GroundTruth:
        """Return the objects of one photo.

        Raises:
            InputError: there is no such photo.
        """
        name, inner = self._place(image_id)
        return replace(self.parts[name].ground_truth(inner), image_id=image_id)

    def _place(self, image_id: str) -> tuple[str, str]:
        if image_id not in self._places:
            raise InputError(f"no image {image_id!r} in {' or '.join(self.parts)}")
        return self._places[image_id]


def _require_same(one: str, classes: Sequence[str], other: str, others: Sequence[str]) -> None:
    if classes == others:
        return
    only = {one: sorted({*classes} - {*others}), other: sorted({*others} - {*classes})}
    difference = "; ".join(f"only {name} has {', '.join(found)}" for name, found in only.items() if found)
    raise InputError(f"{one} and {other} have different classes: {difference or 'the same ones, in another order'}")


def folder_names(folders: Sequence[Path]) -> list[str]:
    """Return names of folders: their paths, with forward slashes, from the deepest folder that holds them all.

    Raises:
        InputError: a folder or file is named twice.

    >>> folder_names([Path("/data/VOC2007"), Path("/data/2012/VOC")])
    ['VOC2007', '2012/VOC']
    """
    real = [os.path.realpath(folder) for folder in folders]
    for at, path in enumerate(real):
        if path in real[:at]:
            raise InputError(f"{folders[at]}: is named twice")
    return [Path(os.path.relpath(path, os.path.commonpath(real))).as_posix() for path in real]
