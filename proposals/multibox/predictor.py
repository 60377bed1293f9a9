"""What MultiBox's heads say about canvases -> boxes: the dense head, then the refining one."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from proposals.multibox.generator import Canvases, ScoredBoxes
from proposals.multibox.heads import STRIDES, DenseHead, RefineHead, decode, fit
from proposals.multibox.priors import grid_priors
from proposals.operators import clip_boxes, nms
from structures.boxes import Boxes, Floats
from structures.errors import InputError
from structures.records import Image
from structures.shared_lock import MODULES

CANDIDATES = 1000  # priors of one canvas that are decoded
REFINED = 300  # boxes of one canvas that get a second look
REFINED_NMS = 0.8  # overlap above which only the better box gets that look

RunCanvases = Callable[[Sequence[Image]], list[Tensor]]  # canvases -> what the network gives for each
Maps = tuple[tuple[Tensor, ...], Tensor]  # the pyramid, and the raw outputs of all levels


class DensePredictor:
    """Decodes the dense head, and has the refining head look again at the best boxes.

    Args:
        run: maps N canvases to (width + 5 A, cells) for each, pyramid and outputs, joined, on the device; such as a
            `proposals.multibox.memory.CanvasMemory`.
        head: knows how its outputs are laid out; its weights are not used here.
        refine: the second look; None goes without.
        device: where the decoding and the second look run.
    """

    def __init__(
        self,
        run: RunCanvases,
        head: DenseHead,
        refine: RefineHead | None = None,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self._run, self._head, self._device = run, head.to(device), torch.device(device)
        self._refine = refine.to(device).eval() if refine is not None else None
        self._priors: dict[tuple[int, int], Tensor] = {}

    def look(self, canvases: Sequence[Image]) -> None:
        """Run the network on canvases of any sizes, so that what it gives is there when it is needed."""
        self._run(canvases)

    @torch.inference_mode()
    def __call__(self, canvases: Canvases) -> list[ScoredBoxes]:
        """Return at most CANDIDATES boxes of each canvas, or REFINED where there is a second look.

        On a CPU each canvas is worked on alone: so its boxes are the same to the last bit in any company.

        Raises:
            InputError: the network's outputs are not finite.
        """
        alone = self._device.type == "cpu"
        groups = [canvases[i : i + 1] for i in range(len(canvases))] if alone else [canvases]
        return [found for group in groups for found in self._boxes(group)]

    def _boxes(self, canvases: Canvases) -> list[ScoredBoxes]:
        height, width = canvases.shape[1:3]
        pyramid, outputs = self._maps(canvases)
        logits, residuals = self._head.split(outputs)
        scores, best = logits.sigmoid().topk(min(CANDIDATES, logits.shape[1]), dim=1)
        priors = self._grid((height, width))
        boxes = [decode(r[b], priors[b]) for r, b in zip(residuals, best, strict=True)]
        boxes = [clip_boxes(b, (height, width)) for b in boxes]
        found = list(zip(boxes, scores, strict=True))
        if self._refine is not None:
            found = self._second_look(pyramid, found, (height, width))
        return _on_the_cpu(found)

    @torch.inference_mode()
    def score(self, canvas: Canvases, boxes: Boxes) -> Floats:
        """Return how well each of (N, 4) boxes on one canvas (1, h, w, 3) fits an object as it is: (N,) in 0..1."""
        if self._refine is None:
            raise InputError("only MultiBox with a second look can score boxes that are not its own")
        pyramid, _ = self._maps(canvas)
        size = (canvas.shape[1], canvas.shape[2])
        inside = clip_boxes(torch.from_numpy(boxes).to(self._device), size)
        with MODULES.shared():
            scores: Floats = fit(self._refine, pyramid, [inside], size).cpu().numpy()
        _require_finite(scores)
        return scores

    def _maps(self, canvases: Canvases) -> Maps:
        rows = self._run(list(canvases))
        joined = rows[0][None] if len(rows) == 1 else torch.stack(rows)
        return split_levels(joined.to(self._device), self._head.width, (canvases.shape[1], canvases.shape[2]))

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
        with MODULES.shared():
            logits, residuals = self._refine(pyramid, boxes)
        moved = torch.split(clip_boxes(decode(residuals, torch.cat(boxes)), canvas), lengths)
        second = torch.split(logits.sigmoid(), lengths)
        # Both looks count alike: the geometric mean.
        return [(b, (s * t).sqrt()) for b, s, t in zip(moved, first, second, strict=True)]


def _on_the_cpu(found: Sequence[tuple[Tensor, Tensor]]) -> list[ScoredBoxes]:
    """Bring the boxes and scores of all canvases over in one copy: each one makes a GPU wait."""
    rows = torch.cat([torch.cat([boxes, scores[:, None]], dim=1) for boxes, scores in found]).cpu().numpy()
    _require_finite(rows)
    parts = np.split(rows, np.cumsum([len(scores) for _, scores in found])[:-1])
    return [ScoredBoxes(np.ascontiguousarray(part[:, :4]), np.ascontiguousarray(part[:, 4])) for part in parts]


def _require_finite(values: Floats) -> None:
    if not np.isfinite(values).all():  # else a photo would silently be left with few boxes, or none
        raise InputError('the outputs of MultiBox\'s network are not finite; try `dtype="float32"`')


def split_levels(joined: Tensor, width: int, canvas: tuple[int, int]) -> tuple[tuple[Tensor, ...], Tensor]:
    """Split (N, width + 5 A, cells) into the pyramid's maps and the (N, 5 A, cells) outputs."""
    shapes = [(canvas[0] // stride, canvas[1] // stride) for stride in STRIDES]
    maps = torch.split(joined[:, :width], [h * w for h, w in shapes], dim=2)
    levels = tuple(m.reshape(len(joined), width, h, w) for m, (h, w) in zip(maps, shapes, strict=True))
    return levels, joined[:, width:]
