"""torchvision's GoogLeNet weights: a `.pth` file, or its own download of the ImageNet ones."""

import hashlib
import pickle
import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from classifier.weights.caffe import class_names
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.fitting import WeightsError
from classifier.weights.preprocessing import Preprocessing
from structures.files import regular_file
from structures.npz import NpzError, check_archive

TRANSFORM_INPUT = Preprocessing(  # what torchvision's normalisation and its transform_input come to: [-1, 1]
    channels="RGB", mean=(127.5, 127.5, 127.5), scale=(1 / 127.5, 1 / 127.5, 1 / 127.5), antialias=True
)
PREFIXES = re.compile(r"^(module\.|_orig_mod\.)+")  # of DistributedDataParallel and torch.compile
WRAPPERS = ("state_dict", "model_state_dict", "model")  # names under which training scripts put the weights


def read_pth(path: str | Path) -> Checkpoint:
    """Read a state dict of torchvision's GoogLeNet, as it is or inside the dict of a training script.

    The preprocessing is that of torchvision's switch `transform_input`, of which the file says nothing. It is on in
    `googlenet(weights=...)` and all that was trained from there, and off in a network that was trained from scratch,
    whose preprocessing is TORCHVISION.

    Args:
        path: the file; nothing in it is run.

    Raises:
        WeightsError: missing, damaged, holding more than tensors, or not GoogLeNet.
    """
    try:
        check_archive(path)
        with torch.serialization.safe_globals([Namespace]):  # options stored with the weights, plain values
            content = torch.load(regular_file(path), map_location="cpu", weights_only=True)
    except NpzError as error:
        raise WeightsError(str(error)) from None
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file") from None
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path}: refused, for it holds more than tensors{_what_it_asks(error)}") from None
    except Exception as error:  # on garbage torch's unpickler raises IndexError, KeyError, struct.error and more
        raise WeightsError(f"{path}: not a readable .pth file: {_first_line(error)}") from error
    return from_state_dict(_weights_in(content, path), path)


def from_state_dict(state: Mapping[str, Tensor], source: str | Path) -> Checkpoint:
    """Make a checkpoint of torchvision's state dict; the names are ours already.

    Raises:
        WeightsError: there is no last layer in it.
    """
    bias = state.get("fc.bias")
    if bias is None or bias.dim() != 1 or not bias.is_contiguous():  # else a few bytes could ask for endless classes
        raise WeightsError(f"{source}: not a GoogLeNet of torchvision: no fc.bias of one axis in it")
    return Checkpoint(
        state=state,
        classes=class_names(len(bias)),
        preprocessing=TRANSFORM_INPUT,
        variant="batchnorm",
        training={"source": Path(source).name},
    )


def download_imagenet() -> Checkpoint:
    """Fetch torchvision's ImageNet weights, or take them from its cache; the auxiliary ones were never trained.

    Raises:
        WeightsError: no connection, or the file is not the one that torchvision published.
    """
    from torchvision.models import GoogLeNet_Weights  # here, as torchvision takes long to import

    weights = GoogLeNet_Weights.IMAGENET1K_V1
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        if cached.exists() and not _is_published(cached):  # torch checks only what it fetches
            raise WeightsError(f"{cached}: not the file that torchvision published; remove it to fetch it again")
        state = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except WeightsError:
        raise
    except Exception as error:  # of the connection, the disk and the unpickler
        raise WeightsError(
            f"imagenet: torchvision's weights cannot be fetched ({_first_line(error)}); name a file of your own as "
            f"`weights`, or put {weights.url} into {cached.parent}"
        ) from error
    trained = {name: value for name, value in state.items() if not name.startswith("aux")}
    return from_state_dict(trained, weights.url)


def _weights_in(content: Any, path: str | Path) -> Mapping[str, Tensor]:
    for name in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{path}: not a state dict")
    return {PREFIXES.sub("", str(name)): value for name, value in content.items()}


def _is_published(file: Path) -> bool:
    """Say whether a file is the one that its name, googlenet-1378be20.pth, promises."""
    return hashlib.sha256(file.read_bytes()).hexdigest().startswith(file.stem.split("-")[-1])


def _what_it_asks(error: Exception) -> str:
    """Return the name of what a pickle wanted to make; torch's own message is about its options."""
    asked = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f", such as {asked[1]}" if asked else ""


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
