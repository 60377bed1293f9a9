"""Packages that are extras of this one: imported where they are needed, or named with their install command."""

import importlib
from typing import Any

from structures.errors import InputError


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
