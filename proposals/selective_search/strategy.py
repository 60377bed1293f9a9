"""What a strategy of Selective Search is, and the sets of them that the papers name."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product

from proposals.selective_search.colours import COLOUR_SPACES
from proposals.selective_search.similarities import similarity_weights
from structures.errors import InputError

SUPERPIXEL_FACTOR = 2  # GoogLeNet, section 8: superpixel size times two halves the boxes; both k and min_size double
LARGEST = 2**31 - 1  # scale and superpixel: pixels are counted in 32 bits


@dataclass(frozen=True)
class Strategy:
    """One way to cut and join.

    Attributes:
        colour_space: one of COLOUR_SPACES.
        similarity: which similarities are added up, such as "CTSF".
        k: scale of the superpixels.
        min_size: pixels of the smallest superpixel.

    Raises:
        InputError: an unknown colour space or similarity, or a number out of its range.
    """

    colour_space: str
    similarity: str
    k: float
    min_size: int

    def __post_init__(self) -> None:
        if self.colour_space not in COLOUR_SPACES:
            raise InputError(f"unknown colour space {self.colour_space!r}; known: {', '.join(COLOUR_SPACES)}")
        similarity_weights(self.similarity)
        if not (0 < self.k <= LARGEST and 0 <= self.min_size <= LARGEST):
            given = f"got {self.k:g} and {self.min_size:g}"
            raise InputError(f"k must be above 0, min_size not below 0, neither above {LARGEST}; {given}")


def parse_strategy(text: str) -> Strategy:
    """Read a strategy that is written as SPACE:SIMILARITY:K, or SPACE:SIMILARITY:K:MIN_SIZE.

    Raises:
        InputError: not of this form, or a part is unknown.

    >>> parse_strategy("Lab:TSF:50")
    Strategy(colour_space='Lab', similarity='TSF', k=50.0, min_size=50)
    """
    parts = text.split(":")
    try:
        if len(parts) not in (3, 4):
            raise InputError("expected SPACE:SIMILARITY:K or SPACE:SIMILARITY:K:MIN_SIZE")
        k = float(parts[2])
        usual = round(k) if math.isfinite(k) else 0
        return Strategy(parts[0], parts[1], k, int(parts[3]) if len(parts) == 4 else usual)
    except ValueError as error:
        raise InputError(f"strategy {text!r}: {error}") from None


def enlarged(strategy: Strategy, factor: float) -> Strategy:
    """Return a strategy with superpixels larger by a factor.

    Raises:
        InputError: the factor is not above 0.
    """
    _check_factor(factor)
    return replace(strategy, k=strategy.k * factor, min_size=round(strategy.min_size * factor))


def strategies(
    colour_spaces: Iterable[str], similarities: Iterable[str], ks: Iterable[float], factor: float = 1
) -> tuple[Strategy, ...]:
    """Combine colour spaces, similarities and scales; min_size is k, as in the authors' code.

    Raises:
        InputError: the factor is not above 0, or a strategy is not one.

    >>> strategies(["HSV"], ["CTSF"], [100], factor=2)
    (Strategy(colour_space='HSV', similarity='CTSF', k=200.0, min_size=200),)
    """
    _check_factor(factor)
    combined = product(colour_spaces, [float(k * factor) for k in ks], similarities)
    return tuple(Strategy(space, similarity, k, round(k)) for space, k, similarity in combined)


def _check_factor(factor: float) -> None:
    if not 0 < factor < float("inf"):
        raise InputError(f"the factor of the superpixels must be a number above 0, got {factor}")


def single(factor: float = 1) -> tuple[Strategy, ...]:
    """Return the one strategy of the paper's "single strategy" (table 5)."""
    return strategies(["HSV"], ["CTSF"], [100], factor)


def fast(factor: float = 1) -> tuple[Strategy, ...]:
    """Return the 8 strategies of the paper's "fast" (table 5)."""
    return strategies(["HSV", "Lab"], ["CTSF", "TSF"], [50, 100], factor)


def quality(factor: float = 1) -> tuple[Strategy, ...]:
    """Return the 80 strategies of the paper's "quality" (table 5)."""
    return strategies(["HSV", "Lab", "rgI", "H", "I"], ["CTSF", "TSF", "F", "S"], [50, 100, 150, 300], factor)
