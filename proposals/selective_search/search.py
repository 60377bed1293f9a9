"""Selective Search: strategies -> Proposals (Uijlings et al., IJCV 2013), with the superpixel factor of GoogLeNet.

A strategy is a colour space, a scale k and a sum of similarities. Each one cuts the photo into superpixels and joins
them into a tree; every region of every tree gives a box. Boxes are ranked as in section 4.4: position in the tree from
the top, times a random number.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache, partial
from typing import Any, TypeVar

import numpy as np

from proposals.compiling import wait_until_compiled
from proposals.resizing import SEARCH_WIDTH, resize
from proposals.selective_search.buffers import Scratch
from proposals.selective_search.colours import convert
from proposals.selective_search.features import Superpixels, bin_pixels, describe
from proposals.selective_search.grouping import group
from proposals.selective_search.segmentation import SIGMA, segment, smooth, weigh_edges
from proposals.selective_search.strategy import Strategy
from proposals.tidy import clean_proposals
from structures.boxes import Boxes, Floats, ImageSize, whole_image
from structures.cores import within_limit
from structures.errors import InputError
from structures.records import Image, Proposals
from structures.seeds import check_seed

MIN_SIDE = 20  # R-CNN's selective_search_boxes.m: smaller boxes of the resized photo are dropped


RankedBoxes = tuple[Boxes, Floats]
"""The boxes of a tree that are large enough, in the resized photo, and what each is ranked by: low is good."""

T = TypeVar("T")

Job = tuple[Callable[[], T], Future[T]]
"""Work, and what becomes of it in a pool of threads."""


class SelectiveSearch:
    """Proposes the boxes of all regions of all strategies.

    Args:
        strategies: what to run; see `proposals.selective_search.strategy.fast`.
        name: name of the generator.
        sigma: blur before segmentation.
        width: photos are resized to this width in pixels before the search; None keeps their size.
        min_side: boxes with a side below this, in the resized photo, are dropped; the whole image stays.
        seed: of the random numbers of the ranking.
        threads: how many to use for one photo, if `structures.cores` sets no lower limit; None takes one for each
            colour space. The boxes are the same.

    Raises:
        InputError: there are no strategies, or the seed is out of range.
    """

    def __init__(
        self,
        strategies: Sequence[Strategy],
        *,
        name: str = "selective-search",
        sigma: float = SIGMA,
        width: int | None = SEARCH_WIDTH,
        min_side: float = MIN_SIDE,
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        if not strategies:
            raise InputError("Selective Search needs at least one strategy")
        check_seed(seed)
        self._name = name
        self.strategies = tuple(strategies)
        self.sigma, self.width, self.min_side, self.seed = sigma, width, min_side, seed
        self.threads = threads or len({strategy.colour_space for strategy in strategies})
        self._idle: list[Scratch] = []

    @property
    def name(self) -> str:
        """Short name, by which `proposals.generators.build` makes it."""
        return self._name

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Every setting that decides the boxes."""
        return {
            "algorithm": "selective search, googlenet-rcnn 2",
            "strategies": [asdict(strategy) for strategy in self.strategies],
            "sigma": self.sigma,
            "width": self.width,
            "min_side": self.min_side,
            "seed": self.seed,
        }

    def __call__(self, image: Image) -> Proposals:
        """Return the proposals of an RGB uint8 (H, W, 3) photo; scores are 1 / (1 + rank value), best first."""
        wait_until_compiled()
        small = resize(image, self.width)
        trees = self._trees(small.image)
        boxes, values = (np.concatenate(column) for column in zip(*trees, strict=True))
        scores = (1 / (1 + values)).astype(np.float32)
        # All boxes are ranked before the lower of twins is dropped (section 4.4): a box found often gets more chances.
        return clean_proposals(small.to_original(boxes), scores, small.original_size, self.name)

    def _trees(self, image: Image) -> list[RankedBoxes]:
        """Return the region boxes of each strategy, in the order of self.strategies."""
        spaces = list(dict.fromkeys(strategy.colour_space for strategy in self.strategies))
        threads = within_limit(self.threads)
        if threads == 1:
            trees = dict(join() for space in spaces for join in self._cut(image, space))
        else:
            trees = self._in_threads(image, spaces, threads)
        return [trees[place] for place in range(len(self.strategies))]

    def _in_threads(self, image: Image, spaces: Sequence[str], threads: int) -> dict[int, RankedBoxes]:
        pool = _helpers(threads - 1)

        def put(work: Callable[[], T]) -> Job[T]:
            return work, pool.submit(work)

        def begin(space: str) -> list[Job[tuple[int, RankedBoxes]]]:
            return [put(join) for join in self._cut(image, space)]

        # This thread works as well: it goes from the end, where no other has begun, as they go from the front.
        begun = [put(partial(begin, space)) for space in spaces]
        cuts = (_take(cut) for cut in reversed(begun))
        return dict(_take(join) for cut in cuts for join in reversed(cut))

    def _cut(self, image: Image, colour_space: str) -> list[Callable[[], tuple[int, RankedBoxes]]]:
        """Cut the photo into superpixels in one colour space; return the joining that is left, one job a strategy."""
        own = [(place, s) for place, s in enumerate(self.strategies) if s.colour_space == colour_space]
        scales = list(dict.fromkeys((s.k, s.min_size) for _, s in own))
        with self._scratch() as scratch:
            planes = convert(image, colour_space)
            bins = bin_pixels(planes, scratch)
            cuts = segment(weigh_edges(smooth(planes, self.sigma, scratch), scratch), scales, scratch)
            superpixels = {scale: describe(labels, n, bins) for scale, (labels, n) in zip(scales, cuts, strict=True)}
        return [partial(self._join, place, superpixels[s.k, s.min_size], image.shape[:2]) for place, s in own]

    def _join(self, place: int, superpixels: Superpixels, image_size: ImageSize) -> tuple[int, RankedBoxes]:
        """Join superpixels by the similarities of the strategy at a place of the list, and rank the regions."""
        boxes = group(superpixels, self.strategies[place].similarity, image_size[0] * image_size[1])
        whole = (boxes == whole_image(image_size)).all(axis=1)
        kept = ((boxes[:, 2:] - boxes[:, :2]) >= self.min_side).all(axis=1) | whole
        return place, (boxes[kept].astype(np.float32), self._rank_values(place, len(boxes))[kept])

    @contextmanager
    def _scratch(self) -> Iterator[Scratch]:
        """Lend memory that was used before, if there is any; it stays with the generator."""
        scratch = self._idle_scratch()
        yield scratch
        self._idle.append(scratch)

    def _idle_scratch(self) -> Scratch:
        try:  # asking first whether there is one would be too late in other threads
            return self._idle.pop()
        except IndexError:
            return Scratch()

    def _rank_values(self, strategy: int, n_regions: int) -> Floats:
        """Return position from the top of the tree (the whole image is 1) times a random number, low is good."""
        random = np.random.default_rng((self.seed, strategy)).random(n_regions)
        return (np.arange(n_regions, 0, -1) * random).astype(np.float32)


@lru_cache
def _helpers(count: int) -> ThreadPoolExecutor:
    """Return threads for all searches: starting some for each photo takes as long as two hundredths of the work."""
    return ThreadPoolExecutor(count)


def _take(job: Job[T]) -> T:
    """Return what a job gives; do it here if no thread of the pool has begun it."""
    work, begun = job
    return work() if begun.cancel() else begun.result()
