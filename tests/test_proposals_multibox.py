"""Heads and the generator: layouts, boxes there and back, views put together, with made-up networks."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torchvision.ops import clip_boxes_to_image, roi_align

from proposals.multibox.generator import MultiBox, ScoredBoxes, on_photo
from proposals.multibox.heads import POOLED, STRIDES, DenseHead, RefineHead, decode, encode, fit, pool
from proposals.multibox.memory import CanvasMemory
from proposals.multibox.paper import PaperHead, PaperPredictor, squares
from proposals.multibox.predictor import DensePredictor, split_levels
from proposals.multibox.priors import grid_priors
from proposals.multibox.views import CanvasView, whole_photo
from proposals.operators import clip_boxes
from proposals.protocol import ProposalGenerator
from proposals.tidy import suppress_quickly
from structures.boxes import iou
from structures.errors import InputError
from structures.nms import suppress
from tests.boxes import keeps_protocol

CANVAS = (128, 192)
SHAPES = torch.tensor([[[16.0, 16], [12, 24]], [[32, 32], [24, 48]], [[64, 64], [48, 96]], [[100, 100], [120, 60]]])


def random_boxes(count: int, seed: int = 0, size: float = 200) -> torch.Tensor:
    corners = torch.rand((count, 2, 2), generator=torch.Generator().manual_seed(seed)) * size
    return torch.cat([corners.amin(dim=1), corners.amax(dim=1) + 8], dim=1)


def maps_for(canvas: tuple[int, int], channels=(16, 24, 32), seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn((2, c, canvas[0] // s, canvas[1] // s), generator=generator) * 100
        for c, s in zip(channels, STRIDES, strict=False)
    ]


@pytest.fixture(scope="module")
def head() -> DenseHead:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DenseHead(SHAPES, inputs=(16, 24, 32), width=16).eval()


def test_encode_and_decode_are_inverse():
    boxes, priors = random_boxes(50), random_boxes(50, seed=1)
    torch.testing.assert_close(decode(encode(boxes, priors), priors), boxes, rtol=1e-3, atol=1e-2)


def test_encode_by_hand():
    prior, box = torch.tensor([0.0, 0, 10, 20]), torch.tensor([1.0, 2, 11, 42])
    # The centre moves by 1 of 10 and by 12 of 20; the sides grow by 1 and by 2.
    torch.testing.assert_close(encode(box, prior), torch.tensor([1.0, 6.0, 0.0, float(np.log(2) / 0.2)]))


def test_decode_never_explodes():
    assert torch.isfinite(decode(torch.full((1, 4), 1e6), random_boxes(1))).all()


def test_dense_head_has_one_row_for_each_prior_of_the_grid(head):
    output = head(maps_for(CANVAS))
    priors = grid_priors(SHAPES.numpy(), STRIDES, CANVAS)
    assert output.logits.shape == (2, len(priors))
    assert output.residuals.shape == (2, len(priors), 4)
    assert [tuple(level.shape[2:]) for level in output.pyramid] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_rows_of_the_head_are_in_the_order_of_the_priors(head):
    """Mark one output channel at one cell, and find it at that cell's prior."""
    cells = sum((CANVAS[0] // s) * (CANVAS[1] // s) for s in STRIDES)
    outputs = torch.zeros((1, 10, cells))
    cell = (16 * 24) + 3 * 12 + 5  # second level, row 3, column 5
    outputs[0, 1, cell] = 7.0  # confidence of the second shape
    outputs[0, 2 + 4 + 3, cell] = 9.0  # its fourth residual
    logits, residuals = head.split(outputs)
    row = int(logits[0].argmax())
    assert logits[0, row] == 7
    assert residuals[0, row].tolist() == [0, 0, 0, 9]
    centre = [5.5 * 16, 3.5 * 16]
    expected = [centre[0] - 12, centre[1] - 24, centre[0] + 12, centre[1] + 24]
    assert grid_priors(SHAPES.numpy(), STRIDES, CANVAS)[row].tolist() == expected


def test_joined_output_holds_the_same_as_forward(head):
    maps = maps_for(CANVAS)
    output, joined = head(maps), head.joined(maps)
    pyramid, raw = split_levels(joined, 16, CANVAS)
    logits, residuals = head.split(raw)
    for found, expected in zip((*pyramid, logits, residuals), (*output.pyramid, *output[1:]), strict=True):
        torch.testing.assert_close(found, expected)


def test_pool_cuts_each_box_from_the_level_of_its_size():
    pyramid = [torch.randn((2, 3, 64 // s * 8, 64 // s * 8)) for s in (8, 16, 32)]
    boxes = [torch.tensor([[0.0, 0, 50, 50]]), torch.tensor([[0.0, 0, 150, 150], [10, 10, 400, 500]])]
    in_turn, order = pool(pyramid, boxes)
    assert order.tolist() == [0, 1, 2]
    turned, order = pool(pyramid, [boxes[0], boxes[1].flip(0)])
    assert order.tolist() == [0, 2, 1]  # level by level
    torch.testing.assert_close(turned, in_turn)
    cut = turned[order.argsort()][[0, 2, 1]]
    assert cut.shape == (3, 3, POOLED, POOLED)
    for row, (level, image, box) in enumerate([(0, 0, boxes[0][0]), (1, 1, boxes[1][0]), (2, 1, boxes[1][1])]):
        region = torch.cat([torch.tensor([float(image)]), box])[None]
        expected = roi_align(pyramid[level], region, POOLED, 1 / STRIDES[level], sampling_ratio=1, aligned=True)
        torch.testing.assert_close(cut[row], expected[0])
    with torch.no_grad():
        assert torch.equal(pool(pyramid, boxes)[0], cut)


def test_the_second_look_answers_in_the_order_of_its_boxes():
    torch.manual_seed(0)
    head = RefineHead(3).eval()
    pyramid = [torch.randn((1, 3, 512 // s, 512 // s)) for s in STRIDES]
    boxes = torch.tensor(
        [[10.0, 10, 400, 500], [0, 0, 50, 50], [3, 9, 160, 150], [float("nan"), 0, 1, 1], [5, 5, 70, 40]]
    )
    with torch.no_grad():
        logits, residuals = head(pyramid, [boxes])
        for row in (0, 1, 2, 4):
            logit, own = head(pyramid, [boxes[row : row + 1]])
            torch.testing.assert_close(logit[0], logits[row])
            torch.testing.assert_close(own[0], residuals[row])
        assert [len(each) for each in head(pyramid, [boxes[:0]])] == [0, 0]


def test_pool_passes_the_gradient_on():
    maps = torch.randn((1, 3, 64, 64), requires_grad=True)
    pool([maps], [torch.tensor([[0.0, 0, 50, 50]])])[0].sum().backward()
    assert maps.grad is not None
    assert maps.grad.abs().max() > 0


def test_boxes_are_clipped_as_by_torchvision():
    boxes = random_boxes(50, 0) * 3 - 40
    assert torch.equal(clip_boxes(boxes, (60, 90)), clip_boxes_to_image(boxes, (60, 90)))


def test_fit_of_a_box_falls_with_how_far_it_would_be_moved() -> None:
    head, canvas = RefineHead(8), (64, 64)
    pyramid = [torch.zeros(1, 8, 64 // stride, 64 // stride) for stride in STRIDES]
    boxes = torch.tensor([[10.0, 10.0, 30.0, 30.0], [20.0, 20.0, 60.0, 60.0]])
    with torch.no_grad():
        head.predict.weight.zero_()
        head.predict.bias[0] = 1.0
        unmoved = fit(head, pyramid, [boxes], canvas)
        head.predict.bias[1] = 5.0  # the centre, by a tenth of the width
        moved = fit(head, pyramid, [boxes], canvas)
        nothing = fit(head, pyramid, [boxes[:0]], canvas)
    sure = 1 / (1 + math.exp(-1))
    # By half the width: a third of the union is shared. The second box is cut off at the canvas's border.
    torch.testing.assert_close(unmoved, torch.tensor([sure, sure]))
    torch.testing.assert_close(moved, torch.tensor([sure / 3, sure * 20 / 44]))
    assert nothing.shape == (0,)


def test_refine_head_takes_no_boxes():
    logits, residuals = RefineHead(4, width=8)([torch.zeros((1, 4, 8, 8))] * 3, [torch.zeros((0, 4))])
    assert logits.shape == (0,)
    assert residuals.shape == (0, 4)


@pytest.mark.parametrize("seed", range(4))
def test_quick_suppression_keeps_what_the_plain_one_keeps(seed):
    boxes = random_boxes(120, seed).numpy()
    scores = np.round(np.random.default_rng(seed).random(120), 1).astype(np.float32)  # many ties
    expected = suppress(boxes, scores, iou_threshold=0.5)
    assert suppress_quickly(boxes, scores, 0.5).tolist() == expected.tolist()


class Brightest:
    """A stand-in for a network: the box around what is white on the canvas, and some clutter."""

    def __call__(self, canvases):
        return [self._find(canvas) for canvas in canvases]

    def _find(self, canvas):
        rows, columns = np.nonzero(canvas.min(axis=2) > 200)
        if len(rows) == 0:
            return ScoredBoxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        clutter = [[-30, -30, 10, 10], [5, 5, 5, 5], [0, 0, 1e4, 20]]
        return ScoredBoxes(np.array([*clutter, box], np.float32), np.array([0.1, 0.9, 0.2, 0.8], np.float32))


def white_box(height, width, x1, y1, x2, y2):
    photo = np.zeros((height, width, 3), np.uint8)
    photo[y1:y2, x1:x2] = 255
    return photo


def whole(image_size):
    return [whole_photo(image_size)]


def test_generator_keeps_the_protocol():
    generator = MultiBox(Brightest(), whole)
    assert isinstance(generator, ProposalGenerator)
    found = generator(white_box(300, 450, 100, 50, 200, 120))
    assert iou(found.boxes[:1], np.array([[100, 50, 200, 120]], np.float32))[0, 0] > 0.9
    keeps_protocol(found, (300, 450))
    assert found.source_names == ("multibox",)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_photo_of_nothing_gives_the_whole_image(mirrored):
    found = MultiBox(Brightest(), whole, mirrored=mirrored)(np.zeros((40, 30, 3), np.uint8))
    assert found.boxes.tolist() == [[0, 0, 30, 40]]


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (7, 3000)])
def test_odd_photos_do_not_fail(shape):
    found = MultiBox(Brightest(), whole)(np.full((*shape, 3), 255, np.uint8))
    assert [0, 0, shape[1], shape[0]] in found.boxes.tolist()


def test_mirrored_looks_agree_with_plain_ones():
    """Both find the same box; a mirrored one that was not turned back would be another."""
    found = MultiBox(Brightest(), whole, mirrored=True, nms_threshold=1)(white_box(300, 450, 100, 50, 200, 120))
    sure = found.boxes[found.scores > 0.7]
    assert len(sure) >= 1
    assert (iou(sure, np.array([[100, 50, 200, 120]], np.float32)) > 0.9).all()


def test_at_most_max_boxes_with_the_whole_image_among_them():
    def many(canvases):
        return [ScoredBoxes(random_boxes(500, size=300).numpy(), np.random.default_rng(0).random(500, np.float32))]

    found = MultiBox(many, whole, max_boxes=20, nms_threshold=0.9)(np.zeros((375, 500, 3), np.uint8))
    assert len(found) == 20
    assert [0, 0, 500, 375] in found.boxes.tolist()
    with pytest.raises(ValueError, match="max_boxes"):
        MultiBox(many, whole, max_boxes=0)


def test_boxes_at_cut_edges_are_left_to_the_neighbour():
    photo = white_box(200, 200, 80, 80, 110, 110)

    def quarters(image_size):
        return squares(image_size, side=0.5, overlap=0.0)

    def overlapping(image_size):
        return squares(image_size, side=0.6, overlap=0.5)

    cut, kept = (MultiBox(Brightest(), views)(photo) for views in (quarters, overlapping))
    target = np.array([[80, 80, 110, 110]], np.float32)
    assert iou(target, cut.boxes).max() < 0.1  # every quarter sees a part, and that part touches the cut
    assert iou(target, kept.boxes).max() > 0.8


def test_what_was_found_in_a_mirrored_view_is_turned_back():
    found = ScoredBoxes(np.array([[0, 10, 20, 40]], np.float32), np.array([0.9], np.float32))
    boxes = [
        on_photo(found, CanvasView((0, 0, 50, 50), (100, 100)), way, (50, 50)).boxes.tolist() for way in (False, True)
    ]
    assert boxes == [[[0, 5, 10, 20]], [[40, 5, 50, 20]]]


@pytest.mark.parametrize("near", [[24, 80, 100, 120], [80, 24, 120, 100], [80, 80, 176, 120], [80, 80, 120, 176]])
def test_a_box_near_one_cut_edge_of_its_view_is_dropped(near):
    """The view shows 20 to 180 of a photo of 200, both ways; a tenth of that is too near to its edges."""
    boxes = np.array([near, [60, 60, 140, 140], [40, 40, 160, 160]], np.float32)
    found = ScoredBoxes(boxes - 20, np.array([0.9, 0.8, 0.7], np.float32))
    seen = on_photo(found, CanvasView((20, 20, 180, 180), (160, 160)), mirrored=False, image_size=(200, 200))
    assert seen.boxes.tolist() == boxes[1:].tolist()


def test_boxes_at_the_edge_of_the_photo_are_kept_in_every_view():
    photo = white_box(200, 200, 0, 0, 60, 60)
    found = MultiBox(Brightest(), lambda size: squares(size, side=0.6))(photo)
    assert iou(np.array([[0, 0, 60, 60]], np.float32), found.boxes).max() > 0.9


def test_dense_predictor_finds_the_prior_that_fires(head):
    cells = sum((CANVAS[0] // s) * (CANVAS[1] // s) for s in STRIDES)
    joined = torch.zeros((1, 16 + 10, cells))
    joined[0, 16:18] = -9.0
    joined[0, 16, 16 * 24 + 3 * 12 + 5] = 4.0
    found = DensePredictor(lambda canvases: list(joined), head)(np.zeros((1, *CANVAS, 3), np.uint8))[0]
    best = int(found.scores.argmax())
    assert found.boxes[best].tolist() == [5.5 * 16 - 16, 3.5 * 16 - 16, 5.5 * 16 + 16, 3.5 * 16 + 16]
    assert found.scores[best] == pytest.approx(1 / (1 + np.exp(-4)))


def test_a_refining_head_that_changes_nothing_keeps_the_boxes(head):
    refine = RefineHead(16, width=8)
    torch.nn.init.zeros_(refine.predict.weight)
    joined = torch.randn((1, 26, sum((CANVAS[0] // s) * (CANVAS[1] // s) for s in STRIDES)))
    pixels = np.zeros((1, *CANVAS, 3), np.uint8)
    first = DensePredictor(lambda canvases: list(joined), head)(pixels)[0]
    second = DensePredictor(lambda canvases: list(joined), head, refine)(pixels)[0]
    assert 0 < len(second.boxes) <= len(first.boxes)
    assert iou(second.boxes, first.boxes).max(axis=1).min() > 0.999
    best = int(first.scores.argmax())
    assert second.scores.max() == pytest.approx(np.sqrt(first.scores[best] * 0.5), rel=1e-4)  # sigmoid(0) = 1/2


def test_outputs_that_are_not_finite_are_an_error_and_no_photo_without_boxes(head):
    """A network whose activations are too large for float16 gives nothing else."""
    joined = torch.full((1, 26, sum((CANVAS[0] // s) * (CANVAS[1] // s) for s in STRIDES)), torch.nan)
    predict = DensePredictor(lambda canvases: list(joined), head, RefineHead(16, width=8))
    pixels = np.zeros((1, *CANVAS, 3), np.uint8)
    for look in (predict, lambda canvas: predict.score(canvas, np.array([[0, 0, 9, 9]], np.float32))):
        with pytest.raises(InputError, match='not finite; try `dtype="float32"`'):
            look(pixels)


def test_paper_head_decodes_in_units_of_the_spread():
    priors, spread = torch.tensor([[0.0, 0, 0.5, 0.5], [0.25, 0.25, 1, 1]]), torch.tensor([0.1, 0.2, 0.1, 0.2])
    head = PaperHead(priors, spread, inputs=8, cells=4, reduced=8, width=8).eval()
    logits, residuals = head(torch.randn(3, 8, 2, 2))
    assert logits.shape == (3, 2)
    assert residuals.shape == (3, 2, 4)
    outputs = torch.tensor([[[1.0, 0, 0, 0, 0], [0.0, 1, 1, -1, -1]]])
    found = PaperPredictor(lambda pixels: outputs, head)(np.zeros((1, 100, 200, 3), np.uint8))[0]
    np.testing.assert_allclose(found.boxes, [[0, 0, 100, 50], [70, 45, 180, 80]], atol=1e-4)


def test_views_of_equal_canvas_are_run_together():
    calls = []

    def count(canvases):
        calls.append(canvases.shape)
        return [ScoredBoxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32)) for _ in canvases]

    views = [
        CanvasView((0, 0, 10, 10), (64, 64)),
        CanvasView((0, 0, 10, 10), (128, 64)),
        CanvasView((0, 0, 5, 5), (64, 64)),
    ]
    MultiBox(count, lambda size: views, mirrored=True)(np.zeros((10, 10, 3), np.uint8))
    assert calls == [(4, 64, 64, 3), (2, 128, 64, 3)]


@pytest.mark.parametrize(("scale", "sides"), [(1.0, [40, 60, 100]), (2.0, [40, 100])])  # 100: the whole photo, always
def test_a_look_at_twice_the_size_leaves_large_objects_to_the_usual_one(scale, sides):
    def find(canvases):
        height, width = canvases.shape[1:3]
        boxes = [[0, 0, share * width, share * height] for share in (0.4, 0.6)]
        return [ScoredBoxes(np.array(boxes, np.float32), np.array([0.9, 0.8], np.float32)) for _ in canvases]

    generator = MultiBox(find, lambda size: [whole_photo(size, scale=scale)])
    found = generator(np.zeros((100, 100, 3), np.uint8)).boxes
    np.testing.assert_allclose(sorted(found[:, 2]), sides, atol=0.01)


def test_boxes_are_scored_as_they_look_in_the_first_view():
    class Widths:
        """Scores a box by the width of the canvas."""

        def score(self, canvas, boxes):
            asked.append((canvas.shape, boxes.tolist()))
            return np.full(len(boxes), canvas.shape[2], np.float32)

    asked = []
    generator = MultiBox(Widths(), lambda size: [whole_photo(size, scale=scale) for scale in (1.0, 2.0)])
    photo, boxes = np.zeros((100, 100, 3), np.uint8), np.array([[0, 0, 60, 60], [10, 10, 30, 30]], np.float32)
    assert generator.score(photo, boxes).tolist() == [448, 448]
    assert asked[0][0] == (1, 448, 448, 3)
    np.testing.assert_allclose(asked[0][1], 4.48 * boxes, rtol=1e-5)


def test_a_canvas_that_was_just_searched_is_not_run_again_to_score_boxes_on_it(head):
    ran = []

    def run(pixels):
        ran.append(pixels.mean().item())
        cells = sum((pixels.shape[2] // s) * (pixels.shape[3] // s) for s in STRIDES)
        return torch.randn((1, 26, cells), generator=torch.Generator().manual_seed(int(ran[-1])))

    torch.manual_seed(0)
    refine = RefineHead(16, width=8)
    predict, boxes = DensePredictor(CanvasMemory(run), head, refine), random_boxes(5, size=90).numpy()
    dark, bright = np.full((1, *CANVAS, 3), 10, np.uint8), np.full((1, *CANVAS, 3), 200, np.uint8)
    wide = np.full((1, 192, 128, 3), 50, np.uint8)
    predict(dark)
    predict(wide)
    scores = predict.score(dark, boxes)
    predict.score(wide, boxes)
    assert ran == [10, 50]
    assert predict.score(bright, boxes).tolist() != scores.tolist()  # another photo on a canvas of the same size
    alone = DensePredictor(CanvasMemory(run), head, refine)
    assert alone.score(dark, boxes).tolist() == scores.tolist()
    assert ran == [10, 50, 200, 10]
    buffer = dark.copy()
    again = DensePredictor(CanvasMemory(run), head, refine)
    again(buffer)
    buffer[:] = 200  # a caller may use its array again
    assert again.score(buffer, boxes).tolist() == predict.score(bright, boxes).tolist()
    del ran[4:]
    with ThreadPoolExecutor(1) as pool_of_one:  # one looks ahead, another decodes
        assert pool_of_one.submit(predict.score, bright, boxes).result().shape == (5,)
    assert ran == [10, 50, 200, 10]


@torch.no_grad()
def test_confidences_are_float32_whatever_the_precision_of_the_network(head):
    low = DenseHead(head.shapes, inputs=[8, 8, 8], width=16).to(torch.bfloat16).eval()
    maps = [torch.randn(1, 8, 64 // stride, 64 // stride, dtype=torch.bfloat16) for stride in STRIDES[:3]]
    logits, _ = low.split(low.joined(maps)[:, 16:])
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())
    assert len(logits.unique()) == logits.numel()
