"""Options that several commands share, as records: which photos, where the networks run, the ground truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detect.defaults import MaxPixels
from structures.files import write_json
from structures.text import number_of, printable

if TYPE_CHECKING:
    from classifier.placement import Placement
    from detect.runs.photos import Photos
    from eval.ground_truth import AnyDataset
    from structures.records import Dataset


class Exif(str, Enum):
    """Whether the EXIF orientation of photos is applied."""

    apply = "apply"
    ignore = "ignore"


ExifOption = Annotated[Exif, typer.Option(help="Apply EXIF orientation, or read the stored pixels.")]
Classes = Annotated[
    list[str] | None,
    typer.Option(help="Only these classes: a,b, repeated options, or a file with one per line."),
]
ClassList = Annotated[
    list[str] | None,
    typer.Option(help="Class names in column order: a,b, repeated options, or a file with one per line."),
]

WEIGHTS = "Built-in name, file, or imagenet, which is downloaded once; several are averaged."
Crops = Annotated[int, typer.Option(help="Views of each photo: 1, 10 or 144.")]
Warp = Annotated[bool, typer.Option("--warp", help="Squeeze photos to a square, as BVLC did.")]
GROUND_TRUTH = "Annotated photos: a VOC, YOLO or COCO folder, or an instances.json, data.yaml or obj.data."
GeneratorDevice = Annotated[str, typer.Option(help="For learned generators: auto, cpu, cuda, ...")]
Split = Annotated[str | None, typer.Option(help="List or folder of the photos.", show_default="val, or the only one")]
PhotoFolder = Annotated[
    Path | None, typer.Option(help="Folder of the photos.", show_default="the usual ones of the format")
]
AllowExtra = Annotated[
    bool, typer.Option("--allow-extra", help="Ignore photos that are not in the ground truth, instead of stopping.")
]
PhotoCount = Annotated[int, typer.Option(min=0, help="Photos to use, evenly spread; 0 takes all.")]
TimedPhotos = Annotated[
    int, typer.Option(min=0, help="Photos to time, evenly spread; the first is only a warm-up; 0 times none.")
]
ProtocolName = Annotated[str, typer.Option(help="voc07, voc, coco or ilsvrc; auto is voc07 for VOC, else coco.")]
ToJson = Annotated[
    Path | None, typer.Option("--json", help="Also write the figures to this file, as shares from 0 to 1.")
]
ToCsv = Annotated[
    Path | None, typer.Option("--csv", help="Also write the tables to this file: table, row, column, value.")
]
FiguresToCsv = Annotated[
    Path | None, typer.Option("--csv", help="Also write the figures to this table, as shares from 0 to 1.")
]
DryRun = Annotated[
    Path | None,
    typer.Option(
        "--dry-run",
        metavar="FOLDER",
        help="Only show what is read and what looks wrong with it, and draw twenty examples into this folder.",
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
    """Carry out `--dry-run`: show what was read, and draw examples.

    Args:
        datasets: what was read, by its use.
        folder: where the examples are drawn.
        done: what was not done, such as "scored".
        warnings: more things that look wrong.
        json: file that everything shown is also written to.
    """
    from detect.preview import preview

    shown = preview(datasets, folder, warnings)
    typer.echo(f"nothing was {done}; {number_of(len(shown['drawn']), 'example')} drawn in {printable(folder)}")
    if json:
        write_json(json, shown)


def placement_on(device: str) -> "Placement | None":
    """Return where learned generators run; None for "auto", so that torch is not imported for those without a network.

    Raises:
        InputError: there is no such device.
    """
    if device == "auto":
        return None
    from classifier.placement import place

    return place(device=device)


@dataclass(frozen=True)
class PhotoOptions:
    """Photos."""

    photos: Annotated[list[str] | None, typer.Argument(help="Files, folders, globs or @list.txt.")] = None
    list_file: Annotated[Path | None, typer.Option("--list", help="File with one photo, folder or glob per line.")] = (
        None
    )
    exif: ExifOption = Exif.apply
    max_pixels: MaxPixels = None

    def find(self, leave_out: Path | None = None) -> "Photos":
        """Return the photos that were named.

        Args:
            leave_out: a folder to skip.

        Raises:
            InputError: no photos were named, or one does not exist.
        """
        from detect.runs.photos import find_photos

        return find_photos(self.photos or [], lists=[self.list_file] if self.list_file else [], leave_out=leave_out)

    @property
    def most_pixels(self) -> int:
        """Largest photo, in pixels; larger ones are skipped."""
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
        """Return them as keyword arguments of `classifier.placement.place`."""
        return {"device": self.device, "engine": self.engine, "dtype": self.dtype}


@dataclass(frozen=True)
class TruthOptions:
    """Ground truth."""

    ground_truth: Annotated[Path, typer.Option(help=GROUND_TRUTH)]
    split: Split = None
    images: PhotoFolder = None

    def open(self) -> "AnyDataset":
        """Read the annotated photos.

        Raises:
            InputError: the format is not known, or the files cannot be used.
        """
        from eval.ground_truth import open_ground_truth

        return open_ground_truth(self.ground_truth, self.split, self.images)
