"""Draws results from disk: pictures that an earlier run did not draw, and those of `rcnn draw`."""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from detect.drawing.fonts import missing_fonts
from detect.runs.draw import Drawing, Pictures, picture_name
from detect.runs.exports import with_labels_of
from detect.runs.photos import PICTURES, Photo, Photos, chosen, places_of
from detect.runs.progress import Bar
from detect.runs.reading import PhotoReader
from detect.runs.record import RUN_FILE, RunError, RunRecord, last_fact, read_run
from detect.runs.results import ResultsFolder
from eval.results import DETECTIONS_FILE, ResultLines
from structures.class_lists import read_class_names
from structures.errors import InputError
from structures.files import FileRefused
from structures.images import MAX_PIXELS, ExifPolicy, ImageError
from structures.locks import lock_folder
from structures.names import ClassNames, did_you_mean
from structures.own_files import OwnFiles, real_paths
from structures.text import printable


@dataclass(frozen=True)
class DrawingSummary:
    """The outcome of drawing.

    Attributes:
        photos: number of photos with results.
        fresh: number of pictures that were drawn now.
        undrawn: image ids of photos that could not be drawn -> reason.
    """

    photos: int
    fresh: int
    undrawn: Mapping[str, str]


def redraw(
    out: Path, drawing: Drawing, console: Console, *, images: Path | None = None, max_pixels: int = MAX_PIXELS
) -> DrawingSummary:
    """Draw all photos that a folder has results of; existing pictures that already show the same detections stay.

    Args:
        out: folder of results.
        drawing: which detections to draw.
        console: for progress.
        images: folder that photo names are relative to; None takes that of the run.
        max_pixels: largest photo, in pixels; larger ones are not drawn.

    Raises:
        InputError: the folder has no results of `rcnn detect`, another process is writing there, or the photos' folder
            is not known.
    """
    record = _read_record(out)
    classes, exif = record["settings"]["classes"], record["settings"].get("exif", "apply")
    root = images or _noted_root(out, record)
    with ExitStack() as stack:
        stack.callback(lock_folder(out).release)
        results = stack.enter_context(ResultsFolder(out))
        photos = Photos(str(root), tuple(results.done))
        refuse_drawing_among(photos, out)
        files = stack.enter_context(OwnFiles(out, (path for _, path in places_of(photos))))
        run = RunRecord(out, record["settings"], in_use=True)
        files.sweep(f"{PICTURES}/{picture_name(image_id)}" for image_id in photos.names)
        pictures = open_pictures(files, results, drawing, run)
        run.update(**drawing.facts(), images=os.path.abspath(root))
        if warning := missing_fonts(drawing.classes or classes):
            console.print(printable(warning), markup=False, highlight=False, soft_wrap=True)
        other = results.changed(places_of(photos))
        undrawn = {name: f"{root / name}: is not the photo that was searched" for name in other}
        todo = list(chosen(photos, lambda name: name not in undrawn and not pictures.has(name)))
        with Bar(len(todo), console) as bar:
            undrawn |= draw_stored(
                todo, out / DETECTIONS_FILE, pictures, classes, exif=exif, max_pixels=max_pixels, bar=bar
            )
        run.finish(undrawn=undrawn)
    return DrawingSummary(len(photos), bar.pace.done, undrawn)


def _read_record(out: Path) -> Mapping[str, Any]:
    record = read_run(out) if out.is_dir() else None
    if record is None or not (out / DETECTIONS_FILE).is_file():
        raise RunError(f"{out}: has no results of rcnn detect ({RUN_FILE} and {DETECTIONS_FILE})")
    classes = record["settings"].get("classes")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise RunError(f"{out / RUN_FILE}: lists no classes, so it is not a record of rcnn detect")
    return record


def classes_of(out: Path, listed: Sequence[str]) -> tuple[str, ...]:
    """Return the listed classes, as `read_class_names` takes them, by their names in the results.

    Raises:
        InputError: the folder has no results of `rcnn detect`, or a class is unknown.
    """
    classes = _read_record(out)["settings"]["classes"]
    names, known = read_class_names(listed, known=classes), ClassNames(classes)
    unknown = next((name for name in names if known.find(name) < 0), None)
    if unknown is not None:
        raise InputError(
            f"{out}: no class {unknown}; the results know {', '.join(classes)}{did_you_mean(unknown, classes)}"
        )
    return tuple(classes[known.find(name)] for name in names)


def _noted_root(out: Path, record: Mapping[str, Any]) -> Path:
    root = last_fact(record["runs"], "images")
    if not isinstance(root, str):
        raise RunError(f"{out / RUN_FILE}: does not say where the photos are; name their folder as `images`")
    return Path(root)


def open_pictures(files: OwnFiles, results: ResultsFolder, drawing: Drawing, run: RunRecord) -> Pictures:
    """Return the pictures of a folder; earlier ones that show other detections are removed.

    Args:
        files: our files in the folder.
        results: results of earlier runs.
        drawing: which detections to draw.
        run: record that says which detections earlier pictures show.
    """
    same = all(run.last(fact) == value for fact, value in drawing.facts().items())
    pictures = Pictures(files, PICTURES, drawing, trusted=frozenset(results.done) if same else frozenset())
    for image_id in () if same else results.done:
        pictures.discard(image_id)
    return pictures


def refuse_drawing_among(photos: Sequence[Photo], out: Path) -> None:
    """Refuse to draw into a folder with photos of the run.

    Raises:
        FileRefused: a photo is in that folder.
    """
    drawn = os.path.join(os.path.realpath(out / PICTURES), "")
    for path, real in real_paths(path for _, path in places_of(photos)):
        if real.startswith(drawn):
            raise FileRefused(f"{path}: this photo is in the folder for drawn pictures; name another `out`")


def draw_stored(
    photos: Sequence[Photo],
    results_file: Path,
    pictures: Pictures,
    classes: Sequence[str],
    *,
    exif: ExifPolicy,
    max_pixels: int = MAX_PIXELS,
    bar: Bar | None = None,
) -> dict[str, str]:
    """Draw photos from their lines of results; return image id -> reason for those that cannot be drawn."""
    wanted, undrawn = {photo.image_id: photo for photo in photos}, dict[str, str]()
    read = PhotoReader(exif=exif, max_pixels=max_pixels)
    for line in ResultLines(results_file) if wanted else ():
        if line.image in wanted:
            path, begin = wanted[line.image].path, time.perf_counter()
            try:
                pictures.add(line.image, read(wanted[line.image]), with_labels_of(line, classes), classes)
            except ImageError as error:  # removed or changed since it was searched
                undrawn[line.image] = str(error)
            except (OSError, ValueError) as error:
                undrawn[line.image] = f"{path}: its picture cannot be written: {error}"
            if bar is not None and line.image in undrawn:
                bar.skip(undrawn[line.image])
            elif bar is not None:
                bar.step(boxes=len(line.found), seconds={"draw": time.perf_counter() - begin})
    return undrawn
