"""Films and cameras as folders of frames: `film.mp4/000123.jpg` names a frame, and its picture.

Frames are decoded in order, in the calling thread; to go back to an earlier frame, the film is opened again.
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
CODEC = "mp4v"  # MPEG-4, which OpenCV's packages can write everywhere
CAMERA_FPS = 10.0  # frames per second of a film from a camera, whose frames have no fixed rate
CAMERA_FRAMES = 1000  # taken from a camera by default
NO_CAMERA = "there is no such camera, or it is in use"
OLD = 0.005  # seconds; a frame that arrives faster was buffered, and there may be a newer one
MOST_OLD = 30  # most frames to skip to reach the newest
FEWER = 0.01  # share of the frames in its header that a film may lack without a warning
CONTAINERS = "mov,matroska,avi,mpeg,mpegts,mpegvideo,m4v,asf,ogg"  # by content: no stills, no lists of other files
FFMPEG_OPTIONS = f"protocol_whitelist;file|format_whitelist;{CONTAINERS}"
LOG_LEVEL = 1  # OpenCV's LOG_LEVEL_FATAL
STILLS = "CV_IMAGES"  # what OpenCV calls its reader of pictures, for which its limits would hold instead of ours


def frames_of(film: Photo, every: int = 1) -> list[Photo]:
    """Return every Nth frame of a film as photos.

    Args:
        film: name and path of the film.
        every: 1 takes all.

    Raises:
        SourceError: the file is not a film, or no frame can be decoded.
    """
    count = count_frames(film.path)
    return [_frame(film, number) for number in range(0, count, every)]


def camera_frames(words: str, count: int) -> list[Photo]:
    """Return the frames that a camera will take, as photos; `camera:0` is the first camera.

    Raises:
        SourceError: there is no such camera, or another program has it.
    """
    _open(Path(words)).release()
    return [_frame(Photo(words.replace(":", "-"), Path(words)), number) for number in range(count)]


def _frame(source: Photo, number: int) -> Photo:
    name = f"{number:06d}.jpg"
    return Photo(f"{source.image_id}/{name}", source.path / name)


def count_frames(path: Path) -> int:
    """Count the frames of a film by going through it, since its header may be wrong.

    Raises:
        SourceError: the file is not a film, or no frame can be decoded.
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
    """Return a warning if a film has fewer frames than its header says, else ""."""
    capture = _open(path)
    stated, found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), count_frames(path)
    capture.release()
    if stated - found <= max(1, FEWER * stated):
        return ""
    return f"warning: {path}: ends after {found} of {stated} frames; the film may be cut off"


def frames_per_second(path: Path) -> float:
    """Return the frames per second of a film from its header; 25 if it does not say."""
    capture = _open(path)
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    capture.release()
    return rate if 0 < rate < 1000 else 25.0


def _open(path: Path, max_pixels: int = MAX_PIXELS) -> Any:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # silent: we report errors ourselves, in one line
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", FFMPEG_OPTIONS)
    _keep_quiet()
    camera = CAMERA.fullmatch(path.name)
    capture = cv2.VideoCapture(int(camera[1]) if camera else str(path))
    if not capture.isOpened() or capture.getBackendName() == STILLS:
        what = NO_CAMERA if camera else "not a film that OpenCV can read, or it is cut off"
        raise SourceError(f"{path}: {what}")
    if capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT) > max_pixels:
        raise SourceError(f"{path}: its frames have more than {max_pixels} pixels, the limit")
    return capture


def _keep_quiet() -> None:
    """Keep OpenCV from logging what we report ourselves; versions 4.8 and 5 have the function in two places."""
    place = getattr(cv2.utils, "logging", cv2)
    place.setLogLevel(LOG_LEVEL)


