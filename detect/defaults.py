"""Defaults that the command line shows in --help, and the refusal of options without effect. Imports nothing heavy."""

from collections.abc import Mapping
from typing import Annotated

import typer

from structures.errors import InputError

FOR_PHOTOS = "shared"  # built-in weights for whole photos: VOC's classes
VAL_EVERY = 500  # steps between two validations of a training
VAL_PHOTOS = 200  # that a training is validated on
SOME_SKIPPED = 1  # exit code: done, except for some photos
EXACT = 16  # regions; 32 raise mAP by about half a point, but fill another batch on a CPU (benchmarks/LOG.md)
PROPOSALS = "ranked:selective-search+multibox"  # the paper's two generators, ranked; `multibox` is faster (README)
PROPOSALS_IN_WORDS = "Selective Search and MultiBox, ranked"  # in --help, which would cut the name at 80 columns

MaxPixels = Annotated[
    int | None, typer.Option(min=1, help="Skip photos with more pixels.", show_default="178956970, as Pillow")
]


def refuse_options_without_effect(complaints: Mapping[str, bool]) -> None:
    """Refuse options without effect.

    Args:
        complaints: message -> whether it applies.

    Raises:
        InputError: a message applies.
    """
    for complaint, applies in complaints.items():
        if applies:
            raise InputError(complaint)
