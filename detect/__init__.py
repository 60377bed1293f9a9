"""The top floor: the detector, the command line, training, serving.

Scripts need `from detect import Detector`; it is imported on first use, since it imports torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detect.detector import Detector

__all__ = ["Detector"]


def __getattr__(name: str) -> Any:
    if name != "Detector":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from detect.detector import Detector

    return Detector
