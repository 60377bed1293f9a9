"""Does a folder of results know photos by other names, since other folders were named then?"""

from collections.abc import Callable, Collection, Iterator, Sequence

from detect.runs.frames import key_of
from detect.runs.photos import Photo, chosen, names_of


def renamed(photos: Sequence[Photo], known: Collection[str], noted: Callable[[str], str]) -> str | None:
    """Say which photo an earlier run knows by a name with more or fewer folders in front, since others were named.

    Args:
        photos: that were named now.
        known: names of the photos that are known.
        noted: returns the `file_key` of a known photo, by its name; "" if it has none.

    Returns:
        The complaint, with what to do; None if there is no such photo.
    """
    if sum(name in known for name in names_of(photos)) in (len(known), len(photos)):
        return None  # all that are known were named again, or nothing else was
    now = frozenset(names_of(photos))
    old = [name for name in known if name not in now]
    longer = dict[str, list[str]]()
    for name in old:
        for ending in _endings(name):
            if ending in now:
                longer.setdefault(ending, []).append(name)
    whole = frozenset(old)
    for photo in chosen(photos, lambda name: name not in known):
        candidates = [*longer.get(photo.image_id, []), *(each for each in _endings(photo.image_id) if each in whole)]
        key = key_of(photo.path) if candidates else ""
        same = next((each for each in candidates if key and noted(each) == key), None)
        if same is not None:
            return (
                f"holds {photo.path} by the name {same}, which would be {photo.image_id} now: names begin at the "
                "deepest folder that holds all that is named; name the same folders again, or another `out`"
            )
    return None


def _endings(name: str) -> Iterator[str]:
    """Yield a name without its first folders, down to the last part.

    >>> list(_endings("a/b/c.jpg"))
    ['b/c.jpg', 'c.jpg']
    """
    while "/" in name:
        name = name.partition("/")[2]
        yield name
