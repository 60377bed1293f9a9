"""`rcnn draw`: pictures of existing results."""

from pathlib import Path
from typing import Annotated

import typer

from detect.commands.groups import examples
from detect.commands.option_records import with_records
from detect.commands.options import Classes
from detect.defaults import SOME_SKIPPED, MaxPixels
from detect.option_names import with_options
from detect.settings import DRAW_FLOOR
from structures.errors import InputError
from structures.text import number_of, printable


@examples("rcnn draw results", "rcnn draw results --score 0.3 --classes dog,cat --images photos")
@with_records
def draw(
    out: Annotated[Path, typer.Argument(help="Folder with the results of rcnn detect.")],
    score: Annotated[float, typer.Option(min=0, max=1, help="Lowest score to draw.")] = DRAW_FLOOR,
    classes: Classes = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder that photo names are relative to.", show_default="that of the run"),
    ] = None,
    max_pixels: MaxPixels = None,
) -> None:
    """Draw existing results on their photos, to OUT/pictures, without loading a network.

    Exit code 0: all done. 1: done, but some photos could not be drawn. 2: nothing done.
    """
    from detect.consoles import open_console
    from detect.runs.draw import Drawing
    from detect.runs.photos import PICTURES
    from detect.runs.stored_pictures import classes_of, redraw
    from structures.images import MAX_PIXELS

    drawing = Drawing(score, None if classes is None else classes_of(out, classes))
    drawn = redraw(out, drawing, open_console(stderr=True), images=images, max_pixels=max_pixels or MAX_PIXELS)
    if drawn.undrawn:
        typer.echo(f"{len(drawn.undrawn)} of {number_of(drawn.photos, 'photo')} could not be drawn:", err=True)
    for reason in drawn.undrawn.values():
        typer.echo(f"  {with_options(printable(reason))}", err=True)
    if drawn.photos and len(drawn.undrawn) == drawn.photos:
        raise InputError(
            f"none of {number_of(drawn.photos, 'photo')} could be drawn (reasons above); --images names their folder"
        )
    there = drawn.photos - len(drawn.undrawn)
    typer.echo(
        f"{number_of(there, 'picture')} in {printable(out / PICTURES)}, {there - drawn.fresh} of them drawn earlier"
    )
    if drawn.undrawn:
        raise typer.Exit(SOME_SKIPPED)
