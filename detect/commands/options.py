"""Options that several commands share, in records: which photos, where the networks run, what is right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detect.defaults import MaxPixels
from structures.files import write_json
from structures.text import printable

if TYPE_CHECKING:
    from classifier.engines import Placement
    from detect.runs.photos import Photos
    from eval.ground_truth import AnyDataset
    from structures.records import Dataset


class Exif(str, Enum):
    """Whether photos are turned as their camera noted."""

    apply = "apply"
    ignore = "ignore"


Classes = Annotated[
    list[str] | None,
    typer.Option(help="Only these classes: a,b, a repeated option, or a file with one per line. Others are ignored."),
]
ClassList = Annotated[
    list[str] | None,
    typer.Option(help="Names in the order of the columns: a,b, a repeated option, or a file with one per line."),
]
Weights = Annotated[
    list[str] | None,
    typer.Option(help="A file, or imagenet, which is downloaded once; several are averaged.", show_default="imagenet"),
]
Crops = Annotated[int, typer.Option(help="Views of each photo: 1, 10 or 144.")]
Warp = Annotated[bool, typer.Option("--warp", help="Squeeze photos to a square, as BVLC does in its tests.")]
GROUND_TRUTH = "Annotated photos: a VOC, YOLO or COCO folder, or an instances.json, data.yaml or obj.data."
GeneratorDevice = Annotated[str, typer.Option(help="For learned generators: auto, cpu, cuda, ...")]
Split = Annotated[str | None, typer.Option(help="List or folder of the photos.", show_default="val, or the only one")]
PhotoFolder = Annotated[
    Path | None, typer.Option(help="Folder of the photos.", show_default="the usual ones of the format")
]
ToJson = Annotated[
    Path | None, typer.Option("--json", help="Also write the figures to this file, as shares from 0 to 1.")
]
ToCsv = Annotated[
    Path | None, typer.Option("--csv", help="Also write the tables to this file: table, row, column, value.")
]
DryRun = Annotated[
    Path | None,
    typer.Option(
        "--dry-run",
        metavar="FOLDER",
        help="Only show what is read and what looks odd about it, and draw twenty examples into this folder.",
    ),
]


def show_dry_run(
    datasets: "Mapping[str, Dataset]",
    folder: Path,
    done: str,
    *,
    warnings: Sequence[str] = (),
    json: Path | None = None,
) -> None:
    """Do what `--dry-run` asks for: show what was read, and draw examples.

    Args:
        datasets: what was read, by what it is for.
        folder: of the examples.
        done: what the command does without the option, such as "scored".
        warnings: more that is odd.
        json: where all that is shown is written, too.
    """
    from detect.preview import preview

    shown = preview(datasets, folder, warnings)
    typer.echo(f"nothing was {done}; {len(shown['drawn'])} examples drawn in {printable(folder)}")
    if json:
        write_json(json, shown)


def placement_on(device: str) -> "Placement | None":
    """Return where learned generators run; None for "auto", so that torch is not imported for those without a network.

    Raises:
        InputError: there is no such device.
    """
    if device == "auto":
        return None
    from classifier.engines import place

    return place(device=device)


@dataclass(frozen=True)
class PhotoOptions:
    """Photos."""

    photos: Annotated[list[str] | None, typer.Argument(help="Files, folders, globs, @list.txt.")] = None
    list_file: Annotated[Path | None, typer.Option("--list", help="File with one photo, folder or glob per line.")] = (
        None
    )
    exif: Annotated[Exif, typer.Option(help="Turn photos as displayed, or read the stored pixels.")] = Exif.apply
    max_pixels: MaxPixels = None

    def find(self, leave_out: Path | None = None) -> "Photos":
        """Return the photos that are named.

        Args:
            leave_out: a folder that is not searched.

        Raises:
            InputError: none is named, or one is not there.
        """
        from detect.runs.photos import find_photos

        return find_photos(self.photos or [], lists=[self.list_file] if self.list_file else [], leave_out=leave_out)

    @property
    def most_pixels(self) -> int:
        """Of a photo; larger ones are skipped."""
        from structures.images import MAX_PIXELS

        return self.max_pixels or MAX_PIXELS


@dataclass(frozen=True)
class PlacementOptions:
    """Where the networks run."""

    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto"
    engine: Annotated[str, typer.Option(help="auto, torch, compiled, graph (CUDA graphs) or openvino.")] = "auto"
    dtype: Annotated[
        str, typer.Option(help="auto, float32, bfloat16, float16, or int8 (shared features, OpenVINO).")
    ] = "auto"

    def as_names(self) -> dict[str, str]:
        """Return them by the names that loaders know."""
        return {"device": self.device, "engine": self.engine, "dtype": self.dtype}


@dataclass(frozen=True)
class TruthOptions:
    """Ground truth."""

    ground_truth: Annotated[Path, typer.Option(help=GROUND_TRUTH)]
    split: Split = None
    images: PhotoFolder = None

    def open(self) -> "AnyDataset":
        """Return the photos with their objects.

        Raises:
            InputError: it is of no format that is known, or cannot be used.
        """
        from eval.ground_truth import open_ground_truth

        return open_ground_truth(self.ground_truth, self.split, self.images)
