"""Files are read again only if their size or time of change says so; the digests are a cache that may be lost."""

import os
from pathlib import Path

import pytest

from structures import file_digests
from structures.file_digests import DIGESTS_FILE, HEADER, FileDigests, Stamp, stamp_of
from structures.files import FileRefused, file_digest


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Three files with content of their own."""
    paths = {name: tmp_path / f"photo {name}" for name in ("a", "b", "ünï\udcff/c")}
    for number, path in enumerate(paths.values()):
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"content {number}")
    return paths


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files whose bytes are read from now on."""
    names: list[str] = []

    def digest(path: Path) -> str:
        names.append(path.name)
        return file_digest(path)

    monkeypatch.setattr(file_digests, "file_digest", digest)
    return names


def look(folder: Path, files: dict[str, Path]) -> dict[str, str]:
    kept = FileDigests(folder)
    found = dict(kept.digests(files.items()))
    kept.write()
    return found


def test_a_file_is_read_once_and_again_when_it_was_changed(
    tmp_path: Path, files: dict[str, Path], read: list[str]
) -> None:
    expected = {name: file_digest(path) for name, path in files.items()}
    assert look(tmp_path, files) == look(tmp_path, files) == expected
    assert read == ["photo a", "photo b", "c"]
    files["a"].write_text("another")
    os.utime(files["b"], ns=(0, 5))  # only the time is another: read, found equal, and known by its new time
    assert look(tmp_path, files) == look(tmp_path, files) == expected | {"a": file_digest(files["a"])}
    assert read == ["photo a", "photo b", "c", "photo a", "photo b"]


def test_what_several_names_in_a_row_mean_is_read_once(tmp_path: Path, files: dict[str, Path], read: list[str]) -> None:
    frames = dict.fromkeys(("film/1", "film/2", "film/3"), files["a"])
    assert set(look(tmp_path, frames).values()) == {file_digest(files["a"])}
    files["a"].write_text("another film")
    assert look(tmp_path, frames) == dict.fromkeys(frames, file_digest(files["a"]))
    assert read == ["photo a", "photo a"]


def test_files_that_cannot_be_read_have_no_digest_and_no_pipe_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    kept = FileDigests(tmp_path)
    assert list(kept.digests([("gone", tmp_path / "gone"), ("pipe", tmp_path / "pipe")])) == [
        ("gone", ""),
        ("pipe", ""),
    ]
    kept.write()
    assert not (tmp_path / DIGESTS_FILE).exists()
    assert stamp_of(tmp_path / "gone") is None


@pytest.mark.parametrize("left", [0, 10, 48, 48 + 47, 2 * 48 + 1])
def test_an_entry_that_a_killed_run_left_unfinished_is_written_over(
    tmp_path: Path, files: dict[str, Path], read: list[str], left: int
) -> None:
    expected = look(tmp_path, files)
    path = tmp_path / DIGESTS_FILE
    path.write_bytes(path.read_bytes()[:left])
    for _ in range(2):
        assert look(tmp_path, files) == expected
    assert path.stat().st_size == 4 * 48
    known = max(0, left // 48 - 1)
    assert len(read) == 3 + 3 - known


@pytest.mark.parametrize("content", [b"of another program\n" * 9, b"x", b"googlenet-rcnn files 2\n"])
def test_a_file_of_another_program_stays_as_it_is(tmp_path: Path, files: dict[str, Path], content: bytes) -> None:
    (tmp_path / DIGESTS_FILE).write_bytes(content)
    assert look(tmp_path, files) == look(tmp_path, files)
    assert (tmp_path / DIGESTS_FILE).read_bytes() == content


def test_damaged_entries_cost_only_time(tmp_path: Path, files: dict[str, Path]) -> None:
    expected = look(tmp_path, files)
    path = tmp_path / DIGESTS_FILE
    path.write_bytes(HEADER + bytes(range(256)) * 3)
    assert look(tmp_path, files) == expected


def test_what_cannot_be_kept_is_forgotten(tmp_path: Path, files: dict[str, Path]) -> None:
    (tmp_path / DIGESTS_FILE).mkdir()
    assert set(look(tmp_path, files)) == set(files)
    (tmp_path / DIGESTS_FILE).rmdir()
    (tmp_path / DIGESTS_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileRefused, match="nothing is written through it"):
        FileDigests(tmp_path)


def test_names_whose_digests_begin_alike_stay_apart(
    tmp_path: Path, files: dict[str, Path], read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries are found by the first half of a digest, and told apart by all of it: other files are read again."""
    monkeypatch.setattr(file_digests, "_key", lambda name: b"\1" * 8 + name[:1].encode() * 8)
    names = {name: files[name] for name in ("a", "b")}
    expected = {name: file_digest(path) for name, path in names.items()}
    assert look(tmp_path, names) == look(tmp_path, names) == expected
    assert read.count("photo b") == 1


def test_the_later_of_two_entries_counts(tmp_path: Path, files: dict[str, Path]) -> None:
    kept, digests = FileDigests(tmp_path), ["0" * 32, "1" * 32]
    stamp = stamp_of(files["a"])
    assert stamp == Stamp(9, files["a"].stat().st_mtime_ns)
    for digest in digests:
        kept.add("a", stamp, digest)
    kept.write()
    assert dict(FileDigests(tmp_path).digests([("a", files["a"])])) == {"a": digests[1]}
