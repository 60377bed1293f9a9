"""Many photos through a detector: proposals ahead in threads, results written at once, bad photos passed over."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from classifier.regions import RunsInEngines
from detect.detector import Detector
from detect.fonts import missing_fonts
from detect.runs.ahead import PATIENCE, Skipped, is_of_the_gpu, prepare_ahead
from detect.runs.draw import Drawing, Pictures, picture_name
from detect.runs.exports import VOC_FOLDER, discard_exports, export, export_names, require_exportable
from detect.runs.photos import PICTURES, Photo, chosen, names_of, places_of, root_of
from detect.runs.progress import Bar, table
from detect.runs.record import RUN_FILE, RunError, RunRecord, cores
from detect.runs.renamed import renamed
from detect.runs.results import SKIPPED_FILE, Results
from detect.runs.stored_pictures import draw_stored, open_pictures, refuse_drawing_among
from detect.runs.summary import DetectionSummary
from eval.results import DETECTIONS_FILE, count_images
from structures.files import FileRefused
from structures.images import MAX_PIXELS
from structures.locks import lock_folder
from structures.own_files import OwnFiles, not_ours
from structures.records import Detections, Proposals
from structures.text import printable


@dataclass(frozen=True)
class DetectionJob:
    """Which photos to detect on, how, and where the results go.

    Attributes:
        photos: to work on.
        out: folder of the results.
        max_pixels: of a photo; larger ones are skipped.
        workers: threads that propose; None takes what suits the device.
        draw_score: weakest detection that is drawn, to OUT/pictures; None draws none.
        format: what to write besides detections.jsonl, with VOC's split and COCO's ids.
        overwrite: throw away what earlier runs wrote to the folder.
        inputs: files that are read besides the photos.
    """

    photos: Sequence[Photo]
    out: Path
    max_pixels: int = MAX_PIXELS
    workers: int | None = None
    draw_score: float | None = None
    format: str = "jsonl"
    split: str = "test"
    coco_ids: Path | None = None
    overwrite: bool = False
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
    """Work on all photos of a job, and tell about it.

    Args:
        job: photos, folder and options.
        detector: what to do it with.
        settings: everything that decides the results, for the folder's record.
        console: where progress and the closing table go.
        warning: told at the beginning.
        **facts: more to note about this run.

    Raises:
        FileRefused: the folder of the results cannot be used, or something that is not ours is in the way there.
    """
    images = names_of(job.photos)
    fits = partial(require_exportable, job.format, classes=detector.classes, numbering=job.coco_ids)
    fits(images)  # now, not after the last photo
    reasons, gpu = placement(detector)
    workers = job.workers or usual_workers(gpu=gpu)
    job.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.callback(lock_folder(job.out).release)
        files = stack.enter_context(OwnFiles(job.out, _inputs(job)))
        _require_room(job, files, detector.classes if job.overwrite else ())
        results = stack.enter_context(Results(job.out, overwrite=job.overwrite))
        todo = any(name not in results.done for name in names_of(job.photos))
        _require_room(job, files, detector.classes if todo else ())
        if results.done:
            fits(_all_names(job.photos, results))
        run = RunRecord(job.out, settings, in_use=bool(results.done), overwrite=job.overwrite)
        _clear(job, files, results, detector.classes)
        if todo:
            discard_exports(files, console)  # of the results of before
        pictures = None if job.draw_score is None else open_pictures(files, results, Drawing(job.draw_score), run)
        drawing = {} if pictures is None else pictures.drawing.facts()
        before = run.last("placement")
        run.update(**facts, **drawing, images=root_of(job.photos), placement=reasons, workers=workers)
        told = [*reasons, *filter(None, [warning, missing_fonts(detector.classes) if pictures else ""])]
        if before not in (None, reasons):
            elsewhere = "; ".join(before)
            told.append(f"warning: earlier photos in {job.out} were done elsewhere ({elsewhere}); scores may differ")
        for line in told:
            console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
        summary = detect_photos(
            detector,
            job.photos,
            results,
            console,
            max_pixels=job.max_pixels,
            workers=workers,
            pictures=pictures,
        )
        written, summary = _write_the_rest(job, files, pictures, detector, summary)
        run.finish(**summary.as_json())
    console.print(table(summary.rows(written)))
    return summary


def _inputs(job: DetectionJob) -> Iterator[str | Path]:
    yield from job.inputs
    yield from (path for _, path in places_of(job.photos))


def _all_names(photos: Sequence[Photo], results: Results) -> Iterator[str]:
    """Yield the image ids of a job and of earlier ones, each once."""
    yield from results.done
    yield from (name for name in names_of(photos) if name not in results.done)


def placement(detector: Detector) -> tuple[list[str], bool]:
    """Return where and how precisely the networks run, with the reason, and whether one is on a GPU."""
    engines = detector.classify.engines if isinstance(detector.classify, RunsInEngines) else ()
    reasons = dict.fromkeys(str(engine.reason) for engine in engines)
    return list(reasons), any(engine.device.type != "cpu" for engine in engines)


def _require_room(job: DetectionJob, files: OwnFiles, classes: Sequence[str]) -> None:
    """Refuse, before any work, to draw among the photos, or to export these classes over files that are not ours."""
    if job.draw_score is not None:
        refuse_drawing_among(job.photos, job.out)
    for name in export_names(job.format, classes, split=job.split, numbering=job.coco_ids) if classes else ():
        if files.place(name).exists() and not files.owns(name):
            raise FileRefused(not_ours(files.folder / name))


def _clear(job: DetectionJob, files: OwnFiles, results: Results, classes: Sequence[str]) -> None:
    """Remove what killed runs left unfinished, and what earlier ones wrote if all is to be written again."""
    images = _all_names(job.photos, results)
    exports = export_names(job.format, classes, split=job.split, numbering=job.coco_ids)
    files.sweep(chain([RUN_FILE, *exports], (f"{PICTURES}/{picture_name(image_id)}" for image_id in images)))
    for name in files if job.overwrite else ():
        files.remove(name)


def _write_the_rest(
    job: DetectionJob, files: OwnFiles, pictures: Pictures | None, detector: Detector, summary: DetectionSummary
) -> tuple[list[Path], DetectionSummary]:
    lines, classes = job.out / DETECTIONS_FILE, detector.classes
    written = [lines, job.out / RUN_FILE]
    if summary.skipped:
        written.append(job.out / SKIPPED_FILE)
    if pictures is not None:
        todo = list(chosen(job.photos, lambda name: not pictures.has(name)))
        undrawn = draw_stored(todo, lines, pictures, classes, exif=detector.options.exif, max_pixels=job.max_pixels)
        summary = replace(summary, undrawn=undrawn)
        written.append(job.out / PICTURES)
    exported = export(files, job.format, classes, split=job.split, numbering=job.coco_ids)
    return written + (exported if job.format != "voc" else [job.out / VOC_FOLDER]), summary


def detect_photos(
    detector: Detector,
    photos: Sequence[Photo],
    results: Results,
    console: Console,
    *,
    max_pixels: int = MAX_PIXELS,
    workers: int = 1,
    pictures: Pictures | None = None,
) -> DetectionSummary:
    """Detect objects on the photos that are not done yet, and write down what was found, photo by photo.

    Raises:
        RunError: the results are of other photos of the same names, or of the same photos by other names.
    """
    done = sum(name in results.done for name in names_of(photos))
    if done:
        console.print(f"{done} of {len(photos)} photos are done already")
    _require_same(photos, results)
    todo = chosen(photos, lambda name: name not in results.done)
    regions, boxes, failed = Counter[str](), Counter[str](), 0
    ahead = prepare_ahead(todo, detector.regions, exif=detector.options.exif, max_pixels=max_pixels, workers=workers)
    with Bar(len(photos) - done, console) as bar, closing(ahead):
        for item in ahead:
            if isinstance(item, Skipped):
                results.skip(item.photo.image_id, item.reason)
                bar.skip(item.reason)
                continue
            before, name = dict(detector.seconds), item.photo.image_id
            try:
                found = detector.detect(item.image, item.proposals)
            except Exception as error:  # whatever the classifier makes of one photo must not stop all the others
                failed += 1
                if failed == PATIENCE or is_of_the_gpu(error):
                    raise
                results.skip(name, f"{item.photo.path}: not classified: {type(error).__name__}: {error}")
                bar.skip(results.skipped[name])
                continue
            failed = 0
            seconds, begin = item.seconds | _spent(before, detector.seconds), time.perf_counter()
            if pictures is not None:  # before the line is written: a photo that has a line is done altogether
                with suppress(OSError, ValueError):  # tried again at the end, and named
                    pictures.add(name, item.image, found, detector.classes)
            results.write(name, found, detector.classes, item.key, item.stamp)
            bar.step(boxes=len(found), seconds=seconds | {"write": time.perf_counter() - begin})
            regions.update(_sources(item.proposals))
            boxes.update(_sources(found))
    return _report(photos, results, bar, regions, boxes)


def _require_same(photos: Sequence[Photo], results: Results) -> None:
    """Refuse results whose photos had the same names and other content."""
    changed = results.changed(places_of(photos))
    if changed:
        raise RunError(
            f"{results.folder}: holds results of other photos by the names of {count_images(changed)}; "
            "name another `out`, or start from scratch with `overwrite=True`"
        )
    other_name = renamed(photos, results.done, results.done.__getitem__)
    if other_name:
        raise RunError(f"{results.folder}: {other_name}")


def _sources(record: Proposals | Detections) -> dict[str, int]:
    counts = np.bincount(record.source, minlength=len(record.source_names))
    return dict(zip(record.source_names, counts.tolist(), strict=True))


def _spent(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    return {stage: now[stage] - before.get(stage, 0.0) for stage in ("classify", "suppress") if stage in now}


def _report(
    photos: Sequence[Photo], results: Results, bar: Bar, regions: Mapping[str, int], boxes: Mapping[str, int]
) -> DetectionSummary:
    return DetectionSummary(
        photos=len(photos),
        done=sum(name in results.done for name in names_of(photos)),
        fresh=bar.pace.done,
        skipped={name: results.skipped[name] for name in names_of(photos) if name in results.skipped},
        proposals=dict(regions),
        boxes=dict(boxes),
        seconds=bar.pace.seconds,
        stages=dict(bar.seconds),
        photos_per_second=bar.pace.rate(),
    )


def usual_workers(*, gpu: bool) -> int:
    """Return how many threads propose: all cores but one beside a GPU, else half, as the classifier needs cores too."""
    return max(1, cores() - 1 if gpu else cores() // 2)
