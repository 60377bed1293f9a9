"""How good class probabilities of whole photos are: top-k accuracy and log loss."""

from collections.abc import Iterator, Sequence

import numpy as np

from structures.boxes import Floats
from structures.records import Labels

LEAST_PROBABILITY = (
    1e-12  # a true class with less counts as this, so that one sure mistake does not make the mean infinite
)


def classification(
    probabilities: Floats, labels: Labels, *, ranks: Sequence[int] = (1, 5)
) -> Iterator[tuple[str, float]]:
    """Yield top-k accuracy for each k, then log loss.

    Args:
        probabilities: (N, C), rows sum to 1.
        labels: (N,) true columns.
        ranks: the k of top-k; with C or fewer classes top-k is 1.

    Raises:
        ValueError: no rows, lengths differ, a label is no column, or a probability is not finite.

    >>> rows = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]], np.float32)
    >>> [(name, round(value, 4)) for name, value in classification(rows, np.array([0, 1]), ranks=(1, 2))]
    [('top-1', 0.5), ('top-2', 1.0), ('log loss', 0.7803)]
    """
    _check(probabilities, labels)
    rank = true_ranks(probabilities, labels)
    for k in ranks:
        yield f"top-{k}", float((rank < k).mean())
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    yield "log loss", float(-np.log(np.maximum(chosen, LEAST_PROBABILITY)).mean())


def true_ranks(probabilities: Floats, labels: Labels) -> Labels:
    """Return for each row how many classes come before the true one; of equal probabilities the first column does.

    >>> true_ranks(np.array([[0.4, 0.4, 0.2]], np.float32), np.array([1])).tolist()
    [1]
    """
    own = probabilities[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    ranks: Labels = ((probabilities > own) | ((probabilities == own) & earlier)).sum(axis=1).astype(np.int64)
    return ranks


def _check(probabilities: Floats, labels: Labels) -> None:
    if probabilities.ndim != 2 or len(probabilities) != len(labels) or len(labels) == 0:
        raise ValueError(f"probabilities {probabilities.shape} and {len(labels)} labels: one row a photo is needed")
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise ValueError(f"label {labels.max()} is not a column of {probabilities.shape[1]}")
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities hold values that are not finite")
