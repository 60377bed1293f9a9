"""`rcnn export`: a classifier as ONNX or OpenVINO."""

from pathlib import Path
from typing import Annotated

import typer

from detect.commands.groups import examples
from structures.text import printable


@examples("rcnn export default --out net.onnx", "rcnn export net.safetensors --out net.xml --to openvino")
def export(
    weights: Annotated[str, typer.Argument(help="Weights of an image or region classifier: built-in name or file.")],
    out: Annotated[Path, typer.Option(help="File to write: .onnx, or .xml for OpenVINO.")],
    to: Annotated[str | None, typer.Option(help="onnx or openvino.", show_default="by the suffix of OUT")] = None,
) -> None:
    """Write a classifier as ONNX or OpenVINO: RGB pixels from 0 to 255 in, probabilities out, any batch size."""
    from classifier.export import export as write
    from classifier.export import files_of, format_of, largest_difference
    from detect.classifiers import load_checkpoint
    from structures.own_files import check_outputs

    form = to or format_of(out)
    check_outputs(files_of(out, form), [weights])
    checkpoint = load_checkpoint(weights)
    write(checkpoint, out, form)
    most = largest_difference(checkpoint, out)
    print(f"written to {printable(out)}; the logarithms of its probabilities differ from torch's by at most {most:.1e}")
