"""GoogLeNet against Table 1, against torchvision, and against itself written out in plain function calls."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import googlenet

from classifier.googlenet import (
    LAYERS,
    TABLE_1,
    Auxiliary,
    GoogLeNet,
    LocalResponseNorm,
    TrainingLogits,
    layers_between,
)
from classifier.weights.caffe import from_arrays, layer_names, read_npz
from classifier.weights.torchvision import from_state_dict

LADDER = {  # Table 1's output column: channels and side
    "conv1": (64, 112),
    "maxpool1": (64, 56),
    "lrn1": (64, 56),
    "conv2": (64, 56),
    "conv3": (192, 56),
    "lrn2": (192, 56),
    "maxpool2": (192, 28),
    "inception3a": (256, 28),
    "inception3b": (480, 28),
    "maxpool3": (480, 14),
    "inception4a": (512, 14),
    "inception4b": (512, 14),
    "inception4c": (512, 14),
    "inception4d": (528, 14),
    "inception4e": (832, 14),
    "maxpool4": (832, 7),
    "inception5a": (832, 7),
    "inception5b": (1024, 7),
}
TORCHVISION_PARAMETERS = 6_624_904  # GoogLeNet_Weights.IMAGENET1K_V1.meta["num_params"]


def count(module: nn.Module | None) -> int:
    assert module is not None
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def paper() -> GoogLeNet:
    torch.manual_seed(0)
    return GoogLeNet(auxiliary=True).eval()


@pytest.mark.parametrize("variant", ["paper", "batchnorm"])
def test_shape_ladder_of_table_1(variant) -> None:
    network = GoogLeNet(10, variant=variant).eval()
    assert tuple(LADDER) == LAYERS
    x, before = torch.zeros(2, 3, 224, 224), None
    for layer, (channels, side) in LADDER.items():
        x = network.trunk(x, after=before, last=layer)
        assert x.shape == (2, channels, side, side), layer
        before = layer
    assert network.classify(x).shape == (2, 10)


def test_modules_output_what_the_next_one_takes() -> None:
    rows = list(TABLE_1.values())
    assert [row.outputs for row in rows[:-1]] == [row.inputs for row in rows[1:]]


def test_parameter_counts(paper: GoogLeNet) -> None:
    assert count(GoogLeNet()) == 6_998_552
    assert count(paper.aux1) == 3_188_840
    assert count(paper.aux2) == 3_190_888
    assert count(GoogLeNet(variant="batchnorm")) == TORCHVISION_PARAMETERS


def test_22_layers_with_parameters_deep(paper: GoogLeNet) -> None:
    stem_and_last = 3 + 1
    assert stem_and_last + 2 * len(TABLE_1) == 22
    assert sum(isinstance(module, nn.Conv2d) for module in GoogLeNet().modules()) == 3 + 6 * len(TABLE_1)


def test_training_gives_three_logits_and_evaluation_one(paper: GoogLeNet) -> None:
    x = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        assert paper(x).shape == (2, 1000)
        paper.train()
        logits = paper(x)
        paper.eval()
    assert isinstance(logits, TrainingLogits)
    assert [tuple(part.shape) for part in logits] == [(2, 1000)] * 3


def test_auxiliary_classifiers_stand_on_4a_and_4d_and_are_skipped_in_evaluation(paper: GoogLeNet) -> None:
    seen: list[tuple[int, ...]] = []
    hooks = [m.register_forward_pre_hook(lambda _, x: seen.append(tuple(x[0].shape))) for m in (paper.aux1, paper.aux2)]
    with torch.inference_mode():
        paper(torch.zeros(1, 3, 224, 224))
        assert seen == []
        paper.train()(torch.zeros(1, 3, 224, 224))
    paper.eval()
    for hook in hooks:
        hook.remove()
    assert seen == [(1, 512, 14, 14), (1, 528, 14, 14)]


def test_auxiliary_classifier_of_the_paper_written_out() -> None:
    head = Auxiliary(512, 7, "paper").eval()
    x = torch.randn(2, 512, 14, 14)
    pooled = torch.stack([x[:, :, i : i + 5, j : j + 5].mean((2, 3)) for i in (0, 3, 6, 9) for j in (0, 3, 6, 9)], 2)
    pooled = functional.relu(head.conv.conv(pooled.view(2, 512, 4, 4)))
    expected = head.fc2(functional.relu(head.fc1(pooled.flatten(1))))
    assert torch.allclose(head(x), expected, atol=1e-5)


@pytest.mark.parametrize("variant", ["paper", "batchnorm"])
def test_auxiliary_classifier_drops_seven_tenths_in_training(variant) -> None:
    head, kept = Auxiliary(8, 7, variant), []
    with torch.no_grad():
        head.fc1.bias.fill_(1e6)  # so that nothing but dropout makes a 0
        head.fc2.register_forward_pre_hook(lambda _, x: kept.append((x[0] > 0).float().mean().item()))
        torch.manual_seed(0)
        head.train()(torch.rand(8, 8, 14, 14))
        head.eval()(torch.rand(8, 8, 14, 14))
    assert kept == [pytest.approx(0.3, abs=0.02), 1.0]


@pytest.mark.parametrize("channels", [1, 3, 64])
def test_response_normalisation_is_that_of_torch(channels: int) -> None:
    x = torch.randn(2, channels, 5, 6) * 200  # as large as BVLC's activations, so that the norm does something
    expected = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)(x)
    assert torch.allclose(LocalResponseNorm(channels)(x), expected, rtol=1e-5, atol=1e-5)
    assert (expected - x).abs().max() > 1


def test_trunk_runs_from_and_to_any_layer(paper: GoogLeNet) -> None:
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        whole = paper.trunk(x)
        middle = paper.trunk(x, last="inception4d")
        assert torch.equal(paper.trunk(middle, after="inception4d"), whole)
    assert middle.shape == (1, 528, 4, 6)
    with pytest.raises(ValueError, match="'inception6a' is not one of conv1"):
        layers_between(None, "inception6a")
    with pytest.raises(ValueError, match="not one of paper, batchnorm"):
        GoogLeNet(variant="v4")  # type: ignore[arg-type]


def randomised_torchvision(seed: int = 0) -> nn.Module:
    """torchvision's network with lively batch statistics: with the fresh ones a wrong epsilon would go unseen."""
    torch.manual_seed(seed)
    network = googlenet(weights=None, init_weights=False, transform_input=True, aux_logits=True).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.01, 0.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    network.fc.weight.data *= 0.1  # logits of about 10, as those of ImageNet's weights
    return network


