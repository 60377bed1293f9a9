"""`rcnn scale`: detection and proposals on a Ray cluster, with the same results as on one machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detect.commands.detector_options import DetectorOptions
from detect.commands.groups import add, examples, group
from detect.commands.option_records import with_records
from detect.commands.options import Exif, ExifOption, PlacementOptions
from detect.commands.propose import GeneratorOptions
from detect.defaults import SOME_SKIPPED, MaxPixels
from structures.errors import InputError
from structures.text import number_of

if TYPE_CHECKING:
    from detect.scaling.run import Scale, ScaleSummary

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Folder, glob, list of photos (.txt), or Parquet with a column path or bytes; a local path or an address "
        "such as s3://bucket/photos.",
    ),
]
Out = Annotated[
    str,
    typer.Option(metavar="OUT", help="Folder or address for the shards. A second run adds the missing ones."),
]


@dataclass(frozen=True)
class ScaleOptions:
    """Cluster."""

    on: Annotated[
        str,
        typer.Option(
            help="ray: the cluster of this machine, or one for this run if there is none; or ray://HOST:10001."
        ),
    ] = "ray"
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes that run the networks.", show_default="one per GPU, else five of six cores"
        ),
    ] = None
    readers: Annotated[
        int | None,
        typer.Option(min=1, help="Cores that read photos and search for regions.", show_default="the others"),
    ] = None
    together: Annotated[
        int | None,
        typer.Option(min=1, help="Photos per pass through the networks.", show_default="32 with a GPU, 1 on a CPU"),
    ] = None
    shard: Annotated[int, typer.Option(min=1, help="Photos per shard.")] = 256
    max_pixels: MaxPixels = None

    def make(self) -> "Scale":
        """Return them as one record for a run."""
        from detect.scaling.run import Scale
        from structures.images import MAX_PIXELS

        return Scale(self.on, self.workers, self.readers, self.together, self.shard, self.max_pixels or MAX_PIXELS)


@examples(
    "rcnn scale detect photos --out results --workers 2",
    "rcnn scale detect s3://bucket/photos --out s3://bucket/out --on ray://head:10001 --features shared",
)
@with_records
def detect(
    source: Source,
    out: Out,
    cluster: ScaleOptions,
    detector: DetectorOptions,
    where: PlacementOptions,
    exif: ExifOption = Exif.apply,
) -> None:
    """Find objects on photos on a Ray cluster: one row of Parquet per photo, with what `rcnn detect` finds.

    The row of a photo that cannot be read has the reason. Exit code 0: all done. 1: some photos failed in this run. 2:
    nothing done.
    """
    from detect.scaling.run import detect_at_scale

    placed: dict[str, Any] = where.as_names()
    arguments = {**detector.arguments(), "proposals": detector.proposals, "exif": exif.value}
    if detector.weights:
        arguments["weights"] = detector.weights
    _exit(detect_at_scale(source, out, scale=cluster.make(), **placed, **arguments))


@examples(
    "rcnn scale propose photos --out boxes",
    "rcnn scale propose list.txt --out boxes --proposals multibox --max-boxes 50",
)
@with_records
def propose(
    source: Source,
    out: Out,
    cluster: ScaleOptions,
    generator: GeneratorOptions,
    exif: ExifOption = Exif.apply,
    max_boxes: Annotated[
        int | None, typer.Option(min=1, help="Keep only the first N boxes.", show_default="all")
    ] = None,
) -> None:
    """Propose boxes for photos on a Ray cluster: one row of Parquet per photo; `rcnn scale collect` makes a store.

    Exit codes as for `rcnn scale detect`.
    """
    from detect.scaling.run import propose_at_scale

    _exit(
        propose_at_scale(
            source,
            out,
            proposals=generator.proposals,
            max_boxes=max_boxes,
            exif=exif.value,
            device=generator.device,
            scale=cluster.make(),
            **generator.settings(),
        )
    )


@examples("rcnn scale collect s3://bucket/results --out results", "rcnn scale collect shards --out boxes")
def collect(
    shards: Annotated[str, typer.Argument(metavar="SHARDS", help="Folder or address of the shards.")],
    out: Annotated[Path, typer.Option(help="Folder to write, as `rcnn detect` or `rcnn propose` would.")],
) -> None:
    """Turn shards into OUT/detections.jsonl and OUT/skipped.jsonl, or into a folder of proposals.

    Exit code 1: some photos of the last run are in no shard.
    """
    from detect.scaling.collect import collect as run
    from structures.text import printable

    done = run(shards, out)
    typer.echo(f"{number_of(done.photos, 'photo')} with results, {done.failed} without, written to {printable(out)}")
    if done.missing:
        typer.echo(
            f"{number_of(done.missing, 'photo')} of the last run are in no shard; run it again, which makes the "
            "missing shards, and collect again",
            err=True,
        )
        raise typer.Exit(SOME_SKIPPED)


def _exit(summary: "ScaleSummary") -> None:
    if summary.failed and not summary.fresh and not summary.before:
        raise InputError(f"none of {number_of(summary.photos, 'photo')} could be processed; the shards say why")
    if summary.failed:
        typer.echo(
            f"{number_of(len(summary.failed), 'photo')} failed in this run; their rows in the shards say why", err=True
        )
        raise typer.Exit(SOME_SKIPPED)


app = group("Detect or propose on a Ray cluster, with results in Parquet. Needs the extra ray.")
add(app, detect)
add(app, propose)
add(app, collect)
