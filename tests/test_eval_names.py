"""Names in files of other programs find their image, and never the wrong one."""

from types import SimpleNamespace

import pytest

from eval.names import ImageNames, match_names


def album(*image_ids, **more):
    return SimpleNamespace(image_ids=image_ids, **more)


@pytest.mark.parametrize(
    ("image_id", "name"),
    [
        ("000004", "000004"),
        ("000004", "JPEGImages/000004.jpg"),
        ("000004.jpg", "000004.jpg"),
        ("val2017/000004.jpg", "000004.jpg"),
        ("sub/000004", "sub/000004.png"),
        ("a.b", "a.b.jpg"),
        ("000004.jpg", "000004"),
        ("val2017/000004.jpg", "val2017/000004"),
        ("val2017/000004.jpg", "000004"),
    ],
)
def test_names_stems_and_last_parts(image_id, name):
    assert ImageNames(album("other", image_id)).find(name) == image_id


def test_a_last_part_that_two_images_have_finds_neither():
    names = ImageNames(album("x/1.jpg", "y/1.jpg"))
    assert names.find("1.jpg") is None
    assert names.find("x/1.jpg") == "x/1.jpg"


def test_a_name_without_suffix_is_that_of_one_image_alone():
    names = ImageNames(album("x/1.jpg", "y/1.png", "y/2.jpg", "y/2.png", "3.jpg"))
    assert [names.find(name) for name in ("1", "x/1", "y/2", "2", "3.png")] == [None, "x/1.jpg", None, None, None]


def test_numbers_count_only_where_asked_for():
    assert ImageNames(album("000004")).find("4") is None
    assert ImageNames(album("000004"), numbers=True).find("4") == "000004"
    assert ImageNames(album("04", "4"), numbers=True).find("4") == "4"
    assert ImageNames(album("a.jpg", image_numbers={"a.jpg": 90}), numbers=True).find("90") == "a.jpg"


def test_the_stem_of_a_file_name_is_not_the_number_of_another_image():
    data = album("17.jpg", "20.jpg", image_numbers={"17.jpg": 5, "20.jpg": 7})
    assert match_names(["7.jpg", "17.jpg"], data) == ({"17.jpg": "17.jpg"}, ["7.jpg"])
    assert match_names(["7", "5"], data) == ({"20.jpg": "7", "17.jpg": "5"}, [])
    assert match_names(["7", "17"], data) == ({"20.jpg": "7"}, ["17"])
    zeros = album("0017.jpg", image_numbers={"0017.jpg": 17})
    assert match_names(["0017"], zeros) == ({"0017.jpg": "0017"}, [])


@pytest.mark.parametrize("name", ["", "/", ".", "..", "nowhere.jpg"])
def test_odd_names_find_nothing(name):
    assert ImageNames(album("a")).find(name) is None


def test_matching_tells_found_from_extra_and_refuses_doubles():
    assert match_names(["b.jpg", "z.jpg"], album("a", "b")) == ({"b": "b.jpg"}, ["z.jpg"])
    with pytest.raises(ValueError, match=r"x/b\.jpg and b\.jpg are both image b"):
        match_names(["b.jpg", "x/b.jpg"], album("a", "b"))
    with pytest.raises(ValueError, match=r"none of the photos is in the ground truth, such as z\.jpg"):
        match_names(["z.jpg"], album("a"))
    with pytest.raises(ValueError, match="the file is empty"):
        match_names([], album("a"))
