"""Names to networks: the weights that ship with the package, and the classifiers that they make."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from classifier.cascade import Cascade
from classifier.engines import Placement, place, without_int8
from classifier.regions import Ensemble, GoogLeNetRegions, RegionClassifier
from classifier.weights.checkpoint import Checkpoint, WeightsError
from classifier.weights.load import load_weights
from detect.defaults import EXACT
from detect.shared import SharedFeatures, SharedRegions
from structures.names import did_you_mean

SHIPPED = Path(__file__).parent / "weights"
Features = Literal["auto", "both", "crops", "shared"]
TASKS = {"crops": "regions", "shared": "shared"}  # of the weights that classify regions by these
BUILT_IN = {"both": ("shared", "default"), "crops": ("default",), "shared": ("shared",)}


def built_in_weights() -> dict[str, Path]:
    """Return the weights that ship with the package, by name."""
    return {file.stem: file for file in sorted(SHIPPED.glob("*.safetensors"))}


def weights_file(name: str | Path, *, parameter: str = "weights") -> Path:
    """Return the file of a built-in name, such as `default`, or of a path; `./default` is always a file.

    Args:
        name: a name or a path.
        parameter: that it came from, for the error.

    Raises:
        WeightsError: there is neither such a file nor such a name.
    """
    built_in = built_in_weights()
    path = built_in.get(str(name), Path(name))
    if path.is_file():
        return path
    names, hint = ", ".join(built_in) or "none", did_you_mean(str(name), built_in)
    raise WeightsError(
        f"`{parameter}` {name}: no such file, and no built-in weights of that name (there are: {names}){hint}"
    )


def choose_weights(
    weights: str | Path | Sequence[str | Path] | None, features: Features
) -> tuple[tuple[str | Path, ...], Features]:
    """Fill in what was not named: the built-in weights for the features, or all features that these have.

    Args:
        weights: one or several names or files; None or none leave them to the features.
        features: as for `load_classifier`; with "auto", named weights decide, and without them it is "both".
    """
    if weights is None or (not isinstance(weights, str | Path) and not weights):
        kind: Features = "both" if features == "auto" else features
        return BUILT_IN[kind], kind
    return ((weights,) if isinstance(weights, str | Path) else tuple(weights)), features


def load_regions(name: str | Path, *, features: Features = "auto") -> Checkpoint:
    """Read the weights of a region classifier by name or path, and check that they are such.

    Args:
        name: built-in, or a file.
        features: what regions are classified by: "crops" of their own, or features of the photo that they have
            "shared"; "auto" and "both" take either.

    Raises:
        WeightsError: no such weights, or weights that cannot be used; the message names them.
    """
    checkpoint = load_weights(weights_file(name))
    wanted = [task for kind, task in TASKS.items() if features in ("auto", "both", kind)]
    if checkpoint.task not in wanted:
        needed = "a region classifier is" if len(wanted) > 1 else f"weights for {wanted[0]} are"
        raise WeightsError(f"`weights` {name}: these are for {checkpoint.task}, {needed} needed")
    return checkpoint


def load_checkpoint(name: str | Path) -> Checkpoint:
    """Read the weights of any network, for whatever use: built-in, a file of any known format, or `imagenet`."""
    return load_weights(name, built_in_weights())


def load_classifier(
    weights: str | Path | Sequence[str | Path] | None = None,
    placement: Placement | None = None,
    *,
    mirrored: bool = False,
    batch_size: int | None = None,
    features: Features = "auto",
    with_features: bool = False,
    exact: int = EXACT,
) -> RegionClassifier:
    """Put a region classifier to work where a placement says: one network, a cascade of two, or an ensemble.

    Args:
        weights: built-in names, or files; None takes the built-in ones for the features.
        placement: as `classifier.engines.place` returns it; None leaves the choice to it.
        mirrored: classify mirrored regions as well, and take the mean of the two.
        batch_size: regions per batch; None takes what suits the engine.
        features: "crops", "shared", or "both" for shared features of all regions and crops of the first; "auto" for
            what the weights are for, all of them averaged.
        with_features: also give the features of each region (`classifier.regions.feature_count`).
        exact: with "both", crops of at most this many regions of a photo are classified.

    Raises:
        WeightsError: no such weights, weights that cannot be used, or not one of each kind for "both".
        InputError: their classes differ, or a number is out of its range.
    """
    names, kind = choose_weights(weights, features)
    where = placement or place()
    checkpoints = [load_regions(name, features=kind) for name in names]
    make = partial(_classifier, mirrored=mirrored, batch_size=batch_size)
    if kind == "both":
        quick, crops = _one_of_each(names, checkpoints)
        exact_one = make(crops, without_int8(where), with_features=False)
        return Cascade(make(quick, where, with_features=with_features), exact_one, count=exact)
    members = [make(each, where, with_features=with_features) for each in checkpoints]
    return members[0] if len(members) == 1 else Ensemble(members)


def _one_of_each(names: Sequence[str | Path], checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    by_task = {each.task: each for each in checkpoints}
    if len(checkpoints) != len(TASKS) or len(by_task) != len(TASKS):
        raise WeightsError(
            f"`weights` {', '.join(map(str, names))}: for both features they must be two, one for shared features and "
            "one for crops"
        )
    return [by_task["shared"], by_task["regions"]]


def _classifier(
    checkpoint: Checkpoint, placement: Placement, *, mirrored: bool, batch_size: int | None, with_features: bool
) -> RegionClassifier:
    if checkpoint.task == "shared":
        return SharedRegions(SharedFeatures(checkpoint, placement), mirrored=mirrored, with_features=with_features)
    return GoogLeNetRegions(
        checkpoint, placement, mirrored=mirrored, batch_size=batch_size, with_features=with_features
    )


def shared_features(classify: RegionClassifier) -> SharedFeatures | None:
    """Return the shared features that a classifier, or the first such of several, works on; None if none does."""
    if isinstance(classify, Cascade):
        return shared_features(classify.quick)
    members = classify.members if isinstance(classify, Ensemble) else [classify]
    return next((member.features for member in members if isinstance(member, SharedRegions)), None)
