"""Labelled photos, one folder a class: what image classifiers are trained and judged on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detect.runs.photos import SourceError, find_photos
from structures.files import regular_file
from structures.records import Labels


@dataclass(frozen=True, eq=False)
class ClassFolders:
    """Labelled photos.

    Attributes:
        paths: of the photos, sorted.
        labels: (N,) int64 index into classes.
        classes: names of the labels.
    """

    paths: tuple[Path, ...]
    labels: Labels
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)


def read_class_folders(root: Path, columns: Mapping[str, int] | None = None) -> ClassFolders:
    """Find the photos under ROOT/class/, at any depth below.

    Args:
        root: the folder of the folders; hidden ones are passed over.
        columns: label of each folder name; None numbers the folders in sorted order.

    Raises:
        SourceError: no folders, one without pictures, or one that is not in columns.
    """
    if not root.is_dir():
        raise SourceError(f"{root}: no such folder")
    folders = sorted(each for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))
    if not folders:
        raise SourceError(f"{root}: holds no folders; one folder of photos a class is needed")
    classes = [folder.name for folder in folders] if columns is None else sorted(columns, key=columns.__getitem__)
    known = columns or {name: label for label, name in enumerate(classes)}
    paths: list[Path] = []
    labels: list[int] = []
    for folder in folders:
        if folder.name not in known:
            raise SourceError(f"{folder}: no class of that name; a list of folder names in class order is needed")
        found = [photo.path for photo in find_photos([str(folder)])]
        paths += found
        labels += [known[folder.name]] * len(found)
    return ClassFolders(tuple(paths), np.array(labels, np.int64), tuple(classes))


def read_class_list(path: Path) -> dict[str, int]:
    """Read a list of folder names, a line a class in label order; what stands behind a tab is left out.

    Raises:
        SourceError: not a text file, or a name stands in it twice.
    """
    try:
        lines = regular_file(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise SourceError(f"{path}: not a list of classes, one a line in UTF-8") from None
    names = [line.split("\t")[0].strip() for line in lines if line.strip()]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or not names:
        raise SourceError(f"{path}: {f'{repeated[0]} stands in it twice' if repeated else 'the list is empty'}")
    return {name: label for label, name in enumerate(names)}


def columns_of(classes: Sequence[str], listed: Path | None) -> dict[str, int]:
    """Return the label of each folder name: by the list if there is one, else folders are named like the classes.

    Raises:
        SourceError: the list has another length than the classes.
    """
    if listed is None:
        return {name: label for label, name in enumerate(classes)}
    columns = read_class_list(listed)
    if len(columns) != len(classes):
        raise SourceError(f"{listed}: {len(columns)} classes, but the weights have {len(classes)}")
    return columns


def spread(data: ClassFolders, limit: int) -> ClassFolders:
    """Return at most so many photos, evenly spread over the list; 0 keeps all."""
    if not 0 < limit < len(data):
        return data
    rows = np.linspace(0, len(data) - 1, limit).round().astype(np.int64)
    return ClassFolders(tuple(data.paths[row] for row in rows), data.labels[rows], data.classes)
