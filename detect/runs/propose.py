"""Proposes boxes for many photos into a folder of shards: on all cores, resumable, skipping bad photos."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from detect.flow import Passing, Stage, each, flow, pixels_of, usual_together
from detect.generators import load_proposals
from detect.runs.cores import one_core_per_photo
from detect.runs.machine import made_by, peak_memory_text
from detect.runs.photos import Photo, chosen, names_of, places_of
from detect.runs.progress import Bar, duration, table
from detect.runs.reading import PhotoReader, complaint
from detect.runs.renamed import renamed
from proposals.protocol import TELLS_FIT, ProposalGenerator, ProposalsByName, in_steps, tells_fit
from proposals.stored.reader import pixel_key
from proposals.stored.writer import StoreWriter
from structures.errors import InputError
from structures.images import MAX_PIXELS, ExifPolicy
from structures.records import Image, Proposals
from structures.text import number_of
from structures.timing import Timer

if TYPE_CHECKING:
    from classifier.placement import Placement

ENOUGH = 10  # photos per worker; with fewer, photos that start and end together distort the speed


@dataclass(frozen=True)
class ProposalJob:
    """Which photos to propose boxes for, and where the boxes go.

    Attributes:
        photos: photos to process.
        out: folder for the proposals.
        exif: EXIF policy.
        max_pixels: largest photo, in pixels; larger ones are skipped.
        workers: photos to process at the same time.
        together: most photos per pass through a network; None chooses for the device.
        max_boxes: keep only the first N boxes per photo; None keeps all.
    """

    photos: Sequence[Photo]
    out: Path
    exif: ExifPolicy = "apply"
    max_pixels: int = MAX_PIXELS
    workers: int = 1
    together: int | None = None
    max_boxes: int | None = None


@dataclass
class ProposalSummary:
    """The outcome of a job.

    Attributes:
        photos: number of photos in the job.
        before: photos that were done in an earlier run.
        skipped: image ids of photos that could not be processed -> reason.
    """

    photos: int
    before: int
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Number of photos whose boxes are stored."""
        return self.photos - len(self.skipped)


def build_for_many(name: str, placement: "Placement | None" = None, **options: Any) -> ProposalGenerator:
    """Build a generator for many photos at the same time: Selective Search uses one core per photo."""
    if name.startswith("selective-search") and "+" not in name:
        options = {"threads": 1, **options}
    return load_proposals(name, placement, **options)


def propose_to_folder(job: ProposalJob, generator: ProposalGenerator, console: Console) -> ProposalSummary:
    """Propose boxes for all photos of a job, and print a summary.

    Raises:
        InputError: the folder has other files, boxes that were made in another way, or the same photos under other
            names.
    """
    with StoreWriter(job.out, settings_of(generator, job.exif, job.max_boxes), made_by()) as writer:
        other_name = renamed(job.photos, writer.known, lambda name: writer.known[name].file)
        if other_name:
            raise InputError(f"{job.out}: {other_name}")
        changed = writer.changed(places_of(job.photos))
        todo = sum(name not in writer.known for name in names_of(job.photos)) + len(changed)
        photos = chosen(job.photos, lambda name: name not in writer.known or name in changed)
        summary = ProposalSummary(len(job.photos), len(job.photos) - todo)
        if summary.before:
            console.print(f"{summary.before} of {number_of(summary.photos, 'photo')} done already")
        read = PhotoReader(exif=job.exif, max_pixels=job.max_pixels)
        stages = proposing_stages(generator, read, workers=job.workers, together=job.together)
        with (
            Bar(todo, console) as bar,
            one_core_per_photo(),
            closing(flow(photos, stages, pixels=pixels_of)) as done,
        ):
            _store(done, read, writer, bar, summary, job.max_boxes)
    console.print(table(_rows(job, summary, bar)))
    for line in generator.notes if isinstance(generator, ProposalsByName) else ():
        console.print(f"warning: {line}", markup=False, highlight=False, soft_wrap=True)
    return summary


def settings_of(generator: ProposalGenerator, exif: ExifPolicy, max_boxes: int | None) -> dict[str, Any]:
    """Return everything that decides the boxes."""
    made = {"generator": generator.name, "parameters": dict(generator.parameters), "exif": exif}
    fit = {TELLS_FIT: True} if tells_fit(generator) else {}
    return made | {"max_boxes": max_boxes} | fit


def proposing_stages(
    generator: ProposalGenerator, read: Callable[[Photo], Image], *, workers: int = 1, together: int | None = None
) -> list[Stage]:
    """Return the stages from photos to (pixels, proposals), for `detect.flow.flow`.

    Args:
        generator: the proposal generator.
        read: photo -> pixels.
        workers: threads that read photos and propose regions.
        together: most photos per pass through a network; None chooses for the device.
    """
    by_name = generator.proposals_of if isinstance(generator, ProposalsByName) else None
    steps = in_steps(generator)

    def begin(photo: Photo) -> tuple[Image, Any]:
        with Timer("read"):
            image = read(photo)
        return image, by_name(photo.image_id, image) if by_name else steps.begin(image)

    def look(photos: Sequence[tuple[Image, Any]]) -> Sequence[tuple[Image, Any]]:
        steps.look([begun for _, begun in photos])
        return photos

    def finish(photos: Sequence[tuple[Image, Any]]) -> list[tuple[Image, Proposals]]:
        images, begun = zip(*photos, strict=True)
        return list(zip(images, begun if by_name else steps.finish(begun), strict=True))

    first = Stage("propose", each(begin), workers=workers)
    count = together or usual_together()
    return [first, Stage("trunk", look, together=count), Stage("propose", finish, together=count)]


def _store(
    done: Iterable[Passing[Photo]],
    read: PhotoReader,
    writer: StoreWriter,
    bar: Bar,
    summary: ProposalSummary,
    max_boxes: int | None,
) -> None:
    for passed in done:
        photo, version = passed.item, read.version_of(passed.item)
        if passed.error is not None:
            summary.skipped[photo.image_id] = complaint(passed)
            bar.skip(summary.skipped[photo.image_id])
            continue
        image, found = passed.value
        proposals = found.take(slice(max_boxes))
        writer.add(photo.image_id, pixel_key(image), version.key, proposals, version.stamp)
        bar.step(boxes=len(proposals), seconds=passed.seconds)


def _rows(job: ProposalJob, summary: ProposalSummary, bar: Bar) -> dict[str, str]:
    each = max(1, bar.pace.done)
    rate = bar.pace.per_second() if bar.pace.done > ENOUGH * job.workers else None
    before = f" ({summary.before} of them earlier)" if summary.before else ""
    return {
        "photos": f"{summary.done} done{before}, {len(summary.skipped)} skipped",
        "time": duration(bar.pace.seconds) + (f", {rate:.2f} photos/s with {job.workers} workers" if rate else ""),
        "seconds per photo": ", ".join(f"{stage} {spent / each:.3f}" for stage, spent in bar.seconds.items()) or "-",
        "boxes per photo": f"{bar.boxes / each:.0f}" if bar.pace.done else "-",
        "peak memory": peak_memory_text(),
        "proposals": str(job.out),
    }
