"""From names to proposal generators, including the learned ones; torch is imported only for those that need it."""

import importlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.ahead import begun
from proposals.compiling import begin_compiling
from proposals.generators import MAKERS, RANKED_PREFIX, build, parts_of
from proposals.protocol import ProposalGenerator, learned_classes
from structures.cores import cores
from structures.errors import InputError
from structures.names import ClassNames

if TYPE_CHECKING:
    from classifier.placement import Placement
    from detect.networks.shared_features import SharedFeatures
    from proposals.multibox.generator import MultiBox

MULTIBOX = {  # sizes at which a photo is seen, as factors on the usual one; Differs: the papers add square crops
    "multibox": (1.0,),
    "multibox-multiscale": (1.0, 2.0),
}

NAMED = 3  # most classes that a warning names


def load_proposals(
    name: str,
    placement: "Placement | None" = None,
    *,
    cut: bool = True,
    shared: "SharedFeatures | None" = None,
    **options: Any,
) -> ProposalGenerator:
    """Build a generator from its name and options; `a+b` is the union of two.

    `multibox` sees a photo once, `multibox-multiscale` once more at twice the size, for small objects; a `:FILE` after
    the name gives other weights. `ranked:NAME` has MultiBox sort the boxes of a generator by how well they fit an
    object, using the first MultiBox in the name or else the built-in one, and keeps the best 200; with `cut=False` all
    boxes stay. The placement is that of MultiBox; by default `classifier.placement.place` chooses it. With `shared`, a
    MultiBox without a FILE runs on these features.

    Raises:
        InputError: no generator has this name, or the options are not its own.
    """
    parts = _parts(name)
    made: dict[str, MultiBox] = {}

    def learned(
        part: str, **options: Any
    ) -> "MultiBox":  # one of each, so that a ranking uses the one that has just seen the photo
        if part not in made:
            made[part] = _multibox(part, placement, shared, **options)
        return made[part]

    extra = {part: partial(learned, part) for part in [*MULTIBOX, *filter(_is_multibox, parts)]}
    if not name.startswith(RANKED_PREFIX):
        return build(name, extra=extra, **options)
    from proposals.multibox.generator import SCORE
    from proposals.ranking import Ranked

    inner = build(name.removeprefix(RANKED_PREFIX), extra=extra, **options)
    scorer = learned(_that_ranks(parts))
    all_boxes: dict[str, Any] = {} if cut else {"max_boxes": None, "nms_threshold": 1}
    by = {**scorer.parameters, "score": SCORE}
    learned_from = scorer.learned_classes
    return Ranked(inner, scorer.score, by, own=scorer.name, learned_classes=learned_from, **all_boxes)


def _parts(name: str) -> list[str]:
    if not isinstance(name, str):
        raise InputError(f"`proposals` {name!r} must be the name of a generator")
    return parts_of(name.removeprefix(RANKED_PREFIX))


def compile_ahead(name: str) -> None:
    """Begin to compile what a generator of this name needs, if that was not done before and there is a core for it."""
    if cores() > 1 and _searches(name):
        begin_compiling()


def import_ahead(name: str) -> None:
    """Begin to import what a generator of this name needs, in another thread, if that takes long: numba does."""
    if _searches(name):
        begun(partial(importlib.import_module, "proposals.selective_search"))  # whoever needs it sees what went wrong


def _searches(name: str) -> bool:
    parts = _parts(name)
    return any(part in MAKERS and part.startswith("selective-search") for part in parts)


def has_network(name: str) -> bool:
    """Return whether the generator of this name has a network.

    >>> has_network("ranked:selective-search"), has_network("grid+multibox:boxes.safetensors"), has_network("grid")
    (True, True, False)
    """
    return name.startswith(RANKED_PREFIX) or any(map(_is_multibox, parts_of(name)))


def _is_multibox(part: str) -> bool:
    return part.partition(":")[0] in MULTIBOX


def _that_ranks(parts: Sequence[str]) -> str:
    return next(filter(_is_multibox, parts), "multibox")


def _multibox(name: str, placement: "Placement | None", shared: "SharedFeatures | None", **options: Any) -> "MultiBox":
    from classifier.placement import place
    from detect.networks.multibox import load_multibox

    kind, _, file = name.partition(":")
    options |= {"scales": MULTIBOX[kind], "name": kind}
    if shared is not None and not file:
        return shared.multibox(**options)
    return load_multibox(_weights_file(name), placement or place(), **options)


def unlearned_warning(generator: ProposalGenerator, classes: Sequence[str]) -> str:
    """Return a warning if a generator learned from objects of some classes, but not from all that are looked for.

    It finds objects of other classes less often, and ranks them lower (benchmarks/LOG.md). Returns "" if there is
    nothing to warn about.

    Args:
        generator: any proposal generator.
        classes: those to be detected.
    """
    learned = learned_classes(generator)
    known = ClassNames(learned)
    unknown = [each for each in classes if known.find(each) < 0] if learned else []
    if not unknown:
        return ""
    named = ", ".join(unknown[:NAMED]) + (f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else "")
    return f"warning: {generator.name} did not learn from {named}, and may miss them (docs/multibox.md)"


def _weights_file(multibox: str) -> Path:
    from detect.weights import weights_file

    return weights_file(multibox.partition(":")[2] or "multibox", parameter="proposals")
