"""Names -> proposal generators that need no network; `detect.generators` adds MultiBox and rankings by it.

`build("selective-search")` makes one generator, `build("a+b")` the union of several, `build("file:PATH")` reads boxes
that were made before. Other packages add names through the entry-point group `googlenet_rcnn.proposals`: each entry is
a function without required arguments that returns a `ProposalGenerator`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from proposals.baselines import Grid, Random
from proposals.protocol import ProposalGenerator
from proposals.union import Union
from structures.errors import InputError
from structures.names import did_you_mean

ENTRY_POINTS = "googlenet_rcnn.proposals"
FILE_PREFIX = "file:"
UNKNOWN_OPTION = re.compile("unexpected keyword argument '(.*)'")  # in Python's own words
RANKED_PREFIX = "ranked:"  # see proposals.ranking; such generators need a network, which the top floor loads

Maker = Callable[..., ProposalGenerator]


def selective_search(
    *, factor: float | None = None, strategies: Sequence[str] | None = None, **options: Any
) -> ProposalGenerator:
    """Make Selective Search.

    Args:
        factor: superpixel factor; by default 2 (GoogLeNet, section 8), and 1 for your own strategies.
        strategies: your own, such as "HSV:CTSF:100"; without them the paper's fast setting.
        **options: of `SelectiveSearch`.
    """
    from proposals.selective_search.search import SelectiveSearch
    from proposals.selective_search.strategy import SUPERPIXEL_FACTOR, enlarged, fast, parse_strategy

    chosen = fast(SUPERPIXEL_FACTOR if factor is None else factor)
    if strategies:
        chosen = tuple(enlarged(parse_strategy(text), factor or 1) for text in strategies)
    return SelectiveSearch(chosen, **{"name": "selective-search", **options})


def selective_search_1x(**options: Any) -> ProposalGenerator:
    """Make the paper's fast Selective Search with its own superpixels."""
    return selective_search(**{"factor": 1, "name": "selective-search-1x", **options})


def selective_search_quality(*, factor: float = 1, **options: Any) -> ProposalGenerator:
    """Make the paper's quality Selective Search: 80 strategies."""
    from proposals.selective_search.search import SelectiveSearch
    from proposals.selective_search.strategy import quality

    return SelectiveSearch(quality(factor), **{"name": "selective-search-quality", **options})


def selective_search_single(*, factor: float = 1, **options: Any) -> ProposalGenerator:
    """Make the paper's single-strategy Selective Search."""
    from proposals.selective_search.search import SelectiveSearch
    from proposals.selective_search.strategy import single

    return SelectiveSearch(single(factor), **{"name": "selective-search-single", **options})


def opencv_selective_search(**options: Any) -> ProposalGenerator:
    """Make OpenCV's Selective Search with the strategies of `selective-search`, factor 2."""
    from proposals.opencv import OpenCvSelectiveSearch

    return OpenCvSelectiveSearch(**options)


def opencv_selective_search_1x(**options: Any) -> ProposalGenerator:
    """Make OpenCV's Selective Search with the strategies of the paper's fast setting."""
    return opencv_selective_search(**{"factor": 1, "name": "opencv-selective-search-1x", **options})


def edge_boxes(**options: Any) -> ProposalGenerator:
    """Make EdgeBoxes on thinned gradients."""
    from proposals.edge_boxes import EdgeBoxes

    return EdgeBoxes(**options)


MAKERS: Mapping[str, Maker] = {
    "selective-search": selective_search,
    "selective-search-1x": selective_search_1x,
    "selective-search-quality": selective_search_quality,
    "selective-search-single": selective_search_single,
    "opencv-selective-search": opencv_selective_search,
    "opencv-selective-search-1x": opencv_selective_search_1x,
    "edge-boxes": edge_boxes,
    "grid": Grid,
    "random": Random,
}


def makers(extra: Mapping[str, Callable[[], ProposalGenerator]] | None = None) -> dict[str, Maker]:
    """Return everything that can be built by name: built in, then extra, then from other packages."""
    found: dict[str, Maker] = {point.name: _lazy(point) for point in entry_points(group=ENTRY_POINTS)}
    return found | dict(MAKERS) | dict(extra or {})


def _lazy(point: Any) -> Maker:
    def make(**options: Any) -> ProposalGenerator:
        generator: ProposalGenerator = point.load()(**options)
        return generator

    return make


def parts_of(name: str) -> list[str]:
    """Return the names in a+b+c; a plus in the path of a file that is there does not count.

    >>> parts_of("selective-search + file:boxes")
    ['selective-search', 'file:boxes']
    """
    pieces, parts = name.split("+"), []
    while pieces:
        count = next((n for n in range(len(pieces), 1, -1) if _names_a_file("+".join(pieces[:n]))), 1)
        parts.append("+".join(pieces[:count]).strip())
        pieces = pieces[count:]
    return parts


def files_in(name: str) -> list[Path]:
    """Return the files and folders that the name of a generator leads to, if they are there.

    >>> files_in("ranked:selective-search+multibox:/"), files_in("selective-search")
    ([...Path('/')], [])
    """
    rests = [part.partition(":")[2] for part in parts_of(name)]
    return [path for rest in rests if rest for path in ([Path(rest)] if Path(rest).exists() else files_in(rest))]


def _names_a_file(name: str) -> bool:
    kind, _, path = name.partition(":")
    return "+" not in kind and path != "" and Path(path).exists()


def build(
    name: str, *, extra: Mapping[str, Callable[[], ProposalGenerator]] | None = None, **options: Any
) -> ProposalGenerator:
    """Make a generator from its name.

    Args:
        name: one of `makers`, several joined by "+", or "file:PATH".
        extra: more makers by name, such as a trained MultiBox.
        **options: settings of the generator, such as factor or seed; not for unions.

    Raises:
        InputError: unknown name, or options that the generator does not know.
    """
    parts = parts_of(name)
    if len(parts) > 1:
        if options:
            raise InputError(f"options {sorted(options)} cannot be shared by the parts of {name!r}")
        return Union([build(part, extra=extra) for part in parts])
    if name.startswith(FILE_PREFIX):
        from proposals.stored.generator import StoredProposals

        if options:
            raise InputError(f"boxes from a file take no options, got {sorted(options)}")
        return StoredProposals(name.removeprefix(FILE_PREFIX))
    known = makers(extra)
    if name not in known:
        hint = did_you_mean(name, known)
        raise InputError(f"unknown proposal generator {name!r}; known: {', '.join(sorted(known))}, or file:PATH{hint}")
    try:
        return known[name](**options)
    except TypeError as error:
        unknown = UNKNOWN_OPTION.search(str(error))
        raise InputError(f"{name} takes no option {unknown[1]}" if unknown else f"{name}: {error}") from error
