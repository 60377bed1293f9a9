"""Loads weights from anywhere: a name, or a file of this package, of Caffe or of torchvision."""

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from classifier.weights.caffe import read_caffe, read_npz
from classifier.weights.checkpoint import Checkpoint, read_checkpoint
from classifier.weights.fitting import WeightsError
from classifier.weights.torchvision import download_imagenet, read_pth
from structures.errors import InputError
from structures.names import did_you_mean

READERS: Mapping[str, Callable[[str | Path], Checkpoint]] = {
    ".safetensors": read_checkpoint,
    ".npz": read_npz,
    ".caffemodel": read_caffe,
    ".pth": read_pth,
    ".pt": read_pth,
}
IMAGENET = "imagenet"
BVLC = "http://dl.caffe.berkeleyvision.org/bvlc_googlenet.caffemodel"


def load_weights(name_or_path: str | Path, named: Mapping[str, Path] | None = None) -> Checkpoint:
    """Read weights and check that they fit their network.

    Args:
        name_or_path: `imagenet` for torchvision's download, a name in `named`, or a file whose suffix says its format.
        named: further names and the files behind them; a file of that name in the working folder comes second.

    Raises:
        WeightsError: no such name or file, an unknown format, or weights that cannot be used; the message names it.
    """
    name, files = str(name_or_path), named or {}
    if name == IMAGENET:
        return _checked(download_imagenet(), name)
    path = files[name] if name in files else Path(name)
    if path.suffix.lower() not in READERS or not path.is_file():
        known, hint = ", ".join([IMAGENET, *files, *_patterns()]), did_you_mean(name, [IMAGENET, *files])
        raise WeightsError(f"{name}: {_what_is_wrong(path)}; weights are {known}{hint}")
    return _checked(READERS[path.suffix.lower()](path), path)


def _what_is_wrong(path: Path) -> str:
    if path.is_dir():
        return "a folder"
    if path.is_file():
        return "not a known format"
    return "no such file or name" + (f" (it is at {BVLC})" if path.name == PurePosixPath(BVLC).name else "")


def _patterns() -> list[str]:
    return [f"a file *{suffix}" for suffix in READERS]


def _checked(checkpoint: Checkpoint, source: str | Path) -> Checkpoint:
    try:
        checkpoint.check()
    except InputError as error:
        raise WeightsError(f"{source}: {error}") from None
    return checkpoint
