"""Weights with a last layer for other classes: columns of known classes stay, the others start from scratch."""

from dataclasses import replace

import torch

from classifier.weights.checkpoint import OWN_NETWORK, Checkpoint, Task
from classifier.weights.fitting import WeightsError
from structures.names import ClassNames


def for_regions(checkpoint: Checkpoint, classes: tuple[str, ...]) -> Checkpoint:
    """Give a checkpoint of a classifier a last layer of C + 1 columns (R-CNN, section 2.3).

    A region classifier keeps its columns of classes that it knows by these names, see `ClassNames`, and its background;
    all other columns are fresh.
    """
    return _with_last_layer(checkpoint, classes, "regions", len(classes) + 1)


def for_images(checkpoint: Checkpoint, classes: tuple[str, ...]) -> Checkpoint:
    """Give a checkpoint a last layer of C columns: an image classifier of other classes.

    An image classifier keeps its columns of classes that it knows by these names, see `ClassNames`.
    """
    return _with_last_layer(checkpoint, classes, "images", len(classes))


def _with_last_layer(checkpoint: Checkpoint, classes: tuple[str, ...], task: Task, columns: int) -> Checkpoint:
    if checkpoint.task in OWN_NETWORK:
        raise WeightsError(
            f"weights of the task {checkpoint.task} are not those of a classifier, which this starts from"
        )
    state = {name: value.float() for name, value in checkpoint.state.items() if not name.startswith(("aux", "fc."))}
    features = checkpoint.state["fc.weight"].shape[1]
    generator = torch.Generator().manual_seed(0)
    state["fc.weight"] = torch.randn((columns, features), generator=generator) * 0.01
    state["fc.bias"] = torch.zeros(columns)
    if checkpoint.task == task:
        background = [(len(classes), len(checkpoint.classes))] if task == "regions" else []
        for new, old in known_columns(checkpoint.classes, classes) + background:
            for name in ("fc.weight", "fc.bias"):
                state[name][new] = checkpoint.state[name][old].float()
    return replace(checkpoint, state=state, classes=classes, task=task, training={})


def known_columns(before: tuple[str, ...], after: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return (new column, old column) of the classes that stay."""
    known = ClassNames(before)
    return [(column, known.find(name)) for column, name in enumerate(after) if known.find(name) >= 0]
