"""Packages that are extras of this one: imported where they are needed, or named with their install command."""

import importlib
import sys
import threading
from typing import Any, cast

from structures.errors import InputError

TELEMETRY = "openvino_telemetry"

_importing = threading.Lock()


def installed(module: str, *, extra: str) -> Any:
    """Import a module of a package that is an extra of this one.

    Args:
        module: what to import, such as `plotly.graph_objects`.
        extra: under which name pip installs it with this package.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise InputError(f"{package} is not installed: pip install 'googlenet-rcnn[{extra}]'") from None


def import_openvino() -> Any:
    """Import OpenVINO as if its telemetry were not installed, and return it.

    Else each import would write to the home folder, and tell its makers about it from a fork of this process.
    """
    modules = cast(dict[str, Any], sys.modules)
    with _importing:
        if "openvino" in modules or TELEMETRY in modules:  # then it is too late
            return importlib.import_module("openvino")
        modules[TELEMETRY] = None
        try:
            return importlib.import_module("openvino")
        finally:
            del modules[TELEMETRY]
