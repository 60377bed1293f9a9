"""The recipe for training MultiBox and a region classifier together on one trunk, as a plain record."""

from dataclasses import dataclass, field, replace

from classifier.region_draw import RegionDraw
from detect.training.multibox_recipe import MultiBoxRecipe


@dataclass(frozen=True)
class SharedRecipe:
    """How to train shared features.

    Attributes:
        multibox: photos, optimiser and schedule, as for MultiBox alone. Its learning rate is that of the new layers of
            the region head.
        multibox_factor: factor on the learning rate for MultiBox's heads, which start from trained weights.
        parts_factor: factor on the learning rate for the region head's part logits, which start from a trained last
            layer.
        regions: which regions of a photo the classifier learns from in each step.
        classes_weight: weight of the classifier's loss; MultiBox's has weight 1.
        crops: which regions of a photo are also classified on crops of their own, by the same trunk.
        crops_weight: weight of the loss of the crops.
        blend: share of MultiBox's weights in the initial trunk; the rest is the region classifier's. Both were
            fine-tuned from the same network, so their mean works, too (model soups, arXiv 2203.05482).
    """

    multibox: MultiBoxRecipe = field(default_factory=lambda: MultiBoxRecipe(epochs=3, frozen="inception3b"))
    multibox_factor: float = 0.3
    parts_factor: float = 0.2
    regions: RegionDraw = field(default_factory=RegionDraw)
    classes_weight: float = 2.0
    crops: RegionDraw = field(default_factory=lambda: RegionDraw(count=6, positives=3))
    crops_weight: float = 1.0
    blend: float = 0.5

    def with_seed(self, seed: int) -> "SharedRecipe":
        """Return the same recipe with another random seed."""
        return replace(self, multibox=replace(self.multibox, seed=seed))
