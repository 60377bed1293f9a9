"""Which file does a photo come from, its own or a film? And which version of the file was read?"""

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from proposals.stored.reader import file_key
from structures.file_digests import Stamp, stamp_of

FILMS = frozenset(".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .ogv .ts".split())
CAMERA = re.compile(r"camera:(\d{1,3})")
FRAME = re.compile(r"(\d{6,})\.jpg")


def is_film(path: str | Path) -> bool:
    """Return whether a path has the suffix of a film."""
    return os.path.splitext(path)[1].lower() in FILMS


def film_of(path: Path) -> tuple[Path, int] | None:
    """Return the film or camera, and the frame number, of the path of a frame; None for the path of a photo."""
    found = FRAME.fullmatch(path.name)
    if found is None or not ((is_film(path.parent) and path.parent.is_file()) or CAMERA.fullmatch(path.parent.name)):
        return None
    return path.parent, int(found[1])


def file_of(path: str | Path) -> str | Path:
    """Return the file of a photo, or the film of a frame."""
    folder = os.path.dirname(path)
    return folder if is_film(folder) and os.path.isfile(folder) else path


class Version(NamedTuple):
    """Which version of its file a photo was read from.

    Attributes:
        key: `proposals.stored.reader.file_key` of the file; "" if it could not be read.
        stamp: size and time of the file before it was read; None if unknown.
    """

    key: str = ""
    stamp: Stamp | None = None


def key_of(path: str | Path) -> str:
    """Return the key of a photo's file, or of the film of a frame."""
    file = file_of(path)
    try:
        return file_key(file) if file is path else _key_of_film(file, stamp_of(file))
    except OSError:  # reported when it is read
        return ""


@lru_cache
def _key_of_film(path: str | Path, stamp: Stamp | None) -> str:
    return file_key(path)
