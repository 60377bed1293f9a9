"""Films and cameras as folders of frames: `film.mp4/000123.jpg` is the name of a frame, and of its picture.

Frames are decoded one after the other, in the calling thread; for an earlier frame a film is opened again.
"""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from detect.runs.draw import Pictures
from detect.runs.frames import CAMERA, film_of
from detect.runs.photos import Photo, SourceError
from structures.errors import InputError
from structures.images import MAX_PIXELS, ImageError
from structures.own_files import OwnFiles
from structures.records import Image

FILMS_FOLDER = "films"
CODEC = "mp4v"  # MPEG-4, which OpenCV's own packages can write
CAMERA_RATE = 10.0  # frames per second of a film of what a camera saw: they come at whatever rate they are done
CAMERA_FRAMES = 1000  # that are taken from a camera where no number is given
OLD = 0.005  # seconds; a frame that comes quicker than this was waiting, and a newer one may be there
MOST_OLD = 30  # frames that are passed over to reach the newest
FEWER = 0.01  # share of its frames that a film may lack, compared with what its head says


def frames_of(film: Photo, every: int = 1) -> list[Photo]:
    """Return every Nth frame of a film as photos.

    Args:
        film: its name and path.
        every: 1 takes all.

    Raises:
        SourceError: the file is no film, or holds no frame that can be decoded.
    """
    count = count_frames(film.path)
    return [_frame(film, number) for number in range(0, count, every)]


def camera_frames(words: str, count: int) -> list[Photo]:
    """Return photos that a camera is yet to take: `camera:0` is the first one."""
    return [_frame(Photo(words.replace(":", "-"), Path(words)), number) for number in range(count)]


def _frame(source: Photo, number: int) -> Photo:
    name = f"{number:06d}.jpg"
    return Photo(f"{source.image_id}/{name}", source.path / name)


def count_frames(path: Path) -> int:
    """Count the frames of a film by going through them: its header may be wrong.

    Raises:
        SourceError: the file is no film, or holds no frame.
    """
    stat = path.stat()
    return _counted(path, stat.st_size, stat.st_mtime_ns)


@lru_cache
def _counted(path: Path, size: int, changed: int) -> int:
    capture, count = _open(path), 0
    try:
        while capture.grab():
            count += 1
    finally:
        capture.release()
    if not count:
        raise SourceError(f"{path}: no frame of this film can be decoded")
    return count


def truncated(path: Path) -> str:
    """Return a warning where a film has fewer frames than its header says; "" where all are there."""
    capture = _open(path)
    stated, found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), count_frames(path)
    capture.release()
    if stated - found <= max(1, FEWER * stated):
        return ""
    return f"warning: {path}: ends after {found} of {stated} frames; the film may be cut off"


def frames_per_second(path: Path) -> float:
    """Return the frame rate of a film, as its header says; 25 where it does not."""
    capture = _open(path)
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    capture.release()
    return rate if 0 < rate < 1000 else 25.0


def _open(path: Path) -> Any:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what is wrong we say ourselves, in one line
    camera = CAMERA.fullmatch(path.name)
    capture = cv2.VideoCapture(int(camera[1]) if camera else str(path))
    if not capture.isOpened():
        what = "there is no such camera" if camera else "not a film that OpenCV can read, or it is cut off"
        raise SourceError(f"{path}: {what}")
    return capture


