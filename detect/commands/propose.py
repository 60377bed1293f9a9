"""`rcnn propose`: boxes where objects might be, kept on disk for `--proposals file:OUT`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detect.commands.groups import examples
from detect.commands.option_records import with_records
from detect.commands.options import GeneratorDevice, PhotoOptions, placement_on
from detect.defaults import SOME_SKIPPED
from detect.option_names import with_options
from structures.errors import InputError
from structures.text import number_of, printable

if TYPE_CHECKING:
    from detect.runs.propose import ProposalSummary


@dataclass(frozen=True)
class GeneratorOptions:
    """Generator."""

    proposals: Annotated[
        str, typer.Option(help="Proposal generator, a+b for the boxes of both, or file:PATH for stored boxes.")
    ] = "selective-search"
    factor: Annotated[float | None, typer.Option(help="Superpixel factor of Selective Search.")] = None
    strategy: Annotated[
        list[str] | None, typer.Option(help="Custom strategy, SPACE:SIMILARITY:K[:MIN_SIZE]; may be repeated.")
    ] = None
    seed: Annotated[int | None, typer.Option(help="Seed of the random numbers in the ranking.")] = None
    width: Annotated[int | None, typer.Option(min=1, help="Width to resize photos to for the search, in pixels.")] = (
        None
    )
    device: GeneratorDevice = "auto"

    def settings(self) -> dict[str, Any]:
        """Return the generator settings that were given."""
        given = {"factor": self.factor, "strategies": self.strategy, "seed": self.seed, "width": self.width}
        return {name: value for name, value in given.items() if value is not None}


@examples(
    "rcnn propose photos --out boxes",
    "rcnn propose photos --out few --proposals multibox --max-boxes 50",
)
@with_records
def propose(
    out: Annotated[Path, typer.Option(help="Folder for the boxes. A second run resumes there.")],
    photos: PhotoOptions,
    generator: GeneratorOptions,
    max_boxes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Keep only the first N boxes. A union without a ranking does not list the best first. The whole photo "
            "stays only if it is one of them.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Photos to process at the same time.", show_default="one per core")
    ] = None,
) -> None:
    """Propose boxes for photos and store them in OUT: shards of boxes, and a manifest of how they were made.

    Exit code 0: all done. 1: done, but some photos could not be read. 2: nothing done.
    """
    from detect.consoles import open_console
    from detect.runs.propose import ProposalJob, build_for_many, propose_to_folder
    from structures.cores import cores

    found = photos.find(leave_out=out)
    made_by = build_for_many(generator.proposals, placement_on(generator.device), **generator.settings())
    job = ProposalJob(
        found,
        out,
        exif=photos.exif.value,
        max_pixels=photos.most_pixels,
        workers=workers or cores(),
        max_boxes=max_boxes,
    )
    _exit(propose_to_folder(job, made_by, open_console(stderr=True)))


def _exit(summary: "ProposalSummary") -> None:
    if not summary.done:
        raise InputError(f"none of {number_of(summary.photos, 'photo')} could be processed (reasons above)")
    if summary.skipped:
        typer.echo(f"{len(summary.skipped)} of {number_of(summary.photos, 'photo')} skipped:", err=True)
        for reason in summary.skipped.values():
            typer.echo(f"  {with_options(printable(reason))}", err=True)
        raise typer.Exit(SOME_SKIPPED)
