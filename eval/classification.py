"""How good the class probabilities of whole photos are.

Top-k accuracy and log loss where each photo is of one class; average precision where it may show several.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from eval.average_precision import RankedOutcomes, all_point, eleven_point
from structures.boxes import Doubles, Floats
from structures.errors import InputError
from structures.records import Labels
from structures.text import number_of

SHARPNESS = (0.05, 20.0)  # least and greatest factor on logarithms of probabilities

# A true class with less counts as this, so that one confident mistake does not make the mean infinite.
LEAST_PROBABILITY = 1e-12


def classification(
    probabilities: Floats, labels: Labels, *, ranks: Sequence[int] = (1, 5)
) -> Iterator[tuple[str, float]]:
    """Yield top-k accuracy for each k, then log loss, and with two rows or more `calibrated_log_loss`.

    Args:
        probabilities: (N, C), rows sum to 1.
        labels: (N,) true columns.
        ranks: the k of top-k; with C or fewer classes top-k is 1.

    Raises:
        InputError: no rows, lengths differ, a label is not a column, or a probability is not finite.

    >>> rows = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]], np.float32)
    >>> scores = dict(classification(rows, np.array([0, 1]), ranks=(1, 2)))
    >>> [(name, round(scores[name], 4)) for name in ("top-1", "top-2", "log loss")]
    [('top-1', 0.5), ('top-2', 1.0), ('log loss', 0.7803)]
    """
    _check(probabilities, labels)
    rank = true_ranks(probabilities, labels)
    for k in ranks:
        yield f"top-{k}", float((rank < k).mean())
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    yield "log loss", float(-np.log(np.maximum(chosen, LEAST_PROBABILITY)).mean())
    if len(labels) > 1:
        yield "calibrated log loss", calibrated_log_loss(probabilities, labels)


def calibrated_log_loss(probabilities: Floats, labels: Labels) -> float:
    """Return the log loss after temperature scaling.

    Logarithms of probabilities are multiplied by one factor, an inverse temperature (Guo et al., On calibration
    of modern neural networks, 2017), and the rows are normalised to a sum of 1 again. The even rows
    are scored with the factor that is best for the odd ones, and vice versa, so no row has a say in its own factor. A
    few dozen rows are too few.

    Args:
        probabilities: (N, C), rows sum to 1, in an order that does not depend on how hard they are.
        labels: (N,) true columns.

    Raises:
        InputError: fewer than two rows, or as `classification`.
    """
    _check(probabilities, labels)
    if len(labels) < 2:
        raise InputError("one row: two are needed, since each is calibrated by others")
    logs, even = _logarithms(probabilities), np.arange(len(labels)) % 2 == 0
    halves = (even, ~even)
    own = [
        _losses(_sharpness(logs[other], labels[other]) * logs[half], labels[half]).sum()
        for half, other in zip(halves, halves[::-1], strict=True)
    ]
    return float(sum(own) / len(labels))


def _logarithms(probabilities: Floats) -> Doubles:
    logs: Doubles = np.log(np.maximum(probabilities.astype(np.float64), LEAST_PROBABILITY))
    return logs


def _losses(scores: Doubles, labels: Labels) -> Doubles:
    losses: Doubles = np.logaddexp.reduce(scores, axis=1) - scores[np.arange(len(labels)), labels]
    return losses


def _sharpness(logs: Doubles, labels: Labels) -> float:
    """Return the factor with the least mean loss, which is convex in it."""
    from scipy.optimize import minimize_scalar  # here, since all else works without scipy

    found = minimize_scalar(lambda factor: _losses(factor * logs, labels).mean(), bounds=SHARPNESS, method="bounded")
    return float(found.x)


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
        raise InputError(f"probabilities {probabilities.shape} and {len(labels)} labels: one row per photo is needed")
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise InputError(f"label {labels.max()} is not a column of {probabilities.shape[1]}")
    if not np.isfinite(probabilities).all():
        raise InputError("probabilities hold values that are not finite")


def presence_precision(
    probabilities: Floats, present: npt.NDArray[np.int8], classes: Sequence[str]
) -> dict[str, float]:
    """Return how well the photos that show a class come before those that do not: AP as in VOC's classification.

    Args:
        probabilities: (N, C), each independent of the others.
        present: (N, C): 1 where a photo shows the class, 0 where it does not, -1 where it counts neither way.
        classes: C names.

    Returns:
        The mean over the classes that some photo shows, by VOC 2007's eleven points and by all points, then the
        eleven-point AP of each class by its name; NaN for a class that no photo shows. Equal probabilities keep the
        order of the photos.

    Raises:
        InputError: shapes that do not fit, or a probability that is not finite.

    >>> rows = np.array([[0.9], [0.8], [0.7]], np.float32)
    >>> scores = presence_precision(rows, np.array([[1], [0], [1]], np.int8), ["cat"])
    >>> [(name, round(value, 4)) for name, value in scores.items()]
    [('mAP (voc07)', 0.8485), ('mAP (all points)', 0.8333), ('cat', 0.8485)]
    """
    if probabilities.shape != present.shape or probabilities.shape[1:] != (len(classes),):
        given = f"{probabilities.shape} probabilities, {present.shape} answers"
        raise InputError(f"{given} and {number_of(len(classes), 'class')}")
    if not np.isfinite(probabilities).all():
        raise InputError("probabilities hold values that are not finite")
    ranked = [_ranked(probabilities[:, column], present[:, column]) for column in range(len(classes))]
    known = [each for each in ranked if each.positives]
    means = {
        "mAP (voc07)": float(np.mean([eleven_point(each) for each in known])) if known else float("nan"),
        "mAP (all points)": float(np.mean([all_point(each) for each in known])) if known else float("nan"),
    }
    return means | {name: eleven_point(each) for name, each in zip(classes, ranked, strict=True)}


def _ranked(scores: Floats, present: npt.NDArray[np.int8]) -> RankedOutcomes:
    counts = np.flatnonzero(present >= 0)
    order = counts[np.argsort(-scores[counts], kind="stable")]
    return RankedOutcomes(np.cumsum(present[order] == 1), scores[order], int((present == 1).sum()))
