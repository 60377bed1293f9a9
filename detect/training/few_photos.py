"""Proposals and shared features of each photo for learning from a few examples, computed once and kept.

There is one file per photo, named by a digest of everything that decides its contents. So a killed run resumes, a run
with more photos computes only the new ones, and nothing is ever mixed.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch

from classifier.ahead import HELD_PER_THREAD, map_ahead
from classifier.engines import require_finite
from classifier.region_columns import LastMapHead, part_means
from classifier.sampling import POSITIVE_IOU
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.digest import digest
from detect.networks.shared_features import SharedFeatures
from detect.training.bookkeeping import ShowProgress
from proposals.multibox.generator import drawn
from proposals.protocol import ProposalGenerator, in_steps
from proposals.stored.reader import StoreError, file_key
from structures.boxes import Boxes, Floats, ImageSize, area, clip, iou, large_enough
from structures.errors import InputError
from structures.files import replacing, sweep
from structures.images import read_image
from structures.npz import NpzError, read_arrays
from structures.records import Dataset, GroundTruth, Image, Proposals

FOLDER, SUFFIX = "photos", ".npz"
FORMAT = "3"  # to be changed if earlier files would be misread
COPIES, SHAKE = 6, 0.1  # boxes per object, with corners moved by this share of its sides
MOST_AROUND = 60  # most boxes per object that the generator made but did not propose
SMALLEST = 4.0  # side of a box, in pixels


@dataclass(frozen=True, eq=False)
class PhotoRegions:
    """Regions of one photo, and the map that new columns of their logits are made of.

    Attributes:
        boxes: (N, 4) float32 xyxy in pixels of the photo.
        fits: (N,) scores of the proposals.
        proposed: number of first boxes that were proposed; the others are more boxes around objects.
        logits: (S, N, C + 1) float32 of the old classes and background, of the photo and of its mirror image.
        places: (S, N, 4) float32 xyxy of the regions on the canvas.
        maps: (S, 1024, H, W) float16, inception5b of the canvas.
        image_size: (height, width) of the photo.
    """

    boxes: Boxes
    fits: Floats
    proposed: int
    logits: Floats
    places: npt.NDArray[np.float32]
    maps: npt.NDArray[np.float16]
    image_size: ImageSize

    def inputs(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float16]:
        """Return (S, n, 9216) what columns are made of, for some of the regions; see `classifier.region_columns`."""
        sides = zip(self.maps, self.places[:, rows], strict=True)
        return np.stack([part_means(torch.from_numpy(m), torch.from_numpy(p)).half().numpy() for m, p in sides])


class PhotoRegionCache:
    """Computes the regions of photos with their features, or reads those of an earlier run.

    Args:
        checkpoint: weights of shared features.
        features: these weights, loaded with `last_map`.
        propose: proposal generator.
        folder: folder of the files.
        to_learn: whether to add the mirror image, and more boxes around objects, to what a detector would see.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        features: SharedFeatures,
        propose: ProposalGenerator,
        folder: Path,
        *,
        to_learn: bool = True,
    ) -> None:
        self._features, self._propose, self._folder = features, in_steps(propose), folder
        place = features.placement
        made = {"name": propose.name, **propose.parameters, "engine": place.engine, "dtype": place.dtype}
        self._to_learn = to_learn
        self._facts = [
            FORMAT,
            "to learn" if to_learn else "to judge",
            digest(checkpoint.of_network()),
            json.dumps(made, sort_keys=True),
        ]

    def all(self, dataset: Dataset, show: ShowProgress) -> "SeenPhotos":
        """Return the regions of every photo of a dataset, each read from its file when it is asked for.

        Raises:
            InputError: a photo cannot be processed; the message names it.
            OSError: a file cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        sweep(self._folder, lambda name: name.endswith(SUFFIX))
        files = [self._file(dataset, image_id) for image_id in dataset.image_ids]
        numbers = [n for n, file in enumerate(files) if not file.exists()]
        with ThreadPoolExecutor(1) as pool:
            begun = map_ahead(pool, lambda n: self._begin(dataset, n), numbers, held=HELD_PER_THREAD)
            kept = len(files) - len(numbers)
            for number in show(range(kept, len(files)), len(files), "photos looked at"):
                write_photo_regions(files[numbers[number - kept]], self._seen(*next(begun)))
        return SeenPhotos(self, dataset)

    def read(self, dataset: Dataset, number: int) -> PhotoRegions:
        """Return the regions of a photo by its number: those of its file, or made again if that is damaged or gone.

        Raises:
            InputError: the photo cannot be processed; the message names it.
            OSError: the file cannot be written.
        """
        file = self._file(dataset, dataset.image_ids[number])
        try:
            return read_photo_regions(file)
        except (NpzError, FileNotFoundError):
            pass  # it is quickly made again
        regions = self._seen(*self._begin(dataset, number))
        write_photo_regions(file, regions)
        return regions

    def _file(self, dataset: Dataset, image_id: str) -> Path:
        objects = digest([dataset.ground_truth(image_id).boxes])
        return self._folder / f"{digest([*self._facts, file_key(dataset.image_path(image_id)), objects])}{SUFFIX}"

    def _begin(self, dataset: Dataset, number: int) -> tuple[Image, GroundTruth, Any]:
        image_id = dataset.image_ids[number]
        path = dataset.image_path(image_id)
        image = read_image(path)
        try:
            return image, dataset.ground_truth(image_id), self._propose.begin(image)
        except StoreError as error:
            raise InputError(f"{path}: {error}") from None

    @torch.inference_mode()
    def _seen(self, image: Image, truth: GroundTruth, begun: Any) -> PhotoRegions:
        self._propose.look([begun])
        [found] = self._propose.finish([begun])
        boxes = np.concatenate([found.boxes, *([boxes_around(found, truth)] if self._to_learn else [])])
        fits = np.concatenate([found.scores, np.zeros(len(boxes) - len(found), np.float32)])
        turned = (False, True) if self._to_learn else (False,)
        sides = [look_at(self._features, image, boxes, mirrored) for mirrored in turned]
        logits, places, maps = (np.stack(part) for part in zip(*sides, strict=True))
        return PhotoRegions(boxes, fits, len(found), logits, places, maps, found.image_size)


class SeenPhotos(Sequence[PhotoRegions]):
    """The regions of every photo of a dataset; each is read when it is asked for, since a thousand take 3 GB."""

    def __init__(self, cache: PhotoRegionCache, dataset: Dataset) -> None:
        self._cache, self._dataset = cache, dataset

    def __len__(self) -> int:
        return len(self._dataset)

    @overload
    def __getitem__(self, number: int) -> PhotoRegions: ...
    @overload
    def __getitem__(self, number: slice) -> list[PhotoRegions]: ...
    def __getitem__(self, number: int | slice) -> PhotoRegions | list[PhotoRegions]:
        if isinstance(number, slice):
            return [self[each] for each in range(len(self))[number]]
        return self._cache.read(self._dataset, range(len(self))[number])


@torch.inference_mode()
def look_at(
    features: SharedFeatures, image: Image, boxes: Boxes, mirrored: bool
) -> tuple[Floats, Boxes, npt.NDArray[np.float16]]:
    """Run the network on a photo, and return what is learned from.

    Args:
        features: weights, loaded with `last_map`.
        image: RGB uint8 (H, W, 3).
        boxes: (N, 4) xyxy in pixels of the photo.
        mirrored: whether to look at its mirror image.

    Returns:
        Logits (N, C + 1), places (N, 4) of the boxes on the canvas, and the (1024, H, W) map of inception5b.
    """
    assert isinstance(features.head, LastMapHead)
    look = drawn(image, features.network.view((image.shape[0], image.shape[1])), mirrored)
    places, maps = look.placed(boxes), features([look.canvas]).regions
    there = torch.from_numpy(places).to(features.placement.device)
    logits = features.head(maps, [there]).cpu().numpy()
    five_b = maps.parts[0].cpu().half().numpy()
    for found in (logits, five_b):
        require_finite(found, features.placement)
    return logits, places, five_b


def boxes_around(found: Proposals, truth: GroundTruth) -> Boxes:
    """Return more boxes to learn from: each object, slightly moved copies, and boxes that were not proposed."""
    rng = np.random.default_rng(0)
    objects = truth.boxes[area(truth.boxes) > 0]
    sides = np.tile(objects[:, 2:] - objects[:, :2], (COPIES, 2))
    noise = np.asarray(rng.standard_normal(sides.shape), np.float32) * np.float32(SHAKE)
    moved = clip(np.tile(objects, (COPIES, 1)) + noise * sides, truth.image_size)
    made = [objects, moved[large_enough(moved, SMALLEST)]]
    if found.left_out is not None and len(objects):
        overlaps = iou(found.left_out.boxes, objects)
        near = [np.flatnonzero(each >= POSITIVE_IOU) for each in overlaps.T]
        rows = np.unique(np.concatenate([rng.permutation(each)[:MOST_AROUND] for each in near]))
        made.append(found.left_out.boxes[rows])
    return np.concatenate(made).astype(np.float32)


def write_photo_regions(path: Path, regions: PhotoRegions) -> None:
    """Write the regions of a photo, whole or not at all."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **vars(regions))


def read_photo_regions(path: Path) -> PhotoRegions:
    """Read the regions of a photo.

    Raises:
        NpzError: the file is damaged.
    """
    arrays = read_arrays(path, [field.name for field in fields(PhotoRegions)])
    height, width = arrays.pop("image_size").tolist()
    return PhotoRegions(proposed=int(arrays.pop("proposed")), image_size=(height, width), **arrays)
