"""Which numbers may be the seed of random draws, and the seeds that a training derives from its own."""

import numpy as np

from structures.errors import InputError

LARGEST_SEED = 2**32 - 1  # one word of NumPy's SeedSequence, and the most that its older generators take


def check_seed(seed: int) -> None:
    """Refuse a seed that random numbers cannot begin with, before any work.

    Raises:
        InputError: it is negative or too large.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"the seed must be from 0 to {LARGEST_SEED}, got {seed}")


def step_seed(seed: int, rank: int, step: int) -> int:
    """Return the seed of one step of a training in one of its processes.

    NumPy's SeedSequence mixes the three numbers so that no two places share a stream, however close their numbers are
    (O'Neill, 2015, "Developing a seed_seq alternative"). Sums and products of them would meet: the first step with
    seed 1 could be some later step with seed 0. As a spawn key they also stay apart from generators that are seeded
    with a tuple of numbers.

    Args:
        seed: of the training.
        rank: number of the process.
        step: number of the step, counted from 0.

    Returns:
        A number from 0 to 2**64 - 1, for `torch.manual_seed`.

    >>> step_seed(0, 0, 0) == step_seed(0, 0, 0) != step_seed(0, 0, 1)
    True
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(rank, step))
    return int(sequence.generate_state(1, np.uint64)[0])
