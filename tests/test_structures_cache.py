"""The user's cache gives back what was kept or nothing, and uses no folder that others can write to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from structures import cache
from structures.cache import cache_folder, keep, read_kept

SMALL = 100 - cache.HEAD_BYTES  # bytes that make a file of 100
ROOT = Path(__file__).resolve().parent.parent
posix = pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners and permissions here")


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the folder that the cache is told to use."""
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "place"))
    return tmp_path / "place"


def only_file(place: Path) -> Path:
    (found,) = (path for path in place.rglob("*") if path.is_file())
    return found


@pytest.mark.parametrize("content", [b"", b"abc" * 1000])
def test_what_was_kept_comes_back(place: Path, content: bytes) -> None:
    assert read_kept("things", "a") is None
    keep("things", "a", content)
    assert read_kept("things", "a") == content
    assert read_kept("things", "b") is None
    assert read_kept("others", "a") is None


@pytest.mark.parametrize("damage", [b"", b"short", b"\0" * 100])
def test_a_damaged_file_counts_as_none_and_is_written_again(place: Path, damage: bytes) -> None:
    keep("things", "a", b"content")
    only_file(place).write_bytes(damage)
    assert read_kept("things", "a") is None
    keep("things", "a", b"content")
    assert read_kept("things", "a") == b"content"


def test_one_changed_bit_is_noticed(place: Path) -> None:
    keep("things", "a", b"content")
    path = only_file(place)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert read_kept("things", "a") is None


def test_a_folder_or_pipe_in_the_way_is_passed_over(place: Path) -> None:
    folder = cache_folder("things")
    assert folder is not None
    (folder / "a").mkdir()
    assert read_kept("things", "a") is None
    keep("things", "a", b"content")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "b")
        assert read_kept("things", "b") is None


def test_off_keeps_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(cache.CACHE_VARIABLE, "off")
    keep("things", "a", b"content")
    assert read_kept("things", "a") is None
    assert cache_folder("things") is None
    assert list(tmp_path.iterdir()) == []


def test_the_default_is_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(cache.CACHE_VARIABLE, raising=False)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name, appauthor: tmp_path / name)
    folder = cache_folder("things")
    assert folder is not None
    assert folder.is_relative_to(tmp_path / "googlenet-rcnn")


@posix
def test_the_folder_is_private(place: Path) -> None:
    folder = cache_folder("things")
    assert folder is not None
    assert [path.stat().st_mode & 0o777 for path in (folder, folder.parent)] == [0o700, 0o700]


@posix
@pytest.mark.parametrize("part", ["things", ""])
def test_a_folder_that_others_can_write_to_is_not_used(place: Path, part: str) -> None:
    keep("things", "a", b"content")
    folder = cache_folder("things")
    assert folder is not None
    (folder.parent / part).chmod(0o777)
    assert read_kept("things", "a") is None
    assert cache_folder("things") is None


@posix
def test_a_folder_of_somebody_else_is_not_used(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cache_folder("things")
    assert folder is not None
    folder.parent.rename(folder.parent.with_name("user-12345"))
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert cache_folder("things") is None


@posix
def test_a_link_is_not_followed(place: Path, tmp_path: Path) -> None:
    folder = cache_folder("things")
    assert folder is not None
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert cache_folder("things") is None


def test_where_nothing_can_be_written_the_work_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "file"))
    keep("things", "a", b"content")
    assert read_kept("things", "a") is None


def test_a_full_disk_is_not_an_error(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(cache, "write_bytes", full)
    keep("things", "a", b"content")
    assert read_kept("things", "a") is None


def test_files_used_least_recently_go_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_BYTES", 350)
    for age, name in enumerate(("a", "b", "c")):
        keep("things", name, b"x" * SMALL)  # 100 bytes each
        folder = cache_folder("things")
        assert folder is not None
        os.utime(folder / name, (age + 1, age + 1))
    assert read_kept("things", "a") is not None  # used just now
    keep("others", "d", b"x" * SMALL)
    kept = {name for name in ("a", "b", "c") if read_kept("things", name) is not None}
    assert kept == {"a", "c"}
    assert read_kept("others", "d") is not None


def test_files_of_others_in_the_cache_stay(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where RCNN_CACHE names a place of the user's that has a folder of this name."""
    monkeypatch.setattr(cache, "MOST_BYTES", 150)
    folder = cache_folder("things")
    assert folder is not None
    theirs = {folder / "model.bin": b"x" * 500, folder.parent / "notes.txt": b"of the user", folder / "deep/a": b""}
    for path, content in theirs.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    (folder / "link").symlink_to(tmp_path / "notes.txt")
    for name in ("a", "b"):
        keep("things", name, b"y" * SMALL)  # 100 bytes each
        os.utime(folder / name, (1, 1))
    (folder / "f.py.nbc").write_bytes(b"n" * 30)
    (folder / ".c.7.partial").write_bytes(b"half")
    os.utime(folder / ".c.7.partial", (0, 0))
    keep("things", "c", b"y" * SMALL)
    assert {path: path.read_bytes() for path in theirs} == theirs
    assert (folder / "link").is_symlink()
    assert [name for name in (".c.7.partial", "c", "f.py.nbc") if (folder / name).exists()] == ["c", "f.py.nbc"]


def test_what_is_too_large_is_not_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LARGEST", 100)
    keep("things", "a", b"x" * (SMALL + 1))
    assert read_kept("things", "a") is None


SHARED = """
import sys
from structures.cache import keep, read_kept
for turn in range(30):
    content = bytes([turn]) * 200_000
    keep("things", str(turn % 3), content)
    found = read_kept("things", str(turn % 3))
    assert found is None or (len(found) == 200_000 and len(set(found)) == 1)
print("fine")
"""


def test_two_processes_at_once_see_whole_files_only(place: Path) -> None:
    command = [sys.executable, "-c", SHARED]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in running] == ["fine", "fine"]
    assert not list(place.rglob("*.partial"))
