"""`rcnn train multibox`: the learned proposal generator on your own photos."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer


def multibox(
    out: Annotated[Path, typer.Option(help="Where the trained weights go (.safetensors).")],
    voc: Annotated[Path | None, typer.Option(help="Folder in VOC layout.")] = None,
    split: Annotated[str, typer.Option(help="List in ImageSets/Main of the VOC folder.")] = "train",
    coco: Annotated[Path | None, typer.Option(help="COCO annotations (.json).")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the COCO photos.")] = None,
    val_split: Annotated[str | None, typer.Option(help="List of the VOC folder to measure the recall on.")] = None,
    weights: Annotated[
        str, typer.Option(help="Start from the trunk of a classifier, or from MultiBox weights.")
    ] = "imagenet",
    freeze: Annotated[
        str, typer.Option(help="Keep the stages up to this one: maxpool2, inception3a to 5b.")
    ] = "inception4e",
    epochs: Annotated[int, typer.Option(help="Times that every photo is seen.")] = 3,
    batch: Annotated[int, typer.Option(help="Photos a step, over all processes.")] = 8,
    rate: Annotated[float, typer.Option(help="Highest learning rate of the heads.")] = 1e-3,
    trunk_rate: Annotated[float, typer.Option(help="Rate of the trunk as a share of that.")] = 0.1,
    average: Annotated[float, typer.Option(help="Decay of the running average of the weights.")] = 0.998,
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    workers: Annotated[int, typer.Option(help="Processes that draw samples; 0 draws them in between.")] = 0,
    work: Annotated[Path | None, typer.Option(help="Folder of the run; a killed run goes on from it.")] = None,
    save_every: Annotated[int, typer.Option(help="Steps between two states on disk.")] = 100,
    seed: Annotated[int, typer.Option(help="Of every random draw.")] = 0,
) -> None:
    """Train MultiBox, whatever the classes: Selective Search's learned companion. Runs under torchrun, too."""
    from classifier.engines import place
    from classifier.processes import current_process, joined
    from classifier.training import Recipe as Schedule
    from classifier.weights import save_checkpoint
    from detect.multibox import measure
    from detect.presets import load_checkpoint
    from detect.train_multibox import Recipe, train_multibox
    from detect.training_runs import Reporter, note, open_dataset, training_placement

    dataset = open_dataset(voc=voc, split=split, coco=coco, images=images)
    where = training_placement(device, dtype)
    recipe = Recipe(
        epochs=epochs,
        rate=rate,
        trunk_rate=trunk_rate,
        frozen=freeze,
        batch_size=batch,
        average=average,
        dtype=where.dtype,
        seed=seed,
    )
    folder = work or out.with_suffix(".work")
    with joined(where.device) as here:
        first = current_process().rank == 0
        schedule = Schedule(iterations=recipe.steps(dataset), rate=rate)
        with Reporter(folder / "curves.csv", schedule, where.reason, quiet=not first) as reporter:
            trained = train_multibox(
                load_checkpoint(weights),
                dataset,
                recipe=recipe,
                placement=replace(place(device=device) if here.type == "cpu" else where, device=here),
                work=folder,
                workers=workers,
                save_every=save_every,
                report=reporter.report,
            )
    if not first:
        return
    data: dict[str, Any] = {"data": (voc or coco or Path()).name, "split": split}
    if val_split is not None:
        val = open_dataset(voc=voc, split=val_split, coco=coco, images=images)
        data |= {f"{name} on {val_split}": value for name, value in measure(trained, val, device=device)}
    save_checkpoint(note(trained, data), out)
    for name, value in data.items():
        typer.echo(f"{name}: {value}")
    typer.echo(f"weights written to {out}")
