"""Names to proposal generators, with the learned ones; torch is only imported for those that need it."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from proposals.generators import RANKED_PREFIX, build, parts_of
from proposals.protocol import ProposalGenerator

if TYPE_CHECKING:
    from proposals.multibox import MultiBox

MULTIBOX = {  # looks at a photo, as factors on the usual size; Differs: the papers add square crops
    "multibox": (1.0,),
    "multibox-multiscale": (1.0, 2.0),
}


def load_proposals(
    name: str, *, device: str = "auto", engine: str = "auto", dtype: str = "auto", cut: bool = True, **options: Any
) -> ProposalGenerator:
    """Build a generator from its name, with options of its own; `a+b` is the union of two.

    `multibox` looks at a photo once, `multibox-multiscale` once more at twice the size, for small objects; with `:FILE`
    behind it has weights of your own. `ranked:NAME` has MultiBox put the boxes of a generator into
    the order of how well they fit an object: the first MultiBox that the name holds, else the built-in one. It leaves
    the best 200; without `cut` all boxes stay, in that order. Device, engine and dtype are MultiBox's, see
    `classifier.engines.place`.
    """
    own = [part for part in parts_of(name.removeprefix(RANKED_PREFIX)) if part.partition(":")[0] in MULTIBOX]
    placed = {"device": device, "engine": engine, "dtype": dtype}
    made: dict[str, MultiBox] = {}

    def learned(part: str, **options: Any) -> "MultiBox":  # one of each: a ranking asks the one that has just searched
        if part not in made:
            made[part] = _multibox(part, placed, **options)
        return made[part]

    extra = {part: partial(learned, part) for part in [*MULTIBOX, *own]}
    if not name.startswith(RANKED_PREFIX):
        return build(name, extra=extra, **options)
    from proposals.ranking import Ranked

    inner = build(name.removeprefix(RANKED_PREFIX), extra=extra, **options)
    scorer = learned(own[0] if own else "multibox")
    if cut:
        return Ranked(inner, scorer.score, scorer.parameters)
    return Ranked(inner, scorer.score, scorer.parameters, max_boxes=None, nms_threshold=1)


def _multibox(name: str, placed: Mapping[str, Any], **options: Any) -> "MultiBox":
    from classifier.engines import place
    from detect.multibox import load_multibox
    from detect.presets import weights_file

    kind, _, weights = name.partition(":")
    options |= {"scales": MULTIBOX[kind], "name": kind}
    return load_multibox(weights_file(weights or "multibox", option="--proposals multibox"), place(**placed), **options)
