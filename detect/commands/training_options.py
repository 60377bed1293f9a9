"""Options that the trainings share, in records."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detect.commands.options import Classes
from detect.defaults import VAL_EVERY, VAL_PHOTOS
from structures.errors import InputError

if TYPE_CHECKING:
    from structures.records import Dataset

PRESET = "of the preset"  # where an option is not named

Out = Annotated[Path, typer.Option(help="Where the trained weights go (.safetensors); the best ones with validation.")]
SaveEvery = Annotated[int, typer.Option(min=1, help="Steps between two states on disk.")]


@dataclass(frozen=True)
class PhotoOptions:
    """Photos to learn from."""

    voc: Annotated[
        list[Path] | None, typer.Option(help="Folder in VOC layout; the option again adds one with the same classes.")
    ] = None
    split: Annotated[
        str | None, typer.Option(help="List in ImageSets/Main of the VOC folder.", show_default="train")
    ] = None
    coco: Annotated[Path | None, typer.Option(help="COCO annotations (.json).")] = None
    images: Annotated[Path | None, typer.Option(help="Folder of the COCO photos.")] = None
    classes: Classes = None

    def open(self) -> "Dataset":
        """Return the photos with their objects.

        Raises:
            InputError: an option contradicts another, or the photos cannot be used.
        """
        from detect.training.data import open_dataset

        return open_dataset(
            voc=self.voc or (), split=self.split, coco=self.coco, images=self.images, classes=self.classes
        )

    def about(self, preset: str) -> dict[str, Any]:
        """Return what the metadata of the weights say about the photos, and the preset's name."""
        from detect.training.data import SPLIT

        name = "+".join(path.name for path in self.voc or [self.coco or Path()])
        return {"data": name, "split": (self.split or SPLIT) if self.voc else None, "preset": preset}


@dataclass(frozen=True)
class ValidationOptions:
    """Validation."""

    val: Annotated[
        str | None, typer.Option(help="Validate on this list of the VOC folder; of several, of those that have it.")
    ] = None
    val_coco: Annotated[Path | None, typer.Option(help="Validate on the photos of this COCO file.")] = None
    val_images: Annotated[Path | None, typer.Option(help="Their folder; by default --images.")] = None
    val_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between two validations.", show_default=str(VAL_EVERY))
    ] = None
    val_photos: Annotated[
        int | None,
        typer.Option(
            min=0, help="Validate on this many photos, evenly spread; 0 takes all.", show_default=str(VAL_PHOTOS)
        ),
    ] = None

    @property
    def every(self) -> int:
        """Steps between two validations."""
        return self.val_every or VAL_EVERY

    def open(self, photos: PhotoOptions, dataset: "Dataset", **more: object) -> "Dataset | None":
        """Return the photos to validate on, or None.

        Args:
            photos: what is learned from.
            dataset: the same, opened.
            more: other options of the validation, by name.

        Raises:
            InputError: an option is named that has nothing to do, or the photos cannot be used.
        """
        from detect.training.data import open_validation

        options = {"val_every": self.val_every, "val_photos": self.val_photos, **more}
        refuse_validation_options(self.val is not None or self.val_coco is not None, **options)
        return open_validation(
            dataset,
            voc=photos.voc or (),
            val=self.val,
            val_coco=self.val_coco,
            val_images=self.val_images,
            usual_images=photos.images,
            photos=self.val_photos,
        )


@dataclass(frozen=True)
class RunOptions:
    """Where and how it runs."""

    work: Annotated[Path | None, typer.Option(help="Folder of the run; a killed run goes on from it.")] = None
    dtype: Annotated[str, typer.Option(help="Precision of the training: auto, float32 or bfloat16.")] = "auto"
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto"
    seed: Annotated[int, typer.Option(min=0, help="Of every random draw.")] = 0

    def folder(self, out: Path) -> Path:
        """Return the folder of the run that writes a file."""
        return self.work or out.with_suffix(".work")


def refuse_validation_options(validates: bool, **options: object) -> None:
    """Refuse options of the validation where there is none.

    Raises:
        InputError: one is named.
    """
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if given and not validates:
        raise InputError(f"{' and '.join(given)} without --val or --val-coco: nothing is validated")
