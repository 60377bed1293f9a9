"""Networks in 8 bits: grids by hand and by their properties, ranges, and what OpenVINO makes of them."""

import importlib.util

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from classifier.rounding import Grid, Point, RoundedConv2d, best_reach, find_ranges, is_rounded, rounded

POINTS = [Point("pixels", inputs=("first",), signed=True), Point("middle", outputs=("active",))]


class Small(nn.Module):
    """Three convolutions, of which the last is to stay exact."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
            self.last = nn.Conv2d(16, 2, 1)
        self.active = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(self.second(self.active(self.first(x))))
        return found


def pixels(seed: int = 0) -> Tensor:
    return torch.rand((1, 3, 12, 12), generator=torch.Generator().manual_seed(seed)) * 255 - 120


def test_grids_by_hand() -> None:
    values = torch.tensor([-3.0, 0.4, 0.6, 254.6, 300.0])
    assert Grid(255)(values).tolist() == [0, 0, 1, 255, 255]
    assert Grid(127, signed=True)(values).tolist() == [-3, 0, 1, 127, 127]


@given(st.floats(0.01, 1e4), st.booleans(), st.lists(st.floats(-1e5, 1e5, width=32), min_size=1, max_size=20))
def test_grids_keep_what_is_on_them_and_move_nothing_far(reach: float, signed: bool, values: list[float]) -> None:
    grid, x = Grid(reach, signed=signed), torch.tensor(values)
    once = grid(x)
    assert torch.allclose(grid(once), once, rtol=1e-5, atol=0)
    inside = x.clamp(grid.low * grid.step, grid.high * grid.step)
    assert ((once - inside).abs() <= grid.step * 0.501 + 1e-5 * reach).all()


def test_weights_are_rounded_by_channel_to_seven_bits() -> None:
    layer = nn.Conv2d(2, 2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[63.0, 0.6], [0.63, -0.016]]).view(2, 2, 1, 1))
    one = torch.eye(2).view(2, 2, 1, 1)
    assert torch.allclose(RoundedConv2d(layer)(one).view(2, 2).T, torch.tensor([[63.0, 1.0], [0.63, -0.02]]))


def test_a_layer_of_zeros_stays_one() -> None:
    layer = nn.Conv2d(1, 1, 1)
    nn.init.zeros_(layer.weight)
    assert torch.allclose(RoundedConv2d(layer)(torch.ones(1, 1, 2, 2)), layer(torch.ones(1, 1, 2, 2)))
    assert best_reach(np.zeros(9, np.float32), signed=False) > 0


def test_a_rare_giant_is_cut_off() -> None:
    crowd = np.random.default_rng(0).random(20_000, np.float32)
    assert best_reach(crowd, signed=False) == pytest.approx(1, abs=0.01)
    assert best_reach(np.append(crowd, np.float32(3)), signed=False) < 3


def test_a_network_rounds_where_it_is_to_and_the_first_stays_as_it_was() -> None:
    network = Small().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    ranges = find_ranges(network, POINTS, [pixels(seed) for seed in range(4)])
    assert ranges["pixels"] == pytest.approx(135, rel=0.05)
    with torch.no_grad():
        small, exact = rounded(network, POINTS, ranges, exact=("last",)), network(pixels())
        off = (small(pixels()) - exact).abs().max() / exact.abs().max()
    assert 0 < off < 0.05
    assert is_rounded(small)
    assert not is_rounded(network)
    assert type(small.last) is nn.Conv2d
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not network.first._forward_pre_hooks


@pytest.mark.parametrize("value", [None, 0, -1.0, float("nan"), float("inf"), "2"])
def test_odd_ranges_are_named(value: object) -> None:
    with pytest.raises(ValueError, match=r"^the range of middle is .*, not a number above 0"):
        rounded(Small(), POINTS, {"pixels": 1.0, "middle": value})


def test_no_photos_give_no_ranges() -> None:
    with pytest.raises(ValueError, match="there are no photos to find the ranges on"):
        find_ranges(Small(), POINTS, [])


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_openvino_computes_with_whole_numbers_what_torch_rounds() -> None:
    from classifier.converted import openvino_core, openvino_model

    network = rounded(Small(), POINTS, {"pixels": 135.0, "middle": 200.0}, exact=("last",))
    model = openvino_model(network, pixels())
    compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with torch.no_grad():
        expected = network(pixels()).numpy()
    found = compiled([pixels().numpy()])[0]
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    kinds = [str(each.get_rt_info()["primitiveType"].value) for each in compiled.get_runtime_model().get_ops()
             if each.get_rt_info()["layerType"].value == "Convolution"]  # fmt: skip
    assert sum(kind.upper().endswith("I8") for kind in kinds) == 2, kinds
