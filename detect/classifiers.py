"""Names to networks: the weights that ship with the package, and the classifiers that they make."""

from collections.abc import Sequence
from pathlib import Path

from classifier.engines import DType, EngineName, place
from classifier.regions import Ensemble, GoogLeNetRegions, RegionClassifier
from classifier.weights.checkpoint import Checkpoint, WeightsError
from classifier.weights.load import load_weights
from structures.names import did_you_mean

SHIPPED = Path(__file__).parent / "weights"


def built_in_weights() -> dict[str, Path]:
    """Return the weights that ship with the package, by name."""
    return {file.stem: file for file in sorted(SHIPPED.glob("*.safetensors"))}


def weights_file(name: str | Path, *, option: str = "--weights") -> Path:
    """Return the file of a built-in name, such as `default`, or of a path; `./default` is always a file.

    Args:
        name: a name or a path.
        option: that it came from, for the error.

    Raises:
        WeightsError: there is neither such a file nor such a name.
    """
    built_in = built_in_weights()
    path = built_in.get(str(name), Path(name))
    if path.is_file():
        return path
    names, hint = ", ".join(built_in) or "none", did_you_mean(str(name), built_in)
    raise WeightsError(
        f"{option} {name}: no such file, and no built-in weights of that name (there are: {names}){hint}"
    )


def load_regions(name: str | Path) -> Checkpoint:
    """Read the weights of a region classifier by name or path, and check that they are such.

    Raises:
        WeightsError: no such weights, or weights that cannot be used; the message names them.
    """
    checkpoint = load_weights(weights_file(name))
    if checkpoint.task != "regions":
        raise WeightsError(f"--weights {name}: these are for {checkpoint.task}, a region classifier is needed")
    return checkpoint


def load_checkpoint(name: str | Path) -> Checkpoint:
    """Read the weights of any network, for whatever use: built-in, a file of any known format, or `imagenet`."""
    return load_weights(name, built_in_weights())


def load_classifier(
    weights: str | Path | Sequence[str | Path],
    *,
    device: str = "auto",
    engine: EngineName = "auto",
    dtype: DType = "auto",
    mirrored: bool = False,
    batch_size: int | None = None,
) -> RegionClassifier:
    """Put one region classifier, or an ensemble where several weights are named, to work on a device."""
    names = [weights] if isinstance(weights, str | Path) else list(weights)
    placement = place(device=device, engine=engine, dtype=dtype)
    members = [
        GoogLeNetRegions(load_regions(name), placement, mirrored=mirrored, batch_size=batch_size) for name in names
    ]
    return members[0] if len(members) == 1 else Ensemble(members)
