"""A heap of pairs of regions by similarity: the most similar on top, equal ones by the numbers of their regions."""

from typing import Any

import numpy as np

from proposals.selective_search.compiled import Array, inlined


@inlined
def before(keys: Array, pairs: Array, ends: Array, slot: Any, key: Any, pair: Any) -> Any:
    """Say whether the pair in a slot leaves the heap before another pair."""
    if keys[slot] != key:
        return keys[slot] > key
    other = pairs[slot]
    return ends[other, 0] < ends[pair, 0] or (ends[other, 0] == ends[pair, 0] and ends[other, 1] < ends[pair, 1])


@inlined
def push(keys: Array, pairs: Array, ends: Array, length: Any, key: Any, pair: Any) -> None:
    """Add a pair to a heap of the given length; the arrays have room for it.

    Args:
        keys: (M,) float32 similarity in each slot; the children of slot i are 2i + 1 and 2i + 2.
        pairs: (M,) int32 number of the pair in each slot.
        ends: (P, 2) int32 the two regions of each pair, the smaller number first.
        length: slots in use.
        key: similarity of the pair.
        pair: its number.
    """
    slot = length
    while slot > 0:
        up = (slot - 1) >> 1
        if before(keys, pairs, ends, up, key, pair):
            break
        keys[slot], pairs[slot] = keys[up], pairs[up]
        slot = up
    keys[slot], pairs[slot] = key, pair


@inlined
def sink(keys: Array, pairs: Array, ends: Array, length: Any, key: Any, pair: Any) -> None:
    """Put a pair in place of the top one of a heap of the given length, and let it sink to where it belongs."""
    slot = 0
    while True:
        child = 2 * slot + 1
        if child >= length:
            break
        right = child + 1
        if right < length and before(keys, pairs, ends, right, keys[child], np.int64(pairs[child])):
            child = right
        if not before(keys, pairs, ends, child, key, pair):
            break
        keys[slot], pairs[slot] = keys[child], pairs[child]
        slot = child
    keys[slot], pairs[slot] = key, pair


@inlined
def pop(keys: Array, pairs: Array, ends: Array, length: Any) -> Any:
    """Take the top pair out of a heap of the given length; return the new length."""
    sink(keys, pairs, ends, length - 1, keys[length - 1], np.int64(pairs[length - 1]))
    return length - 1
