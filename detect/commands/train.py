"""Train on your own photos: region classifiers, MultiBox, image classifiers."""

from pathlib import Path
from typing import Annotated, Any

import typer

from detect.commands.train_classifier import classifier
from detect.commands.train_multibox import multibox

app = typer.Typer(no_args_is_help=True, help=__doc__)
app.command()(classifier)
app.command()(multibox)


@app.callback()
def _train() -> None:
    """Train on your own photos."""


@app.command()
def regions(
    out: Annotated[Path, typer.Option(help="Where the trained weights go (.safetensors).")],
    voc: Annotated[Path | None, typer.Option(help="Folder in VOC layout.")] = None,
    split: Annotated[str, typer.Option(help="List in ImageSets/Main of the VOC folder.")] = "train",
    coco: Annotated[Path | None, typer.Option(help="COCO annotations (.json).")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the COCO photos.")] = None,
    weights: Annotated[
        str, typer.Option(help="Weights to start from: of an image or of a region classifier.")
    ] = "imagenet",
    proposals: Annotated[str, typer.Option(help="Generator of the examples, or file:PATH.")] = "selective-search",
    freeze: Annotated[
        str, typer.Option(help="Keep the stages up to this one as they are; none trains all.")
    ] = "maxpool4",
    iterations: Annotated[int, typer.Option(min=1, help="Batches in all.")] = 2000,
    rate: Annotated[float, typer.Option(min=0, help="Highest learning rate.")] = 0.01,
    last_layer_rate: Annotated[float, typer.Option(min=0, help="The last layer learns so many times faster.")] = 1.0,
    decay: Annotated[float, typer.Option(min=0, help="Weight decay.")] = 5e-4,
    smoothing: Annotated[float, typer.Option(min=0, max=1, help="Label smoothing.")] = 0.0,
    hard_examples: Annotated[int, typer.Option(min=0, help="Learn only from so many of a batch, the hardest.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Regions a batch.")] = 128,
    positives: Annotated[int, typer.Option(min=0, help="Positive regions drawn from a photo, at most.")] = 20,
    negatives: Annotated[int, typer.Option(min=0, help="Background regions drawn from a photo, at most.")] = 36,
    positive_share: Annotated[float, typer.Option(min=0, max=1, help="Share of positives in a batch.")] = 0.25,
    balance: Annotated[float, typer.Option(min=0, help="0 draws positives evenly over regions, 1 over classes.")] = 0.0,
    use_ignored: Annotated[
        bool | None, typer.Option(help="Learn from difficult objects; by default VOC's, not COCO's crowds.")
    ] = None,
    work: Annotated[Path | None, typer.Option(help="Folder of the stages; a killed run goes on from it.")] = None,
    save_every: Annotated[int, typer.Option(min=1, help="Iterations between two states on disk.")] = 500,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Photos whose proposals are made at the same time.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Of every random draw.")] = 0,
) -> None:
    """Fine-tune a region classifier: R-CNN's softmax, without box regression."""
    from classifier.engines import place
    from classifier.training import Recipe
    from classifier.weights import save_checkpoint
    from detect.presets import load_checkpoint, load_proposals
    from detect.train_regions import Examples, train_regions
    from detect.training_runs import Reporter, note, open_dataset

    if out.suffix != ".safetensors":
        raise ValueError(f"--out {out}: weights are written as .safetensors")
    dataset = open_dataset(voc=voc, split=split, coco=coco, images=images)
    placement = place(device=device)
    recipe = Recipe(
        iterations=iterations,
        rate=rate,
        last_layer_rate=last_layer_rate,
        decay=decay,
        smoothing=smoothing,
        hard_examples=hard_examples,
        dtype="float32" if placement.dtype == "float16" else placement.dtype,  # float16's gradients would vanish
        seed=seed,
    )
    examples = Examples(
        positives=positives,
        negatives=negatives,
        batch_size=batch,
        positive_share=positive_share,
        balance=balance,
        use_ignored=voc is not None if use_ignored is None else use_ignored,
        seed=seed,
    )
    folder = work or out.with_suffix(".work")
    with Reporter(folder / "curves.csv", recipe, placement.reason) as reporter:
        checkpoint = train_regions(
            load_checkpoint(weights),
            dataset,
            load_proposals(proposals, device=device),
            work=folder,
            recipe=recipe,
            examples=examples,
            placement=placement,
            frozen=None if freeze == "none" else freeze,
            workers=workers,
            show=reporter.show,
            report=reporter.report,
            save_every=save_every,
        )
    data: dict[str, Any] = {"data": str((voc or coco or Path()).name), "split": split}
    save_checkpoint(note(checkpoint, data), out)
    typer.echo(f"weights written to {out}")
