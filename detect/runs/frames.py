"""Which file is a photo: its own, or the film that it is a frame of? And which bytes were there when it was read?"""

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
    """Say whether a path is that of a film, by its suffix."""
    return os.path.splitext(path)[1].lower() in FILMS


def film_of(path: Path) -> tuple[Path, int] | None:
    """Return the film, or camera, and the number of the frame that a path means; None where it is that of a photo."""
    found = FRAME.fullmatch(path.name)
    if found is None or not ((is_film(path.parent) and path.parent.is_file()) or CAMERA.fullmatch(path.parent.name)):
        return None
    return path.parent, int(found[1])


def file_of(path: str | Path) -> str | Path:
    """Return the file that a photo is, or the film that a frame is of."""
    folder = os.path.dirname(path)
    return folder if is_film(folder) and os.path.isfile(folder) else path


class Version(NamedTuple):
    """Which bytes a photo was when it was read.

    Attributes:
        key: `proposals.stored.reader.file_key` of its file; "" where that could not be read.
        stamp: of its file before it was read; None likewise.
    """

    key: str = ""
    stamp: Stamp | None = None


def key_of(path: str | Path) -> str:
    """Return the key of a photo, or of the film of a frame, as `Version` has it."""
    file = file_of(path)
    try:
        return file_key(file) if file is path else _key_of_film(file, stamp_of(file))
    except OSError:  # it will be reported when it is read
        return ""


@lru_cache
def _key_of_film(path: str | Path, stamp: Stamp | None) -> str:
    return file_key(path)