def test_state_dict_of_torchvision_loads_as_it_is() -> None:
    theirs = randomised_torchvision()
    theirs.transform_input = False
    ours = GoogLeNet(variant="batchnorm", auxiliary=True).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        expected = theirs(x)
        assert expected.std() > 1
        assert (ours(x) - expected).abs().max() < 1e-5


def test_transform_input_is_the_same_as_its_preprocessing() -> None:
    theirs = randomised_torchvision()
    checkpoint = from_state_dict(theirs.state_dict(), "x.pth")
    pixels = torch.randint(0, 256, (1, 3, 224, 224)).float()
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (pixels / 255 - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
    own = checkpoint.preprocessing
    ours = (pixels - torch.tensor(own.mean).view(3, 1, 1)) * torch.tensor(own.scale).view(3, 1, 1)
    with torch.inference_mode():
        expected = theirs(normalised)
        assert expected.std() > 1
        assert (checkpoint.network()(ours) - expected).abs().max() < 1e-5


def plain_forward(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """The paper's network from Caffe's arrays, without any code of the classifier."""

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        kernel = w[f"{name}/weight"]
        return functional.relu(functional.conv2d(x, kernel, w[f"{name}/bias"], stride, kernel.shape[-1] // 2))

    def pool(x: Tensor, stride: int = 2, padding: int = 0) -> Tensor:
        return functional.max_pool2d(x, 3, stride, padding, ceil_mode=True)

    def norm(x: Tensor) -> Tensor:
        return functional.local_response_norm(x, 5, 1e-4, 0.75, 1.0)

    def inception(name: str, x: Tensor) -> Tensor:
        three = conv(f"{name}/3x3", conv(f"{name}/3x3_reduce", x))
        five = conv(f"{name}/5x5", conv(f"{name}/5x5_reduce", x))
        return torch.cat([conv(f"{name}/1x1", x), three, five, conv(f"{name}/pool_proj", pool(x, 1, 1))], 1)

    x = norm(pool(conv("conv1/7x7_s2", x, 2)))
    x = pool(norm(conv("conv2/3x3", conv("conv2/3x3_reduce", x))))
    x = pool(inception("inception_3b", inception("inception_3a", x)))
    for letter in "abcde":
        x = inception(f"inception_4{letter}", x)
    x = inception("inception_5b", inception("inception_5a", pool(x)))
    x = functional.avg_pool2d(x, 7).flatten(1)
    return x @ w["loss3/classifier/weight"].view(1000, 1024).T + w["loss3/classifier/bias"].view(-1)


def test_any_weights_give_the_logits_of_a_plain_forward_pass() -> None:
    """Weights that keep activations as large as BVLC's, so that the norms do something."""
    torch.manual_seed(0)
    network = GoogLeNet()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            nn.init.normal_(module.bias)
    state = network.state_dict()
    arrays = {f"{caffe}/{k}": state[f"{ours}.{k}"] for caffe, ours in layer_names().items() for k in ("weight", "bias")}
    x = torch.rand(2, 3, 224, 224) * 255 - 110
    with torch.inference_mode():
        expected = plain_forward(arrays, x)
        checkpoint = from_arrays({name: array.numpy() for name, array in arrays.items()}, "random")
        assert (checkpoint.network()(x) - expected).abs().max() < 1e-4 * expected.std()
    assert expected.std() > 1


def test_weights_of_bvlc_give_the_logits_of_a_plain_forward_pass(data_dir: Path) -> None:
    path = data_dir / "weights" / "bvlc_googlenet.npz"
    with np.load(path) as file:
        arrays = {name: torch.from_numpy(file[name].astype(np.float32)) for name in file.files}
    torch.manual_seed(0)
    x = torch.rand(2, 3, 224, 224) * 255 - 110
    with torch.inference_mode():
        expected = plain_forward(arrays, x)
        assert (read_npz(path).network()(x) - expected).abs().max() < 1e-4
    assert expected.std() > 1


def test_the_last_layer_computes_in_float32_whatever_the_rest_does() -> None:
    torch.manual_seed(0)
    network = GoogLeNet(5).bfloat16().eval()
    features = torch.rand(3, 1024, 7, 7).bfloat16()
    logits = network.classify(features)
    weight, bias = network.fc.weight.double(), network.fc.bias.double()
    expected = functional.linear(features.double().mean(dim=(2, 3)), weight, bias)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.double(), expected, rtol=0, atol=1e-6)
