"""Which classes are on a whole photo, several at a time: one linear layer after the trunk of shared features.

The trunk is GoogLeNet's, so that the layer turns it into a classifier of photos as any other. It learns by logistic
regression on features that are computed once: minutes on a CPU.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from classifier.crops import to_device
from classifier.engines import make_engine, require_finite
from classifier.images import cut_views
from classifier.placement import Placement
from classifier.regions import Probabilities
from classifier.views import list_views
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.on_trunk import PHOTO_LAYER, on_trunk
from structures.boxes import Floats
from structures.errors import InputError
from structures.records import GroundTruth, Image

DECAY = 1e-2  # of 0.0001 to 0.03: of the squares of the weights, added to the mean loss per photo (benchmarks/LOG.md)
ITERATIONS = 200  # L-BFGS, at most
ABSENT, PRESENT, UNCLEAR = 0, 1, -1  # whether a photo shows a class; the last where only ignored objects do

Presence = npt.NDArray[np.int8]


def with_photo_layer(checkpoint: Checkpoint, weight: Tensor, bias: Tensor) -> Checkpoint:
    """Add a layer (C, 1024) and (C,) for whole photos to the heads of shared weights."""
    layer = dict(zip(PHOTO_LAYER, (weight, bias), strict=True))
    return replace(checkpoint, state={**checkpoint.state, **layer})


def presence(truth: GroundTruth, classes: int) -> Presence:
    """Return whether a photo shows each of C classes: PRESENT, ABSENT, or UNCLEAR where only ignored objects do.

    As VOC's classification has it: difficult objects count neither way.
    """
    found = np.full(classes, ABSENT, np.int8)
    found[truth.labels[truth.ignore]] = UNCLEAR
    found[truth.labels[~truth.ignore]] = PRESENT
    return found


def photo_features(checkpoint: Checkpoint, photos: Iterable[Image], placement: Placement) -> Iterator[Floats]:
    """Yield the (2, 1024) features of each photo: of its centre crop, and of that mirrored.

    Args:
        checkpoint: weights of shared features.
        photos: RGB uint8 (H, W, 3).
        placement: where the trunk runs.
    """
    fresh = torch.zeros(len(checkpoint.classes), 1024), torch.zeros(len(checkpoint.classes))
    network, how = on_trunk(checkpoint, *fresh, "photos").network(), checkpoint.preprocessing
    module = Probabilities(network, several=True, with_features=True)
    engine = make_engine(module, placement, size=how.size, batch_size=2)
    for photo in photos:
        pixels = to_device(photo, engine.device)
        views = list(list_views((photo.shape[0], photo.shape[1]), 1, how))
        views += [view._replace(mirrored=True) for view in views]
        with torch.inference_mode():
            rows = engine(torch.stack(list(cut_views(pixels, views, how))))
        columns = slice(len(checkpoint.classes), None)  # after the probabilities
        found: Floats = rows[:, columns].float().cpu().numpy().copy()  # what the engine gives may hold much more
        require_finite(found, engine)
        yield found


def fit_layer(
    features: Floats,
    present: Presence,
    *,
    decay: float = DECAY,
    report: Callable[[float], None] = lambda loss: None,
) -> tuple[Tensor, Tensor]:
    """Learn which features go with which class, by logistic regression.

    Args:
        features: (N, F).
        present: (N, C) PRESENT, ABSENT or UNCLEAR; the last do not count.
        decay: of the squares of the weights.
        report: called with the loss of every iteration.

    Returns:
        Weights (C, F) and biases (C,), float32.

    Raises:
        InputError: there are no rows.
    """
    if not len(features):
        raise InputError("no photo to learn a layer for whole photos from")
    inputs, labels = torch.from_numpy(features).double(), torch.from_numpy(present)
    centre = inputs.mean(dim=0)
    inputs = inputs - centre  # converges sooner; taken back into the bias below
    target, counts = (labels == PRESENT).double(), (labels != UNCLEAR).double()
    weight = torch.zeros(labels.shape[1], inputs.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(labels.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = functional.linear(inputs, weight, bias)
        wrong = functional.binary_cross_entropy_with_logits(logits, target, weight=counts, reduction="sum")
        total = wrong / len(inputs) + decay * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        report(total.item())
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    learned = weight.detach()
    return learned.float(), (bias.detach() - learned @ centre).float()


def photo_layer(
    checkpoint: Checkpoint, photos: Iterable[Image], present: Sequence[Presence], placement: Placement
) -> Checkpoint:
    """Learn the layer for whole photos on shared features, and add it to the heads of the weights.

    Args:
        checkpoint: weights of shared features.
        photos: RGB uint8 (H, W, 3), in the order of `present`.
        present: for each photo (C,), see `presence`.
        placement: where the trunk runs.
    """
    features = np.concatenate(list(photo_features(checkpoint, photos, placement)))
    return with_photo_layer(checkpoint, *fit_layer(features, np.repeat(np.stack(present), 2, axis=0)))
