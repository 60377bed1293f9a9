"""`rcnn train classifier`: GoogLeNet on your own classes, from scratch or from weights."""

import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from classifier.recipes import AVERAGE_FROM, LEARNING_RATE, WEIGHT_DECAY, Recipe, paper_recipe
from detect.commands.groups import examples
from detect.commands.option_records import with_records
from detect.commands.options import DryRun, show_dry_run
from detect.commands.training_options import STEPS_SAVED, RunOptions, SaveEvery
from structures.errors import InputError
from structures.text import number_of, printable

if TYPE_CHECKING:
    from classifier.weights.checkpoint import Checkpoint
    from detect.runs.class_folders import ClassFolders


@dataclass(frozen=True)
class StartOptions:
    """Start."""

    weights: Annotated[str, typer.Option(help="Weights to start from; none starts from scratch.")] = "none"
    variant: Annotated[str | None, typer.Option(help="From scratch: paper or batchnorm.", show_default="batchnorm")] = (
        None
    )
    size: Annotated[
        int | None, typer.Option(min=32, help="From scratch: side of the input in pixels.", show_default="224")
    ] = None

    def load(self, classes: tuple[str, ...], seed: int) -> "Checkpoint":
        """Return the weights to start from.

        Raises:
            InputError: they cannot be read, or an option has no effect on them.
        """
        from classifier.googlenet import INPUT_SIZE
        from classifier.image_training import untrained_classifier
        from detect.classifiers import load_checkpoint

        if self.weights == "none":
            return untrained_classifier(
                classes, variant=self.variant or "batchnorm", size=self.size or INPUT_SIZE, seed=seed
            )
        if self.variant or self.size:
            raise InputError("--variant and --size are for training from scratch; --weights have their own")
        return load_checkpoint(self.weights)


