"""MultiBox as the papers have it: square views, whole-box priors, a fully connected head, the bipartite loss.

The views are those of Szegedy et al. (arXiv 1412.1441): squares that overlap. The priors, found by k-means on the
corners of the training boxes, the head and the loss are Erhan et al.'s (arXiv 1312.2249). Every object is matched with
exactly one prediction, and the sum is F = alpha * F_match + F_conf with F_match = 1/2 sum x_ij ||l_i - g_j||^2 and
F_conf = -sum x_ij log c_i - sum_i (1 - sum_j x_ij) log(1 - c_i), where the matching x makes F smallest.

The alpha trap: alpha = 0.3 presumes locations in units of the spread of boxes about their priors. On raw 0..1
coordinates the same squares are thousands of times smaller, and the locations would hardly be learned, which is why
others use alpha = 1000 there. Here locations always come in units of the spread.

The MultiBox that ships is another one (`proposals.multibox.heads`); benchmarks/multibox_paper.py holds it against this.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from proposals.multibox.generator import Canvases, ScoredBoxes
from proposals.multibox.heads import FIRST_CONFIDENCE, initialise, normalised
from proposals.multibox.losses import NOTHING
from proposals.multibox.priors import Points, k_means, small_to_large
from proposals.multibox.views import CanvasView
from structures.boxes import Boxes, Floats, ImageSize, iou
from structures.errors import InputError

ALPHA = 0.3  # Erhan et al., section 3.2


def squares(
    image_size: ImageSize, *, side: float, overlap: float = 0.5, canvas: ImageSize = (224, 224)
) -> list[CanvasView]:
    """View overlapping squares that cover the photo, row by row.

    Args:
        image_size: (height, width) of the photo.
        side: of the squares, as a share of the photo's short side.
        overlap: share of a square that its neighbour covers too, at least.
        canvas: (height, width) of every canvas.
    """
    pixels = side * min(image_size)
    rows, columns = (_starts(extent, pixels, overlap) for extent in image_size)
    return [CanvasView((x, y, x + pixels, y + pixels), canvas) for y in rows for x in columns]


def _starts(extent: float, side: float, overlap: float) -> list[float]:
    count = 1 + max(0, int(np.ceil((extent - side) / (side * (1 - overlap)) - 1e-6)))
    return [float(start) for start in np.linspace(0, max(0.0, extent - side), count)]


def corner_priors(boxes: Boxes, count: int, *, seed: int = 0) -> Boxes:
    """Cluster boxes by their corners, as the papers do.

    Args:
        boxes: (N, 4) xyxy in units of the photo, 0..1.
        count: how many priors; with fewer different boxes than that, each of them becomes a prior.
        seed: of the first choice of centres.

    Returns:
        (K, 4) xyxy in 0..1, small to large, K at most count; values are exact in float16.

    Raises:
        InputError: there are no boxes, or count is below one.
    """
    centres = k_means(boxes.astype(np.float64), count, seed, _squared_distance, _mean)
    return small_to_large(centres, (centres[:, 2] - centres[:, 0]) * (centres[:, 3] - centres[:, 1]))


def residual_spread(boxes: Boxes, priors: Boxes) -> Floats:
    """Return the (4,) standard deviations of boxes about their nearest prior: the unit of the papers' residuals."""
    nearest = _squared_distance(boxes.astype(np.float64), priors.astype(np.float64)).argmin(axis=1)
    deviation = np.sqrt(np.mean((boxes - priors[nearest]) ** 2, axis=0, dtype=np.float64))
    return np.maximum(deviation, 1e-3).astype(np.float16).astype(np.float32)


def coverage(boxes: Boxes, priors: Boxes, iou_threshold: float = 0.5) -> float:
    """Return the share of boxes that some prior overlaps at the threshold: what the priors give before any learning.

    >>> coverage(np.array([[0, 0, 1, 1]], np.float32), np.array([[0, 0, 1, 0.6]], np.float32))
    1.0
    """
    return float((iou(boxes, priors).max(axis=1, initial=0) >= iou_threshold).mean()) if len(boxes) else 0.0


def _squared_distance(points: Points, centres: Points) -> Points:
    both = (points**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)[None, :]
    distance: Points = np.maximum(both - 2 * points @ centres.T, 0)
    return distance


def _mean(members: Points) -> Points:
    mean: Points = members.mean(axis=0)
    return mean


