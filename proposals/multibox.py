"""MultiBox, the learned proposal generator: views of a photo -> network -> boxes, best first."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image, nms

from proposals.multibox_heads import STRIDES, DenseHead, PaperHead, RefineHead, decode
from proposals.multibox_views import View
from proposals.priors import grid_priors
from proposals.tidy import tidy
from structures.boxes import Boxes, Floats, ImageSize, Mask, area, clip, large_enough
from structures.nms import best_first
from structures.records import Image, Proposals

MAX_BOXES = 200  # GoogLeNet, section 8
NMS_THRESHOLD = 0.7
MIN_SIDE = 2.0  # pixels of the photo
CANDIDATES = 1000  # priors of one canvas that are decoded
REFINED = 300  # boxes of one canvas that get a second look
REFINED_NMS = 0.8  # overlap above which only the better box gets that look
INNER_MARGIN = 0.1  # boxes so near to a cut edge, as a share of the window, belong to a neighbour (arXiv 1412.1441)


class Found(NamedTuple):
    """Boxes on one canvas: (n, 4) xyxy in its pixels, and (n,) scores in 0..1."""

    boxes: Boxes
    scores: Floats


class Predictor(Protocol):
    """Looks at canvases of equal size, uint8 (N, h, w, 3), and finds boxes on each."""

    def __call__(self, canvases: npt.NDArray[np.uint8]) -> list[Found]:
        """Return the boxes of each canvas in any order."""

    def score(self, canvas: npt.NDArray[np.uint8], boxes: Boxes) -> Floats:
        """Return the (N,) scores in 0..1 of (N, 4) boxes, in pixels of the one canvas (1, h, w, 3)."""


class MultiBox:
    """Learned proposals.

    Args:
        predict: finds boxes on canvases.
        views: says for a photo's (height, width) which parts to look at.
        max_boxes: at most so many boxes a photo, the whole photo among them.
        nms_threshold: a box goes when its overlap with a better one is above this.
        mirrored: look at every view mirrored, too.
        parameters: further settings that decide the boxes, such as the weights' name.
    """

    name = "multibox"
    scores_tell_fit = True  # see detect.detector.Detector

    def __init__(
        self,
        predict: Predictor,
        views: Callable[[ImageSize], Sequence[View]],
        *,
        max_boxes: int = MAX_BOXES,
        nms_threshold: float = NMS_THRESHOLD,
        mirrored: bool = False,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        if max_boxes < 1:
            raise ValueError(f"max_boxes must be at least 1, got {max_boxes}")
        self._predict, self._views = predict, views
        self.max_boxes, self.nms_threshold, self.mirrored = max_boxes, nms_threshold, mirrored
        own = {"max_boxes": max_boxes, "nms_threshold": nms_threshold, "mirrored": mirrored}
        self.parameters: Mapping[str, Any] = own | dict(parameters or {})

    def __call__(self, image: Image) -> Proposals:
        """Return the proposals of an RGB uint8 (H, W, 3) photo; the scores lie in 0..1."""
        image_size = (image.shape[0], image.shape[1])
        found = self._look(image, self._views(image_size))
        boxes = np.concatenate([f.boxes for f in found])
        scores = np.concatenate([f.scores for f in found])
        usable = large_enough(boxes, MIN_SIDE) & np.isfinite(scores)
        boxes, scores = boxes[usable], scores[usable]
        kept = suppress_quickly(boxes, scores, self.nms_threshold)[: self.max_boxes - 1]
        return tidy(boxes[kept], scores[kept], image_size, self.name)

    def score(self, image: Image, boxes: Boxes) -> Floats:
        """Say how well any (N, 4) boxes of a photo fit an object: (N,) in 0..1, by a second look at the first view.

        Raises:
            ValueError: the network has no second look.
        """
        view = self._views((image.shape[0], image.shape[1]))[0]
        return self._predict.score(view.draw(image)[None], view.to_canvas(boxes))

    def _look(self, image: Image, views: Sequence[View]) -> list[Found]:
        """Predict view by view, those with equal canvases together, and map the boxes to the photo."""
        image_size = (image.shape[0], image.shape[1])
        looks = [(view, mirrored) for view in views for mirrored in ((False, True) if self.mirrored else (False,))]
        found = []
        for canvas in dict.fromkeys(view.canvas for view in views):
            group = [look for look in looks if look[0].canvas == canvas]
            drawn = np.stack([view.draw(image, mirrored=mirrored) for view, mirrored in group])
            results = self._predict(drawn)
            found += [on_photo(f, *look, image_size) for f, look in zip(results, group, strict=True)]
        return found


def on_photo(found: Found, view: View, mirrored: bool, image_size: ImageSize) -> Found:
    """Map boxes from a canvas to the photo, without those too large for the view or cut off by an inner edge of it."""
    boxes = found.boxes
    if mirrored:
        boxes = np.stack([view.canvas[1] - boxes[:, 2], boxes[:, 1], view.canvas[1] - boxes[:, 0], boxes[:, 3]], axis=1)
    boxes = view.to_photo(boxes)
    whole = ~_cut_off(boxes, view, image_size) & (area(boxes) <= view.largest**2)
    return Found(clip(boxes[whole], image_size), found.scores[whole])


def _cut_off(boxes: Boxes, view: View, image_size: ImageSize) -> Mask:
    x1, y1, x2, y2 = view.window
    margin_x, margin_y = INNER_MARGIN * (x2 - x1), INNER_MARGIN * (y2 - y1)
    height, width = image_size
    cut = np.zeros(len(boxes), bool)
    if x1 > 0:
        cut |= boxes[:, 0] < x1 + margin_x
    if y1 > 0:
        cut |= boxes[:, 1] < y1 + margin_y
    if x2 < width:
        cut |= boxes[:, 2] > x2 - margin_x
    if y2 < height:
        cut |= boxes[:, 3] > y2 - margin_y
    return cut


def suppress_quickly(boxes: Boxes, scores: Floats, iou_threshold: float) -> npt.NDArray[np.int64]:
    """Do what `structures.nms.suppress` does, in compiled code: a thousand boxes would take it 20 ms."""
    order = best_first(scores)
    kept = nms(torch.from_numpy(boxes[order]), torch.arange(len(order), 0, -1, dtype=torch.float32), iou_threshold)
    return np.asarray(order[kept.numpy()], np.int64)


class DensePredictor:
    """Decodes the dense head, and has the refining head look again at the best boxes.

    Args:
        run: maps RGB pixels 0..255, float32 (N, 3, h, w), to (N, width + 5 A, cells): pyramid and outputs, joined.
        head: knows how its outputs are laid out; its weights are not used here.
        refine: the second look; None goes without.
        looks: how often the refining head looks, each time at the boxes of the time before.
        device: where the decoding and the second look run.
    """

    def __init__(
        self,
        run: Callable[[Tensor], Tensor],
        head: DenseHead,
        refine: RefineHead | None = None,
        *,
        looks: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        self._run, self._head, self._device, self._looks = run, head.to(device), torch.device(device), looks
        self._refine = refine.to(device).eval() if refine is not None else None
        self._priors: dict[tuple[int, int], Tensor] = {}

    @torch.inference_mode()
    def __call__(self, canvases: npt.NDArray[np.uint8]) -> list[Found]:
        """Return at most CANDIDATES boxes of each canvas, or REFINED where there is a second look."""
        height, width = canvases.shape[1:3]
        pyramid, outputs = self._maps(canvases)
        logits, residuals = self._head.split(outputs)
        scores, best = logits.sigmoid().topk(min(CANDIDATES, logits.shape[1]), dim=1)
        priors = self._grid((height, width))
        boxes = [decode(r[b], priors[b]) for r, b in zip(residuals, best, strict=True)]
        boxes = [clip_boxes_to_image(b, (height, width)) for b in boxes]
        found = list(zip(boxes, scores, strict=True))
        if self._refine is not None:
            found = self._second_look(pyramid, found, (height, width))
        return [Found(b.cpu().numpy(), s.cpu().numpy()) for b, s in found]

    @torch.inference_mode()
    def score(self, canvas: npt.NDArray[np.uint8], boxes: Boxes) -> Floats:
        """Return the second look's confidence in each of (N, 4) boxes on one canvas (1, h, w, 3)."""
        if self._refine is None:
            raise ValueError("only MultiBox with a second look can score boxes that are not its own")
        pyramid, _ = self._maps(canvas)
        inside = clip_boxes_to_image(torch.from_numpy(boxes).to(self._device), canvas.shape[1:3])
        logits, _ = self._refine(pyramid, [inside])
        scores: Floats = logits.sigmoid().cpu().numpy()
        return scores

    def _maps(self, canvases: npt.NDArray[np.uint8]) -> tuple[tuple[Tensor, ...], Tensor]:
        joined = self._run(torch.from_numpy(canvases).permute(0, 3, 1, 2).float()).to(self._device)
        return split_levels(joined, self._head.width, (canvases.shape[1], canvases.shape[2]))

    def _grid(self, canvas: tuple[int, int]) -> Tensor:
        if canvas not in self._priors:
            priors = grid_priors(self._head.shapes.cpu().numpy(), STRIDES, canvas)
            self._priors[canvas] = torch.from_numpy(priors).to(self._device)
        return self._priors[canvas]

    def _second_look(
        self, pyramid: tuple[Tensor, ...], found: list[tuple[Tensor, Tensor]], canvas: tuple[int, int]
    ) -> list[tuple[Tensor, Tensor]]:
        assert self._refine is not None
        kept = [nms(boxes, scores, REFINED_NMS)[:REFINED] for boxes, scores in found]
        boxes = [b[k] for (b, _), k in zip(found, kept, strict=True)]
        first = [s[k] for (_, s), k in zip(found, kept, strict=True)]
        lengths = [len(k) for k in kept]
        for _ in range(self._looks):
            logits, residuals = self._refine(pyramid, boxes)
            moved = clip_boxes_to_image(decode(residuals, torch.cat(boxes)), canvas)
            boxes = list(torch.split(moved, lengths))
        second = torch.split(logits.sigmoid(), lengths)
        # Both looks count alike: the geometric mean.
        return [(b, (s * t).sqrt()) for b, s, t in zip(boxes, first, second, strict=True)]