@dataclass(frozen=True)
class ClassifierRecipeOptions:
    """Recipe."""

    epochs: Annotated[float, typer.Option(help="Passes over the photos.")] = 60
    batch: Annotated[int, typer.Option(min=1, help="Photos per batch, all processes together.")] = 32
    learning_rate: Annotated[float, typer.Option(min=0, help="Highest learning rate.")] = LEARNING_RATE
    schedule: Annotated[
        str, typer.Option(help="Learning rate schedule. paper: 4% lower every 8 epochs; cosine: down to 0.")
    ] = "paper"
    warmup: Annotated[int, typer.Option(min=0, help="Steps during which the learning rate rises from 0.")] = 0
    weight_decay: Annotated[float, typer.Option(min=0, help="Weight decay.")] = WEIGHT_DECAY
    label_smoothing: Annotated[float, typer.Option(min=0, max=1, help="Share of labels spread over all classes.")] = 0.0
    average: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Averaging. 1: Polyak's mean; below 1: decay of a moving average; 0: none.",
        ),
    ] = 1.0
    average_from: Annotated[float, typer.Option(min=0, max=1, help="Share of the run before averaging begins.")] = (
        AVERAGE_FROM
    )
    auxiliary: Annotated[bool, typer.Option(help="Train with the two auxiliary classifiers.")] = True

    def make(self, photos: int) -> Recipe:
        """Return the recipe for a number of photos.

        Raises:
            InputError: a value cannot be used.
        """
        epoch = max(1, photos // self.batch)
        return replace(
            paper_recipe(self.epochs, epoch, schedule=self.schedule, average_from=self.average_from),
            learning_rate=self.learning_rate,
            warmup=self.warmup,
            weight_decay=self.weight_decay,
            label_smoothing=self.label_smoothing,
            average=self.average,
        )


@examples(
    "rcnn train classifier --folder photos/train --val photos/val --out net.safetensors",
    "rcnn train classifier --folder photos --weights imagenet --epochs 5 --out net.safetensors",
)
@with_records
def classifier(
    folder: Annotated[Path, typer.Option(help="Photos to train on, one folder per class.")],
    out: Annotated[Path, typer.Option(help="File for the trained weights (.safetensors).")],
    begin: StartOptions,
    options: ClassifierRecipeOptions,
    run: RunOptions,
    val: Annotated[Path | None, typer.Option(help="Validation photos, one folder per class.")] = None,
    save_every: SaveEvery = STEPS_SAVED,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes that read photos.", show_default="2 on a CPU, else all cores but one"),
    ] = None,
    dry_run: DryRun = None,
) -> None:
    """Train an image classifier by the GoogLeNet paper's recipe; under torchrun, on several GPUs or machines."""
    from classifier.image_training import LabelledPhotos, train_images
    from classifier.processes import current_process, joined
    from classifier.weights.checkpoint import save_checkpoint
    from detect.runs.class_folders import WholePhotos, columns_of, read_class_folders
    from detect.runs.machine import usual_readers
    from detect.training.folder import STATE, occupied
    from detect.training.progress import Reporter
    from detect.training.setup import check_out, training_placement, with_origin

    check_out(out, begin.weights)
    data = read_class_folders(folder)
    validation_set = read_class_folders(val, columns_of(data.classes, None)) if val else None
    if dry_run is not None:
        chosen = {"to learn from": data} | ({} if validation_set is None else {"to validate on": validation_set})
        show_dry_run({name: WholePhotos(each) for name, each in chosen.items()}, dry_run, "trained")
        return
    start, placement = begin.load(data.classes, run.first_seed), training_placement(run.device, run.dtype)
    recipe = replace(options.make(len(data)), dtype=placement.dtype, seed=run.first_seed)
    work, batch = run.folder(out), options.batch
    with joined(placement.device) as here, ExitStack() as stack:
        first = current_process().rank == 0
        if first:
            stack.enter_context(occupied(work))
            _require_same_training(
                work, start, data, folder, {"batch": batch, "auxiliary classifiers": options.auxiliary}
            )
        with Reporter(
            work, steps=recipe.steps, batch=batch, rows="photos", reason=placement.reason, quiet=not first
        ) as bar:
            trained = train_images(
                start,
                LabelledPhotos(data.paths, data.labels, data.classes),
                recipe,
                state_file=work / STATE,
                device=here,
                batch_size=batch,
                auxiliary=options.auxiliary,
                workers=usual_readers(here.type, on_cpu=2) if workers is None else workers,
                save_every=save_every,
                report=bar.report,
                skipped=lambda path: print(f"skipped: {printable(path)}: cannot be read", file=sys.stderr),
            )
    if not first:
        return
    trained = with_origin(trained, {"data": folder.resolve().name})
    save_checkpoint(trained, out)  # before validation, which may fail
    if validation_set is not None:
        _validate(trained, validation_set, out, device=str(placement.device))
    print(f"weights written to {printable(out)}")


def _validate(trained: "Checkpoint", validation_set: "ClassFolders", out: Path, *, device: str) -> None:
    """Print the scores of trained weights, and write the weights again, with these in their metadata."""
    from classifier.weights.checkpoint import save_checkpoint
    from detect.runs.classify import score_checkpoint
    from detect.training.setup import with_origin

    scored = score_checkpoint(trained, validation_set, device=device)
    for error in scored.skipped:
        print(f"skipped: {printable(error)}", file=sys.stderr)
    save_checkpoint(with_origin(trained, {**scored.scores, "judged on photos": scored.photos}), out)
    print(f"validated on {number_of(scored.photos, 'photo')}, {len(scored.skipped)} skipped")
    for name, value in scored.scores.items():
        print(f"{name:19} {value:.4f}")


def _require_same_training(
    work: Path, start: "Checkpoint", data: "ClassFolders", folder: Path, settings: dict[str, Any]
) -> None:
    """Refuse to resume a run that began with other weights or photos; the state file itself knows the recipe."""
    from dataclasses import asdict

    from classifier.weights.digest import digest
    from detect.training.folder import START_FILE, STATE, require_same_origin

    made_from = {
        "weights": digest(dict(sorted(start.state.items()))),
        "preprocessing": asdict(start.preprocessing),
        "photos": digest([f"{os.path.relpath(path, folder)} {path.stat().st_size}" for path in data.paths]),
        "classes": list(data.classes),
        **settings,
    }
    remedy = "name another `work` folder or remove this one"
    require_same_origin(work / START_FILE, made_from, remedy=remedy, state=work / STATE)
