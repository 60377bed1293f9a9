"""Regions of objects that were learned from, to be kept beside shared weights: see `classifier.known_objects`."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from classifier.few_examples import Examples, log_sum_exp
from classifier.known_objects import KnownObjects, known_objects
from classifier.placement import Placement
from classifier.region_columns import Columns, part_means
from classifier.weights.checkpoint import Checkpoint
from detect.networks.shared_features import SharedFeatures
from detect.training.few_photos import look_at
from eval.selection import pick_evenly
from structures.boxes import Indices
from structures.images import read_image
from structures.names import ClassNames
from structures.records import Dataset, Labels

OF_EACH_CLASS = 20  # regions, at most: 4 MB for VOC's classes
MOST = 1_000  # of all classes together, if each has one: 9 MB
LEAST_SHARE = 0.75  # of a new class in the regions that are kept of it
SAME = (  # VOC's and COCO's names of the same things
    *(("aeroplane", "airplane"), ("diningtable", "dining table"), ("motorbike", "motorcycle")),
    *(("pottedplant", "potted plant"), ("sofa", "couch"), ("tvmonitor", "tv")),
)


def find_known_objects(weights: Checkpoint, dataset: Dataset, placement: Placement) -> KnownObjects:
    """Look at some objects of each class once more, with the weights that learned from them.

    Args:
        weights: weights of shared features.
        dataset: photos that they learned from, with the classes of the weights.
        placement: where the network runs.

    Returns:
        The regions of these objects, in the order of the photos; none if all objects are ignored.
    """
    features = SharedFeatures(weights, placement, last_map=True)
    truths = list(dataset)
    number = np.repeat(np.arange(len(truths)), [len(truth) for truth in truths])
    row = np.concatenate([np.arange(len(truth)) for truth in truths])
    labels = np.concatenate([np.where(truth.ignore, -1, truth.labels) for truth in truths])
    chosen = _evenly(labels, len(dataset.classes))
    found = []
    for photo in np.unique(number[chosen]).tolist():
        image_id, truth = dataset.image_ids[photo], truths[photo]
        rows = row[chosen[number[chosen] == photo]]
        logits, places, five_b = look_at(features, read_image(dataset.image_path(image_id)), truth.boxes[rows], False)
        inputs = part_means(torch.from_numpy(five_b), torch.from_numpy(places)).half().numpy()
        found.append(KnownObjects(inputs, log_sum_exp(logits), truth.labels[rows]))
    return KnownObjects.join(found)


def known_examples(start: Checkpoint, names: Sequence[str], *, keep: bool) -> list[Examples]:
    """Return the regions of known objects that weights bring, as examples of no new class; none if they bring none.

    Args:
        start: weights of shared features.
        names: classes to learn; objects of these are left out, also where VOC and COCO call the class differently.
        keep: whether the classes of the weights stay.

    Raises:
        WeightsError: the regions are damaged.
    """
    known = known_objects(start)
    if known is None:
        return []
    named = ClassNames(names)
    alike = [pair for pair in SAME if any(named.find(name) >= 0 for name in pair)]
    learned = [ClassNames(start.classes).find(name) for name in (*names, *(name for pair in alike for name in pair))]
    examples = known.take(np.flatnonzero(~np.isin(known.labels, learned))).as_examples()
    return [examples if keep else replace(examples, rest=np.zeros(len(examples), np.float32))]


def all_known(start: Checkpoint, examples: Examples, new: Columns, *, keep: bool) -> KnownObjects:
    """Return the regions that weights with new classes bring: those of the old weights, and some of the new classes.

    Args:
        start: the old weights.
        examples: regions that the new classes were learned from.
        new: the columns of the new classes.
        keep: whether the old classes stay.
    """
    old = known_objects(start) if keep else None
    first = len(start.classes) if keep else 0
    shown = np.flatnonzero((examples.labels >= 0) & (examples.shares >= LEAST_SHARE))
    fresh = KnownObjects(examples.inputs[shown], examples.rest[shown], examples.labels[shown] + first)
    whole = KnownObjects.join([fresh] if old is None else [old, fresh]).with_columns(new)
    return whole.take(_evenly(whole.labels, first + len(new.names)))


def _evenly(labels: Labels, classes: int) -> Indices:
    """Return the places of a few regions of each class, evenly spread; those with a label of -1 are left out."""
    most = min(OF_EACH_CLASS, max(1, MOST // max(1, classes)))
    of_each = (np.flatnonzero(labels == label).tolist() for label in np.unique(labels[labels >= 0]))
    return np.sort(np.array([place for own in of_each for place in pick_evenly(own, most)], np.int64))
