"""Divides photos into shards. The same photos give the same shards, by name and content."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from structures.files import digest

SHARD_PHOTOS = 256  # about 50 kB of detections: few files for many photos, and little to do again after a stop
SHARD = re.compile(r"photos-(\d{9})-([0-9a-f]{32})\.parquet")


@dataclass(frozen=True)
class Group:
    """The photos of one shard.

    Attributes:
        shard: name of the file: the number of the first photo, and a digest of all names.
        photos: numbers of the photos in the source, in order.
    """

    shard: str
    photos: Sequence[int]


def groups_of(names: Sequence[str], numbers: Sequence[int], size: int) -> Iterator[Group]:
    """Yield groups of photos, by their numbers in `names`; the last group may be smaller."""
    for start in range(0, len(numbers), size):
        chosen = numbers[start : start + size]
        joined = "\0".join(names[number] for number in chosen).encode(errors="surrogatepass")
        yield Group(f"photos-{chosen[0]:09d}-{digest(joined)}.parquet", chosen)


def missing(
    names: Sequence[str], size: int, there: Collection[str], read: Callable[[str], Iterable[str]]
) -> list[Group]:
    """Return groups of the photos that are in no shard yet.

    Args:
        names: names of all photos.
        size: photos per shard.
        there: names of the existing shards.
        read: shard -> names of its photos; called only if photos were added or removed, or shards had another size.
    """
    planned = list(groups_of(names, range(len(names)), size))
    known = {group.shard for group in planned}
    left = [group for group in planned if group.shard not in there]
    others = sorted(shard for shard in there if shard not in known)
    if not others or not left:
        return left
    done = {name for shard in others for name in read(shard)}
    todo = [number for group in left for number in group.photos if names[number] not in done]
    return list(groups_of(names, todo, size))
