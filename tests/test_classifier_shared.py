"""The region head on shared features: dilated layers, where cells look, its shapes, its start, and what it draws."""

import pytest
import torch

from classifier.googlenet import DilatedMaxPool, GoogLeNet, Variant
from classifier.region_draw import RegionDraw
from classifier.shared_regions import PARTS, SHIFT_8, SHIFT_16, RegionMaps, SharedRegionHead, on_map
from classifier.shared_sampling import draw_labelled

CANVAS = (64, 128)


@pytest.fixture(scope="module")
def head() -> SharedRegionHead:
    torch.manual_seed(0)
    return SharedRegionHead(3).eval()


@pytest.fixture(scope="module")
def maps(head: SharedRegionHead) -> RegionMaps:
    torch.manual_seed(1)
    with torch.no_grad():
        return head.maps(torch.rand(2, 480, 8, 16), torch.rand(2, 832, 4, 8), torch.rand(2, 1024, 4, 8))


@pytest.mark.parametrize("variant", ["paper", "batchnorm"])
def test_dilated_layers_give_at_every_second_cell_what_they_gave(variant: Variant) -> None:
    torch.manual_seed(0)
    plain, dilated = GoogLeNet(3, variant=variant).eval(), GoogLeNet(3, variant=variant).eval()
    dilated.load_state_dict(plain.state_dict())
    offset = dilated.dilate()
    four_e = torch.rand(1, 832, 8, 12)
    with torch.no_grad():
        before = plain.trunk(four_e, after="inception4e")
        now = dilated.trunk(four_e, after="inception4e")
    assert now.shape == (1, 1024, 8, 12)
    torch.testing.assert_close(now[:, :, offset::2, offset::2], before)


def test_dilated_pooling_is_that_of_torch() -> None:
    maps = torch.rand(2, 3, 7, 9)
    pool = torch.nn.MaxPool2d(3, stride=1, dilation=2)
    assert torch.equal(DilatedMaxPool()(maps), pool(torch.nn.functional.pad(maps, (2, 2, 2, 2))))


def test_cells_look_as_far_to_the_right_as_the_head_assumes() -> None:
    """Where a cell of the trunk is most sensitive, over many channels and cells: the middle of what it sees."""
    torch.manual_seed(0)
    trunk = GoogLeNet(3).eval()
    for module in trunk.modules():  # every weight alike, so that a cell sees all of its field alike
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    for last, stride, shift in (("inception3b", 8, SHIFT_8), ("inception4e", 16, SHIFT_16)):
        photo = torch.rand(1, 3, 512, 512, requires_grad=True)
        output = trunk.trunk(photo, last=last)
        cell = output.shape[3] // 2
        output[0, :, cell, cell].sum().backward()
        assert photo.grad is not None
        columns = photo.grad.abs().sum(dim=(0, 1, 2))
        middle = float((columns * (torch.arange(512) + 0.5)).sum() / columns.sum())
        assert middle == pytest.approx((cell + 0.5) * stride + shift, abs=stride / 8)


def test_logits_of_regions_of_several_photos(head: SharedRegionHead, maps: RegionMaps) -> None:
    boxes = [torch.tensor([[3.0, 4.0, 60.0, 50.0]]), torch.tensor([[0.0, 0.0, 128.0, 64.0], [5.0, 5.0, 6.0, 6.0]])]
    with torch.no_grad():
        together = head(maps, boxes)
        alone = [head(RegionMaps(*(each[i : i + 1] for each in maps)), [boxes[i]]) for i in range(2)]
    assert together.shape == (3, 3)
    torch.testing.assert_close(together, torch.cat(alone))


def test_no_region_and_a_single_pixel_and_beyond_the_photo(head: SharedRegionHead, maps: RegionMaps) -> None:
    with torch.no_grad():
        assert head(maps, [torch.zeros(0, 4), torch.zeros(0, 4)]).shape == (0, 3)
        odd = torch.tensor([[7.0, 7.0, 8.0, 8.0], [7.0, 7.0, 7.0, 7.0], [-50.0, -9.0, 300.0, 200.0]])
        assert torch.isfinite(head(maps, [odd, odd])).all()


