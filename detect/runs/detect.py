"""Runs the detector over many photos: the folder of results, its record, pictures and exports."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console

from classifier.protocol import RunsInEngines
from detect.detector import Detector
from detect.drawing.fonts import missing_fonts
from detect.runs.cores import usual_workers
from detect.runs.crops import CROPS_FOLDER, Crops
from detect.runs.draw import Drawing, Pictures, picture_name
from detect.runs.each_photo import detect_photos
from detect.runs.exports import EXPORTS, VOC_FOLDER, discard_exports, export, export_names, require_exportable
from detect.runs.films import FILMS_FOLDER, write_films
from detect.runs.kept import forget_regions, open_regions
from detect.runs.photos import PICTURES, Photo, chosen, names_of, places_of, root_of
from detect.runs.progress import table
from detect.runs.reading import PhotoReader
from detect.runs.record import RUN_FILE, RunRecord
from detect.runs.results import SKIPPED_FILE, ResultsFolder
from detect.runs.stored_pictures import draw_stored, open_pictures, refuse_drawing_among
from detect.runs.summary import DetectionSummary, profile_table, start_line
from eval.region_layout import REGIONS_FILE
from eval.results import DETECTIONS_FILE
from structures.files import FileRefused
from structures.images import MAX_PIXELS
from structures.locks import lock_folder
from structures.own_files import OwnFiles, not_ours
from structures.text import printable

MADE = EXPORTS | {PICTURES, CROPS_FOLDER, FILMS_FOLDER}  # files and folders that are made from results


@dataclass(frozen=True)
class DetectionJob:
    """Which photos to search, how, and where the results go.

    Attributes:
        photos: photos to search.
        out: folder of the results.
        max_pixels: largest photo, in pixels; larger ones are skipped.
        workers: threads that read photos and propose regions; None chooses for the device.
        together: most photos per pass through the networks; None chooses for the device.
        profile: whether to measure and show exactly how long each stage takes.
        start: seconds that each part of the start took, for the profile.
        draw_score: lowest score to draw, in OUT/pictures; None draws nothing.
        crop_score: lowest score to cut out, to OUT/crops; None cuts nothing.
        every: the films among the photos are every Nth frame.
        format: format to write in addition to detections.jsonl, with VOC's split and COCO's ids.
        overwrite: whether to discard what earlier runs wrote to the folder.
        keep_regions: whether to write the classified regions, with probabilities and, if the detector returns them,
            features.
        inputs: other files that are read.
    """

    photos: Sequence[Photo]
    out: Path
    max_pixels: int = MAX_PIXELS
    workers: int | None = None
    together: int | None = None
    profile: bool = False
    start: Mapping[str, float] = field(default_factory=dict)
    draw_score: float | None = None
    crop_score: float | None = None
    every: int = 1
    format: str = "jsonl"
    split: str = "test"
    coco_ids: Path | None = None
    overwrite: bool = False
    keep_regions: bool = False
    inputs: Sequence[Path] = ()


def detect_to_folder(
    job: DetectionJob,
    detector: Detector,
    settings: Mapping[str, Any],
    console: Console,
    *,
    warning: str = "",
    **facts: Any,
) -> DetectionSummary:
    """Run a detector over all photos of a job, and print a summary.

    Args:
        job: photos, folder and options.
        detector: the detector.
        settings: everything that decides the results, for the record of the run.
        console: for progress and the closing table.
        warning: text to show at the beginning.
        **facts: more facts for the record of this run.

    Raises:
        FileRefused: the folder of results cannot be used, or a file that is not ours is in the way.
    """
    images = names_of(job.photos)
    fits = partial(require_exportable, job.format, classes=detector.classes, numbering=job.coco_ids)
    fits(images)  # before any work
    reasons, gpu = placement(detector)
    workers = job.workers or usual_workers(gpu=gpu)
    job.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.callback(lock_folder(job.out).release)
        files = stack.enter_context(OwnFiles(job.out, _inputs(job)))
        _require_room(job, files, detector.classes if job.overwrite else ())
        results = stack.enter_context(ResultsFolder(job.out, overwrite=job.overwrite))
        todo = any(name not in results.done for name in names_of(job.photos))
        _require_room(job, files, detector.classes if todo else ())
        if results.done:
            fits(_all_names(job.photos, results))
        run = RunRecord(job.out, settings, in_use=bool(results.done), overwrite=job.overwrite)
        _clear(job, files, results, detector.classes)
        if todo:
            discard_exports(files, console)  # of earlier results
        kept = stack.enter_context(open_regions(job.out, detector, results.done)) if job.keep_regions else None
        pictures = None if job.draw_score is None else open_pictures(files, results, Drawing(job.draw_score), run)
        drawing = {} if pictures is None else pictures.drawing.facts()
        before = run.last("placement")
        run.update(**facts, **drawing, images=root_of(job.photos), placement=reasons, workers=workers)
        fonts = missing_fonts(detector.classes) if pictures else ""
        for line in [*reasons, *filter(None, [warning, fonts, _elsewhere(job.out, before, reasons)])]:
            console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
        read = PhotoReader(exif=detector.options.exif, max_pixels=job.max_pixels)
        stack.callback(read.films.close)
        crops = None if job.crop_score is None else Crops(files, Drawing(job.crop_score))
        summary = detect_photos(
            detector,
            job.photos,
            results,
            console,
            read=read,
            workers=workers,
            together=job.together,
            drawn=[each for each in (pictures, crops) if each is not None],
            kept=kept,
            settle=_waits_for_the_gpu() if job.profile else None,
        )
        written, summary = _write_the_rest(job, files, pictures, crops, detector, summary)
        start = {**job.start, "first photo": summary.first_seconds}
        profile = {"profile": summary.profile(workers), "start": start} if job.profile else {}
        run.finish(**summary.as_json(), **profile)
    console.print(table(summary.rows(written)))
    if job.profile:
        console.print(profile_table(summary.profile(workers)))
        console.print(table({"start": start_line(start)}))
    return summary


def _elsewhere(out: Path, before: Sequence[str] | None, now: Sequence[str]) -> str:
    """Return a warning if earlier photos were done on another device, engine or precision."""
    if before in (None, now):
        return ""
    return f"warning: earlier photos in {out} were done with {'; '.join(before or ())}; scores may differ a little"


def _inputs(job: DetectionJob) -> Iterator[str | Path]:
    yield from job.inputs
    yield from (path for _, path in places_of(job.photos))


def _all_names(photos: Sequence[Photo], results: ResultsFolder) -> Iterator[str]:
    """Yield the image ids of this job and of earlier ones, each once."""
    yield from results.done
    yield from (name for name in names_of(photos) if name not in results.done)


def placement(detector: Detector) -> tuple[list[str], bool]:
    """Return the engines and precisions of the networks with the reasons, and whether one is on a GPU."""
    engines = detector.classify.engines if isinstance(detector.classify, RunsInEngines) else ()
    reasons = dict.fromkeys(str(engine.reason) for engine in engines)
    return list(reasons), any(engine.device.type != "cpu" for engine in engines)


def _require_room(job: DetectionJob, files: OwnFiles, classes: Sequence[str]) -> None:
    """Refuse, before any work, to draw into the photos' folder, or to export over files that are not ours."""
    if job.draw_score is not None:
        refuse_drawing_among(job.photos, job.out)
    for name in export_names(job.format, classes, split=job.split, numbering=job.coco_ids) if classes else ():
        if files.place(name).exists() and not files.owns(name):
            raise FileRefused(not_ours(files.folder / name))