class Films:
    """Reads frames of films and cameras; frames of one film are best asked for in order. From any thread.

    Args:
        max_pixels: of a frame; larger ones cannot be read.
    """

    def __init__(self, *, max_pixels: int = MAX_PIXELS) -> None:
        self._max_pixels, self._turn = max_pixels, threading.Lock()
        self._path, self._next = Path(), 0
        self._capture: Any = None  # of OpenCV, whose types say little

    def __call__(self, film: Path, number: int) -> Image:
        """Return a frame, RGB uint8 (H, W, 3); of a camera the newest, whatever its number.

        Raises:
            ImageError: it cannot be decoded.
        """
        with self._turn:
            try:
                found, pixels = self._newest(film) if CAMERA.fullmatch(film.name) else self._numbered(film, number)
            except SourceError as error:
                raise ImageError(str(error)) from None
        if not found or pixels is None:
            raise ImageError(f"{film}: frame {number} cannot be decoded")
        if pixels.shape[0] * pixels.shape[1] > self._max_pixels:
            raise ImageError(f"{film}: frames of more than {self._max_pixels} pixels, the limit")
        return np.ascontiguousarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)

    def close(self) -> None:
        """Let go of the film."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _numbered(self, film: Path, number: int) -> tuple[bool, Any]:
        if self._capture is None or self._path != film or number < self._next:
            self._take(film)
        while self._next < number and self._capture.grab():
            self._next += 1
        self._next += 1
        found: tuple[bool, Any] = self._capture.read()
        return found

    def _newest(self, camera: Path) -> tuple[bool, Any]:
        if self._capture is None or self._path != camera:
            self._take(camera)
        for _ in range(MOST_OLD):
            begin = time.perf_counter()
            if not self._capture.grab() or time.perf_counter() - begin > OLD:
                break
        found: tuple[bool, Any] = self._capture.retrieve()
        return found

    def _take(self, film: Path) -> None:
        self.close()
        self._path, self._capture, self._next = film, _open(film), 0


@dataclass(frozen=True)
class Frame(Photo):
    """A frame with its pixels, or with what was wrong with it."""

    image: Image | ImageError = field(compare=False)


def decoded(photos: Iterable[Photo], films: Films) -> Iterator[Photo]:
    """Yield photos as they are, and frames with their pixels: those of a film can only be decoded in order."""
    for photo in photos:
        place = film_of(photo.path)
        yield photo if place is None else _decoded(photo, films, *place)


def _decoded(photo: Photo, films: Films, film: Path, number: int) -> Frame:
    try:
        return Frame(photo.image_id, photo.path, films(film, number))
    except ImageError as error:
        return Frame(photo.image_id, photo.path, error)


def write_films(files: OwnFiles, pictures: Pictures, photos: Sequence[Photo], *, every: int = 1) -> list[Path]:
    """Join the drawn frames of each film to a film of them, FILMS_FOLDER/NAME.mp4; return those that were written.

    Args:
        files: of the folder of results, that are ours.
        pictures: where frames were drawn; those that were not are left out.
        photos: all of a run.
        every: Nth frames they are: the drawn film takes as long as the film.

    Raises:
        InputError: OpenCV cannot write films here.
        FileRefused: something that is not ours is in the way.
    """
    frames: dict[Path, list[Photo]] = {}
    for photo in photos:
        place = film_of(photo.path)
        if place is not None and pictures.has(photo.image_id):
            frames.setdefault(place[0], []).append(photo)
    written = []
    for film, own in frames.items():
        rate = CAMERA_RATE if CAMERA.fullmatch(film.name) else frames_per_second(film) / every
        name = f"{FILMS_FOLDER}/{PurePosixPath(own[0].image_id).parent.as_posix()}.mp4"
        with tempfile.TemporaryDirectory() as folder, files.writing(name) as partial:
            made = Path(folder, "film.mp4")
            _encode(made, [files.place(pictures.name(photo.image_id)) for photo in own], rate)
            shutil.copyfile(made, partial)
        written.append(files.folder / name)
    return written


def _encode(path: Path, pictures: Sequence[Path], rate: float) -> None:
    writer = None
    for picture in pictures:
        pixels = cv2.imread(str(picture))
        if pixels is None:
            raise InputError(f"{picture}: cannot be read again for the film")
        if writer is None:
            size = (pixels.shape[1], pixels.shape[0])
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*CODEC), rate, size)
            if not writer.isOpened():
                raise InputError(f"OpenCV cannot write films here ({CODEC}, {size[0]} x {size[1]})")
        writer.write(pixels if (pixels.shape[1], pixels.shape[0]) == size else cv2.resize(pixels, size))
    if writer is not None:
        writer.release()
