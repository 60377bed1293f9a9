"""Photos are found by file, folder, glob and list, with names that stay apart."""

import os
from pathlib import Path

import pytest

from detect.runs.photos import SourceError, chosen, find_photos, places_of
from detect.runs.record import RunRecord
from detect.runs.renamed import renamed
from proposals.stored.reader import file_key
from structures.images import ImageError, read_image


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    names = ["b.jpg", "A.JPG", "sub/b.jpg", "sub/deep/ünï cödé.png", "notes.txt", ".hidden.jpg", ".git/x.jpg"]
    for name in names:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ids(*paths: str, **options: object) -> list[str]:
    return [photo.image_id for photo in find_photos(paths, **options)]  # type: ignore[arg-type]


def test_a_folder_is_searched_through_in_a_stable_order(tree: Path) -> None:
    assert ids("photos") == ["A.JPG", "b.jpg", "sub/b.jpg", "sub/deep/ünï cödé.png"]
    assert ids("photos/") == ids("photos") == ids(str(tree / "photos"))


def test_paths_lead_to_the_files(tree: Path) -> None:
    assert [p.path for p in find_photos(["photos/sub"])] == [
        tree / "photos/sub/b.jpg",
        tree / "photos/sub/deep/ünï cödé.png",
    ]


def test_a_folder_with_everything_in_a_subfolder_keeps_the_subfolder_in_the_names(tree: Path) -> None:
    (tree / "outer").mkdir()
    (tree / "photos").rename(tree / "outer" / "photos")
    assert ids("outer")[0] == "photos/A.JPG"


def test_equal_basenames_in_two_folders_stay_apart(tree: Path) -> None:
    (tree / "other").mkdir()
    (tree / "other/b.jpg").write_bytes(b"")
    assert ids("photos/sub", "other") == ["other/b.jpg", "photos/sub/b.jpg", "photos/sub/deep/ünï cödé.png"]


def test_files_are_named_by_their_common_folder_and_taken_whatever_their_suffix(tree: Path) -> None:
    assert ids("photos/b.jpg") == ["b.jpg"]
    assert ids("photos/notes.txt", "photos/sub/b.jpg") == ["notes.txt", "sub/b.jpg"]


def test_a_photo_named_twice_is_there_once(tree: Path) -> None:
    assert ids("photos/b.jpg", "photos", str(tree / "photos/b.jpg"), "photos/../photos/b.jpg") == ids("photos")


def test_order_of_arguments_does_not_matter(tree: Path) -> None:
    assert find_photos(["photos/sub", "photos/b.jpg"]) == find_photos(["photos/b.jpg", "photos/sub"])


def test_globs(tree: Path) -> None:
    assert ids("photos/*.jpg") == ["b.jpg"]
    assert ids("photos/**/*.[jp][pn]g") == ["b.jpg", "sub/b.jpg", "sub/deep/ünï cödé.png"]
    with pytest.raises(SourceError, match=r"photos/\*\.tif: matches no file"):
        ids("photos/*.tif")


def test_a_file_with_glob_characters_in_its_name_is_itself(tree: Path) -> None:
    (tree / "photos/[1].jpg").write_bytes(b"")
    assert ids("photos/[1].jpg") == ["[1].jpg"]


@pytest.mark.parametrize("lines", ["b.jpg\r\n\r\nsub/*.jpg\r\n", "\ufeffphotos/b.jpg\nphotos/sub/b.jpg"])
def test_list_files_hold_paths_from_the_working_folder_or_next_to_the_list(tree: Path, lines: str) -> None:
    (tree / "photos/list.txt").write_text(lines, encoding="utf-8")
    assert ids("@photos/list.txt") == ["b.jpg", "sub/b.jpg"] == ids(lists=["photos/list.txt"])


def test_a_missing_line_of_a_list_is_named(tree: Path) -> None:
    (tree / "list.txt").write_text("photos/b.jpg\nphotos/c.jpg\n")
    with pytest.raises(SourceError, match=r"list\.txt: line 2: .*photos/c\.jpg: no such file"):
        ids("@list.txt")


