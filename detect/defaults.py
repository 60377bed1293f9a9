"""What `rcnn` takes where nothing is named, and the refusal of what would change nothing.

Light, since the command line reads it for its help.
"""

from collections.abc import Mapping
from typing import Annotated

import typer

from structures.errors import InputError

VAL_EVERY = 500  # batches between two judgements of a training
VAL_PHOTOS = 200  # that a training is judged on
SOME_SKIPPED = 1  # exit code: done, but for some photos
EXACT = 16  # regions; more raise mAP by less than half a point, and fill another batch on a CPU (benchmarks/LOG.md)
PROPOSALS = "ranked:selective-search+multibox"  # what the paper has; `multibox` alone is quicker (README)
PROPOSALS_IN_WORDS = "Selective Search and MultiBox, ranked"  # in --help, which would cut the name at 80 columns

MaxPixels = Annotated[
    int | None, typer.Option(min=1, help="Skip photos with more pixels.", show_default="178956970, as Pillow")
]


def refuse_options_without_effect(complaints: Mapping[str, bool]) -> None:
    """Refuse options that would change nothing.

    Args:
        complaints: complaint -> whether it holds.

    Raises:
        InputError: one holds.
    """
    for complaint, holds in complaints.items():
        if holds:
            raise InputError(complaint)
