"""Where the parts of annotated photos lie: folders of photos, lists of names, and the names of splits."""

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

from structures.errors import InputError
from structures.files import file_within
from structures.images import SUFFIXES
from structures.photo_names import forward

SPLITS = ("train", "val", "test")
SPELLINGS = (("train", "training"), ("val", "valid", "validation"))
PHOTO_FOLDERS = ("JPEGImages", "images", "Images", "photos", "img", "imgs", "data")  # next to the annotations
DATA_PREFIX = "data/"  # of the paths in CVAT's lists, which name no folder of its archive
MOST_BYTES = 2**27  # of a list: two million long names
SUFFIXES_IN_ORDER = (".jpg", ".JPG", *sorted(SUFFIXES), *(suffix.upper() for suffix in sorted(SUFFIXES)))


def spellings_of(split: str) -> tuple[str, ...]:
    """Return the names that a split may have in a folder, its own first.

    >>> spellings_of("val"), spellings_of("quarter")
    (('val', 'valid', 'validation'), ('quarter',))
    """
    others = next((names for names in SPELLINGS if split.casefold() in names), ())
    return tuple(dict.fromkeys((split, *others)))


def find_split(there: Collection[str], split: str) -> str | None:
    """Return the name that a split goes by among those that are there: its own, or another spelling, in any case.

    >>> find_split(["Train", "Validation"], "val"), find_split(["val", "Val"], "Val"), find_split(["test"], "val")
    ('Validation', 'Val', None)
    """
    names = spellings_of(split)
    in_any_case = (each for name in names for each in there if each.casefold() == name.casefold())
    return next((name for name in names if name in there), None) or next(in_any_case, None)


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted; none where it does not exist."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:  # does not look at each photo again, as Path.is_dir would
        return sorted(folder / entry.name for entry in entries if entry.is_dir())


def read_list(path: Path, problem: type[InputError], *, names_as_written: bool = False) -> list[str]:
    """Return the lines of a text file that are not blank, without surrounding blanks.

    Args:
        path: UTF-8, with or without a byte order mark, any line ends.
        problem: the error to raise.
        names_as_written: bytes that are not UTF-8 are kept as `os.fsdecode` does, since they may be in names of files.

    Raises:
        InputError: larger than MOST_BYTES, not UTF-8 (unless `names_as_written`), or with a NUL; names the file.
        OSError: it cannot be opened.
    """
    errors = "surrogateescape" if names_as_written else "strict"
    try:
        text = file_within(path, MOST_BYTES, "a list", problem).read_text(encoding="utf-8-sig", errors=errors)
    except UnicodeDecodeError as error:
        raise problem(f"{path}: not UTF-8: {error}") from None
    if "\0" in text:
        raise problem(f"{path}: not a list of names: it holds NUL")
    return [line.strip() for line in text.splitlines() if line.strip()]


def photos_below(folder: Path) -> list[Path]:
    """Return the files below a folder that have the suffix of a photo, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def find_photo(folders: Sequence[Path], stem: str) -> Path:
    """Return the photo of this name without suffix in the first of the folders that has it: a .jpg, or else another.

    Where there is none, it is the .jpg of the first folder, which is missing.
    """
    paths = [folder / f"{stem}{suffix}" for folder in folders for suffix in SUFFIXES_IN_ORDER]
    return next((path for path in paths if path.exists()), paths[0])


def photo_folders(annotations: Path) -> list[Path]:
    """Return where the photos of a folder of annotations may be: next to them, or in a folder of a usual name."""
    nearby = [place / name for place in (annotations.parent, annotations) for name in PHOTO_FOLDERS]
    return [annotations, *(folder for folder in nearby if folder.is_dir()), annotations.parent]


def resolve_listed(line: str, bases: Sequence[Path]) -> Path:
    """Return the file that a line of a list means, relative to the first folder where it exists.

    Lists are written on other machines: backslashes are understood, and prefixes that name no folder are dropped, such
    as CVAT's `data/` and Roboflow's `../`. A file that is nowhere is looked for by the last three, two and one parts of
    its path, as absolute paths from other machines have to be.
    """
    name = forward(line)
    candidates = [base / each for each in _shortened(name) for base in bases]
    return next((path for path in candidates if path.exists()), candidates[0])


def _shortened(name: str) -> Iterator[str]:
    yield name
    short = name.removeprefix("./")
    for prefix in (DATA_PREFIX, "../"):
        if short.startswith(prefix):
            yield short.removeprefix(prefix)
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..")]
    for count in (3, 2, 1):
        if len(parts) > count:
            yield "/".join(parts[-count:])