def split_levels(joined: Tensor, width: int, canvas: tuple[int, int]) -> tuple[tuple[Tensor, ...], Tensor]:
    """Split (N, width + 5 A, cells) into the pyramid's maps and the (N, 5 A, cells) outputs."""
    shapes = [(canvas[0] // stride, canvas[1] // stride) for stride in STRIDES]
    maps = torch.split(joined[:, :width], [h * w for h, w in shapes], dim=2)
    levels = tuple(m.reshape(len(joined), width, h, w) for m, (h, w) in zip(maps, shapes, strict=True))
    return levels, joined[:, width:]


class PaperPredictor:
    """Decodes the papers' head.

    Args:
        run: maps RGB pixels 0..255, float32 (N, 3, h, w), to (N, K, 5): logit and four residuals of every prior.
        head: knows the priors; its weights are not used here.
    """

    def __init__(self, run: Callable[[Tensor], Tensor], head: PaperHead) -> None:
        self._run, self._head = run, head.cpu()

    @torch.inference_mode()
    def __call__(self, canvases: npt.NDArray[np.uint8]) -> list[Found]:
        """Return the K boxes of each canvas."""
        height, width = canvases.shape[1:3]
        outputs = self._run(torch.from_numpy(canvases).permute(0, 3, 1, 2).float()).cpu()
        boxes = self._head.decode(outputs[..., 1:]) * torch.tensor([width, height, width, height])
        return [Found(b.numpy(), s.numpy()) for b, s in zip(boxes, outputs[..., 0].sigmoid(), strict=True)]

    def score(self, canvas: npt.NDArray[np.uint8], boxes: Boxes) -> Floats:
        """Refuse: this head knows its own priors only."""
        raise ValueError("only MultiBox with a second look can score boxes that are not its own")
