"""Converts annotations or results, whichever a file or folder holds."""

import os
from collections.abc import Sequence
from pathlib import Path

from detect.convert.annotations import convert_annotations
from detect.convert.job import Conversion, Converted
from detect.convert.results import convert_results
from detect.runs.exports import FORMATS as RESULTS
from eval.annotation_files import FORMATS as ANNOTATIONS
from eval.result_formats import result_format
from eval.results import DETECTIONS_FILE
from structures.errors import InputError
from structures.files import FileRefused, regular_file
from structures.locks import lock_folder
from structures.names import not_one_of
from structures.own_files import OwnFiles

HEAD = 4096  # bytes of a JSON file that decide what it holds


def convert(job: Conversion) -> Converted:
    """Convert annotations or results.

    Raises:
        InputError: the format is unknown or already the requested one, the source cannot be used, or a file that is not
            ours is in the way.
        OSError: a file cannot be read or written.
    """
    results = holds_results(job.source)
    known: Sequence[str] = RESULTS if results else ANNOTATIONS
    if job.form not in known:
        what = "results" if results else "annotations"
        raise InputError(f"{job.source}: has {what}; for these `form` {not_one_of(job.form, known)}")
    _refuse_inside(job)
    job.out.mkdir(parents=True, exist_ok=True)
    lock = lock_folder(job.out)
    try:
        with OwnFiles(job.out, _inputs(job)) as files:
            return convert_results(job, files) if results else convert_annotations(job, files)
    finally:
        lock.release()


def holds_results(path: Path) -> bool:
    """Return whether a file or folder holds results, not annotations; a JSON list is COCO results.

    Raises:
        OSError: it does not exist.
    """
    if path.is_file() and path.suffix.lower() == ".json":
        with regular_file(path).open("rb") as file:
            return file.read(HEAD).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    path.stat()
    return result_format(path) is not None


def _inputs(job: Conversion) -> list[Path]:
    return [path for path in (job.source, job.ground_truth, job.source / DETECTIONS_FILE) if path is not None]


def _refuse_inside(job: Conversion) -> None:
    source, out = os.path.realpath(job.source), os.path.realpath(job.out)
    if job.source.is_dir() and Path(out).is_relative_to(source):
        raise FileRefused(f"{job.out}: is inside {job.source}, which is read; name another folder as `out`")