def _clear(job: DetectionJob, files: OwnFiles, results: ResultsFolder, classes: Sequence[str]) -> None:
    """Remove unfinished files of killed runs, and what earlier runs wrote if everything is written again."""
    images = _all_names(job.photos, results)
    exports = export_names(job.format, classes, split=job.split, numbering=job.coco_ids)
    files.sweep(chain([RUN_FILE, *exports], (f"{PICTURES}/{picture_name(image_id)}" for image_id in images)))
    if not results.done:
        forget_regions(job.out)
    for name in files if job.overwrite else ():
        if name.partition("/")[0] in MADE:  # not what `rcnn convert` wrote to the same folder
            files.remove(name)


def _write_the_rest(
    job: DetectionJob,
    files: OwnFiles,
    pictures: Pictures | None,
    crops: Crops | None,
    detector: Detector,
    summary: DetectionSummary,
) -> tuple[list[Path], DetectionSummary]:
    lines, classes = job.out / DETECTIONS_FILE, detector.classes
    written = [lines, job.out / RUN_FILE]
    if summary.skipped:
        written.append(job.out / SKIPPED_FILE)
    if job.keep_regions:
        written.append(job.out / REGIONS_FILE)
    if pictures is not None:
        todo = list(chosen(job.photos, lambda name: not pictures.has(name)))
        undrawn = draw_stored(todo, lines, pictures, classes, exif=detector.options.exif, max_pixels=job.max_pixels)
        summary = replace(summary, undrawn=undrawn)
        written += [job.out / PICTURES, *write_films(files, pictures, job.photos, every=job.every)]
    if crops is not None:
        read = PhotoReader(exif=detector.options.exif, max_pixels=job.max_pixels)
        uncut = crops.add_missing(job.photos, lines, classes, read)
        summary = replace(summary, undrawn={**summary.undrawn, **uncut})
        written.append(job.out / CROPS_FOLDER)
    exported = export(files, job.format, classes, split=job.split, numbering=job.coco_ids)
    return written + (exported if job.format != "voc" else [job.out / VOC_FOLDER]), summary


def _waits_for_the_gpu() -> Callable[[], object] | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    from classifier.graphs import wait_for_the_gpu

    return wait_for_the_gpu