def test_regions_in_chunks_are_those_of_one_pass(
    head: SharedRegionHead, maps: RegionMaps, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(4)
    corners = torch.rand(37, 4) * 40
    boxes = torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:] + 1], dim=1)
    none = torch.zeros(0, 4)
    with torch.no_grad():
        at_once = head(maps, [boxes, none])
        monkeypatch.setattr("classifier.shared_regions.CHUNK", 5)
        torch.testing.assert_close(head(maps, [boxes, none]), at_once)


def test_it_begins_as_the_last_layer_of_a_region_classifier() -> None:
    torch.manual_seed(5)
    head = SharedRegionHead(3).eval()
    torch.nn.init.zeros_(head.predict.weight)
    weight, bias = torch.randn(3, 1024), torch.randn(3)
    head.start_from(weight, bias)
    flat = torch.rand(1, 1024, 1, 1).expand(1, 1024, 6, 6).contiguous()
    with torch.no_grad():
        maps = head.maps(torch.rand(1, 480, 12, 12), torch.rand(1, 832, 6, 6), flat)
        found = head(maps, [torch.tensor([[30.0, 30.0, 70.0, 70.0]])])
    torch.testing.assert_close(found, flat[:, :, 0, 0] @ weight.T + bias, atol=1e-4, rtol=1e-4)


def test_shapes_of_the_maps(head: SharedRegionHead, maps: RegionMaps) -> None:
    assert [tuple(each.shape[1:]) for each in maps] == head.map_shapes(CANVAS)
    assert maps.parts.shape[1] == 3 * PARTS**2


def test_boxes_come_to_the_squares_that_show_them() -> None:
    assert on_map(torch.tensor([[6.5, 22.5, 38.5, 38.5]]), 16, SHIFT_16).tolist() == [[0, 1, 2, 2]]


def labelled(candidates: list[list[float]], **options: object) -> list[int]:
    objects = torch.tensor([[10.0, 10.0, 50.0, 50.0], [60.0, 10.0, 100.0, 50.0]])
    labels, ignore = torch.tensor([1, 0]), torch.tensor([False, bool(options.pop("ignored", False))])
    draw = RegionDraw(**options)  # type: ignore[arg-type]
    torch.manual_seed(0)
    regions, found = draw_labelled(torch.tensor(candidates), objects, labels, ignore, background=2, draw=draw)
    order = {tuple(row): int(label) for row, label in zip(regions.tolist(), found, strict=True)}
    return [order.get(tuple(row), -1) for row in candidates]


def test_labels_of_drawn_regions() -> None:
    tight, half, beside, far = [10.0, 10, 50, 50], [10.0, 10, 50, 30], [10.0, 10, 50, 22], [110.0, 60, 130, 80]
    assert labelled([tight, half, beside, far]) == [1, 1, 2, 2]


def test_regions_on_ignored_objects_are_left_out() -> None:
    on_it, part_of_it, elsewhere = [60.0, 10, 100, 50], [62.0, 12, 72, 22], [10.0, 10, 50, 50]
    assert labelled([on_it, part_of_it, elsewhere], ignored=True) == [-1, -1, 1]


def test_positives_are_drawn_evenly_over_objects() -> None:
    first = [[10.0, 10, 50, 50 + i / 8] for i in range(30)]
    second = [[60.0, 10, 100, 50.125]]
    assert labelled([*first, *second], positives=2, count=2)[-1] == 0


def test_a_photo_without_objects_gives_background() -> None:
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [5.0, 5.0, 40.0, 40.0], [0.0, 0.0, 3.0, 3.0]])
    none = torch.zeros(0, dtype=torch.long)
    regions, labels = draw_labelled(boxes, torch.zeros(0, 4), none, none.bool(), background=2, draw=RegionDraw(count=8))
    assert sorted(regions[:, 2].tolist()) == [20, 40]
    assert labels.tolist() == [2, 2]
