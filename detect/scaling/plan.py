"""Which photos form a shard, and which shards are there? The same photos give the same shards, by name and content."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from structures.files import digest

SHARD_PHOTOS = 256  # about 1 MB of detections: few files for many photos, little work for a driver that was stopped
SHARD = re.compile(r"photos-(\d{9})-([0-9a-f]{32})\.parquet")


@dataclass(frozen=True)
class Group:
    """The photos of one shard.

    Attributes:
        shard: name of its file: the number of the first photo, and a digest of all names.
        photos: their numbers in the source, rising.
    """

    shard: str
    photos: Sequence[int]


def groups_of(names: Sequence[str], numbers: Sequence[int], size: int) -> Iterator[Group]:
    """Yield photos, by their numbers in all names, in groups of a size; the last may be smaller."""
    for start in range(0, len(numbers), size):
        chosen = numbers[start : start + size]
        joined = "\0".join(names[number] for number in chosen).encode(errors="surrogatepass")
        yield Group(f"photos-{chosen[0]:09d}-{digest(joined)}.parquet", chosen)


def missing(
    names: Sequence[str], size: int, there: Collection[str], read: Callable[[str], Iterable[str]]
) -> list[Group]:
    """Return the groups of photos that are in no shard yet.

    Args:
        names: of all photos.
        size: photos per shard.
        there: names of the shards that are written.
        read: returns the names of the photos in one of them; asked only where photos were added to the source or taken
            away, or shards had another size.
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
