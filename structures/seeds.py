"""Which numbers may be the seed of random draws."""

LARGEST_SEED = 2**32 - 1  # trainings multiply it by a million and more, and torch still takes it


def check_seed(seed: int) -> None:
    """Refuse a seed that random numbers cannot begin with, before any work.

    Raises:
        ValueError: it is negative or too large.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"the seed must be from 0 to {LARGEST_SEED}, got {seed}")
