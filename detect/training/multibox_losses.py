"""The losses of MultiBox: confidences and boxes of the dense head, and of the refining head on its boxes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from classifier.training import full_precision
from detect.networks.multibox import DenseMultiBox
from proposals.multibox.heads import STRIDES, DenseHead, RefineHead, decode
from proposals.multibox.losses import BOX_WEIGHT, assign, dense_loss
from proposals.multibox.priors import grid_priors
from proposals.multibox.samples import draw_regions
from structures.boxes import ImageSize

# For one canvas: sums of the confidence and box losses, and the number of boxes on objects.
Single = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Targets:
    """The objects on a batch of canvases.

    Attributes:
        canvas: height and width of every canvas.
        objects: for each canvas (G, 4) xyxy in its pixels.
        ignore: for each canvas (G,) bool, objects that count neither as objects nor as background.
    """

    canvas: ImageSize
    objects: Sequence[Tensor]
    ignore: Sequence[Tensor]


@dataclass(frozen=True, eq=False)
class CanvasBatch:
    """A training batch.

    Attributes:
        found: outputs of the frozen layers, see `DenseMultiBox.stem`.
        targets: objects on the canvases.
        labels: for each canvas (G,) labels of its objects.
        proposals: for each canvas (P, 4) boxes of other generators in its pixels.
        canvases: (N, 3, H, W) uint8 RGB, what the frozen layers saw.
    """

    found: list[Tensor]
    targets: Targets
    labels: Sequence[Tensor]
    proposals: Sequence[Tensor]
    canvases: Tensor


@dataclass(frozen=True, eq=False)
class Looks:
    """The result of MultiBox's two heads on a batch of canvases.

    Attributes:
        parts: parts of the loss, by name.
        boxes: (N, M, 4) boxes of the dense head.
        logits: (N, M) confidences of the dense head.
        refined: for each canvas (n, 4) boxes of the refining head.
    """

    parts: dict[str, Tensor]
    boxes: Tensor
    logits: Tensor
    refined: Sequence[Tensor]


class MultiBoxLoss:
    """The loss of both heads, for the loop of `classifier.training`.

    Args:
        frozen: the last frozen layer.
        regions: boxes per canvas that the refining head learns from.
    """

    def __init__(self, frozen: str, regions: int) -> None:
        self._frozen, self._regions = frozen, regions
        self._priors: dict[ImageSize, Tensor] = {}

    def __call__(self, network: DenseMultiBox, batch: CanvasBatch) -> dict[str, Tensor]:
        """Return the parts of the loss."""
        network.trunk.eval()  # batch normalisation, where the variant has it, keeps its statistics
        maps = network.from_stem(batch.found, self._frozen)
        return self.of_maps(network.head, network.refine, maps, batch.targets).parts

    def of_maps(self, head: DenseHead, refine: RefineHead, maps: Sequence[Tensor], targets: Targets) -> "Looks":
        """Return the parts of the loss of two heads on any trunk, and their boxes.

        Args:
            head: the dense head.
            refine: the refining head.
            maps: maps of the trunk at strides 8, 16 and 32.
            targets: objects on the canvases.
        """
        output = head(maps)
        with full_precision(output.logits.device):
            priors = self._priors_of(head, targets.canvas)
            boxes = decode(output.residuals, priors)
            found = zip(output.logits, boxes, targets.objects, targets.ignore, strict=True)
            confidence, place = _mean([dense_loss(z, b, assign(priors, o, i), o) for z, b, o, i in found])
            again = self._second_look(refine, output.pyramid, boxes.detach(), output.logits.detach(), targets)
        parts = {
            "confidence": confidence,
            "boxes": BOX_WEIGHT * place,
            "refined_confidence": again[0],
            "refined_boxes": BOX_WEIGHT * again[1],
        }
        return Looks(parts, boxes.detach(), output.logits.detach(), again[2])

    def _priors_of(self, head: DenseHead, canvas: ImageSize) -> Tensor:
        if canvas not in self._priors:
            grid = grid_priors(head.shapes.cpu().numpy(), STRIDES, canvas)
            self._priors[canvas] = torch.from_numpy(grid).to(head.shapes.device)
        return self._priors[canvas]

    def _second_look(
        self, refine: RefineHead, pyramid: tuple[Tensor, ...], boxes: Tensor, logits: Tensor, targets: Targets
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        chosen, assigned = [], []
        for b, z, o, i in zip(boxes, logits, targets.objects, targets.ignore, strict=True):
            regions, numbers = draw_regions(b, z, o, i, targets.canvas, self._regions)
            chosen.append(regions)
            assigned.append(numbers)
        logit, residuals = refine(pyramid, chosen)
        moved, lengths = decode(residuals, torch.cat(chosen)), [len(regions) for regions in chosen]
        again = torch.split(moved, lengths)
        rows = zip(torch.split(logit, lengths), again, assigned, targets.objects, strict=True)
        confidence, place = _mean([dense_loss(z, b, a, o) for z, b, a, o in rows])
        return confidence, place, tuple(boxes.detach() for boxes in again)


def _mean(losses: Sequence[Single]) -> tuple[Tensor, Tensor]:
    """Return the losses of a batch, divided by the number of boxes on objects."""
    positives = torch.stack([count for _, _, count in losses]).sum().clamp(min=1)
    confidence = torch.stack([each for each, _, _ in losses]).sum() / positives
    return confidence, torch.stack([each for _, each, _ in losses]).sum() / positives
