"""`rcnn train multibox`: train the proposal generator on your own photos."""

from dataclasses import dataclass, replace
from typing import Annotated

import typer

from detect.commands.groups import examples, explained
from detect.commands.option_records import with_records
from detect.commands.training_options import (
    CANVAS_STEPS_SAVED,
    PRESET,
    Epochs,
    Out,
    RunOptions,
    SaveEvery,
    TrainingPhotoOptions,
    TrunkRate,
    ValidationOptions,
    show_photos,
)
from detect.commands.training_process import join_training
from detect.training.multibox_recipe import MultiBoxRecipe
from detect.training.presets import MULTIBOX, describe, find, given


@dataclass(frozen=True)
class MultiBoxRecipeOptions:
    """Recipe, where it differs from the preset's."""

    freeze: Annotated[
        str | None,
        typer.Option(
            help="Freeze the layers up to this one: maxpool2, or inception3a to inception5b.", show_default=PRESET
        ),
    ] = None
    epochs: Epochs = None
    batch: Annotated[
        int | None, typer.Option(min=1, help="Photos per step, all processes together.", show_default=PRESET)
    ] = None
    learning_rate: Annotated[
        float | None,
        typer.Option(min=0, help="Highest learning rate of the heads in each phase.", show_default=PRESET),
    ] = None
    trunk_rate: TrunkRate = None
    average: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Decay of the moving average of the weights.", show_default=PRESET),
    ] = None

    def change(self, preset: MultiBoxRecipe) -> MultiBoxRecipe:
        """Return a phase of a preset, changed by the options that were given."""
        return replace(
            preset,
            frozen=given(self.freeze, preset.frozen),
            epochs=given(self.epochs, preset.epochs),
            batch_size=given(self.batch, preset.batch_size),
            learning_rate=given(self.learning_rate, preset.learning_rate),
            trunk_factor=given(self.trunk_rate, preset.trunk_factor),
            average=given(self.average, preset.average),
        )


@examples(
    "rcnn train multibox --ground-truth VOC2007 --out boxes.safetensors",
    "rcnn train multibox --ground-truth train.json --images photos --epochs 5 --out boxes.safetensors",
)
@explained("The presets:", *describe(MULTIBOX))
@with_records
def multibox(
    out: Out,
    photos: TrainingPhotoOptions,
    validation: ValidationOptions,
    recipe: MultiBoxRecipeOptions,
    run: RunOptions,
    preset: Annotated[str, typer.Option(help=f"{', '.join(MULTIBOX)}: see above.")] = "quick",
    weights: Annotated[
        str | None, typer.Option(help="Classifier whose trunk to start from, or MultiBox weights.", show_default=PRESET)
    ] = None,
    save_every: SaveEvery = CANVAS_STEPS_SAVED,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that read photos and draw views; 0: the training process does.",
            show_default="0 on a CPU, else all cores but one",
        ),
    ] = None,
) -> None:
    """Train MultiBox, which proposes regions whatever their class. Also runs under torchrun.

    With validation photos, the weights with the best recall are written to OUT, and the last ones to OUT with .last
    before its suffix.
    """
    from detect.classifiers import load_checkpoint
    from detect.runs.machine import usual_readers
    from detect.training.multibox import phases
    from detect.training.multibox_measure import MultiBoxMeasure
    from detect.training.phases import TrainingPlan, run_phases
    from detect.training.setup import check_out, save_weights, training_placement

    check_out(out, weights)
    where, chosen, dataset = training_placement(run.device, run.dtype), find(MULTIBOX, preset), photos.open()
    validation_set = validation.open(photos, dataset)
    if photos.dry_run is not None:
        show_photos(dataset, validation_set, photos.dry_run)
        return
    with join_training(where, run.dtype, dataset, validation_set) as process:
        placement = process.placement
        recipes = [
            replace(recipe.change(phase), dtype=where.dtype, seed=run.first_seed + number)
            for number, phase in enumerate(chosen.phases)
        ]
        readers = usual_readers(process.device.type, on_cpu=0) if workers is None else workers
        todo = phases(recipes, dataset, placement=placement, workers=readers)  # refuses bad options before a download
        plan = TrainingPlan(
            load_checkpoint(weights or chosen.weights),
            todo,
            rows="photos",
            work=run.folder(out),
            reason=placement.reason,
            save_every=save_every,
            measure=None if validation_set is None else MultiBoxMeasure(validation_set, placement),
            measure_every=validation.every,
            about=photos.about(preset, dataset),
        )
        best, last = run_phases(plan)
        if process.first:
            process.echo(save_weights(out, best, last))
