"""Options that the trainings on annotated photos share."""

from pathlib import Path
from typing import Annotated

import typer

PRESET = "of the preset"  # where an option is not named

Out = Annotated[Path, typer.Option(help="Where the trained weights go (.safetensors); the best ones with validation.")]
Voc = Annotated[Path | None, typer.Option(help="Photos to learn from: folder in VOC layout.")]
Split = Annotated[str, typer.Option(help="List in ImageSets/Main of the VOC folder.")]
Coco = Annotated[Path | None, typer.Option(help="Photos to learn from: COCO annotations (.json).")]
Images = Annotated[Path | None, typer.Option(help="Folder of the COCO photos.")]
Classes = Annotated[str | None, typer.Option(help="Only these, a,b; objects of others become background.")]
Val = Annotated[str | None, typer.Option(help="Validate on this list of the VOC folder.")]
ValCoco = Annotated[Path | None, typer.Option(help="Validate on the photos of this COCO file.")]
ValImages = Annotated[Path | None, typer.Option(help="Their folder; by default --images.")]
ValEvery = Annotated[int, typer.Option(min=1, help="Batches between two validations.")]
ValPhotos = Annotated[int, typer.Option(min=0, help="Validate on so many, evenly spread; 0 takes all.")]
Work = Annotated[Path | None, typer.Option(help="Folder of the run; a killed run goes on from it.")]
SaveEvery = Annotated[int, typer.Option(min=1, help="Batches between two states on disk.")]
DTypeName = Annotated[str, typer.Option(help="Precision of the training: auto, float32 or bfloat16.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
