"""Runs a network on canvases of a few sizes, in one engine or in one per size."""

import copy
import threading

import torch
from torch import Tensor, nn

from classifier.engines import EngineAhead, require_rounded
from classifier.placement import Placement

GPU_CANVASES = 32  # canvases per batch on a GPU


class CanvasRunner:
    """Runs a copy of a network on canvases of a few sizes; can be used from any thread.

    OpenVINO needs an engine for every size, made when it is first expected or met; torch's engine takes any size.

    Args:
        network: maps (N, 3, H, W) pixels to one tensor.
        placement: device, engine and precision.
        batch_size: canvases per batch; None chooses for the device. One canvas keeps two cores busy.

    Raises:
        InputError: the placement is int8, and the network does not round.
    """

    def __init__(self, network: nn.Module, placement: Placement, *, batch_size: int | None = None) -> None:
        require_rounded(network, placement)  # before the first photo
        self._network, self._placement = copy.deepcopy(network), placement
        self._batch_size = batch_size or (1 if placement.device.type == "cpu" else GPU_CANVASES)
        self._engines: dict[tuple[int, int] | None, EngineAhead] = {}
        self._making = threading.Lock()

    def expect(self, size: tuple[int, int]) -> None:
        """Begin to make the engine for canvases of (height, width), where that takes long; others wait for a canvas."""
        if self._placement.engine == "openvino":
            self._begun(size)

    def _begun(self, size: tuple[int, int]) -> EngineAhead:
        key = size if self._placement.engine == "openvino" else None
        with self._making:
            if key not in self._engines:
                self._engines[key] = EngineAhead(self._network, self._placement, size=size, batch_size=self._batch_size)
            return self._engines[key]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Map (N, 3, H, W) RGB pixels 0..255 to the network's output."""
        engine = self._begun((pixels.shape[2], pixels.shape[3])).result()
        batches = torch.split(pixels.to(engine.device), engine.batch_size)
        return torch.cat([engine(batch) for batch in batches])
