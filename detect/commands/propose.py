"""`rcnn propose`: where might objects be on these photos? Boxes on disk, for `--proposals file:OUT`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detect.commands.detect import Exif
from detect.defaults import SOME_SKIPPED, MaxPixels
from structures.errors import InputError
from structures.text import printable

if TYPE_CHECKING:
    from detect.runs.propose import Report


def propose(
    out: Annotated[Path, typer.Option(help="Folder of the boxes. Run again, it goes on where it stopped.")],
    photos: Annotated[list[str] | None, typer.Argument(help="Files, folders, globs, @list.txt.")] = None,
    list_file: Annotated[Path | None, typer.Option("--list", help="File with a photo, folder or glob a line.")] = None,
    generator: Annotated[str, typer.Option(help="Which one; a+b takes both; file:PATH reads boxes.")] = (
        "selective-search"
    ),
    factor: Annotated[float | None, typer.Option(help="Superpixel factor of Selective Search.")] = None,
    strategy: Annotated[
        list[str] | None, typer.Option(help="Own strategy, SPACE:SIMILARITY:K[:MIN_SIZE]; may be repeated.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the ranking's random numbers.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Search photos at this width.")] = None,
    max_boxes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Keep only so many boxes, the first; of a union without a ranking not the best. The whole photo stays "
            "only if it is one of them.",
        ),
    ] = None,
    exif: Annotated[Exif, typer.Option(help="Turn photos as displayed, or read the stored pixels.")] = Exif.apply,
    max_pixels: MaxPixels = None,
    device: Annotated[str, typer.Option(help="For learned generators: auto, cpu, cuda, ...")] = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="Photos at the same time; by default all cores.")] = None,
) -> None:
    """Propose boxes for photos and keep them in OUT: shards of boxes, and a manifest of how they were made.

    Exit code 0: all done. 1: done, but some photos could not be read. 2: nothing done.
    """
    from rich.console import Console

    from detect.runs.photos import find_photos
    from detect.runs.propose import Plan, build_for_many, carry_out
    from detect.runs.record import cores
    from structures.images import MAX_PIXELS

    given = {"factor": factor, "strategies": strategy, "seed": seed, "width": width}
    found = find_photos(photos or [], lists=[list_file] if list_file else [], leave_out=out)
    made_by = build_for_many(generator, device, **{key: value for key, value in given.items() if value is not None})
    plan = Plan(
        found,
        out,
        exif=exif.value,
        max_pixels=max_pixels or MAX_PIXELS,
        workers=workers or cores(),
        max_boxes=max_boxes,
    )
    _exit(carry_out(plan, made_by, Console(stderr=True)))


def _exit(report: "Report") -> None:
    if not report.done:
        raise InputError(f"none of {report.photos} photos could be worked on, as said above")
    if report.skipped:
        typer.echo(f"{len(report.skipped)} of {report.photos} photos were skipped:", err=True)
        for reason in report.skipped.values():
            typer.echo(f"  {printable(reason)}", err=True)
        raise typer.Exit(SOME_SKIPPED)
