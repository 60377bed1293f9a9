"""Learns new classes from a few examples: columns of region logits, on the shared features of a few photos.

Nothing else is trained, so this takes seconds. To evaluate on the same photos, each photo is searched with columns that
were learned without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from classifier.few_examples import (
    DECAY,
    MOST_OF_OBJECTS,
    MOST_ROWS,
    RAMP,
    Examples,
    learn_columns,
    log_sum_exp,
    ramp,
)
from classifier.known_objects import with_known_objects
from classifier.region_columns import Columns, with_columns
from classifier.sampling import NO_EXAMPLE, label_boxes
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.fitting import WeightsError
from detect.detector import Detector
from detect.networks.int8 import RECORD as RANGES
from detect.training.bookkeeping import ShowProgress
from detect.training.few_photos import PhotoRegionCache, PhotoRegions
from detect.training.few_recipe import FewRecipe
from detect.training.known_objects import all_known, known_examples
from eval.selection import pick_evenly
from structures.boxes import Floats, Indices
from structures.errors import InputError
from structures.names import ClassNames
from structures.records import Dataset, Detections, GroundTruth, Labels, Proposals
from structures.regions import Regions

FOLDS = 4  # parts of the photos, each searched with what was learned from the others
NONE = -1  # label of regions without a new class


def classes_to_learn(checkpoint: Checkpoint, dataset: Dataset, recipe: FewRecipe) -> list[str]:
    """Return the classes of a dataset to learn: those with examples that the weights do not know.

    If the old classes are dropped, all classes with examples are learned.

    Raises:
        InputError: there are none; the message says why.
        WeightsError: the weights are of another task.
    """
    if checkpoint.task != "shared":
        raise WeightsError(
            f"weights for {checkpoint.task} cannot learn new classes; weights of shared features are needed"
        )
    shown = _shown(dataset, recipe)
    if not shown:
        raise InputError("no object to learn from: all are ignored")
    known = ClassNames(checkpoint.classes)
    names = [name for name in shown if not recipe.keep or known.find(name) < 0]
    if not names:
        raise InputError(
            f"the weights already know {', '.join(shown)}; start from weights that do not, or leave all classes of the "
            "weights out (`only_new=True`)"
        )
    return names


def left_out(dataset: Dataset, learned: Sequence[str], recipe: FewRecipe, *, asked: bool) -> list[str]:
    """Return warnings about classes of a dataset that are not learned: known ones, and those without an object.

    Args:
        dataset: photos with all their objects.
        learned: the classes to learn.
        recipe: see `FewRecipe`.
        asked: whether a user chose the classes; if not, those without any object are not worth a warning.
    """
    shown = _shown(dataset, recipe)
    known = [name for name in shown if name not in learned]
    annotated = {int(label) for truth in dataset for label in truth.labels}
    empty = [n for label, n in enumerate(dataset.classes) if n not in shown and (asked or label in annotated)]
    notes = [f"the weights already know {', '.join(known)}: not learned again"] if known else []
    return [*notes, f"no object that counts of {', '.join(empty)}, which will not be learned"] if empty else notes


def _shown(dataset: Dataset, recipe: FewRecipe) -> list[str]:
    """Return the classes with an object that can be an example."""
    there = {int(label) for truth in dataset for label in truth.labels[~truth.ignore | recipe.use_ignored]}
    return [name for label, name in enumerate(dataset.classes) if label in there]


def examples_of(regions: PhotoRegions, truth: GroundTruth, recipe: FewRecipe, *, photos: int = 1) -> Examples:
    """Return the regions of a photo and of its mirror image as examples of the new classes, or of none of them.

    Args:
        regions: regions of the photo, with features.
        truth: objects of the new classes; regions on ignored objects are not examples.
        recipe: see `FewRecipe`.
        photos: that are learned from; of many, some of the regions are left out, evenly spread over those of each
            class and of none.
    """
    no_class = int(truth.labels.max(initial=NONE)) + 1
    labels, nearest, overlap = label_boxes(regions.boxes, truth, background=no_class, use_ignored=recipe.use_ignored)
    shares = ramp(overlap)
    nearest = np.where(shares > 0, nearest, NONE)
    rows = _fewer(np.flatnonzero(labels != NO_EXAMPLE), nearest, photos * len(regions.maps))
    nearest, shares = nearest[rows], shares[rows]
    objects = int((~truth.ignore | recipe.use_ignored).sum())
    once = np.ones(len(rows), np.float32)
    sides = [  # the mirror image adds no objects
        Examples(inputs, rest_of(logits[rows], recipe), nearest, shares, once, objects if number == 0 else 0)
        for number, (logits, inputs) in enumerate(zip(regions.logits, regions.inputs(rows), strict=True))
    ]
    return Examples.join(sides)


def _fewer(rows: Indices, classes: Labels, sides: int) -> Indices:
    """Return some of the rows of one side of a photo, where so many sides share what may be kept of all of them.

    At least one row of each class stays, and at least one without a class.
    """
    shown = np.unique(classes[rows]).tolist()
    of_class = MOST_OF_OBJECTS // (sides * len(shown)) if shown else 0
    kept = list[int]()
    for name in shown:
        most = MOST_ROWS // sides if name == NONE else of_class
        kept += pick_evenly(rows[classes[rows] == name].tolist(), max(1, most))
    return np.sort(np.array(kept, np.int64))


class FewResult(NamedTuple):
    """Learned columns, with the regions of each photo, the same as examples, and those of known objects."""

    columns: Columns
    seen: Sequence[PhotoRegions]
    examples: Sequence[Examples]
    known: Sequence[Examples]


def learn(
    start: Checkpoint, dataset: Dataset, looks: PhotoRegionCache, recipe: FewRecipe, show: ShowProgress
) -> FewResult:
    """Compute the features of all photos, and learn a column for each class.

    Args:
        start: weights of shared features.
        dataset: photos with the objects of the new classes.
        looks: computes the features of photos, or reads those of an earlier run.
        recipe: see `FewRecipe`.
        show: shows a progress bar.

    Raises:
        InputError: a photo cannot be processed; the message names it.
        WeightsError: the regions that the weights bring are damaged.
    """
    known = known_examples(start, dataset.classes, keep=recipe.keep)
    seen = looks.all(dataset, show)
    examples = [examples_of(each, truth, recipe, photos=len(seen)) for each, truth in zip(seen, dataset, strict=True)]
    columns = learn_columns(Examples.join([*examples, *known]), dataset.classes)
    return FewResult(columns, seen, examples, known)


def rest_of(logits: Floats, recipe: FewRecipe) -> Floats:
    """Return (N,) logits of the rest: all old columns together, or a background that is always 0."""
    return log_sum_exp(logits) if recipe.keep else np.zeros(len(logits), np.float32)


def with_new_classes(start: Checkpoint, result: FewResult, recipe: FewRecipe, record: Mapping[str, Any]) -> Checkpoint:
    """Return weights with the new classes, which bring regions of these as well.

    Args:
        start: weights of shared features.
        result: what was learned.
        recipe: says whether the old classes stay.
        record: facts for the metadata.
    """
    new = result.columns
    how = {"few": {"classes": list(new.names), "decay": DECAY, "ramp": list(RAMP)}, **record}
    own = {name: start.training[name] for name in ("multibox", "classes", RANGES) if name in start.training}
    found = with_columns(start, new, keep=recipe.keep)
    known = all_known(start, Examples.join(result.examples), new, keep=recipe.keep)
    return with_known_objects(replace(found, training={**own, **how, "start": dict(start.training)}), known)


def folds_of(dataset: Dataset) -> list[int]:
    """Split the photos into parts so that each class is spread over as many parts as possible.

    Returns:
        The part of each photo, 0 to FOLDS - 1.
    """
    truths = list(dataset)
    counts = np.bincount(np.concatenate([np.unique(truth.labels) for truth in truths]), minlength=len(dataset.classes))
    rarest = [min(truth.labels.tolist(), key=lambda label: counts[label], default=len(counts)) for truth in truths]
    order = np.argsort(rarest, kind="stable")
    folds = np.empty(len(truths), np.int64)
    folds[order] = np.arange(len(truths)) % FOLDS
    return [int(fold) for fold in folds]


def cross_validated(
    dataset: Dataset, result: FewResult, detector: Detector, recipe: FewRecipe
) -> dict[str, Detections]:
    """Return the detections on each training photo by columns that were learned from the other parts.

    Args:
        dataset: photos with the objects of the new classes.
        result: result of learning from them.
        detector: detector with the weights that were learned from all photos; it suppresses and votes.
        recipe: as in the training.

    Returns:
        Detections of the new classes, by image id; none of a class that no other part shows.
    """
    found, folds = dict[str, Detections](), folds_of(dataset)
    for fold in set(folds):
        others = [each for each, own in zip(result.examples, folds, strict=True) if own != fold]
        others += result.known
        columns = _columns_of(others, dataset.classes)
        for number in (number for number, own in enumerate(folds) if own == fold):
            regions = as_regions(result.seen[number], columns, detector.classes, recipe)
            found[dataset.image_ids[number]] = last_classes(detector.choose(regions), len(dataset.classes))
    return found


def judged_classes(dataset: Dataset) -> list[str]:
    """Return the classes that several parts show; of the others `cross_validated` can say nothing."""
    parts: list[set[int]] = [set() for _ in dataset.classes]
    for truth, fold in zip(dataset, folds_of(dataset), strict=True):
        for label in truth.labels.tolist():
            parts[label].add(fold)
    return [name for name, own in zip(dataset.classes, parts, strict=True) if len(own) > 1]


def _columns_of(parts: Sequence[Examples], names: Sequence[str]) -> list[Columns | None]:
    """Learn columns for all classes with examples together; None for the others."""
    joined = Examples.join(parts) if parts else None
    there = [] if joined is None else sorted({*joined.labels.tolist()} - {NONE})
    if joined is None or not there:
        return [None] * len(names)
    places = {label: place for place, label in enumerate(there)} | {NONE: NONE}
    renumbered = np.array([places[label] for label in joined.labels.tolist()], np.int64)
    learned = learn_columns(replace(joined, labels=renumbered), [names[label] for label in there])
    found = dict(zip(there, learned.each(), strict=True))
    return [found.get(label) for label in range(len(names))]


def as_regions(
    seen: PhotoRegions, columns: Sequence[Columns | None], classes: tuple[str, ...], recipe: FewRecipe
) -> Regions:
    """Return the proposed regions of a photo with the probabilities that weights with the new columns would give.

    Args:
        seen: regions of the photo, with features.
        columns: a column for each new class; None for a class that is not looked for.
        classes: the old classes, if they are kept, and the new ones.
        recipe: as in the training.
    """
    count = seen.proposed
    five_b, boxes = torch.from_numpy(seen.maps[0]), torch.from_numpy(seen.places[0, :count])
    absent = torch.full((count, 1), -torch.inf)
    new = [absent if column is None else column.logits(five_b, boxes) for column in columns]
    old = torch.from_numpy(seen.logits[0, :count]) if recipe.keep else torch.zeros((count, 1))
    probabilities = torch.cat([old[:, :-1], *new, old[:, -1:]], dim=1).softmax(dim=1).numpy()
    proposals = Proposals(seen.boxes[:count], seen.fits[:count], seen.image_size)
    return Regions(proposals, probabilities, classes)


def last_classes(found: Detections, count: int) -> Detections:
    """Return only the detections of the last `count` classes, with labels from 0."""
    first = len(found.classes) - count
    chosen = found.take(found.labels >= first)
    return Detections(chosen.boxes, chosen.labels - first, chosen.scores, chosen.image_size)