def test_a_picture_given_as_a_list_is_refused(tree: Path) -> None:
    (tree / "photos/b.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(SourceError, match=r"photos/b\.jpg: not a list"):
        ids(lists=["photos/b.jpg"])


@pytest.mark.parametrize("path", ["nowhere", "photos/none.jpg", ""])
def test_a_missing_path_is_named(tree: Path, path: str) -> None:
    with pytest.raises(SourceError, match=f"^{path}: no such file or folder"):
        ids("photos", path)


def test_nothing_named_and_empty_folders(tree: Path) -> None:
    with pytest.raises(SourceError, match="no photos were named"):
        ids()
    (tree / "empty/.git").mkdir(parents=True)
    (tree / "empty/.git/x.jpg").write_bytes(b"")
    with pytest.raises(SourceError, match="empty: no pictures in this folder"):
        ids("empty", "photos")


def test_linked_folders_are_searched_once_and_loops_end(tree: Path) -> None:
    (tree / "photos/loop").symlink_to(tree / "photos", target_is_directory=True)
    (tree / "elsewhere").mkdir()
    (tree / "elsewhere/c.jpg").write_bytes(b"")
    (tree / "photos/link").symlink_to(tree / "elsewhere", target_is_directory=True)
    assert ids("photos") == ["A.JPG", "b.jpg", "link/c.jpg", "sub/b.jpg", "sub/deep/ünï cödé.png"]


def test_dead_links_are_found_to_be_reported_and_pipes_are_not(tree: Path) -> None:
    (tree / "photos/dead.jpg").symlink_to(tree / "gone.jpg")
    os.mkfifo(tree / "photos/pipe.jpg")
    assert "dead.jpg" in ids("photos")
    assert "pipe.jpg" not in ids("photos")


def test_the_folder_with_drawn_results_is_left_out(tree: Path) -> None:
    (tree / "photos/out/pictures").mkdir(parents=True)
    (tree / "photos/out/pictures/b.jpg").write_bytes(b"")
    assert ids("photos", leave_out=Path("photos/out/pictures")) == [name for name in ids("photos") if "out" not in name]


def test_pictures_of_any_run_are_not_photos_unless_they_are_named(tree: Path) -> None:
    (tree / "photos/out/pictures").mkdir(parents=True)
    (tree / "photos/out/pictures/b.jpg").write_bytes(b"")
    assert "out/pictures/b.jpg" in ids("photos")  # a folder of that name, and no run
    (tree / "photos/out/run.json").write_text("{}")
    assert "out/pictures/b.jpg" in ids("photos")  # of another program
    (tree / "photos/out/run.json").unlink()
    run = RunRecord(tree / "photos/out", {})
    assert "out/pictures/b.jpg" in ids("photos")  # of a run that drew nothing
    run.update(draw_score=0.5)
    assert "out/pictures/b.jpg" not in ids("photos")
    assert ids("photos/out/pictures") == ["b.jpg"]


@pytest.mark.parametrize("folder", ["photos [1]", "a*b?", "[x"])
def test_folders_with_glob_characters_in_their_names_are_themselves(tree: Path, folder: str) -> None:
    for name in (folder, "photos 1", "aab0"):  # the last two are what the names would mean as patterns
        (tree / name / "sub").mkdir(parents=True)
        (tree / name / "sub" / f"{name}.jpg").write_bytes(b"")
    assert ids(f"{folder}/*/*.jpg") == ids(str(tree / folder / "**" / "*.jpg")) == [f"{folder}.jpg"]
    (tree / folder / "list.txt").write_text("sub/*.jpg\n")
    assert ids(f"@{folder}/list.txt") == ids(lists=[tree / folder / "list.txt"]) == [f"{folder}.jpg"]


def test_a_glob_takes_no_pictures_of_runs_unless_their_folder_is_named(tree: Path) -> None:
    (tree / "photos/out/pictures").mkdir(parents=True)
    (tree / "photos/out/pictures/b.jpg").write_bytes(b"")
    RunRecord(tree / "photos/out", {}).update(draw_score=0.5)
    for pattern in ("photos/**/b.jpg", "photos/**", f"{tree}/*/*/*"):
        assert not [photo for photo in find_photos([pattern]) if "pictures" in photo.path.parts]
    assert ids("photos/out/pictures/*") == ["b.jpg"]
    with pytest.raises(SourceError, match=r"photos/out/\*/b\.jpg: matches only pictures of runs"):
        ids("photos/out/*/b.jpg")


def test_a_glob_takes_nothing_from_the_folder_that_is_left_out(tree: Path) -> None:
    assert ids("photos/**/*.jpg", leave_out=Path("photos/sub")) == ["b.jpg"]
    assert ids("photos/sub/*.jpg", leave_out=Path("photos/sub")) == ["b.jpg"]  # named


def test_a_folder_that_cannot_be_searched_is_reported_like_a_photo_and_the_rest_is_found(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = os.scandir

    def refuse(path: str | Path = ".") -> object:
        if os.path.basename(path) == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return search(path)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "listdir", lambda path: list(refuse(path)))  # type: ignore[call-overload]
    assert ids("photos") == ["A.JPG", "b.jpg", "sub"]
    with pytest.raises(ImageError, match="sub: the folder cannot be searched: Permission denied"):
        read_image(tree / "photos/sub")
    with pytest.raises(PermissionError):
        ids("photos/sub")


def test_millions_of_photos_are_names_and_each_is_made_when_it_is_needed(tree: Path) -> None:
    found = find_photos(["photos"])
    assert found.names == tuple(photo.image_id for photo in found)
    assert (found[1], found[-1], found[1:3][0]) == (list(found)[1], list(found)[-1], list(found)[1])
    assert list(places_of(found)) == [(photo.image_id, str(photo.path)) for photo in found]
    assert list(places_of(list(found))) == [(photo.image_id, photo.path) for photo in found]
    wanted = {"b.jpg", "sub/b.jpg"}.__contains__
    assert list(chosen(found, wanted)) == list(chosen(list(found), wanted)) == [found[1], found[2]]


def test_a_link_that_leads_to_itself_is_reported_and_one_to_a_folder_is_not_a_photo(tree: Path) -> None:
    (tree / "photos/self.jpg").symlink_to("self.jpg")
    (tree / "elsewhere").mkdir()
    (tree / "photos/folder.jpg").symlink_to(tree / "elsewhere", target_is_directory=True)
    assert ids("photos") == ["A.JPG", "b.jpg", "self.jpg", "sub/b.jpg", "sub/deep/ünï cödé.png"]


def test_photos_under_names_with_more_or_fewer_folders_are_noticed(tree: Path) -> None:
    for at, name in enumerate(("x/b.jpg", "y/b.jpg", "y/z/c.jpg")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(str(at))
    keys = {name: file_key(tree / name) for name in ("x/b.jpg", "y/b.jpg", "y/z/c.jpg")}
    longer = {f"far/{name}": key for name, key in keys.items()}
    everything = find_photos(["x", "y"])
    assert renamed(everything, keys, keys.__getitem__) is None
    assert renamed(everything, {}, str) is None
    assert "under the name far/x/b.jpg, but it would now be x/b.jpg" in str(
        renamed(everything, longer, longer.__getitem__)
    )
    inner = find_photos(["y"])
    assert inner.names == ("b.jpg", "z/c.jpg")
    assert "under the name y/b.jpg, but it would now be b.jpg" in str(
        renamed(inner, keys, keys.__getitem__)
    )  # not x/b.jpg
    other = dict.fromkeys(keys, "0" * 32) | {"b.jpg": ""}
    assert renamed(inner, other, other.__getitem__) is None
    (tree / "y/b.jpg").unlink()  # cannot be read any more, and is reported later
    assert renamed(inner, {"y/b.jpg": ""}, lambda name: "") is None
