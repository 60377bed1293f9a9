"""`rcnn train regions`: R-CNN's classifier on your own photos."""

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
from detect.training_presets import REGIONS, describe, find, named


def regions(
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
    val_proposals: Annotated[
        str | None, typer.Option(help="Generator of the regions to validate on.", show_default="that of training")
    ] = None,
    preset: Annotated[str, typer.Option(help=describe(REGIONS))] = "quick",
    weights: Annotated[
        str | None, typer.Option(help="Start from an image or a region classifier.", show_default=PRESET)
    ] = None,
    proposals: Annotated[
        str | None, typer.Option(help="Generator of the examples, or file:PATH.", show_default=PRESET)
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(help="Keep the stages up to this one as they are; none trains all.", show_default=PRESET),
    ] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Batches of each stage.", show_default=PRESET)] = None,
    rate: Annotated[
        float | None, typer.Option(min=0, help="Highest learning rate of each stage.", show_default=PRESET)
    ] = None,
    last_layer_rate: Annotated[
        float | None, typer.Option(min=0, help="The last layer learns so many times faster.", show_default=PRESET)
    ] = None,
    decay: Annotated[float | None, typer.Option(min=0, help="Weight decay.", show_default=PRESET)] = None,
    smoothing: Annotated[float | None, typer.Option(min=0, max=1, help="Label smoothing.", show_default=PRESET)] = None,
    hard_examples: Annotated[
        int | None,
        typer.Option(min=0, help="Learn only from so many of a batch, the hardest; 0: all.", show_default=PRESET),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Regions a batch, over all processes.", show_default=PRESET)
    ] = None,
    positives: Annotated[
        int | None, typer.Option(min=1, help="Positive regions drawn from a photo, at most.", show_default=PRESET)
    ] = None,
    negatives: Annotated[
        int | None, typer.Option(min=1, help="Background regions drawn from a photo, at most.", show_default=PRESET)
    ] = None,
    positive_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of positives in a batch.", show_default=PRESET)
    ] = None,
    balance: Annotated[
        float | None,
        typer.Option(min=0, help="0 draws positives evenly over regions, 1 over classes.", show_default=PRESET),
    ] = None,
    near_share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of background with an IoU from 0.1 on.", show_default=PRESET),
    ] = None,
    best_share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of background from the best boxes of a ranking.", show_default=PRESET),
    ] = None,
    ramp: Annotated[
        tuple[float, float] | None,
        typer.Option(
            min=0,
            max=1,
            metavar="LOW HIGH",
            help="A label's class share rises from 0 at IoU LOW to 1 at HIGH; R-CNN's is a step at 0.5.",
            show_default=PRESET,
        ),
    ] = None,
    use_ignored: Annotated[
        bool | None,
        typer.Option(help="Learn from ignored objects.", show_default="VOC's difficult ones yes, COCO's crowds no"),
    ] = None,
    work: Work = None,
    save_every: SaveEvery = 500,
    dtype: DTypeName = "auto",
    device: Device = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Photos whose proposals are made at the same time; by default all cores.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of every random draw.")] = 0,
) -> None:
    """Fine-tune a region classifier: R-CNN's softmax, without box regression. Runs under torchrun, too.

    With --val or --val-coco, OUT gets the best weights, and OUT with .last before its suffix the last ones.
    """
    from rich.console import Console

    from classifier.processes import current_process, joined
    from detect.generators import blind_spots
    from detect.presets import load_checkpoint
    from detect.propose import build_for_many
    from detect.region_runs import check, kept_proposals, stages, trainings
    from detect.region_validation import RegionMeasure
    from detect.runs import cores
    from detect.staged_runs import Plan, carry_out
    from detect.training_data import SPLIT, open_dataset, open_validation, summary
    from detect.training_runs import check_out, frozen_placement, save_weights, training_placement, what_stays

    check_out(out, weights, proposals, val_proposals)
    where, folder, chosen = training_placement(device, dtype), work or out.with_suffix(".work"), find(REGIONS, preset)
    dataset = open_dataset(voc=voc, split=split, coco=coco, images=images, classes=classes)
    validates = val is not None or val_coco is not None
    refuse_idle_validation(validates, val_every=val_every, val_photos=val_photos, val_proposals=val_proposals)
    judged = open_validation(
        dataset, voc=voc, val=val, coco=val_coco, images=val_images, usual_images=images, photos=val_photos
    )
    recipe: dict[str, Any] = {"iterations": iterations, "rate": rate, "last_layer_rate": last_layer_rate}
    recipe |= {"decay": decay, "smoothing": smoothing, "hard_examples": hard_examples, "dtype": where.dtype}
    examples: dict[str, Any] = {"positives": positives, "negatives": negatives, "batch_size": batch}
    examples |= {"positive_share": positive_share, "balance": balance, "best_share": best_share, "ramp": ramp}
    examples |= {"near_share": near_share}
    examples |= {"use_ignored": voc is not None if use_ignored is None else use_ignored}
    photos_at_once = workers or cores()
    with joined(where.device) as here:
        first = current_process().rank == 0
        if first:
            typer.echo("\n".join(summary(dataset, judged)), err=True)
        placement = frozen_placement(where, here, dtype)
        plans = trainings(chosen, named(recipe), named(examples), freeze, seed)
        boxes_of, start = proposals or chosen.proposals, load_checkpoint(weights or chosen.weights)
        if first and (warning := blind_spots(boxes_of, dataset.classes)):
            typer.echo(warning, err=True)
        generator = build_for_many(boxes_of, str(here), dtype=dtype, cut=False)
        check(plans, start, generator, current_process())
        measure = None
        if judged is not None:
            judged_in = build_for_many(val_proposals or boxes_of, str(here), dtype=dtype)
            kept, protocol = folder / "val-proposals", "coco" if val is None else "voc07"
            measure = RegionMeasure(
                judged, judged_in, folder=kept, protocol=protocol, placement=placement, workers=photos_at_once
            )
        plan = Plan(
            start,
            stages(
                plans,
                dataset,
                kept_proposals(
                    dataset,
                    generator,
                    folder / "proposals",
                    workers=photos_at_once,
                    console=Console(stderr=True),
                ),
                placement=placement,
                workers=photos_at_once,
                save_every=save_every,
            ),
            rows="regions",
            work=folder,
            reason=placement.reason,
            measure=measure,
            measure_every=val_every or VAL_EVERY,
            about={"data": (voc or coco or Path()).name, "split": (split or SPLIT) if voc else None, "preset": preset},
        )
        trained, last = carry_out(plan)
        if first:
            typer.echo("\n".join([*save_weights(out, trained, last), what_stays(folder)]))
