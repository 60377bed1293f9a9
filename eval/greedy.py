"""Who takes which object: detections choose one after the other, the best first, at many thresholds at once."""

from dataclasses import dataclass

import numpy as np

from eval.pairs import Pairs, run_starts
from structures.boxes import Indices, Mask

FEW = 2**30  # pairs, of which twice the number fits into 32 bits: half the memory to go through


@dataclass(frozen=True, eq=False)
class Taken:
    """Which detection took which object, in which column; K of them, in no particular order.

    Attributes:
        pair: (K,) place of the pair.
        column: (K,) column of the choice.
    """

    pair: Indices
    column: Indices


def take_best(pairs: Pairs, passes: Mask, counts: Mask, shared: Mask, group: Indices, *, last: bool) -> Taken:
    """Let each detection take the object that it overlaps most among those that are free.

    It takes one that counts, if there is one, and else one to ignore. In every column the choices are independent.

    Args:
        pairs: of close detections and objects; a lower row of a detection is a better one, which chooses before it.
        passes: (P, C) whether a pair overlaps enough.
        counts: (M, C) whether an object counts.
        shared: (M,) whether an object stays free, whoever takes it.
        group: (P,) pairs of one object are of one group: groups do not influence each other.
        last: of objects that overlap equally take the last, not the first.
    """
    turns, bounds = _turns(pairs, group, last=last)
    free = np.ones(counts.shape, bool)
    taken = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for rows in np.split(turns, bounds):
        objects = pairs.objects[rows]
        chosen, column = _choose(pairs.found[rows], passes[rows] & free[objects], counts[objects])
        free[objects[chosen], column] = shared[objects[chosen]]
        taken.append((rows[chosen], column))
    return Taken(*map(np.concatenate, zip(*taken, strict=True)))


def _turns(pairs: Pairs, group: Indices, *, last: bool) -> tuple[Indices, Indices]:
    """Return the pairs by turns, the preferred objects of a detection first, and where the turns after the first begin.

    In each turn one detection of each group chooses.
    """
    starts = run_starts(pairs.found)
    by_group = np.argsort(group[starts], kind="stable")
    firsts = run_starts(group[starts][by_group])
    turn = np.empty(len(starts), np.int64)
    turn[by_group] = np.arange(len(starts)) - np.repeat(firsts, np.diff(firsts, append=len(starts)))
    turn = np.repeat(turn, np.diff(starts, append=len(pairs)))
    place = np.arange(len(pairs))
    order = np.lexsort((-place if last else place, -pairs.overlap, pairs.found, turn))
    return order, np.searchsorted(turn[order], np.arange(1, turn.max(initial=0) + 1))


def _choose(found: Indices, free: Mask, counts: Mask) -> tuple[Indices, Indices]:
    """Return the place of the first free pair of each detection, those that count before the others, and its column."""
    none = len(found)
    if not none:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    place = np.arange(none, dtype=np.int32 if none < FEW else np.int64)[:, None]
    turn = np.where(free, np.where(counts, place, place + none), 2 * none)
    choice = np.minimum.reduceat(turn, run_starts(found))
    detection, column = np.nonzero(choice < 2 * none)
    return choice[detection, column].astype(np.int64) % none, column
