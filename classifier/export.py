"""A classifier as an ONNX or OpenVINO file: pixels in, probabilities out, any number of crops per batch.

The normalisation is inside, so that nobody has to guess it: the input `pixels` is float32 (N, 3, S, S), RGB, 0 to 255;
the output `probabilities` is (N, columns). Classes and preprocessing are in the file's metadata. Auxiliary classifiers
are left out.
"""

import importlib.util
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from classifier.converted import model_files, openvino_core
from classifier.crops import normalise_pixels
from classifier.regions import Probabilities
from classifier.weights.checkpoint import OWN_NETWORK, Checkpoint
from classifier.weights.fitting import WeightsError
from structures.boxes import Floats
from structures.errors import InputError
from structures.extras import import_openvino
from structures.files import FileRefused, replacing, write_bytes
from structures.names import not_one_of

EXAMPLE_BATCH = 2  # torch.export takes a batch of one for a constant
METADATA_PREFIX = "googlenet_rcnn_"
WRITE_ONNX = ("torch", "onnx", "onnxscript", "protobuf")
LEAST = 1e-30  # smaller probabilities are taken for this: float32 ends at 1e-38


class ExportError(InputError):
    """An export that cannot be made here; the message says what is missing."""


class FromPixels(nn.Module):
    """A classifier with its normalisation before it and softmax after it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.preprocessing = checkpoint.preprocessing
        self.probabilities = Probabilities(checkpoint.network())

    def forward(self, pixels: Tensor) -> Tensor:
        """Map RGB (N, 3, S, S) of 0 to 255 to (N, columns) probabilities."""
        rows: Tensor = self.probabilities(normalise_pixels(pixels, self.preprocessing))
        return rows


def export_onnx(checkpoint: Checkpoint, path: Path) -> None:
    """Write a classifier as one ONNX file.

    Raises:
        ExportError: the packages for it are not installed, or their versions do not work together.
        WeightsError: not the weights of a classifier.
    """
    _need("onnx", "onnxscript", "onnxruntime")  # the last one compares the file with torch
    program = torch.onnx.export(
        _exportable(checkpoint),
        (_example(checkpoint),),
        dynamo=True,
        input_names=["pixels"],
        output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    try:
        model = program.model_proto
    except RuntimeError as error:
        if not isinstance(_innermost(error), TypeError):
            raise
        used = ", ".join(f"{name} {version(name)}" for name in WRITE_ONNX)  # torch 2.5 with protobuf 7: True for 1
        raise ExportError(f"no ONNX file can be written with {used}; take a newer torch, or protobuf<7") from error
    for name, value in _metadata(checkpoint).items():
        model.metadata_props.add(key=METADATA_PREFIX + name, value=value)
    write_bytes(path, model.SerializeToString())


def export_openvino(checkpoint: Checkpoint, path: Path) -> None:
    """Write a classifier as OpenVINO's pair of files, PATH.xml and PATH.bin.

    Raises:
        ExportError: OpenVINO is not installed.
        WeightsError: not the weights of a classifier.
    """
    _need("openvino")
    openvino = import_openvino()
    program = torch.export.export(
        _exportable(checkpoint), (_example(checkpoint),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    side = checkpoint.preprocessing.size
    model = openvino.convert_model(program, input=[openvino.PartialShape([-1, 3, side, side])])  # else all are open
    model.inputs[0].set_names({"pixels"})
    model.outputs[0].set_names({"probabilities"})
    for name, value in _metadata(checkpoint).items():
        model.set_rt_info(value, [METADATA_PREFIX + name])
    halves = all(value.dtype == torch.float16 for value in checkpoint.state.values() if value.is_floating_point())
    xml, numbers = model_files(model, halves=halves)
    with replacing(path) as text, replacing(path.with_suffix(".bin")) as binary:  # put in place from the last on
        binary.write_bytes(numbers)
        text.write_bytes(xml)


FORMATS: Mapping[str, tuple[str, Callable[[Checkpoint, Path], None]]] = {
    "onnx": (".onnx", export_onnx),
    "openvino": (".xml", export_openvino),
}


def format_of(path: Path) -> str:
    """Return the format of a file by its suffix.

    Raises:
        ExportError: no format has this suffix.
    """
    form = next((name for name, (suffix, _) in FORMATS.items() if path.suffix == suffix), None)
    if form is None:
        known = " or ".join(f"{suffix} ({name})" for name, (suffix, _) in FORMATS.items())
        raise ExportError(f"{path}: name a file that ends in {known}")
    return form


def files_of(path: Path, form: str) -> list[Path]:
    """Return the files that an export writes."""
    return [path, path.with_suffix(".bin")] if form == "openvino" else [path]


def export(checkpoint: Checkpoint, path: Path, form: str) -> None:
    """Write a classifier in one of FORMATS.

    Raises:
        ExportError: unknown format, wrong suffix, or packages that are not installed.
        FileRefused: OpenVINO's second file, which was not named, would replace one that is not ours.
        WeightsError: not the weights of a classifier.
    """
    if form not in FORMATS:
        raise ExportError(f"`form` {not_one_of(form, FORMATS)}")
    suffix, write = FORMATS[form]
    if path.suffix != suffix:
        raise ExportError(f"{path}: a file for {form} ends in {suffix}")
    if form == "openvino":
        _require_own_binary(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' own, about their insides
        write(checkpoint, path)


def _require_own_binary(path: Path) -> None:
    binary = path.with_suffix(".bin")
    if binary.exists() and not (path.is_file() and METADATA_PREFIX.encode() in path.read_bytes()):
        raise FileRefused(f"{binary}: would be written with {path.name}, but rcnn did not write it; name another file")


def run_exported(path: Path, pixels: Floats) -> Floats:
    """Run an exported file in onnxruntime or OpenVINO on the CPU, in float32: to compare it with torch."""
    if path.suffix == ".onnx":
        _need("onnxruntime")
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        rows: Floats = session.run(None, {"pixels": pixels})[0]
        return rows
    compiled: Any = openvino_core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    rows = compiled({"pixels": pixels})["probabilities"]
    return rows


def largest_difference(checkpoint: Checkpoint, path: Path) -> float:
    """Return the largest difference of a probability's logarithm between torch and an exported file, on random crops.

    Of the logarithm, since a classifier of regions is sure that noise is background: its probabilities are all but 0
    or 1, and would agree where its logits do not.
    """
    side = checkpoint.preprocessing.size
    pixels = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(0)) * 255
    with torch.inference_mode():
        expected = FromPixels(checkpoint).eval()(pixels)
    rows = torch.from_numpy(run_exported(path, pixels.numpy()))
    return float((rows.clamp(min=LEAST).log() - expected.clamp(min=LEAST).log()).abs().max())


def _exportable(checkpoint: Checkpoint) -> nn.Module:
    if checkpoint.task in OWN_NETWORK:
        raise WeightsError(f"weights of the task {checkpoint.task} cannot be exported, only those of classifiers")
    return FromPixels(checkpoint).eval()


def _example(checkpoint: Checkpoint) -> Tensor:
    return torch.zeros(EXAMPLE_BATCH, 3, checkpoint.preprocessing.size, checkpoint.preprocessing.size)


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    columns = [*checkpoint.classes, *(["background"] if checkpoint.task == "regions" else [])]
    return {"columns": json.dumps(columns), "preprocessing": json.dumps(asdict(checkpoint.preprocessing))}


def _innermost(error: BaseException) -> BaseException:
    return error if error.__cause__ is None else _innermost(error.__cause__)


def _need(*modules: str) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(f"{' and '.join(missing)} must be installed first: pip install {' '.join(missing)}")
