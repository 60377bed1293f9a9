"""Labelled photos in one folder per class, to train and score image classifiers on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detect.runs.photos import SourceError, find_photos
from eval.notes import Notes
from eval.photo_records import PhotoRecords
from structures.boxes import ImageSize, area, whole_image
from structures.class_lists import read_class_names
from structures.files import file_digest
from structures.images import ImageError, read_size
from structures.records import GroundTruth, Labels
from structures.text import number_of


@dataclass(frozen=True, eq=False)
class ClassFolders:
    """Labelled photos.

    Attributes:
        paths: paths of the photos, sorted.
        labels: (N,) int64 index into classes.
        classes: names of the labels.
    """

    paths: tuple[Path, ...]
    labels: Labels
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)


class WholePhotos(PhotoRecords):
    """Labelled photos as a dataset for `--dry-run`, each with one object that fills the photo.

    Args:
        data: photos; those that cannot be read are left out, with a note, and equal files are noted.
    """

    def __init__(self, data: ClassFolders) -> None:
        self._notes, self.classes = Notes(), data.classes
        sizes = {path: self._size(path) for path in data.paths}
        labels = dict(zip(data.paths, data.labels.tolist(), strict=True))
        self._paths = {str(path): path for path, size in sizes.items() if size}
        self.image_ids: Sequence[str] = tuple(self._paths)
        self.truths = [_filled(name, sizes[path] or (1, 1), labels[path]) for name, path in self._paths.items()]
        self._note_equal(data)

    def image_path(self, image_id: str) -> Path:
        """Return the path of a photo."""
        return self._paths[image_id]

    def _size(self, path: Path) -> ImageSize | None:
        try:
            return read_size(path)
        except ImageError as error:
            self._notes.add("photo that cannot be read left out", str(error))
            return None

    def _note_equal(self, data: ClassFolders) -> None:
        """Note photos that are in two classes, byte for byte; only files of equal length are read."""
        lengths = Counter(path.stat().st_size for path in data.paths)
        seen = dict[str, int]()
        for path, label in zip(data.paths, data.labels.tolist(), strict=True):
            if lengths[path.stat().st_size] > 1:
                first = seen.setdefault(file_digest(path), label)
                if first != label:
                    self._notes.add("photo of another class, too", path)


def _filled(name: str, image_size: ImageSize, label: int) -> GroundTruth:
    box = whole_image(image_size)
    return GroundTruth(name, box, np.array([label]), np.zeros(1, np.bool_), area(box), image_size)


def read_class_folders(root: Path, columns: Mapping[str, int] | None = None) -> ClassFolders:
    """Find the photos below ROOT/class/, at any depth.

    Args:
        root: folder with one folder per class; hidden ones are skipped.
        columns: folder name -> label; None numbers the folders in sorted order.

    Raises:
        SourceError: there are no folders, one has no pictures, or one is not in columns.
    """
    if not root.is_dir():
        raise SourceError(f"{root}: no such folder")
    folders = sorted(each for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))
    if not folders:
        raise SourceError(f"{root}: has no folders; expected one folder of photos per class")
    classes = [folder.name for folder in folders] if columns is None else sorted(columns, key=columns.__getitem__)
    known = columns or {name: label for label, name in enumerate(classes)}
    paths: list[Path] = []
    labels: list[int] = []
    for folder in folders:
        if folder.name not in known:
            raise SourceError(f"{folder}: no class has this name; list the folder names in class order as `classes`")
        found = [photo.path for photo in find_photos([str(folder)])]
        paths += found
        labels += [known[folder.name]] * len(found)
    return ClassFolders(tuple(paths), np.array(labels, np.int64), tuple(classes))


def columns_of(classes: Sequence[str], listed: Sequence[str] | None) -> dict[str, int]:
    """Return the label of each folder name: from the list if there is one, else folders have the names of the classes.

    Args:
        classes: classes of the weights.
        listed: folder names in the order of the classes, as `read_class_names` takes them.

    Raises:
        InputError: the list cannot be read, or its length differs from the number of classes.
    """
    names = classes if listed is None else names_for(classes, listed)
    return {name: label for label, name in enumerate(names)}


def names_for(classes: Sequence[str], listed: Sequence[str]) -> tuple[str, ...]:
    """Return the listed names that replace the classes of weights, one for each.

    Raises:
        InputError: the list cannot be read, or its length differs from the number of classes.
    """
    names = read_class_names(listed)
    if len(names) != len(classes):
        raise SourceError(f"{', '.join(listed)}: {number_of(len(names), 'class')}, but the weights have {len(classes)}")
    return tuple(names)


def limit_photos(data: ClassFolders, limit: int) -> ClassFolders:
    """Return at most `limit` photos, evenly spread over the list; 0 keeps all."""
    if not 0 < limit < len(data):
        return data
    rows = np.linspace(0, len(data) - 1, limit).round().astype(np.int64)
    return ClassFolders(tuple(data.paths[row] for row in rows), data.labels[rows], data.classes)
