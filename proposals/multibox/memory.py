"""What a network gave for the last canvases: those of one size are run together, and none is run twice."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from structures.records import Image
from structures.timing import Timer

USUAL_BYTES = 2**27  # that are kept; the maps of a canvas of 384 x 512 take 4 MB
IN_FLIGHT = 4  # groups: one that the network is at, one that waits, one that is decoded, and one to spare


class CanvasMemory:
    """Runs a network on canvases, and keeps what it gave for the last ones; may be used from any thread.

    Args:
        run: maps RGB pixels 0..255, float32 (N, 3, h, w) on the device, to (N, ...).
        device: where the pixels go.
        most_bytes: that are kept; None keeps at least the last four groups of canvases. The last canvas is kept in any
            case.
    """

    def __init__(
        self, run: Callable[[Tensor], Tensor], *, device: torch.device | str = "cpu", most_bytes: int | None = None
    ) -> None:
        self._run, self._device = run, torch.device(device)
        self._most, self._grows = USUAL_BYTES if most_bytes is None else most_bytes, most_bytes is None
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()
        self._bytes, self._keeping = 0, threading.Lock()

    @torch.inference_mode()
    def __call__(self, canvases: Sequence[Image]) -> list[Tensor]:
        """Return what the network gives for each of N canvases, RGB uint8 (h, w, 3) of any sizes."""
        keys = [_key(canvas) for canvas in canvases]
        found = self._known(keys)
        missing = {key: canvas for key, canvas in zip(keys, canvases, strict=True) if key not in found}
        for size in dict.fromkeys(canvas.shape for canvas in missing.values()):
            names = [key for key, canvas in missing.items() if canvas.shape == size]
            with Timer("trunk"):
                rows = self._run(self._sent([missing[name] for name in names]))
            found |= {name: row.clone() if len(names) > 1 else row for name, row in zip(names, rows, strict=True)}
        self._keep({key: found[key] for key in missing})
        return [found[key] for key in keys]

    def _sent(self, canvases: Sequence[Image]) -> Tensor:
        """Bring canvases of one size to the device, as bytes; they become numbers there."""
        pixels = torch.from_numpy(np.stack(canvases))
        if self._device.type == "cuda":  # from pinned memory the copy runs while the CPU works
            pixels = pixels.pin_memory().to(self._device, non_blocking=True)
        return pixels.to(self._device).permute(0, 3, 1, 2).float()

    def _known(self, keys: Sequence[bytes]) -> dict[bytes, Tensor]:
        with self._keeping:
            found = {key: self._kept[key] for key in keys if key in self._kept}
            for key in found:
                self._kept.move_to_end(key)
            return found

    def _keep(self, rows: dict[bytes, Tensor]) -> None:
        with self._keeping:
            if self._grows:
                self._most = max(self._most, IN_FLIGHT * sum(row.nbytes for row in rows.values()))
            for key, row in rows.items():
                self._bytes += row.nbytes if key not in self._kept else 0
                self._kept[key] = row
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes


def _key(canvas: Image) -> bytes:
    salt = repr(canvas.shape[:2]).encode()[:16]
    return blake2b(np.ascontiguousarray(canvas).data, digest_size=16, salt=salt).digest()
