"""The loss of crops of regions, which the trunk of shared features classifies as R-CNN's GoogLeNet does."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from classifier.crops import RegionCrops
from classifier.googlenet import GoogLeNet
from classifier.training import full_precision
from classifier.weights.checkpoint import Checkpoint
from classifier.weights.fitting import weights_unset
from detect.networks.shared import SharedNetwork


class CropLoss:
    """The cross entropy of regions on crops of their own.

    For whole photos the trunk is dilated, for crops it is not: these are classified by another GoogLeNet with the same
    weights.

    Args:
        start: weights that the training starts from, for their preprocessing and variant.
        columns: columns of the layer for crops.
    """

    def __init__(self, start: Checkpoint, columns: int) -> None:
        self._preprocessing = start.preprocessing
        with weights_unset():
            self._undilated = GoogLeNet(columns, variant=start.variant)
        self._undilated.eval()  # batch normalisation keeps its statistics
        self._undilated.dropout.train()

    def __call__(
        self, network: SharedNetwork, canvases: Tensor, regions: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> Tensor:
        """Return the mean over all regions.

        Args:
            network: network that is trained; it has a layer for crops.
            canvases: (N, 3, H, W) RGB pixels 0..255.
            regions: for each canvas (n, 4) xyxy in its pixels.
            labels: for each canvas the (n,) columns of its regions.
        """
        assert network.crops is not None
        size, context = self._preprocessing.size, self._preprocessing.context
        photos = zip(network.normalise(canvases.float()), regions, strict=True)
        crops = torch.cat([RegionCrops(photo, size=size, context=context)(boxes) for photo, boxes in photos])
        weights = {**dict(network.trunk.named_parameters()), **dict(network.trunk.named_buffers())}
        weights |= {f"fc.{name}": value for name, value in network.crops.named_parameters()}
        logits = functional_call(self._undilated, weights, (crops.contiguous(memory_format=torch.channels_last),))
        with full_precision(logits.device):
            return functional.cross_entropy(logits.float(), torch.cat(list(labels)))
