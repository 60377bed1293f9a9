"""`rcnn train classifier`: GoogLeNet on your own classes, from scratch or from weights."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from classifier.weights import Checkpoint
    from detect.class_folders import ClassFolders


def classifier(
    folder: Annotated[Path, typer.Option(help="Photos, one folder a class.")],
    out: Annotated[Path, typer.Option(help="Where the trained weights go (.safetensors).")],
    val: Annotated[Path | None, typer.Option(help="Photos to judge the result on, one folder a class.")] = None,
    weights: Annotated[str, typer.Option(help="Weights to start from; none starts from scratch.")] = "none",
    variant: Annotated[str | None, typer.Option(help="From scratch: paper or batchnorm, by default batchnorm.")] = None,
    size: Annotated[
        int | None, typer.Option(min=32, help="From scratch: side of the input in pixels, by default 224.")
    ] = None,
    epochs: Annotated[float, typer.Option(help="Times that every photo is seen.")] = 60,
    batch: Annotated[int, typer.Option(min=1, help="Photos a batch, over all processes.")] = 32,
    rate: Annotated[float, typer.Option(min=0, help="Highest learning rate.")] = 0.01,
    schedule: Annotated[str, typer.Option(help="paper: 4% lower every 8 epochs; cosine: falls to 0.")] = "paper",
    warmup: Annotated[int, typer.Option(min=0, help="Batches over which the rate rises from 0.")] = 0,
    decay: Annotated[float, typer.Option(min=0, help="Weight decay.")] = 2e-4,
    smoothing: Annotated[float, typer.Option(min=0, max=1, help="Label smoothing.")] = 0.0,
    average: Annotated[
        float, typer.Option(min=0, max=1, help="1: mean of the weights, Polyak's; below 1: moving average; 0: none.")
    ] = 1.0,
    average_from: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the run before the average begins.")
    ] = 0.5,
    auxiliary: Annotated[bool, typer.Option(help="With the two auxiliary classifiers.")] = True,
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes that read photos.", show_default="2 on a CPU, else all cores but one"),
    ] = None,
    work: Annotated[Path | None, typer.Option(help="Folder of the run; a killed run goes on from it.")] = None,
    save_every: Annotated[int, typer.Option(min=1, help="Batches between two states on disk.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Of every random draw.")] = 0,
) -> None:
    """Train an image classifier by the recipe of GoogLeNet's paper; under torchrun, on several GPUs or machines."""
    from classifier.googlenet import INPUT_SIZE
    from classifier.image_training import Photos, fresh, paper_recipe, train_images
    from classifier.processes import current_process, joined
    from classifier.weights import save_checkpoint
    from detect.class_folders import columns_of, read_class_folders
    from detect.classification import judge_checkpoint
    from detect.presets import load_checkpoint
    from detect.runs import usual_readers
    from detect.training_folder import STATE, occupied
    from detect.training_progress import Reporter
    from detect.training_runs import check_out, note, training_placement

    check_out(out, weights)
    data = read_class_folders(folder)
    judged_on = read_class_folders(val, columns_of(data.classes, None)) if val else None
    if weights == "none":
        start = fresh(data.classes, variant=variant or "batchnorm", size=size or INPUT_SIZE, seed=seed)
    elif variant or size:
        raise ValueError("--variant and --size are for a start from scratch; --weights have their own")
    else:
        start = load_checkpoint(weights)
    placement = training_placement(device, dtype)
    changes: dict[str, Any] = {"rate": rate, "warmup": warmup, "decay": decay, "smoothing": smoothing, "seed": seed}
    recipe = paper_recipe(
        epochs,
        max(1, len(data) // batch),
        schedule=schedule,
        average_from=average_from,
        average=average,
        dtype=placement.dtype,
        **changes,
    )
    run = work or out.with_suffix(".work")
    with joined(placement.device) as here, ExitStack() as stack:
        first = current_process().rank == 0
        if first:
            stack.enter_context(occupied(run))
            _claim(run, start, data, folder, {"batch": batch, "auxiliary classifiers": auxiliary})
        with Reporter(
            run, iterations=recipe.iterations, batch=batch, rows="photos", reason=placement.reason, quiet=not first
        ) as bar:
            trained = train_images(
                start,
                Photos(data.paths, data.labels, data.classes),
                recipe,
                state_file=run / STATE,
                device=here,
                batch_size=batch,
                auxiliary=auxiliary,
                workers=usual_readers(here.type, on_cpu=2) if workers is None else workers,
                save_every=save_every,
                report=bar.report,
                skipped=lambda path: print(f"skipped: {path}: cannot be read", file=sys.stderr),
            )
    if not first:
        return
    trained = note(trained, {"data": folder.resolve().name})
    save_checkpoint(trained, out)  # before it is judged, which may fail
    if judged_on is not None:
        judged = judge_checkpoint(trained, judged_on, device=str(placement.device))
        for error in judged.skipped:
            print(f"skipped: {error}", file=sys.stderr)
        save_checkpoint(note(trained, {**judged.scores, "judged on photos": judged.photos}), out)
        print(f"judged on {judged.photos} photos, {len(judged.skipped)} skipped")
        for name, value in judged.scores.items():
            print(f"{name:19} {value:.4f}")
    print(f"weights written to {out}")


def _claim(run: Path, start: "Checkpoint", data: "ClassFolders", folder: Path, settings: dict[str, Any]) -> None:
    """Refuse to go on with a run that was begun from other weights or photos; the state itself knows its recipe."""
    from dataclasses import asdict

    from detect.training_folder import STATE, claim, digest

    made_from = {
        "weights": digest(dict(sorted(start.state.items()))),
        "preprocessing": asdict(start.preprocessing),
        "photos": digest([f"{os.path.relpath(path, folder)} {path.stat().st_size}" for path in data.paths]),
        "classes": list(data.classes),
        **settings,
    }
    remedy = "name another --work folder or remove this one"
    claim(run / "start.json", made_from, remedy=remedy, state=run / STATE)
