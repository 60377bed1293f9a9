"""Names mean the same photo in every order and on every system, and never one of two."""

from hypothesis import given
from hypothesis import strategies as st

from structures.photo_names import PhotoNames, forward

PART = st.sampled_from(["a", "b", "01", "1", "a.b", "c.jpg", "c.png", ".x", "Ä"])
NAMES = st.lists(st.lists(PART, min_size=1, max_size=3).map("/".join), min_size=1, max_size=6, unique=True)


@given(NAMES)
def test_every_photo_is_found_by_its_own_name(names: list[str]) -> None:
    photos = PhotoNames(names)
    assert [photos.find(name) for name in names] == names


@given(NAMES, NAMES, st.randoms())
def test_the_order_of_photos_changes_nothing(names: list[str], asked: list[str], random: object) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert [PhotoNames(shuffled).find(name) for name in asked] == [PhotoNames(names).find(name) for name in asked]


@given(NAMES, NAMES)
def test_slashes_of_windows_mean_the_same_on_both_sides(names: list[str], asked: list[str]) -> None:
    photos, from_windows = PhotoNames(names), PhotoNames([name.replace("/", "\\") for name in names])
    for name in asked:
        expected = photos.find(name)
        assert photos.find(name.replace("/", "\\")) == expected
        found = from_windows.find(name)
        assert (None if found is None else forward(found)) == expected


def test_names_by_hand() -> None:
    photos = PhotoNames(["train/1.jpg", "val/1.jpg", "val/2", "c.jpg", "c.png"])
    for name, meant in {
        "val/1.jpg": "val/1.jpg",
        "1.jpg": None,  # of two
        "val/1": "val/1.jpg",
        "val/1.png": None,  # another suffix is another photo
        "c": None,  # of two
        "2": "val/2",
        "2.png": "val/2",
        "elsewhere/2.png": "val/2",
        "c.jpg": "c.jpg",
        "sub/c.png": "c.png",
        "": None,
        ".": None,
        "/": None,
        "..": None,
    }.items():
        assert photos.find(name) == meant, name
