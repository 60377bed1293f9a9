"""`rcnn detect`: find objects on photos."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detect.commands.detector_options import DetectorOptions
from detect.commands.groups import examples
from detect.commands.option_records import with_records
from detect.commands.options import PhotoOptions, PlacementOptions
from detect.defaults import SOME_SKIPPED, refuse_options_without_effect
from detect.option_names import with_options
from detect.settings import DRAW_FLOOR
from structures.errors import InputError
from structures.text import number_of, printable
from structures.timing import Timer

if TYPE_CHECKING:
    from detect.runs.photos import Photo
    from detect.runs.summary import DetectionSummary
    from structures.boxes import ImageSize


class Format(str, Enum):
    """Format to write in addition to detections.jsonl."""

    jsonl = "jsonl"
    coco = "coco"
    voc = "voc"
    yolo = "yolo"
    csv = "csv"


class Keep(str, Enum):
    """What to keep of each classified region."""

    scores = "scores"
    features = "features"


@dataclass(frozen=True)
class ResultOptions:
    """Results."""

    draw: Annotated[bool, typer.Option("--draw", help="Also draw the boxes on the photos, in OUT/pictures.")] = False
    draw_score: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Lowest score to draw.", show_default=str(DRAW_FLOOR)),
    ] = None
    format_: Annotated[
        Format, typer.Option("--format", help="Also write COCO, VOC or YOLO results, or a CSV table.")
    ] = Format.jsonl
    save_crops: Annotated[
        bool, typer.Option("--save-crops", help="Also cut out what would be drawn, to OUT/crops/CLASS.")
    ] = False
    split: Annotated[
        str | None, typer.Option(help="With --format voc: split in the file names.", show_default="test")
    ] = None
    coco_ids: Annotated[Path | None, typer.Option(help="With --format coco: instances.json with the ids.")] = None
    keep: Annotated[
        Keep | None,
        typer.Option(
            help="Also keep all classified regions, with their class probabilities (scores), and with their features.",
            show_default="nothing",
        ),
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Discard what earlier runs wrote to OUT.")] = False

    def arguments(self) -> dict[str, Any]:
        """Return them as keyword arguments of `detect.runs.detect.DetectionJob`.

        Raises:
            InputError: an option has no effect.
        """
        refuse_options_without_effect(
            {
                "--split needs --format voc": self.split is not None and self.format_ is not Format.voc,
                "--draw-score needs --draw or --save-crops": self.draw_score is not None
                and not (self.draw or self.save_crops),
                "--coco-ids needs --format coco": self.coco_ids is not None and self.format_ is not Format.coco,
            }
        )
        floor = DRAW_FLOOR if self.draw_score is None else self.draw_score
        return {
            "draw_score": floor if self.draw else None,
            "crop_score": floor if self.save_crops else None,
            "format": self.format_.value,
            "split": self.split or "test",
            "coco_ids": self.coco_ids,
            "keep_regions": self.keep is not None,
            "overwrite": self.overwrite,
        }


@dataclass(frozen=True)
class FilmOptions:
    """Films."""

    every: Annotated[int, typer.Option(min=1, help="Take every Nth frame of films.")] = 1
    frames: Annotated[
        int | None, typer.Option(min=1, help="Number of frames to take from a camera.", show_default="1000")
    ] = None

    def photos(self, named: PhotoOptions) -> "tuple[Sequence[Photo], list[Path], list[str]]":
        """Return the photos and frames that were named, the paths of the films, and warnings about films.

        Raises:
            InputError: nothing was named, something does not exist, or an option has no effect.
        """
        from detect.runs import films, frames
        from detect.runs.photos import chosen

        words = named.photos or []
        cameras = list(dict.fromkeys(word for word in words if frames.CAMERA.fullmatch(word)))
        files = replace(named, photos=[word for word in words if word not in cameras])
        found = [] if cameras and not files.photos and not files.list_file else files.find()
        shot = list(chosen(found, frames.is_film))
        refuse_options_without_effect(
            {
                "--every needs a film": self.every > 1 and not shot,
                "--frames needs a camera, such as camera:0": self.frames is not None and not cameras,
            }
        )
        if not shot and not cameras:
            return found, [], []
        photos = list(chosen(found, lambda name: not frames.is_film(name)))
        photos += [frame for film in shot for frame in films.frames_of(film, self.every)]
        photos += [frame for each in cameras for frame in films.camera_frames(each, self.frames or films.CAMERA_FRAMES)]
        warnings = [line for film in shot if (line := films.truncated(film.path))]
        return photos, [film.path for film in shot], warnings


@examples(
    "rcnn detect photos --out results --draw",
    "rcnn detect film.mp4 --every 5 --out results --draw --features shared --proposals multibox",
    "rcnn detect --list val.txt --out val --score 0.001 --proposals multibox --keep scores",
)
@with_records
def detect(
    out: Annotated[Path, typer.Option(help="Folder of the results. A second run resumes there.")],
    photos: PhotoOptions,
    detector: DetectorOptions,
    where: PlacementOptions,
    films: FilmOptions,
    results: ResultOptions,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads that read photos and propose regions.",
            show_default="half of the cores; all but two with a GPU",
        ),
    ] = None,
    together: Annotated[
        int | None,
        typer.Option(min=1, help="Photos per pass through the networks.", show_default="32 with a GPU, 1 on a CPU"),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Cores that each network and each search for regions uses on a CPU; with 1 results equal those of "
            "rcnn scale to the last bit.",
            show_default="OMP_NUM_THREADS, or all",
        ),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Show how long each stage took, and record it in run.json.")
    ] = False,
) -> None:
    """Find objects on photos and write OUT/detections.jsonl, one line per photo, and OUT/run.json.

    Frames of films are searched like photos. camera:0 is the first camera; Ctrl-C stops it.

    Exit code 0: all done. 1: some photos were skipped (see OUT/skipped.jsonl) or not drawn. 2: nothing done.
    """
    with Timer("import") as importing:
        from detect.generators import compile_ahead, unlearned_warning

        compile_ahead(detector.proposals)
        from detect.consoles import open_console
        from detect.detector import Detector
        from detect.runs.detect import DetectionJob, detect_to_folder
        from detect.runs.record import name_and_digest
        from detect.weights import weights_file

    more, weights = results.arguments(), list(map(weights_file, detector.names))
    found, shot, warnings = films.photos(photos)
    job = DetectionJob(
        found,
        out,
        max_pixels=photos.most_pixels,
        workers=workers,
        together=together,
        profile=profile,
        every=films.every,
        inputs=[*filter(None, [photos.list_file, results.coco_ids]), *weights, *shot],
        **more,
    )
    placed: Any = where.as_names()  # which words are known, loading says
    if threads is not None:
        from classifier.engines import keep_to_cores

        keep_to_cores(threads)
    with Timer("load") as loading:
        loaded = Detector.load(
            detector.names,
            detector.proposals,
            **placed,
            **detector.arguments(),
            exif=photos.exif.value,
            keep_features=results.keep is Keep.features,
            first_size=_size_of_first(found),
        )
        files = [name_and_digest(file) for file in weights]
    job = replace(job, start=importing.seconds | loading.seconds)
    settings = {**loaded.settings(), "weights": files}
    warnings.append(unlearned_warning(loaded.propose, loaded.wanted))
    warning = "\n".join(filter(None, warnings))
    _exit(detect_to_folder(job, loaded, settings, open_console(stderr=True), warning=warning, weights=detector.names))


def _size_of_first(photos: "Sequence[Photo]") -> "ImageSize | None":
    """Return the (height, width) of the first photo; None for a frame of a film, and where the run will say why."""
    from structures.images import ImageError, read_size

    if not photos or not photos[0].path.is_file():
        return None
    with suppress(ImageError):
        return read_size(photos[0].path)
    return None


def _exit(summary: "DetectionSummary") -> None:
    if not summary.done:
        raise InputError(f"none of {number_of(summary.photos, 'photo')} could be processed; skipped.jsonl says why")
    failures = {"skipped": summary.skipped, "done, but not drawn": summary.undrawn}
    for what, reasons in failures.items():
        if reasons:
            typer.echo(f"{len(reasons)} of {number_of(summary.photos, 'photo')} {what}:", err=True)
        for reason in reasons.values():
            typer.echo(f"  {with_options(printable(reason))}", err=True)
    if any(failures.values()):
        raise typer.Exit(SOME_SKIPPED)
