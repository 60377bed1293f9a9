"""The top floor: puts the rooms together, and holds the command line and the training runs.

`from detect import Detector` is what scripts need; it is loaded when it is asked for, since it brings torch.
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
