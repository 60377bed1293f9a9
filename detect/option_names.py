"""The options of the command line for the parameters that messages name: `batch_size` is --batch.

Messages below the command line name parameters, between backticks, because a caller in Python has no options. The
command line replaces these by its options before it shows a message.
"""

import re
from collections.abc import Mapping

MENTION = re.compile(r"`(\w+)(?:=([^`]*))?`")  # `dtype`, `dtype="float32"` or `overwrite=True`
_SAME = (
    "allow_extra auxiliary average average_from balance best_share class_agnostic classes device dtype engine "
    "epochs exact exif features format ground_truth hard_examples host images label_smoothing learning_rate "
    "max_boxes max_pixels mirrored near_share only_detected only_new out overwrite port positive_share preset "
    "proposals ramp schedule split together keep on readers token_file val val_ground_truth val_images "
    "val_proposals vote_power weight_decay weights work workers "
)
OPTIONS: Mapping[str, str] = {
    **{name: f"--{name.replace('_', '-')}" for name in _SAME.split()},
    "batch_size": "--batch",
    "form": "--to",
    "frozen": "--freeze",
    "nms_threshold": "--nms",
    "only": "--classes",
    "score_floor": "--score",
    "shard_photos": "--shard",
    "vote_threshold": "--vote",
}


def with_options(message: str) -> str:
    """Replace the parameters that a message names by options; other words between backticks stay.

    Args:
        message: text of an error or a warning.

    >>> with_options("take a smaller `batch_size`, not `that`")
    'take a smaller --batch, not `that`'
    >>> with_options('try `dtype="float32"`, `auxiliary=False` or `overwrite=True`')
    'try --dtype float32, --no-auxiliary or --overwrite'
    """
    return MENTION.sub(lambda found: _option(OPTIONS[found[1]], found[2]) if found[1] in OPTIONS else found[0], message)


def _option(name: str, value: str | None) -> str:
    if value in (None, "True"):
        return name
    return name.replace("--", "--no-") if value == "False" else f"{name} {value.strip(chr(34))}"
