"""Time image classifiers: crops over plain forward passes, and training against torchvision's plain loop.

Usage: python benchmarks/classification.py crops --weights FILE [--photos FOLDER]
       python benchmarks/classification.py training
       python benchmarks/classification.py lrn

Everything that is compared takes turns in one run, since a shared machine changes its speed from minute to minute. Each
figure is the median of the rounds, with the least and the greatest.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from classifier.classification_loss import ClassificationLoss, momentum_descent
from classifier.googlenet import AUXILIARY_WEIGHT, INPUT_SIZE, GoogLeNet, LocalResponseNorm
from classifier.images import ImageClassifier
from classifier.placement import place
from classifier.recipes import Recipe
from classifier.training import TrainingRun
from classifier.views import list_views
from classifier.weights.load import load_weights
from structures.images import read_image

PHOTO_SIZE = (375, 500)  # of a usual photo of VOC


clock = time.perf_counter


def take_turns(jobs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each job in each round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for round_number in range(rounds + 1):
        for name, job in jobs.items():
            begin = clock()
            job()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if round_number:
                seconds[name].append(clock() - begin)
    return seconds


def show(seconds: Mapping[str, Sequence[float]], units: Mapping[str, int], word: str, base: str) -> None:
    usual = {name: units[name] / statistics.median(values) for name, values in seconds.items()}
    print(f"{'':34} {word:>12} {'least':>9} {'greatest':>9} {'x ' + base:>14}")
    for name, values in seconds.items():
        least, most = units[name] / max(values), units[name] / min(values)
        print(f"{name:34} {usual[name]:12.2f} {least:9.2f} {most:9.2f} {usual[name] / usual[base]:14.2f}")


def crops(weights: str, photos: Path | None, engine: str, rounds: int) -> None:
    """Compare classifying a photo with as many plain forward passes of batches that lie ready."""
    image = read_image(next(photos.rglob("*.jpg"))) if photos else random_photo()
    checkpoint, placement = load_weights(weights), place(engine=engine)  # type: ignore[arg-type]
    print(f"{placement.reason}; a photo of {image.shape[1]}x{image.shape[0]}; {torch.get_num_threads()} threads")
    for count in (1, 10, 144):
        model = ImageClassifier([checkpoint], crops=count, placement=placement)  # type: ignore[arg-type]
        run = model.members[0].engine
        views = len(list_views(image.shape[:2], count, checkpoint.preprocessing))  # type: ignore[arg-type]
        ready = torch.randn(views, 3, checkpoint.preprocessing.size, checkpoint.preprocessing.size)
        batches = [batch.to(run.device) for batch in ready.split(model.batch_size)]
        jobs = {
            f"{views} plain forward passes": lambda batches=batches, run=run: [run(batch).cpu() for batch in batches],
            f"a photo of {count} crops": lambda model=model: model(image),
        }
        seconds = take_turns(jobs, rounds)
        show(seconds, dict.fromkeys(jobs, 1), "photos/s", next(iter(jobs)))


def random_photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*PHOTO_SIZE, 3), dtype=np.uint8)


def training(batch: int, rounds: int) -> None:
    """Compare one step of training: torchvision's network as its reference loop has it, and ours."""
    from torchvision.models import googlenet

    device = place().device
    native = place(engine="torch").dtype
    inputs, labels = (
        torch.randn(batch, 3, INPUT_SIZE, INPUT_SIZE, device=device),
        torch.randint(0, 1000, (batch,), device=device),
    )
    theirs = googlenet(weights=None, init_weights=False, aux_logits=True).to(device).train()
    optimiser = torch.optim.SGD(theirs.parameters(), 0.01, momentum=0.9, weight_decay=2e-4)

    def plain() -> None:
        logits = theirs(inputs)
        side = sum(functional.cross_entropy(each, labels) for each in (logits.aux_logits1, logits.aux_logits2))
        loss = functional.cross_entropy(logits.logits, labels) + AUXILIARY_WEIGHT * side
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    jobs: dict[str, Callable[[], object]] = {"torchvision, fp32 eager": plain}
    for variant in ("batchnorm", "paper"):
        for dtype in dict.fromkeys(["float32", "bfloat16" if native == "bfloat16" else "float32"]):
            jobs[f"ours, {variant}, {dtype}"] = our_step(variant, dtype, inputs, labels)
    print(f"{device}, {torch.get_num_threads()} threads, batches of {batch}, auxiliary classifiers on")
    show(take_turns(jobs, rounds), dict.fromkeys(jobs, batch), "photos/s", next(iter(jobs)))


def our_step(variant: str, dtype: str, inputs: Tensor, labels: Tensor) -> Callable[[], object]:
    network = GoogLeNet(variant=variant, auxiliary=True)  # type: ignore[arg-type]
    network = network.to(inputs.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    recipe = Recipe(10**6, learning_rate=0.001, warmup=0, average=1.0, dtype=dtype)
    run = TrainingRun(network, ClassificationLoss(recipe), [momentum_descent(network, recipe)], recipe.schedule)
    moved = inputs.contiguous(memory_format=torch.channels_last)
    return lambda: run.learn(0, (moved, labels))


def lrn(rounds: int) -> None:
    """Compare our response normalisation with torch's, at the sizes of the network, 16 photos per batch."""
    for channels in (64, 192):
        x = torch.randn(16, channels, 56, 56) * 100
        ours, theirs = LocalResponseNorm(channels), nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        jobs = {"torch.nn.LocalResponseNorm": lambda f=theirs, x=x: f(x), "ours": lambda f=ours, x=x: f(x)}
        print(f"{channels} channels of 56x56, {torch.get_num_threads()} threads")
        with torch.inference_mode():
            seconds = take_turns(jobs, rounds)
        show(seconds, dict.fromkeys(jobs, 16), "photos/s", "torch.nn.LocalResponseNorm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("crops", "training", "lrn"))
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument(
        "--cpu-seconds", action="store_true", help="not on the clock: for a machine that others use too"
    )
    given = parser.parse_args()
    if given.cpu_seconds:
        global clock
        clock = time.process_time
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.what == "crops":
        crops(given.weights, given.photos, given.engine, given.rounds)
    elif given.what == "training":
        training(given.batch, given.rounds)
    else:
        lrn(given.rounds)


if __name__ == "__main__":
    main()
