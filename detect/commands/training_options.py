"""Options that the trainings share, in records."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detect.commands.options import GROUND_TRUTH, Classes, DryRun, show_dry_run
from detect.defaults import VAL_EVERY, VAL_PHOTOS
from structures.errors import InputError

if TYPE_CHECKING:
    from eval.selection import Selection

PRESET = "of the preset"  # where an option is not named

Out = Annotated[Path, typer.Option(help="Trained weights (.safetensors); with validation, the best ones.")]
SaveEvery = Annotated[int, typer.Option(min=1, help="Save the state every N steps.")]


@dataclass(frozen=True)
class PhotoOptions:
    """Photos to learn from."""

    ground_truth: Annotated[
        list[Path] | None,
        typer.Option(
            "--ground-truth",
            "--voc",
            "--coco",
            help=f"{GROUND_TRUTH} May be repeated, for more photos with the same classes.",
            show_default=False,
        ),
    ] = None
    split: Annotated[
        str | None, typer.Option(help="List or folder of the photos.", show_default="train, or the only one")
    ] = None
    images: Annotated[
        Path | None, typer.Option(help="Folder of the photos.", show_default="the usual ones of the format")
    ] = None
    classes: Classes = None
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="Classes, listed as for --classes, whose objects count neither as object nor as background."),
    ] = None
    dry_run: DryRun = None

    def open(self) -> "Selection":
        """Return the photos with their objects.

        Raises:
            InputError: no photos are named, or they cannot be used.
        """
        from detect.training.data import open_dataset

        return open_dataset(
            self.ground_truth or (),
            split=self.split,
            images=self.images,
            classes=self.classes,
            ignored=self.ignore,
        )

    @property
    def name(self) -> str:
        """Return the names of all folders and files of annotations, without their places."""
        return "+".join(path.name for path in self.ground_truth or ())

    def about(self, preset: str, dataset: "Selection") -> dict[str, Any]:
        """Return what the metadata of the weights say about the photos, and the preset's name."""
        ignored = {"ignored": list(dataset.ignored)} if dataset.ignored else {}
        return {"data": self.name, "split": getattr(dataset.whole, "split", None) or None, "preset": preset, **ignored}


@dataclass(frozen=True)
class ValidationOptions:
    """Validation."""

    val: Annotated[
        str | None,
        typer.Option(help="Validate on this list or folder of the same data; with several, on those that have it."),
    ] = None
    val_ground_truth: Annotated[
        Path | None, typer.Option(help="Validate on these photos; --val then names a list of them.")
    ] = None
    val_images: Annotated[
        Path | None, typer.Option(help="Folder of the photos of --val-ground-truth.", show_default="--images")
    ] = None
    val_every: Annotated[
        int | None, typer.Option(min=1, help="Validate every N steps.", show_default=str(VAL_EVERY))
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

    def about(self, photos: PhotoOptions) -> dict[str, str]:
        """Return what a report says about the photos: where their objects are from, and the list."""
        name = photos.name if self.val_ground_truth is None else self.val_ground_truth.name
        return {"ground_truth": name, **({"split": self.val} if self.val else {})}

    def open(self, photos: PhotoOptions, dataset: "Selection", **more: object) -> "Selection | None":
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
        refuse_validation_options(self.val is not None or self.val_ground_truth is not None, **options)
        return open_validation(
            dataset,
            ground_truth=photos.ground_truth or (),
            val=self.val,
            val_ground_truth=self.val_ground_truth,
            val_images=self.val_images,
            usual_images=photos.images,
            photos=self.val_photos,
        )


@dataclass(frozen=True)
class RunOptions:
    """Where and how it runs."""

    work: Annotated[Path | None, typer.Option(help="Folder that a killed run resumes from.")] = None
    dtype: Annotated[str, typer.Option(help="Precision of the training: auto, float32 or bfloat16.")] = "auto"
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto"
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random draws.")] = 0

    def folder(self, out: Path) -> Path:
        """Return the folder of the run that writes a file."""
        return self.work or out.with_suffix(".work")


def show_photos(dataset: "Selection", judged: "Selection | None", folder: Path) -> None:
    """Show what would be learned from and validated on, as `--dry-run` asks for."""
    from detect.training.data import summary

    told = [line.removeprefix("warning: ") for line in summary(dataset, judged) if line.startswith("warning: ")]
    chosen = {"to learn from": dataset} | ({} if judged is None else {"to validate on": judged})
    show_dry_run(chosen, folder, "trained", warnings=told)


def refuse_validation_options(validates: bool, **options: object) -> None:
    """Refuse options of the validation where there is none.

    Raises:
        InputError: one is named.
    """
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if given and not validates:
        raise InputError(f"{' and '.join(given)} without --val or --val-ground-truth: nothing is validated")
