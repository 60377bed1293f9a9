"""What shared features learn by: the losses of MultiBox, and the cross-entropy of regions drawn among its boxes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from classifier.shared_sampling import draw_labelled
from classifier.training import full_precision
from detect.shared import SharedNetwork
from detect.training.multibox_losses import CanvasBatch, Looks, MultiBoxLoss
from detect.training.shared_recipe import SharedRecipe
from proposals.multibox.heads import RefineHead, fit
from proposals.operators import clip_boxes, nms
from proposals.ranking import MAX_BOXES, NMS_THRESHOLD
from structures.boxes import ImageSize

CONSIDERED, SUPPRESSION, KEPT = 600, 0.75, 120  # best boxes of the dense head; overlap of twins; what is left of them
COPIES, SHAKE = 6, 0.12  # of each object this many boxes, with corners moved by this share of its sides


class SharedLoss:
    """The loss of all heads on one trunk, for the loop of `classifier.training`.

    Args:
        recipe: how to train.
        background: label of regions without an object.
    """

    def __init__(self, recipe: SharedRecipe, background: int) -> None:
        self._recipe, self._background = recipe, background
        self._multibox = MultiBoxLoss(recipe.multibox.frozen, recipe.multibox.regions)

    def __call__(self, network: SharedNetwork, batch: CanvasBatch) -> dict[str, Tensor]:
        """Return the parts of the loss."""
        network.trunk.eval()  # batch normalisation, where the variant has it, keeps its statistics
        maps = network.maps_from(batch.found, self._recipe.multibox.frozen)
        looks = self._multibox.of_maps(
            network.head, network.refine, maps.for_multibox(network.offset), batch.targets, batch.proposals
        )
        regions, labels = self._regions(network.refine, looks, batch)
        logits = network.regions(network.regions.maps(*maps), regions)
        with full_precision(logits.device):
            classes = functional.cross_entropy(logits.float(), torch.cat(labels))
        return {**looks.parts, "classes": self._recipe.classes_weight * classes}

    def _regions(self, refine: RefineHead, looks: Looks, batch: CanvasBatch) -> tuple[list[Tensor], list[Tensor]]:
        """Draw the regions of every canvas among MultiBox's boxes, the objects moved a little, and other proposals."""
        candidates = [self._candidates(looks, batch, number) for number in range(len(batch.targets.objects))]
        regions, labels = [], []
        for number, best in enumerate(_looked_at_first(refine, looks.pyramid, candidates, batch.targets.canvas)):
            chosen, label = draw_labelled(
                candidates[number],
                batch.targets.objects[number],
                batch.labels[number],
                batch.targets.ignore[number],
                best,
                background=self._background,
                draw=self._recipe.regions,
            )
            regions.append(chosen)
            labels.append(label)
        return regions, labels

    def _candidates(self, looks: Looks, batch: CanvasBatch, number: int) -> Tensor:
        objects, canvas = batch.targets.objects[number], batch.targets.canvas
        own = _best(looks.boxes[number], looks.logits[number], canvas)
        refined = clip_boxes(looks.refined[number], canvas)
        return torch.cat([own, refined, _shaken(objects, canvas), batch.proposals[number], objects])


@torch.no_grad()
def _looked_at_first(
    refine: RefineHead, pyramid: tuple[Tensor, ...], boxes: Sequence[Tensor], canvas: ImageSize
) -> list[Tensor]:
    """Say which of (n, 4) boxes of each canvas are among those that `proposals.ranking` would leave."""
    found = []
    estimated = torch.split(fit(refine, pyramid, boxes, canvas), [len(rows) for rows in boxes])
    for rows, fits in zip(boxes, estimated, strict=True):
        best = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        best[nms(rows, fits, NMS_THRESHOLD)[:MAX_BOXES]] = True
        found.append(best)
    return found


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
