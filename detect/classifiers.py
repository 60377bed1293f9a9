"""Names to networks: the weights that ship with the package, and the classifiers that they make."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from classifier.engines import Placement, place
from classifier.regions import Ensemble, GoogLeNetRegions, RegionClassifier
from classifier.weights.checkpoint import Checkpoint, WeightsError
from classifier.weights.load import load_weights
from detect.shared import SharedFeatures, SharedRegions
from structures.names import did_you_mean

SHIPPED = Path(__file__).parent / "weights"
Features = Literal["auto", "crops", "shared"]
TASKS = {"crops": "regions", "shared": "shared"}  # of the weights that classify regions by these


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


def default_weights(features: Features) -> str:
    """Return the built-in weights that are taken where none are named."""
    return {"auto": "default", "crops": "default", "shared": "shared"}[features]


def load_regions(name: str | Path, *, features: Features = "auto") -> Checkpoint:
    """Read the weights of a region classifier by name or path, and check that they are such.

    Args:
        name: built-in, or a file.
        features: what regions are classified by: "crops" of their own, or features that the photo's regions "share";
            "auto" leaves it to the weights.

    Raises:
        WeightsError: no such weights, or weights that cannot be used; the message names them.
    """
    checkpoint = load_weights(weights_file(name))
    wanted = [task for kind, task in TASKS.items() if features in ("auto", kind)]
    if checkpoint.task not in wanted:
        needed = "a region classifier is" if len(wanted) > 1 else f"weights for {wanted[0]} are"
        raise WeightsError(f"`weights` {name}: these are for {checkpoint.task}, {needed} needed")
    return checkpoint


def load_checkpoint(name: str | Path) -> Checkpoint:
    """Read the weights of any network, for whatever use: built-in, a file of any known format, or `imagenet`."""
    return load_weights(name, built_in_weights())


def load_classifier(
    weights: str | Path | Sequence[str | Path],
    placement: Placement | None = None,
    *,
    mirrored: bool = False,
    batch_size: int | None = None,
    features: Features = "auto",
    with_features: bool = False,
) -> RegionClassifier:
    """Put one region classifier, or an ensemble where several weights are named, to work where a placement says.

    Args:
        weights: built-in names, or files.
        placement: as `classifier.engines.place` returns it; None leaves the choice to it.
        mirrored: classify mirrored regions as well, and take the mean of the two.
        batch_size: regions per batch; None takes what suits the engine.
        features: "crops", "shared", or "auto" for what the weights are for.
        with_features: also give the features of each region (`classifier.regions.feature_count`).
    """
    names = [weights] if isinstance(weights, str | Path) else list(weights)
    where = placement or place()
    members = [
        _classifier(
            load_regions(name, features=features),
            where,
            mirrored=mirrored,
            batch_size=batch_size,
            with_features=with_features,
        )
        for name in names
    ]
    return members[0] if len(members) == 1 else Ensemble(members)


def _classifier(
    checkpoint: Checkpoint, placement: Placement, *, mirrored: bool, batch_size: int | None, with_features: bool
) -> RegionClassifier:
    if checkpoint.task == "shared":
        return SharedRegions(SharedFeatures(checkpoint, placement), mirrored=mirrored, with_features=with_features)
    return GoogLeNetRegions(
        checkpoint, placement, mirrored=mirrored, batch_size=batch_size, with_features=with_features
    )


def shared_features(classify: RegionClassifier) -> SharedFeatures | None:
    """Return the shared features that a classifier, or the first such of an ensemble, works on; None if none does."""
    members = classify.members if isinstance(classify, Ensemble) else [classify]
    return next((member.features for member in members if isinstance(member, SharedRegions)), None)
