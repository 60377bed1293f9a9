"""Names to parts: the weights that ship with the package, proposal generators, and the classifier that uses them."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from classifier.engines import DType, EngineName, place
from classifier.loading import load_weights
from classifier.regions import Ensemble, GoogLeNetRegions, RegionClassifier
from classifier.weights import Checkpoint, WeightsError, read_checkpoint
from detect.multibox import load_multibox
from proposals.generators import build
from proposals.multibox import MultiBox
from proposals.protocol import ProposalGenerator
from proposals.ranking import PREFIX, Ranked

SHIPPED = Path(__file__).parent / "weights"
DEFAULT_REGIONS = "default"
OWN_MULTIBOX = "multibox:"


def built_in_weights() -> dict[str, Path]:
    """Return the weights that ship with the package, by name."""
    return {file.stem: file for file in sorted(SHIPPED.glob("*.safetensors"))}


def weights_file(name: str | Path) -> Path:
    """Return the file of a built-in name, such as `default`, or of a path; `./default` is always a file.

    Raises:
        WeightsError: there is neither such a file nor such a name.
    """
    built_in = built_in_weights()
    path = built_in.get(str(name), Path(name))
    if path.is_file():
        return path
    names = ", ".join(built_in) or "none"
    raise WeightsError(f"--weights {name}: no such file, and no built-in weights of that name (there are: {names})")


def load_regions(name: str | Path) -> Checkpoint:
    """Read the weights of a region classifier by name or path, and check that they are such.

    Raises:
        WeightsError: no such weights, or weights that cannot be used; the message names them.
    """
    checkpoint = read_checkpoint(weights_file(name))
    try:
        checkpoint.check()
    except WeightsError as error:
        raise WeightsError(f"--weights {name}: {error}") from None
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


def load_proposals(name: str, *, device: str = "auto", **options: Any) -> ProposalGenerator:
    """Build a generator from its name, with options of its own; `a+b` is the union of two.

    `multibox:FILE` is MultiBox with weights of your own. `ranked:NAME` has MultiBox put the boxes of a generator into
    the order of how well they fit an object: the MultiBox that the name holds, if it is one of your own.
    """
    parts = [part.strip() for part in name.removeprefix(PREFIX).split("+")]
    own = [part for part in parts if part.startswith(OWN_MULTIBOX)]
    learned: dict[str, Callable[..., MultiBox]] = {
        part: partial(_multibox, part.removeprefix(OWN_MULTIBOX), device=device) for part in ["multibox", *own]
    }
    if not name.startswith(PREFIX):
        return build(name, extra=learned, **options)
    scorer = learned[own[0] if own else "multibox"]()
    return Ranked(build(name.removeprefix(PREFIX), extra=learned, **options), scorer.score, scorer.parameters)


def _multibox(weights: str, *, device: str, **options: Any) -> MultiBox:
    return load_multibox(weights_file(weights), device=device, **options)
