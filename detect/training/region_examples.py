"""Draws the regions that a region classifier learns from."""

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np

from classifier.ahead import HELD_PER_THREAD, map_ahead
from classifier.sampling import LabelledRegions, choose_regions
from classifier.weights.digest import digest
from detect.training.bookkeeping import ShowProgress
from detect.training.folder import contents
from detect.training.region_recipe import ExampleRecipe
from proposals.protocol import ProposalGenerator, tells_fit
from proposals.ranking import NMS_THRESHOLD
from proposals.stored.reader import StoreError, file_key
from proposals.tidy import suppress_quickly
from structures.errors import InputError
from structures.images import read_image
from structures.records import Dataset, Image

# Fields of ExampleRecipe that decide which regions are drawn.
DRAWING = ("positives", "negatives", "near_share", "best_share", "use_ignored", "seed")
BEST = 300  # best ranked boxes that `best_share` draws from: those that a detector classifies, and some more
PHOTO_MEMORY = 2**28  # bytes of photos kept in memory: a few hundred of VOC's, or a handful from a camera


class PhotoCache:
    """Reads the photos of a dataset by index, and caches recent ones."""

    def __init__(self, dataset: Dataset, memory: int = PHOTO_MEMORY) -> None:
        self._dataset = dataset
        largest = max((3 * truth.image_size[0] * truth.image_size[1] for truth in dataset), default=1)
        self.read = lru_cache(maxsize=max(1, memory // largest))(self._read)

    def _read(self, index: int) -> Image:
        return read_image(self._dataset.image_path(self._dataset.image_ids[index]))


def check_ranking(propose: ProposalGenerator, examples: ExampleRecipe) -> None:
    """Refuse proposals that are not ranked if the examples need a ranking.

    Raises:
        InputError: `best_share` is set, and the proposals are not ranked.
    """
    if examples.best_share and not tells_fit(propose):
        raise InputError(
            f"`best_share` {examples.best_share} needs ranked proposals, such as ranked:selective-search, "
            f"not {propose.name}; `best_share=0` needs no ranking"
        )


def draw_regions(
    dataset: Dataset, propose: ProposalGenerator, examples: ExampleRecipe, *, workers: int, show: ShowProgress
) -> LabelledRegions:
    """Draw the examples of every photo from its proposals; each draw is independent of other photos.

    Raises:
        InputError: there are no photos, a photo cannot be read, or `best_share` is set and the proposals are not
            ranked.
    """
    if len(dataset) == 0:
        raise InputError("the dataset has no photos to learn from")
    check_ranking(propose, examples)

    def draw(index: int) -> LabelledRegions:
        image_id = dataset.image_ids[index]
        path = dataset.image_path(image_id)
        try:
            found = propose(read_image(path))
        except StoreError as error:
            raise InputError(f"{path}: {error}") from None
        rng = np.random.default_rng((examples.seed, index))
        return choose_regions(
            found.boxes,
            dataset.ground_truth(image_id),
            photo=index,
            background=len(dataset.classes),
            positives=examples.positives,
            negatives=examples.negatives,
            rng=rng,
            use_ignored=examples.use_ignored,
            near_share=examples.near_share,
            best=suppress_quickly(found.boxes, found.scores, NMS_THRESHOLD)[:BEST] if examples.best_share else None,
            best_share=examples.best_share,
        )

    numbers = range(len(dataset))
    with ThreadPoolExecutor(workers) as pool:
        drawn = map_ahead(pool, draw, numbers, held=workers * HELD_PER_THREAD)
        return LabelledRegions.join([next(drawn) for _ in show(numbers, len(dataset), "draw regions")])


def drawn_from(dataset: Dataset, propose: ProposalGenerator, examples: ExampleRecipe) -> dict[str, Any]:
    """Return everything that decides which regions are drawn, as JSON values."""
    return {
        "proposals": {"name": propose.name, **propose.parameters},
        "examples": {name: getattr(examples, name) for name in DRAWING},
        "classes": list(dataset.classes),
        "files": digest([file_key(dataset.image_path(image_id)) for image_id in dataset.image_ids]),
        **contents(dataset),
    }
