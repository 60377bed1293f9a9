"""Where training batches come from: crops cut again for each batch, or kept features of a frozen trunk."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from classifier.ahead import HELD_PER_THREAD, batches_ahead, map_ahead
from classifier.crops import cut_regions
from classifier.processes import ALONE, Process, own_rows
from classifier.region_features import ReadPhoto, RowReader
from classifier.sampling import BatchDraw, LabelledRegions
from classifier.weights.preprocessing import Preprocessing

MIRRORING = 1  # keeps these random numbers apart from those that draw the batch


class FreshCrops:
    """Batches of crops cut from the photos each time: for training the whole network.

    The next batch is made while the last is learned from. So two batches are in memory, and a few photos. Crops are cut
    by the CPU's threads: one photo's are too few for a GPU, which has the last batch to learn from.

    Args:
        regions: all that batches are drawn from.
        labels: of the regions: (N,) int64 classes, or (N, columns) float32 shares of them.
        draw: returns the rows of each batch.
        read: photo index -> RGB image.
        preprocessing: of the weights.
        device: where the batches are wanted.
        steps: batches in all.
        seed: of the mirroring.
        process: which of several processes this is.
        readers: threads that read photos and cut crops.
    """

    def __init__(
        self,
        regions: LabelledRegions,
        labels: np.ndarray,
        draw: BatchDraw,
        read: ReadPhoto,
        preprocessing: Preprocessing,
        device: torch.device,
        *,
        steps: int,
        seed: int = 0,
        process: Process = ALONE,
        readers: int = 2,
    ) -> None:
        self._regions, self._labels, self._draw, self._read = regions, labels, draw, read
        self._preprocessing, self._device, self._seed, self._process = preprocessing, device, seed, process
        self._pool, self._held = ThreadPoolExecutor(readers), HELD_PER_THREAD * readers
        self._batch = batches_ahead(self._make, steps)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return crops (N, 3, S, S) and labels of this process in one step; mirrored or not each time."""
        crops, labels = (column.to(self._device, non_blocking=True) for column in self._batch(step))
        return crops, labels

    def _make(self, step: int) -> tuple[Tensor, Tensor]:
        rows = self._draw(step)
        rows = rows[np.argsort(self._regions.photo[rows], kind="stable")]
        mirrored = np.random.default_rng((self._seed, step, MIRRORING)).random(len(rows)) < 0.5
        rows, mirrored = own_rows(rows, self._process), own_rows(mirrored, self._process)

        def cut(photo: int) -> Tensor:
            at = self._regions.photo[rows] == photo
            boxes, flipped = self._regions.boxes[rows[at]], mirrored[at]
            cuts = cut_regions(self._read(photo), boxes, flipped, self._preprocessing, "cpu", batch_size=len(boxes))
            return next(cuts)

        photos = np.unique(self._regions.photo[rows]).tolist()
        crops = torch.cat(list(map_ahead(self._pool, cut, photos, held=self._held)))
        labels = torch.from_numpy(self._labels[rows])
        return _ready(crops.contiguous(memory_format=torch.channels_last), self._device), _ready(labels, self._device)


class KeptFeatures:
    """Batches out of a feature file; the next one is read while the last is learned from.

    Args:
        features: (N, C, H, W) float16, from `keep_features`.
        labels: as in FreshCrops.
        draw: returns the rows of each batch.
        device: where the batches are wanted.
        steps: batches in all.
        process: which of several processes this is.
    """

    def __init__(
        self,
        features: "np.memmap[Any, Any]",
        labels: np.ndarray,
        draw: BatchDraw,
        device: torch.device,
        *,
        steps: int,
        process: Process = ALONE,
    ) -> None:
        self._read, self._labels, self._draw, self._device = RowReader(features), labels, draw, device
        self._process, self._loaded = process, batches_ahead(self._load, steps)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return features (N, C, H, W) float32 and labels of this process in one step."""
        features, labels = (column.to(self._device, non_blocking=True) for column in self._loaded(step))
        return features.float().contiguous(memory_format=torch.channels_last), labels

    def _load(self, step: int) -> tuple[Tensor, Tensor]:
        rows = own_rows(np.sort(self._draw(step)), self._process)
        features, labels = (torch.from_numpy(column) for column in (self._read(rows), self._labels[rows]))
        return _ready(features, self._device), _ready(labels, self._device)


def _ready(batch: Tensor, device: torch.device) -> Tensor:
    """Put a batch where a GPU can fetch it while it computes."""
    return batch.pin_memory() if device.type == "cuda" else batch
