"""Regions of objects that were learned from, to be kept beside shared weights: see `classifier.known_objects`."""

from collections.abc import Sequence

import numpy as np
import torch

from classifier.few_examples import log_sum_exp
from classifier.known_objects import KnownObjects
from classifier.placement import Placement
from classifier.region_columns import part_means
from classifier.weights.checkpoint import Checkpoint
from detect.networks.shared_features import SharedFeatures
from detect.training.few_photos import look_at
from eval.selection import Picked, pick_evenly
from structures.images import read_image
from structures.records import Dataset

OF_EACH_CLASS = 20  # regions, at most: 4 MB for VOC's classes


def some_of(items: Sequence[Picked]) -> tuple[Picked, ...]:
    """Return as many of the objects of a class as weights bring, evenly spread."""
    return pick_evenly(items, OF_EACH_CLASS)


def find_known_objects(weights: Checkpoint, dataset: Dataset, placement: Placement) -> KnownObjects:
    """Look at some objects of each class once more, with the weights that learned from them.

    Args:
        weights: weights of shared features.
        dataset: photos that they learned from, with the classes of the weights.
        placement: where the network runs.

    Returns:
        The regions of these objects, in the order of the photos.
    """
    features = SharedFeatures(weights, placement, last_map=True)
    objects = [
        (label, number, row)
        for number, truth in enumerate(dataset)
        for row, (label, ignore) in enumerate(zip(truth.labels.tolist(), truth.ignore.tolist(), strict=True))
        if not ignore
    ]
    chosen = [each for label in range(len(dataset.classes)) for each in some_of([o for o in objects if o[0] == label])]
    found = []
    for number in sorted({number for _, number, _ in chosen}):
        image_id = dataset.image_ids[number]
        truth = dataset.ground_truth(image_id)
        rows = np.array(sorted(row for _, other, row in chosen if other == number), np.int64)
        logits, places, five_b = look_at(features, read_image(dataset.image_path(image_id)), truth.boxes[rows], False)
        inputs = part_means(torch.from_numpy(five_b), torch.from_numpy(places)).half().numpy()
        found.append(KnownObjects(inputs, log_sum_exp(logits), truth.labels[rows]))
    return KnownObjects.join(found)
