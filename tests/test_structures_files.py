"""A file is there whole or as it was before, whatever happens, and nothing else stays behind."""

import errno
import json
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from structures.files import replacing, write_bytes, write_json, write_text


def test_what_was_there_stays_until_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.txt"
    write_text(path, "old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with suppress(RuntimeError), replacing(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_being_replaced_is_written_directly(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.txt") as partial:
        write_text(partial, "new")
        assert [path.name for path in tmp_path.iterdir()] == [partial.name]
        with replacing(partial) as same:
            assert same == partial
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "new"


def test_errors_name_the_file_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as full, replacing(tmp_path / "a.bin"):
        raise OSError(28, "No space left on device")
    assert full.value.filename == str(tmp_path / "a.bin")
    with pytest.raises(FileNotFoundError) as other, replacing(tmp_path / "a.bin"):
        (tmp_path / "photo.jpg").read_bytes()
    assert other.value.filename == str(tmp_path / "photo.jpg")
    with pytest.raises(IsADirectoryError) as folder:
        write_bytes(tmp_path, b"content")
    assert folder.value.filename == str(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_reported_with_one_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"out\.json'$"), replacing(tmp_path / "out.json"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_links_stay_links(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "there" / "a.txt")
    for text in ("first", "second"):
        write_text(tmp_path / "link.txt", text)
        assert (tmp_path / "link.txt").is_symlink()
        assert (tmp_path / "there" / "a.txt").read_text() == text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    heard: list[str] = []
    listener = threading.Thread(target=lambda: heard.append((tmp_path / "pipe").read_text()), daemon=True)
    listener.start()
    write_text(tmp_path / "pipe", "through it")
    listener.join(timeout=60)
    assert heard == ["through it"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_devices_are_written_to(capfd: pytest.CaptureFixture[str]) -> None:
    write_text(Path("/dev/stdout"), "to the terminal")
    assert capfd.readouterr().out == "to the terminal"


def test_names_that_are_not_utf_8_do_not_stop_a_page(tmp_path: Path) -> None:
    write_text(tmp_path / "page.html", "gr\udcfcn.jpg")
    assert (tmp_path / "page.html").read_text() == "gr?n.jpg"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_full_device_is_named() -> None:
    with pytest.raises(OSError, match="/dev/full"):
        write_text(Path("/dev/full"), "text" * 10_000)