class Films:
    """Reads frames of films and cameras, best in order; can be used from any thread.

    Args:
        max_pixels: largest frame, in pixels; larger ones are not read.
    """

    def __init__(self, *, max_pixels: int = MAX_PIXELS) -> None:
        self._max_pixels, self._turn = max_pixels, threading.Lock()
        self._path, self._next = Path(), 0
        self._capture: Any = None  # of OpenCV, whose types say little

    def __call__(self, film: Path, number: int) -> Image:
        """Return a frame as RGB uint8 (H, W, 3); of a camera the newest frame, whatever the number.

        Raises:
            ImageError: the frame cannot be decoded.
        """
        with self._turn:
            try:
                found, pixels = self._newest(film) if CAMERA.fullmatch(film.name) else self._numbered(film, number)
            except SourceError as error:
                raise ImageError(str(error)) from None
        if not found or pixels is None:
            raise ImageError(f"{film}: frame {number} cannot be decoded")
        if pixels.shape[0] * pixels.shape[1] > self._max_pixels:
            raise ImageError(f"{film}: its frames have more than {self._max_pixels} pixels, the limit")
        return np.ascontiguousarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)

    def close(self) -> None:
        """Close the film."""
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
        self._path, self._capture, self._next = film, _open(film, self._max_pixels), 0


@dataclass(frozen=True)
class Frame(Photo):
    """A frame with its pixels, or with the error that it could not be decoded."""

    image: Image | ImageError = field(compare=False)


def decoded(photos: Iterable[Photo], films: Films) -> Iterator[Photo]:
    """Yield photos as they are, and frames with their pixels, since a film can only be decoded in order."""
    for photo in photos:
        place = film_of(photo.path)
        yield photo if place is None else _decoded(photo, films, *place)


def _decoded(photo: Photo, films: Films, film: Path, number: int) -> Frame:
    try:
        return Frame(photo.image_id, photo.path, films(film, number))
    except ImageError as error:
        return Frame(photo.image_id, photo.path, error)


def write_films(files: OwnFiles, pictures: Pictures, photos: Sequence[Photo], *, every: int = 1) -> list[Path]:
    """Join the drawn frames of each film to FILMS_FOLDER/NAME.mp4; return the films that were written.

    Args:
        files: our files in the folder of results.
        pictures: pictures of the frames; frames without one are left out.
        photos: all photos of a run.
        every: the photos are every Nth frame, so that the drawn film lasts as long as the original.

    Raises:
        InputError: OpenCV cannot write films here.
        FileRefused: a file that is not ours is in the way.
    """
    frames: dict[Path, list[Photo]] = {}
    for photo in photos:
        place = film_of(photo.path)
        if place is not None and pictures.has(photo.image_id):
            frames.setdefault(place[0], []).append(photo)
    written = []
    for film, own in frames.items():
        fps = CAMERA_FPS if CAMERA.fullmatch(film.name) else frames_per_second(film) / every
        name = f"{FILMS_FOLDER}/{PurePosixPath(own[0].image_id).parent.as_posix()}.mp4"
        with tempfile.TemporaryDirectory() as folder, files.writing(name) as partial:
            made = Path(folder, "film.mp4")
            _encode(made, [files.place(pictures.name(photo.image_id)) for photo in own], fps)
            shutil.copyfile(made, partial)
        written.append(files.folder / name)
    return written


def _encode(path: Path, pictures: Sequence[Path], fps: float) -> None:
    writer = None
    for picture in pictures:
        pixels = cv2.imread(str(picture))
        if pixels is None:
            raise InputError(f"{picture}: cannot be read, and is needed for the film")
        if writer is None:
            size = (pixels.shape[1], pixels.shape[0])
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*CODEC), fps, size)
            if not writer.isOpened():
                raise InputError(f"the installed OpenCV cannot write films ({CODEC}, {size[0]} x {size[1]})")
        writer.write(pixels if (pixels.shape[1], pixels.shape[0]) == size else cv2.resize(pixels, size))
    if writer is None:
        return
    writer.release()
    if not _has_frames(path, len(pictures)):
        raise InputError(f"the film could not be written whole; is there room in {path.parent}?")


def _has_frames(path: Path, count: int) -> bool:
    """Say whether a film has a number of frames by its header, since OpenCV does not say if it cannot write them."""
    try:
        capture = _open(path)
    except SourceError:
        return False
    found = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    capture.release()
    return bool(found == count)
