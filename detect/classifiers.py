"""From names of weights to region classifiers."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from classifier.cascade import Cascade, unknown_classes
from classifier.placement import Placement, place
from classifier.protocol import RegionClassifier
from classifier.regions import Ensemble, GoogLeNetRegions
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.fitting import WeightsError, naming
from classifier.weights.load import load_weights
from classifier.weights.on_trunk import classifies_crops, crop_classifier
from detect.defaults import EXACT
from detect.networks.int8 import has_ranges
from detect.networks.shared_features import SharedFeatures, SharedRegions
from detect.weights import built_in_weights, weights_file
from structures.errors import InputError
from structures.names import not_one_of

Features = Literal["auto", "both", "crops", "shared"]
TASKS = {"crops": "regions", "shared": "shared"}  # features -> task of the weights
BUILT_IN = {"both": ("shared", "default"), "crops": ("default",), "shared": ("shared",)}


def choose_weights(
    weights: str | Path | Sequence[str | Path] | None, features: Features
) -> tuple[tuple[str | Path, ...], Features]:
    """Choose what was left open: built-in weights for the features, or the features for the weights.

    Args:
        weights: one or several names or files; None or an empty list takes the built-in ones for the features.
        features: as for `load_classifier`; "auto" stays if weights are named, and becomes "both" otherwise.

    Raises:
        InputError: there are no such features, or the weights are neither names nor files.
    """
    if features not in get_args(Features):
        raise InputError(f"`features` {not_one_of(features, get_args(Features))}")
    names = [weights] if isinstance(weights, str | Path) else [] if weights is None else weights
    if not isinstance(names, Sequence) or not all(isinstance(name, str | Path) for name in names):
        raise InputError(f"`weights` {weights!r} must be a name, a file, or a list of them")
    if not names:
        kind: Features = "both" if features == "auto" else features
        return BUILT_IN[kind], kind
    return tuple(names), features


def load_regions(name: str | Path, *, features: Features = "auto") -> Checkpoint:
    """Read the weights of a region classifier.

    Args:
        name: a built-in name, or a file.
        features: what the weights must be for: "crops" or "shared" features; "auto" and "both" accept either. For
            "crops", weights of shared features may have a layer for them; then the classifier of crops is returned.

    Raises:
        WeightsError: there are no such weights, or they are for something else; the message names them.
    """
    checkpoint = load_weights(weights_file(name))
    if features == "crops":
        with naming(f"`weights` {name}"):
            checkpoint = _for_crops(checkpoint)
    wanted = [task for kind, task in TASKS.items() if features in ("auto", "both", kind)]
    if checkpoint.task not in wanted:
        needed = "a region classifier is" if len(wanted) > 1 else f"weights for {wanted[0]} are"
        raise WeightsError(f"`weights` {name}: these are for {checkpoint.task}, {needed} needed")
    return checkpoint


def load_to_train_crops(name: str | Path) -> Checkpoint:
    """Read the weights of any network to start training on crops; as for "crops" in `load_regions`."""
    checkpoint = load_checkpoint(name)
    with naming(name):
        return _for_crops(checkpoint)


def _for_crops(checkpoint: Checkpoint) -> Checkpoint:
    """Return the classifier of crops in weights of shared features that have one; other weights as they are."""
    return crop_classifier(checkpoint) if classifies_crops(checkpoint) else checkpoint


def load_checkpoint(name: str | Path) -> Checkpoint:
    """Read the weights of any network: a built-in name, a file of any known format, or `imagenet`."""
    return load_weights(name, built_in_weights())


def load_classifier(
    weights: str | Path | Sequence[str | Path] | None = None,
    placement: Placement | None = None,
    *,
    mirrored: bool = False,
    batch_size: int | None = None,
    features: Features = "auto",
    with_features: bool = False,
    exact: int | None = None,
) -> RegionClassifier:
    """Load a region classifier: one network, a cascade of two, or an ensemble.

    Args:
        weights: built-in names or files; None takes the built-in ones for the features.
        placement: device, engine and precision, from `classifier.placement.place`; None has it choose. Its
            `in_int8`, if any, is taken where all weights are for shared features and have the ranges.
        mirrored: also classify mirrored regions, and average the two.
        batch_size: regions per batch; None chooses for the engine.
        features: "crops"; "shared"; "both" for shared features of all regions and crops of the first ones; or "auto"
            for what the weights are for: one of each kind gives "both", and so does one of shared features that has a
            layer for crops; other numbers of them are averaged.
        with_features: also return the features of each region (`classifier.protocol.feature_count`).
        exact: with "both", the number of first regions of which crops are classified; None takes 16.

    Raises:
        WeightsError: there are no such weights, they cannot be used, or are not for both kinds of features with "both".
        InputError: their classes differ, a number is out of range, or `exact` has no effect.
    """
    names, kind = choose_weights(weights, features)
    where = placement or place()
    checkpoints = [load_regions(name, features=kind) for name in names]
    make = partial(_classifier, mirrored=mirrored, batch_size=batch_size)
    if kind == "both" or (kind == "auto" and _are_for_both(checkpoints)):
        with naming(f"`weights` {', '.join(map(str, names))}"):
            quick, crops = _for_both(checkpoints)
            exact_one = make(crops, where, with_features=False)  # first: it refuses int8, at a cost of 2 points of mAP
            count = EXACT if exact is None else exact
            return Cascade(make(quick, where, with_features=with_features), exact_one, count=count)
    if exact is not None:
        raise InputError('`exact` has no effect without both kinds of features, as with `features="both"`')
    if where.in_int8 is not None and all(map(has_ranges, checkpoints)):
        where = where.in_int8
    members = []
    for name, each in zip(names, checkpoints, strict=True):
        with naming(f"`weights` {name}"):
            members.append(make(each, where, with_features=with_features))
    return members[0] if len(members) == 1 else Ensemble(members)


def _are_for_both(checkpoints: Sequence[Checkpoint]) -> bool:
    one_of_each = sorted(each.task for each in checkpoints) == sorted(TASKS.values())
    return one_of_each or (len(checkpoints) == 1 and classifies_crops(checkpoints[0]))


def _for_both(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Return weights for shared features and weights for crops."""
    if not _are_for_both(checkpoints):
        raise WeightsError(
            "both features need one for shared features and one for crops, or one for shared features that has a layer "
            "for crops"
        )
    if len(checkpoints) == 1:
        return [checkpoints[0], crop_classifier(checkpoints[0])]
    by_task = {each.task: each for each in checkpoints}
    shared, crops = by_task["shared"], by_task["regions"]
    unknown = unknown_classes(shared.classes, crops.classes)
    if unknown:
        raise WeightsError(
            f"those for crops know {unknown[0]!r}, which those for shared features do not, as they must to be used "
            "together"
        )
    return [shared, crops]


def _classifier(
    checkpoint: Checkpoint, placement: Placement, *, mirrored: bool, batch_size: int | None, with_features: bool
) -> RegionClassifier:
    if checkpoint.task == "shared":
        return SharedRegions(SharedFeatures(checkpoint, placement), mirrored=mirrored, with_features=with_features)
    return GoogLeNetRegions(
        checkpoint, placement, mirrored=mirrored, batch_size=batch_size, with_features=with_features
    )


def shared_features(classify: RegionClassifier) -> SharedFeatures | None:
    """Return the shared features of a classifier, or of the first in an ensemble that has them; None if none has."""
    if isinstance(classify, Cascade):
        return shared_features(classify.quick)
    members = classify.members if isinstance(classify, Ensemble) else [classify]
    return next((member.features for member in members if isinstance(member, SharedRegions)), None)
