"""The losses of shared features: those of MultiBox, and the cross entropy of regions and of crops of some of them."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from classifier.region_draw import RegionDraw
from classifier.shared_sampling import draw_labelled
from classifier.training import full_precision
from detect.networks.shared import SharedNetwork
from detect.training.crop_losses import CropLoss
from detect.training.multibox_losses import CanvasBatch, Looks, MultiBoxLoss
from detect.training.shared_recipe import SharedRecipe
from proposals.operators import clip_boxes, nms
from structures.boxes import ImageSize

CONSIDERED, SUPPRESSION, KEPT = 600, 0.75, 120  # best boxes of the dense head; IoU to suppress above; most to keep
COPIES, SHAKE = 6, 0.12  # boxes per object, with corners moved by this share of its sides


class SharedLoss:
    """The loss of all heads on one trunk, for the loop of `classifier.training`.

    Args:
        recipe: how to train.
        background: label of regions without an object.
        crops: loss of crops of regions.
    """

    def __init__(self, recipe: SharedRecipe, *, background: int, crops: CropLoss) -> None:
        self._recipe, self._background = recipe, background
        self._multibox = MultiBoxLoss(recipe.multibox.frozen, recipe.multibox.regions)
        self._crops = crops

    def __call__(self, network: SharedNetwork, batch: CanvasBatch) -> dict[str, Tensor]:
        """Return the parts of the loss."""
        network.trunk.eval()  # batch normalisation, where the variant has it, keeps its statistics
        maps = network.maps_from(batch.found, self._recipe.multibox.frozen)
        looks = self._multibox.of_maps(network.head, network.refine, maps.for_multibox(network.offset), batch.targets)
        candidates = self._candidates(looks, batch)
        regions, labels = self._drawn(candidates, batch, self._recipe.regions)
        logits = network.regions(network.regions.maps(*maps), regions)
        with full_precision(logits.device):
            classes = functional.cross_entropy(logits.float(), torch.cat(labels))
        crops = self._crops(network, batch.canvases, *self._drawn(candidates, batch, self._recipe.crops))
        weighted = {"classes": self._recipe.classes_weight * classes, "crops": self._recipe.crops_weight * crops}
        return {**looks.parts, **weighted}

    def _candidates(self, looks: Looks, batch: CanvasBatch) -> list[Tensor]:
        """Return MultiBox's boxes of every canvas, objects, moved objects, and other proposals."""
        return [
            torch.cat(
                [
                    _best(looks.boxes[number], looks.logits[number], batch.targets.canvas),
                    clip_boxes(looks.refined[number], batch.targets.canvas),
                    _shaken(objects, batch.targets.canvas),
                    batch.proposals[number],
                    objects,
                ]
            )
            for number, objects in enumerate(batch.targets.objects)
        ]

    def _drawn(
        self, candidates: Sequence[Tensor], batch: CanvasBatch, draw: RegionDraw
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Draw regions of every canvas, with their labels."""
        targets = zip(candidates, batch.targets.objects, batch.labels, batch.targets.ignore, strict=True)
        pairs = [draw_labelled(*each, background=self._background, draw=draw) for each in targets]
        return [regions for regions, _ in pairs], [labels for _, labels in pairs]


def _best(boxes: Tensor, logits: Tensor, canvas: ImageSize) -> Tensor:
    scores, best = logits.topk(min(CONSIDERED, len(logits)))
    inside = clip_boxes(boxes[best], canvas)
    kept: Tensor = inside[nms(inside, scores, SUPPRESSION)[:KEPT]]
    return kept


def _shaken(objects: Tensor, canvas: ImageSize) -> Tensor:
    sides = (objects[:, 2:] - objects[:, :2]).repeat(COPIES, 2)
    noise = torch.randn((len(sides), 4)).to(objects.device) * SHAKE
    shaken: Tensor = clip_boxes(objects.repeat(COPIES, 1) + noise * sides, canvas)
    return shaken
