"""Does a folder of results have the same photos under other names, because other folders were named then?"""

from collections.abc import Callable, Collection, Iterator, Sequence

from detect.runs.frames import key_of
from detect.runs.photos import Photo, chosen, names_of


def renamed(photos: Sequence[Photo], known: Collection[str], noted: Callable[[str], str]) -> str | None:
    """Find a photo that an earlier run names with more or fewer leading folders.

    Args:
        photos: photos of this run.
        known: names of the photos of earlier runs.
        noted: name of a known photo -> its `file_key`; "" if it has none.

    Returns:
        The complaint, and what to do; None if there is no such photo.
    """
    if sum(name in known for name in names_of(photos)) in (len(known), len(photos)):
        return None  # all known photos are named again, or only known ones are
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
                f"has {photo.path} under the name {same}, but it would now be {photo.image_id}: names are relative to "
                "the deepest folder that contains everything named; name the same folders again, or another `out`"
            )
    return None


def _endings(name: str) -> Iterator[str]:
    """Yield a name without its leading folders, one by one.

    >>> list(_endings("a/b/c.jpg"))
    ['b/c.jpg', 'c.jpg']
    """
    while "/" in name:
        name = name.partition("/")[2]
        yield name
