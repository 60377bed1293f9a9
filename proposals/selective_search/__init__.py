"""Selective Search (Uijlings et al., IJCV 2013): segmentation, grouping, strategies."""

from proposals.selective_search.search import SelectiveSearch
from proposals.selective_search.strategy import (
    SUPERPIXEL_FACTOR,
    Strategy,
    enlarged,
    fast,
    parse_strategy,
    quality,
    single,
    strategies,
)

__all__ = [
    "SUPERPIXEL_FACTOR",
    "SelectiveSearch",
    "Strategy",
    "enlarged",
    "fast",
    "parse_strategy",
    "quality",
    "single",
    "strategies",
]
