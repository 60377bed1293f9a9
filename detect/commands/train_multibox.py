"""`rcnn train multibox`: the learned proposal generator on your own photos."""

from pathlib import Path
from typing import Annotated, Any

import typer

from detect.commands.training_options import (
    PRESET,
    Classes,
    Coco,
    Device,
    DTypeName,
    Images,
    Out,
    SaveEvery,
    Split,
    Val,
    ValCoco,
    ValEvery,
    ValImages,
    ValPhotos,
    Voc,
    Work,
    refuse_idle_validation,
)
from detect.defaults import VAL_EVERY
from detect.training_presets import MULTIBOX, describe, find, named


def multibox(
    out: Out,
    voc: Voc = None,
    split: Split = None,
    coco: Coco = None,
    images: Images = None,
    classes: Classes = None,
    val: Val = None,
    val_coco: ValCoco = None,
    val_images: ValImages = None,
    val_every: ValEvery = None,
    val_photos: ValPhotos = None,
    preset: Annotated[str, typer.Option(help=describe(MULTIBOX))] = "quick",
    weights: Annotated[
        str | None, typer.Option(help="Start from the trunk of a classifier, or from MultiBox.", show_default=PRESET)
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(help="Keep stages up to: maxpool2, inception3a to inception5b.", show_default=PRESET),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Times that every photo is seen in each stage.", show_default=PRESET)
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Photos a step, over all processes.", show_default=PRESET)
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0, help="Highest learning rate of the heads in each stage.", show_default=PRESET)
    ] = None,
    trunk_rate: Annotated[
        float | None, typer.Option(min=0, help="Rate of the trunk as a share of that.", show_default=PRESET)
    ] = None,
    average: Annotated[
        float | None, typer.Option(min=0, max=1, help="Decay of the average of the weights.", show_default=PRESET)
    ] = None,
    work: Work = None,
    save_every: SaveEvery = 100,
    dtype: DTypeName = "auto",
    device: Device = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that draw samples; 0 draws them in between.",
            show_default="0 on a CPU, else all cores but one",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of every random draw.")] = 0,
) -> None:
    """Train MultiBox, whatever the classes: Selective Search's learned companion. Runs under torchrun, too.

    With --val or --val-coco, OUT gets the weights of the best recall, and OUT with .last before its suffix the last.
    """
    from classifier.processes import current_process, joined
    from detect.multibox_recipe import Recipe
    from detect.multibox_runs import MultiBoxMeasure, stages
    from detect.presets import load_checkpoint
    from detect.runs import usual_readers
    from detect.staged_runs import Plan, carry_out
    from detect.training_data import SPLIT, open_dataset, open_validation, summary
    from detect.training_runs import check_out, frozen_placement, save_weights, training_placement

    check_out(out, weights)
    where, folder, chosen = training_placement(device, dtype), work or out.with_suffix(".work"), find(MULTIBOX, preset)
    dataset = open_dataset(voc=voc, split=split, coco=coco, images=images, classes=classes)
    validates = val is not None or val_coco is not None
    refuse_idle_validation(validates, val_every=val_every, val_photos=val_photos)
    judged = open_validation(
        dataset, voc=voc, val=val, coco=val_coco, images=val_images, usual_images=images, photos=val_photos
    )
    given: dict[str, Any] = {"epochs": epochs, "rate": rate, "trunk_rate": trunk_rate, "frozen": freeze}
    given |= {"batch_size": batch, "average": average, "dtype": where.dtype}
    with joined(where.device) as here:
        first = current_process().rank == 0
        if first:
            typer.echo("\n".join(summary(dataset, judged)), err=True)
        placement = frozen_placement(where, here, dtype)
        recipes = [
            Recipe(**{**stage.recipe, **named(given), "seed": seed + n}) for n, stage in enumerate(chosen.stages)
        ]
        readers = usual_readers(here.type, on_cpu=0) if workers is None else workers
        plan = Plan(
            load_checkpoint(weights or chosen.weights),
            stages(recipes, dataset, placement=placement, workers=readers, save_every=save_every),
            rows="photos",
            work=folder,
            reason=placement.reason,
            measure=None if judged is None else MultiBoxMeasure(judged, placement),
            measure_every=val_every or VAL_EVERY,
            about={"data": (voc or coco or Path()).name, "split": (split or SPLIT) if voc else None, "preset": preset},
        )
        best, last = carry_out(plan)
        if first:
            typer.echo("\n".join(save_weights(out, best, last)))
