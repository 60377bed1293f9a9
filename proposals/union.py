"""Several generators -> one list: duplicates removed, the source of each box kept."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from proposals.protocol import ProposalGenerator, in_steps, learned_classes
from structures.boxes import unique_rows
from structures.errors import InputError
from structures.records import Image, Proposals


def merge(parts: Sequence[Proposals]) -> Proposals:
    """Join the proposals of one photo, part after part; of equal boxes the first stays.

    Raises:
        InputError: no parts, or parts of photos of different sizes.
    """
    if not parts:
        raise InputError("nothing to merge")
    if len({part.image_size for part in parts}) > 1:
        raise InputError(f"parts of different image sizes: {[part.image_size for part in parts]}")
    joined = reduce(Proposals.followed_by, parts)
    return joined.take(unique_rows(joined.boxes))


class Union:
    """The boxes of all its generators, in their order; of equal boxes the first stays.

    Raises:
        InputError: there are no generators.
    """

    def __init__(self, generators: Sequence[ProposalGenerator]) -> None:
        if not generators:
            raise InputError("a union needs at least one generator")
        self.generators = tuple(generators)
        self._steps = [in_steps(generator) for generator in generators]

    @property
    def name(self) -> str:
        """Names joined by +."""
        return "+".join(generator.name for generator in self.generators)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Parameters of every generator, in order."""
        return {
            "union": [
                {"name": generator.name, "parameters": dict(generator.parameters)} for generator in self.generators
            ]
        }

    @property
    def learned_classes(self) -> tuple[str, ...]:
        """Classes that one of the generators learned from; none if any of them may find any object."""
        each = [learned_classes(generator) for generator in self.generators]
        return tuple(dict.fromkeys(name for names in each for name in names)) if all(each) else ()

    def __call__(self, image: Image) -> Proposals:
        """Run every generator on the photo and merge."""
        return self.finish([self.begin(image)])[0]

    def begin(self, image: Image) -> list[Any]:
        """Do what needs no network; see `proposals.protocol.ProposesInSteps`."""
        return [part.begin(image) for part in self._steps]

    def look(self, begun: Sequence[list[Any]]) -> None:
        """Run the networks of all parts for photos that were begun."""
        for part, own in zip(self._steps, zip(*begun, strict=True), strict=False):
            part.look(own)

    def finish(self, begun: Sequence[list[Any]]) -> list[Proposals]:
        """Merge what all parts propose for photos that were begun."""
        found = [part.finish(own) for part, own in zip(self._steps, zip(*begun, strict=True), strict=False)]
        return [merge(parts) for parts in zip(*found, strict=True)]
