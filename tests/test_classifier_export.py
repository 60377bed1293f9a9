"""Exported files answer as torch does, for any batch, with the normalisation inside."""

import importlib.util
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from classifier.crops import normalise_pixels
from classifier.export import (
    FORMATS,
    METADATA_PREFIX,
    ExportError,
    export,
    format_of,
    largest_difference,
    run_exported,
)
from classifier.googlenet import GoogLeNet
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.fitting import WeightsError
from classifier.weights.last_layer import for_regions
from classifier.weights.preprocessing import CAFFE, TORCHVISION
from structures.extras import import_openvino

SIDE = 64


@pytest.fixture(scope="module", params=["images onnx", "regions onnx", "images openvino", "regions openvino"])
def case(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def checkpoint(case: str) -> Checkpoint:
    torch.manual_seed(0)
    if case.startswith("images"):  # the paper's variant, with auxiliary classifiers that must not come along
        network = GoogLeNet(5, auxiliary=True)
        return Checkpoint(network.state_dict(), tuple("abcde"), replace(CAFFE, size=SIDE, resize=SIDE))
    network = GoogLeNet(5, variant="batchnorm")
    images = Checkpoint(network.state_dict(), tuple("abcde"), replace(TORCHVISION, size=SIDE, resize=SIDE), "batchnorm")
    regions = for_regions(images, ("x", "y"))
    lively = regions.state["fc.weight"] * 300  # so that the answer depends on the picture
    return replace(regions, state={**regions.state, "fc.weight": lively})


@pytest.fixture(scope="module")
def exported(case: str, checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    form = case.split()[1]
    for module in {"onnx": ("onnxscript", "onnxruntime"), "openvino": ("openvino",)}[form]:
        pytest.importorskip(module, reason="needs the extra packages of rcnn export")
    path = tmp_path_factory.mktemp("export") / f"net{FORMATS[form][0]}"
    export(checkpoint, path, form)
    return path


class Unwritable:
    """A program whose parts a library refuses, one cause behind the other."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    @property
    def model_proto(self) -> object:
        raise RuntimeError("Error calling serialize_model_into") from self.error


@pytest.mark.parametrize(
    ("refused", "raised", "complaint"),
    [
        (TypeError("Expected an int, got a boolean."), ExportError, r"torch \d.*, protobuf \d.*; take a newer torch"),
        (ValueError("too large"), RuntimeError, "Error calling"),
    ],
)
def test_libraries_that_do_not_write_onnx_together_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Exception, raised: type[Exception], complaint: str
) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra packages of rcnn export")
    pytest.importorskip("onnxruntime", reason="needs the extra packages of rcnn export")
    monkeypatch.setattr("torch.onnx.export", lambda *arguments, **options: Unwritable(refused))
    weights = Checkpoint(GoogLeNet(5).state_dict(), tuple("abcde"), CAFFE)
    with pytest.raises(raised, match=complaint):
        export(weights, tmp_path / "net.onnx", "onnx")


@pytest.mark.parametrize("batch", [1, 3])
def test_any_batch_gives_the_probabilities_of_torch(checkpoint: Checkpoint, exported: Path, batch: int) -> None:
    pixels = torch.randint(0, 256, (batch, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(1)).float()
    with torch.inference_mode():
        expected = checkpoint.network()(normalise_pixels(pixels, checkpoint.preprocessing)).softmax(1)
    got = run_exported(exported, pixels.numpy())
    assert got.shape == (batch, len(checkpoint.classes) + (checkpoint.task == "regions"))
    assert np.abs(got - expected.numpy()).max() < 1e-4


def test_a_file_of_other_weights_is_seen_to_differ(checkpoint: Checkpoint, exported: Path) -> None:
    assert largest_difference(checkpoint, exported) < 1e-4
    bias = checkpoint.state["fc.bias"].clone()
    bias[0] += 0.01
    assert largest_difference(replace(checkpoint, state={**checkpoint.state, "fc.bias": bias}), exported) > 1e-3


def test_the_file_knows_its_columns_and_preprocessing(checkpoint: Checkpoint, exported: Path) -> None:
    if exported.suffix == ".onnx":
        import onnx

        model = onnx.load(exported)
        known = {each.key: each.value for each in model.metadata_props}
        assert not any("aux" in each.name for each in model.graph.initializer)
    else:
        model = import_openvino().Core().read_model(exported)
        names = [METADATA_PREFIX + name for name in ("columns", "preprocessing")]
        known = {name: model.get_rt_info([name]).astype(str) for name in names}
    columns, preprocessing = (json.loads(known[METADATA_PREFIX + name]) for name in ("columns", "preprocessing"))
    own = checkpoint.preprocessing
    assert preprocessing == {**asdict(own), "mean": [*own.mean], "scale": [*own.scale]}  # JSON has no tuples
    assert columns == [*checkpoint.classes, *(["background"] if checkpoint.task == "regions" else [])]


def test_nothing_but_the_files_is_left(exported: Path) -> None:
    names = sorted(each.name for each in exported.parent.iterdir())
    assert names == (["net.onnx"] if exported.suffix == ".onnx" else ["net.bin", "net.xml"])


def test_what_cannot_be_exported_is_explained(tmp_path: Path, monkeypatch) -> None:
    checkpoint = Checkpoint(GoogLeNet(5).state_dict(), tuple("abcde"))
    with pytest.raises(ExportError, match="'tflite' is not one of onnx, openvino"):
        export(checkpoint, tmp_path / "net.tflite", "tflite")
    with pytest.raises(ExportError, match=r"net\.xml: a file for onnx ends in \.onnx"):
        export(checkpoint, tmp_path / "net.xml", "onnx")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    complaint = r"onnx and onnxscript and onnxruntime must be installed first: pip install onnx onnxscript onnxruntime$"
    with pytest.raises(ExportError, match=complaint):
        export(checkpoint, tmp_path / "net.onnx", "onnx")
    with pytest.raises(ExportError, match=r"openvino must be installed first: pip install openvino$"):
        export(checkpoint, tmp_path / "net.xml", "openvino")
    monkeypatch.undo()
    with pytest.raises(WeightsError, match="of the task multibox cannot be exported"):
        export(replace(checkpoint, task="multibox"), tmp_path / "net.xml", "openvino")
    assert list(tmp_path.iterdir()) == []


def test_the_input_is_crops_of_one_size_and_any_number(exported: Path) -> None:
    if exported.suffix == ".onnx":
        import onnx

        shape = onnx.load(exported).graph.input[0].type.tensor_type.shape.dim
        batch, *rest = [each.dim_value or each.dim_param for each in shape]
        assert batch in ("batch", "s0")  # as PyTorch 2.5 names it
        assert rest == [3, SIDE, SIDE]
    else:
        shape = import_openvino().Core().read_model(exported).input("pixels").partial_shape
        assert str(shape) == f"[?,3,{SIDE},{SIDE}]"


@pytest.mark.parametrize(("name", "form"), [("net.onnx", "onnx"), ("a/net.xml", "openvino"), ("net.pb", None)])
def test_the_suffix_says_the_format(name: str, form: str | None) -> None:
    if form is None:
        with pytest.raises(
            ExportError, match=r"net\.pb: name a file that ends in \.onnx \(onnx\) or \.xml \(openvino\)"
        ):
            format_of(Path(name))
    else:
        assert format_of(Path(name)) == form


def test_the_command_takes_the_format_from_the_suffix(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("classifier.export.export", lambda checkpoint, path, form: asked.append(form))
    monkeypatch.setattr("classifier.export.largest_difference", lambda checkpoint, path: 0.0)
    for out, words in (("a.onnx", []), ("a.xml", []), ("b.xml", ["--to", "openvino"])):
        assert rcnn("export", "default", "--out", tmp_path / out, *words) == 0
    assert asked == ["onnx", "openvino", "openvino"]
    assert rcnn("export", "default", "--out", tmp_path / "net") == 2
    assert "net: name a file that ends in .onnx (onnx) or .xml (openvino)" in capsys.readouterr().err
