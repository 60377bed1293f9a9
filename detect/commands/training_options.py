"""Options that the trainings share, as records."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detect.commands.options import GROUND_TRUTH, Classes, DryRun, show_dry_run
from detect.defaults import VAL_EVERY, VAL_PHOTOS
from structures.errors import InputError

if TYPE_CHECKING:
    from eval.selection import Selection

PRESET = "that of the preset"

Out = Annotated[Path, typer.Option(help="File for the trained weights (.safetensors); with validation, the best.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Passes over the photos in each phase.", show_default=PRESET)]
TrunkRate = Annotated[
    float | None, typer.Option(min=0, help="Factor on the learning rate for the trunk.", show_default=PRESET)
]
SAVE_EVERY = "Save the state of the training every N steps."
STEPS_SAVED, CANVAS_STEPS_SAVED = 500, 100  # N: a step on crops takes a fraction of a second, one on canvases seconds
SaveEvery = Annotated[int, typer.Option(min=1, help=SAVE_EVERY)]


@dataclass(frozen=True)
class TrainingPhotoOptions:
    """Photos to learn from."""

    ground_truth: Annotated[
        list[Path] | None,
        typer.Option(
            "--ground-truth",
            "--voc",
            "--coco",
            help=f"{GROUND_TRUTH} May be repeated for more photos with the same classes.",
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
        typer.Option(help="Classes, listed as for --classes, whose objects are neither objects nor background."),
    ] = None
    dry_run: DryRun = None

    def open(self, *, use_difficult: bool = False) -> "Selection":
        """Read the annotated photos.

        Args:
            use_difficult: see `detect.training.data.open_dataset`.

        Raises:
            InputError: no photos were named, or they cannot be used.
        """
        from detect.training.data import open_dataset

        return open_dataset(
            self.ground_truth or (),
            split=self.split,
            images=self.images,
            classes=self.classes,
            ignored=self.ignore,
            use_difficult=use_difficult,
        )

    @property
    def name(self) -> str:
        """Return the names of all folders and files of annotations, without their places."""
        return "+".join(path.name for path in self.ground_truth or ())

    def about(self, preset: str, dataset: "Selection") -> dict[str, Any]:
        """Return what the metadata of the weights say about photos and preset."""
        ignored = {"ignored": list(dataset.ignored)} if dataset.ignored else {}
        return {"data": self.name, "split": getattr(dataset.whole, "split", None) or None, "preset": preset, **ignored}


@dataclass(frozen=True)
class ValidationOptions:
    """Validation."""

    val: Annotated[
        str | None,
        typer.Option(help="List or folder of the same data to validate on; of several, those that have it."),
    ] = None
    val_ground_truth: Annotated[
        Path | None, typer.Option(help="Validate on these photos; --val then names a list of them.")
    ] = None
    val_images: Annotated[
        Path | None, typer.Option(help="Folder of the photos of --val-ground-truth.", show_default="that of --images")
    ] = None
    val_every: Annotated[
        int | None, typer.Option(min=1, help="Validate every N steps.", show_default=str(VAL_EVERY))
    ] = None
    val_photos: Annotated[
        int | None,
        typer.Option(min=0, help="Photos to validate on, evenly spread; 0 takes all.", show_default=str(VAL_PHOTOS)),
    ] = None

    @property
    def every(self) -> int:
        """Steps between two validations."""
        return self.val_every or VAL_EVERY

    def about(self, photos: TrainingPhotoOptions) -> dict[str, str]:
        """Return what a report says about the photos: where their objects are from, and the list."""
        name = photos.name if self.val_ground_truth is None else self.val_ground_truth.name
        return {"ground_truth": name, **({"split": self.val} if self.val else {})}

    def open(self, photos: TrainingPhotoOptions, dataset: "Selection", **more: object) -> "Selection | None":
        """Read the photos to validate on; None if none were named.

        Args:
            photos: options of the photos to learn from.
            dataset: these photos.
            more: more options of the validation, by name.

        Raises:
            InputError: an option has no effect, or the photos cannot be used.
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

    work: Annotated[
        Path | None,
        typer.Option(help="Folder that a killed run resumes from.", show_default="OUT with .work as its suffix"),
    ] = None
    dtype: Annotated[str, typer.Option(help="Precision of the training: auto, float32 or bfloat16.")] = "auto"
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto"
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed.", show_default="0")] = None

    @property
    def first_seed(self) -> int:
        """The random seed of the first phase."""
        return self.seed or 0

    def folder(self, out: Path) -> Path:
        """Return the folder of a run, given its output file.

        Raises:
            InputError: it is the output file, another file, or has files that no training put there.
        """
        from detect.training.folder import require_own_folder

        work = self.work or out.with_suffix(".work")
        if os.path.realpath(work) == os.path.realpath(out):
            raise InputError(f"--work {work}: is the same as --out")
        require_own_folder(work)
        return work


def show_photos(
    dataset: "Selection", validation_set: "Selection | None", folder: Path, *, warnings: Sequence[str] = ()
) -> None:
    """Carry out `--dry-run`: show the photos to learn from and to validate on, and these warnings besides."""
    from detect.training.data import summary

    told = [line.removeprefix("warning: ") for line in summary(dataset, validation_set) if line.startswith("warning: ")]
    chosen = {"to learn from": dataset} | ({} if validation_set is None else {"to validate on": validation_set})
    show_dry_run(chosen, folder, "trained", warnings=[*told, *warnings])


def refuse_validation_options(validates: bool, **options: object) -> None:
    """Refuse options of the validation if there is none.

    Raises:
        InputError: such an option was given.
    """
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if given and not validates:
        raise InputError(f"{' and '.join(given)} without --val or --val-ground-truth: nothing is validated")
