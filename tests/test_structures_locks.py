"""A folder is locked for one process, for as long as it lives, and the lock leaves everything else alone."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest

from detect.runs.photos import SourceError, find_photos
from structures.locks import LOCK_FILE, FolderInUse, lock_folder


def test_one_lock_at_a_time(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path)
    with pytest.raises(FolderInUse, match=f"{tmp_path}: another run is writing here; wait for it or name another"):
        lock_folder(tmp_path)
    lock.release()
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]
    lock = lock_folder(tmp_path)
    del lock  # forgotten, as by an error on the way
    lock_folder(tmp_path).release()
    assert (tmp_path / LOCK_FILE).read_bytes() == b""


ROOT = Path(__file__).resolve().parent.parent
FORKING = """
import os, sys
from pathlib import Path
from structures.locks import lock_folder
lock = lock_folder(Path(sys.argv[1]))
begun, begin = os.pipe()
if os.fork() == 0:
    os.write(begin, b".")
    sys.stdin.read()
else:
    os.read(begun, 1)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_hold_the_lock_when_its_parent_is_gone(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", FORKING, tmp_path], stdin=subprocess.PIPE, stderr=-1, cwd=ROOT)
    try:
        assert parent.wait(60) == 0
        lock_folder(tmp_path).release()
    finally:
        parent.communicate()  # and the child, which reads this to its end, ends


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def no_locks(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    first, second = lock_folder(tmp_path), lock_folder(tmp_path)
    first.release()
    second.release()


def test_a_lock_that_cannot_be_written_names_its_file(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).mkdir()
    with pytest.raises(OSError, match="directory") as error:
        lock_folder(tmp_path)
    assert error.value.filename == str(tmp_path / LOCK_FILE)


def test_searches_pass_over_the_lock(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path)
    with pytest.raises(SourceError, match="no pictures in this folder"):
        find_photos([str(tmp_path)])
    PIL.Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    for named in (tmp_path, tmp_path / "*", tmp_path / "**"):
        assert [photo.image_id for photo in find_photos([str(named)])] == ["a.png"]
    lock.release()
