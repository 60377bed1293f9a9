"""How MultiBox and a region classifier are trained together on one trunk, as a plain record."""

from dataclasses import dataclass, field, replace

from classifier.region_draw import RegionDraw
from detect.training.multibox_recipe import MultiBoxRecipe


@dataclass(frozen=True)
class SharedRecipe:
    """How to train shared features.

    Attributes:
        multibox: photos, optimiser and schedule of the training, as for MultiBox alone. Its learning rate is that of
            the fresh layers of the region head.
        multibox_factor: on the learning rate of MultiBox's heads, which begin trained.
        parts_factor: on the learning rate of the region head's part logits, which begin as a trained last layer.
        regions: which regions of a photo the classifier learns from in a step.
        classes_weight: weight of the classifier's loss; MultiBox's has 1.
        blend: share of MultiBox's weights in the trunk to start with; the rest is the region classifier's. Both began
            as the same network, so their mean is one, too (model soups, arXiv 2203.05482).
    """

    multibox: MultiBoxRecipe = field(default_factory=lambda: MultiBoxRecipe(epochs=6, frozen="inception3a"))
    multibox_factor: float = 0.3
    parts_factor: float = 0.2
    regions: RegionDraw = field(default_factory=RegionDraw)
    classes_weight: float = 2.0
    blend: float = 0.5

    def with_seed(self, seed: int) -> "SharedRecipe":
        """Return the same recipe with other random draws."""
        return replace(self, multibox=replace(self.multibox, seed=seed))
