"""The weights that are built into the package, by name: float16 safetensors with their metadata."""

from pathlib import Path

from classifier.weights.fitting import WeightsError
from structures.names import did_you_mean

SHIPPED = Path(__file__).parent


def built_in_weights() -> dict[str, Path]:
    """Return the files of the built-in weights, by name."""
    return {file.stem: file for file in sorted(SHIPPED.glob("*.safetensors"))}


def weights_file(name: str | Path, *, parameter: str = "weights") -> Path:
    """Return the file of built-in weights, such as `default`, or of a path; `./default` is always a path.

    Args:
        name: a name or a path.
        parameter: name of the caller's parameter, for the error.

    Raises:
        WeightsError: there is no such file and no such name.
    """
    built_in = built_in_weights()
    path = built_in.get(str(name), Path(name))
    if path.is_file():
        return path
    names, hint = ", ".join(built_in) or "none", did_you_mean(str(name), built_in)
    raise WeightsError(
        f"`{parameter}` {name}: no such file, and no built-in weights of that name (built in: {names}){hint}"
    )
