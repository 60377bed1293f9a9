"""Class lists as people give them, with commas, blanks and files."""

from pathlib import Path

import pytest

from structures.class_lists import read_class_names
from structures.names import ClassNames, did_you_mean


def test_a_list_several_values_and_a_file_are_one(tmp_path: Path) -> None:
    file = tmp_path / "names"
    file.write_text("\ufeffcrane, bird\n\n  traffic light \tn001\ncat\n", encoding="utf-8")
    wanted = ["crane, bird", "traffic light", "cat"]
    assert read_class_names([str(file)]) == wanted
    assert read_class_names([" crane, bird ", "traffic light,cat"], known=[*wanted, "dog"]) == wanted
    assert read_class_names(["crane, bird"], known=["crane", "bird"]) == ["crane", "bird"]
    assert read_class_names(["a,,b ,", "c"]) == ["a", "b", "c"]


def test_a_known_class_is_not_taken_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dog").write_text("cat\n")
    assert read_class_names(["Dog"], known=["dog"]) == ["Dog"]
    assert read_class_names(["dog"]) == ["cat"]
    assert read_class_names(["a/b"], known=["a/b"]) == ["a/b"]


def test_lists_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"caf\xe9\n")
    for given, complaint in (
        ([], "`classes`: names no class"),
        ([" , "], "names no class"),
        (["a,b", "a"], "names a class twice: a"),
        ([str(tmp_path / "latin")], "latin: not a list of classes, one per line in UTF-8"),
    ):
        with pytest.raises(ValueError, match=complaint):
            read_class_names(given)
    for missing in ("names.txt", str(tmp_path / "none")):
        with pytest.raises(FileNotFoundError, match=missing):
            read_class_names([missing])


def test_names_with_blanks_mean_the_class() -> None:
    names = ClassNames(["dog", "traffic light"])
    assert (names.find(" Dog "), names.find("Traffic Light\t"), names.find("traffic")) == (0, 1, -1)


def test_a_class_in_another_case_was_meant() -> None:
    assert did_you_mean("DGO", ["Dog"]) == "; did you mean 'Dog'?"
    assert did_you_mean("", ["Dog"]) == did_you_mean("dog", []) == ""
