"""What every training run shares: its dataset, its bars and curves, and the record that goes into the weights."""

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from classifier.engines import DType, Placement, place
from classifier.training import Progress as Step
from classifier.training import Recipe
from classifier.weights import Checkpoint
from detect.curves import Curves
from detect.runs import commit
from eval.coco import CocoDataset
from eval.voc import VocDataset
from structures.records import Dataset


def open_dataset(*, voc: Path | None, split: str, coco: Path | None, images: Path | None) -> Dataset:
    """Open the one dataset that the options name.

    Raises:
        ValueError: none or both are named, or COCO photos have no folder.
    """
    if (voc is None) == (coco is None):
        raise ValueError("name the photos to learn from: either --voc FOLDER or --coco FILE with --images FOLDER")
    if voc is not None:
        return VocDataset(voc, split)
    if coco is None or images is None:
        raise ValueError("--coco needs --images, the folder of its photos")
    return CocoDataset(coco, images)


def note(checkpoint: Checkpoint, data: Mapping[str, Any]) -> Checkpoint:
    """Add to a checkpoint how it was made: data, command, commit; of paths in the command only the last part."""
    command = " ".join(["rcnn", *map(_without_folders, sys.argv[1:])])
    return replace(checkpoint, training={**checkpoint.training, **data, "command": command, "commit": commit()})


def _without_folders(argument: str) -> str:
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return option + equals + (Path(value).name or value)


def training_placement(device: str, dtype: str) -> Placement:
    """Choose where to train, in torch: bfloat16 where it is native, float32 elsewhere.

    Raises:
        ValueError: float16 was asked for, whose gradients would vanish, or a device that cannot be had.
    """
    if dtype == "float16":
        raise ValueError("--dtype float16 is for testing; train in bfloat16 or float32")
    placement = place(device=device, engine="torch", dtype=cast(DType, dtype))
    return placement if placement.dtype != "float16" else place(device=device, engine="torch", dtype="float32")


class Reporter:
    """One bar for each stage, one for the training, and a CSV file with the curve.

    Args:
        curves: the CSV file: iteration, loss, rate, seconds; a resumed run goes on in it.
        recipe: of the training.
        reason: device and precision, and why.
        quiet: show and write nothing: for all processes of one training but the first.
    """

    def __init__(self, curves: Path, recipe: Recipe, reason: str, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._curves, self._recipe, self._reason = Curves(curves), recipe, reason
        self._loss = 0.0
        self._training: Any = None
        self._stack = ExitStack()

    def __enter__(self) -> "Reporter":
        console = Console(stderr=True, quiet=self._quiet)
        console.print(self._reason)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn())
        self._bars = self._stack.enter_context(
            Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console)
        )
        self._stack.callback(self._curves.close)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def show(self, items: Iterable[int], total: int, name: str) -> Iterator[int]:
        """Show a bar over the items of a stage."""
        task = self._bars.add_task(name, total=total, note="")
        for item in items:
            yield item
            self._bars.advance(task)

    def report(self, step: Step) -> None:
        """Show and write one iteration."""
        if self._quiet:
            return
        if self._training is None:
            self._start, self._first = time.perf_counter(), step.iteration
            self._training = self._bars.add_task("train", total=self._recipe.iterations, note="")
        self._loss = step.loss if self._loss == 0 else 0.98 * self._loss + 0.02 * step.loss
        seconds = time.perf_counter() - self._start
        pace = (step.iteration - self._first) / seconds if seconds else 0.0
        words = f"loss {self._loss:.4f}  rate {step.rate:.5f}  {pace:.2f} batches/s"
        self._bars.update(self._training, completed=step.iteration, note=words)
        self._curves.add(step)