class PaperHead(nn.Module):
    """The papers' head: K outputs of five numbers each, bound to K priors in the frame of the canvas.

    Args:
        priors: (K, 4) xyxy in 0..1.
        spread: (4,) units of the residuals: a box is prior + residual * spread.
        inputs: channels of the trunk's last map.
        cells: cells of that map: 49 for a canvas of 224x224.
        reduced: channels after the 1x1 convolution in front of the hidden layer.
        width: of the hidden layer.
    """

    def __init__(
        self,
        priors: Tensor,
        spread: Tensor,
        *,
        inputs: int = 1024,
        cells: int = 49,
        reduced: int = 96,
        width: int = 768,
    ) -> None:
        super().__init__()
        self.priors: Tensor
        self.spread: Tensor
        self.register_buffer("priors", priors.float())
        self.register_buffer("spread", spread.float())
        self.reduce = normalised(inputs, reduced, size=1)
        self.hidden = nn.Linear(reduced * cells, width)
        self.dropout = nn.Dropout(0.4)  # GoogLeNet, table 1
        self.confidence = nn.Linear(width, len(priors))
        self.location = nn.Linear(width, len(priors) * 4)
        self.apply(initialise)
        with torch.no_grad():
            for layer in (self.confidence, self.location):
                layer.weight.normal_(std=0.01)
                layer.bias.zero_()
            self.confidence.bias.fill_(math.log(FIRST_CONFIDENCE / (1 - FIRST_CONFIDENCE)))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, inputs, h, w) to (N, K) logits and (N, K, 4) residuals in units of the spread."""
        x = functional.relu(self.reduce(features)).flatten(1)
        x = self.dropout(functional.relu(self.hidden(x)))
        return self.confidence(x).float(), self.location(x).float().reshape(len(x), -1, 4)

    def decode(self, residuals: Tensor) -> Tensor:
        """Return the (..., K, 4) boxes in 0..1."""
        return self.priors + residuals * self.spread


def match(cost: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """Match each object with one prediction so that the summed cost is smallest (Hungarian method).

    Args:
        cost: (K, M) of K predictions and M objects.

    Returns:
        (K,) the object's number, or -1 for none. With more objects than predictions the cheapest K are matched.

    >>> match(np.array([[1.0, 2.0], [1.5, 9.0], [7.0, 7.0]])).tolist()
    [1, 0, -1]
    """
    matched = np.full(cost.shape[0], NOTHING)
    from scipy.optimize import linear_sum_assignment  # here, since all else works without scipy

    rows, columns = linear_sum_assignment(cost)
    matched[rows] = columns
    return matched


def multibox_loss(
    logits: Tensor,
    locations: Tensor,
    objects: Tensor,
    *,
    alpha: float = ALPHA,
    priors: Tensor | None = None,
) -> Tensor:
    """Return F of the papers for one photo.

    Args:
        logits: (K,) confidences before the sigmoid.
        locations: (K, 4) predicted boxes, in units of the spread.
        objects: (M, 4) annotated boxes in the same frame and units; M may be 0 and may exceed K.
        alpha: weight of the locations.
        priors: (K, 4) in the same frame and units. With them, objects are matched by their distance to the priors,
            not to the predictions, so that every prior learns its own kind of box.
    """
    with torch.no_grad():
        apart = 0.5 * torch.cdist(locations if priors is None else priors, objects) ** 2
        # log c - log(1 - c) is the logit itself.
        cost = apart if priors is not None else alpha * apart - logits[:, None]
        matched = torch.from_numpy(match(cost.double().cpu().numpy())).to(logits.device)
    chosen = matched >= 0
    confidence = functional.binary_cross_entropy_with_logits(logits, chosen.to(logits.dtype), reduction="sum")
    distance = 0.5 * ((locations[chosen] - objects[matched[chosen]]) ** 2).sum()
    return alpha * distance + confidence


class PaperPredictor:
    """Decodes the papers' head.

    Args:
        run: maps RGB pixels 0..255, float32 (N, 3, h, w), to (N, K, 5): logit and four residuals of every prior.
        head: knows the priors; its weights are not used here.
    """

    def __init__(self, run: Callable[[Tensor], Tensor], head: PaperHead) -> None:
        self._run, self._head = run, head.cpu()

    @torch.inference_mode()
    def __call__(self, canvases: Canvases) -> list[ScoredBoxes]:
        """Return the K boxes of each canvas."""
        height, width = canvases.shape[1:3]
        outputs = self._run(torch.from_numpy(canvases).permute(0, 3, 1, 2).float()).cpu()
        boxes = self._head.decode(outputs[..., 1:]) * torch.tensor([width, height, width, height])
        return [ScoredBoxes(b.numpy(), s.numpy()) for b, s in zip(boxes, outputs[..., 0].sigmoid(), strict=True)]

    def score(self, canvas: Canvases, boxes: Boxes) -> Floats:
        """Refuse: this head knows its own priors only."""
        raise InputError("only MultiBox with a second look can score boxes that are not its own")
