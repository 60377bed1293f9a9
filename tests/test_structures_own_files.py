"""What is ours to write over or to remove, worked out by hand in small folders."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from structures.files import PARTIAL, FileRefused
from structures.own_files import RECORD, OwnFiles, check_outputs, inside


def write(path: Path, content: str = "of the user") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@pytest.mark.parametrize(
    ("complaint", "names"),
    [
        ("leads out of this folder", ["", ".", "..", "a/../b", "/a", "a//b"]),
        ("has a backslash or a drive of Windows", ["a\\b", "C:a", "C:", "..\\a"]),
        ("is one that no file can have", ["a\0b"]),
    ],
)
def test_names_that_lead_elsewhere(tmp_path: Path, complaint: str, names: list[str]) -> None:
    for name in names:
        with pytest.raises(FileRefused, match=complaint):
            inside(tmp_path, name)


def test_the_folder_may_be_a_link_and_what_lies_in_it_may_not(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert inside(tmp_path / "link", "a") == tmp_path / "link/a"
    write(tmp_path / "elsewhere")
    (tmp_path / "real/a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileRefused, match=r"real/a: a link leads from here"):
        inside(tmp_path / "real", "a")


def test_no_output_is_an_input_under_any_name(tmp_path: Path) -> None:
    given, other = write(tmp_path / "in/a.json"), write(tmp_path / "b.json")
    os.link(given, tmp_path / "hard.json")
    (tmp_path / "soft.json").symlink_to(given)
    for name in ("in/a.json", "in/../in/a.json", "hard.json", "soft.json"):
        with pytest.raises(FileRefused, match=r"would be written over an input \(.*a\.json\)"):
            check_outputs([other, tmp_path / name], [given, None, "default"])
    with pytest.raises(FileRefused, match=r"a\.json: would be written over an input \(.*in\)"):
        check_outputs([given], [tmp_path / "in"])
    check_outputs([tmp_path / "in/new.json", other, None], [tmp_path / "in"])  # in the folder, and in nobody's way


def test_pages_and_weights_of_an_earlier_run_may_lie_among_the_inputs(tmp_path: Path) -> None:
    page, weights = write(tmp_path / "mine.html"), write(tmp_path / "mine.safetensors")
    check_outputs([page, weights], [tmp_path])
    with pytest.raises(FileRefused, match="would be written over an input"):
        check_outputs([weights], [tmp_path, weights])


def test_two_outputs_are_two_files(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(FileRefused, match=r"link/a: is to be written twice; name two files"):
        check_outputs([tmp_path / "a", tmp_path / "link/a"], [])


@pytest.mark.skipif(os.name == "nt", reason="nothing is removed there")
def test_what_killed_runs_left_of_an_output_is_removed_and_nothing_else(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = write(tmp_path / f".a.json.{ended.pid}{PARTIAL}")
    stay = [f".a.json.{os.getpid()}{PARTIAL}", f".b.json.{ended.pid}{PARTIAL}", f"a.json.{ended.pid}{PARTIAL}"]
    kept = [write(tmp_path / name) for name in [*stay, f".a.json.x{PARTIAL}"]]
    check_outputs([tmp_path / "a.json"], [])
    assert not left.exists()
    assert all(path.exists() for path in kept)


def test_what_we_wrote_is_ours_until_somebody_changes_it(tmp_path: Path) -> None:
    for _ in range(2):  # the record outlives the process
        with OwnFiles(tmp_path) as files:
            with files.writing("pictures/a.png") as partial:
                partial.write_text("ours")
            assert files.owns("pictures/a.png")
            assert list(files) == ["pictures/a.png"]
    write(tmp_path / "pictures/a.png", "changed")
    with OwnFiles(tmp_path) as files:
        assert not files.owns("pictures/a.png")
        assert not files.remove("pictures/a.png")
        with (
            pytest.raises(FileRefused, match="changed since, and is not written over"),
            files.writing("pictures/a.png") as partial,
        ):
            partial.write_text("ours again")
    assert (tmp_path / "pictures/a.png").read_text() == "changed"


def test_a_file_is_removed_with_the_folders_that_are_empty_then(tmp_path: Path) -> None:
    write(tmp_path / "out/x/of the user")
    with OwnFiles(tmp_path / "out") as files:
        for name in ("x/y/a", "x/b"):
            with files.writing(name) as partial:
                partial.write_text(name)
        assert files.remove("x/y/a")
        assert files.remove("x/b")
        assert files.remove("never there")
        assert not files.remove("x/of the user")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "out",
        f"out/{RECORD}",
        "out/x",
        "out/x/of the user",
    ]


def test_a_file_of_the_same_content_stays_the_users_and_so_does_an_input(tmp_path: Path) -> None:
    same, given = write(tmp_path / "same", "ours"), write(tmp_path / "given", "ours")
    with OwnFiles(tmp_path, [given]) as files:
        with files.writing("same") as partial:
            partial.write_text("ours")
        assert not files.owns("same")
        assert not files.remove("same")
        with pytest.raises(FileRefused, match="given: is an input"):
            files.place("given")
        (tmp_path / "folder").mkdir()
        with pytest.raises(FileRefused, match="folder: is in the way of a file"):
            files.place("folder")
    assert same.read_text() == "ours"


@pytest.mark.parametrize("line", ['{"file": "a", "digest": 7}', '{"file": "a"}', '{"name": "a", "digest": "b"}'])
def test_a_record_of_others_is_refused_and_stays(tmp_path: Path, line: str) -> None:
    write(tmp_path / RECORD, line + "\n")
    with pytest.raises(FileRefused, match=rf"{RECORD}: line 1: no name and digest of a file"):
        OwnFiles(tmp_path)
    assert (tmp_path / RECORD).read_text() == line + "\n"
