"""Options that the trainings on annotated photos share."""

from pathlib import Path
from typing import Annotated

import typer

from detect.defaults import VAL_EVERY, VAL_PHOTOS

PRESET = "of the preset"  # where an option is not named

Out = Annotated[Path, typer.Option(help="Where the trained weights go (.safetensors); the best ones with validation.")]
Voc = Annotated[Path | None, typer.Option(help="Photos to learn from: folder in VOC layout.")]
Split = Annotated[str | None, typer.Option(help="List in ImageSets/Main of the VOC folder.", show_default="train")]
Coco = Annotated[Path | None, typer.Option(help="Photos to learn from: COCO annotations (.json).")]
Images = Annotated[Path | None, typer.Option(help="Folder of the COCO photos.")]
Classes = Annotated[str | None, typer.Option(help="Only these, a,b; objects of others become background.")]
Val = Annotated[str | None, typer.Option(help="Validate on this list of the VOC folder.")]
ValCoco = Annotated[Path | None, typer.Option(help="Validate on the photos of this COCO file.")]
ValImages = Annotated[Path | None, typer.Option(help="Their folder; by default --images.")]
ValEvery = Annotated[
    int | None, typer.Option(min=1, help="Batches between two validations.", show_default=str(VAL_EVERY))
]
ValPhotos = Annotated[
    int | None,
    typer.Option(min=0, help="Validate on so many, evenly spread; 0 takes all.", show_default=str(VAL_PHOTOS)),
]
Work = Annotated[Path | None, typer.Option(help="Folder of the run; a killed run goes on from it.")]
SaveEvery = Annotated[int, typer.Option(min=1, help="Batches between two states on disk.")]
DTypeName = Annotated[str, typer.Option(help="Precision of the training: auto, float32 or bfloat16.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]


def refuse_idle_validation(validates: bool, **options: object) -> None:
    """Refuse options of the validation where there is none.

    Raises:
        ValueError: one is named.
    """
    idle = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if idle and not validates:
        raise ValueError(f"{' and '.join(idle)} without --val or --val-coco: nothing is validated")
