"""A pipe by the name of a file is refused at once by every reader of files that users name."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classifier.weights.caffe import read_caffe, read_npz
from classifier.weights.checkpoint import read_checkpoint
from classifier.weights.torchvision import read_pth
from detect.runs.photos import find_photos
from eval.coco_json import load
from eval.results import read_lines
from eval.voc_xml import parse
from proposals.stored.foreign import read_foreign
from proposals.stored.reader import file_key
from structures.class_lists import read_class_names
from structures.files import regular_file

READERS: dict[str, Callable[[Path], Any]] = {
    "a.npz": read_npz,
    "a.caffemodel": read_caffe,
    "a.pth": read_pth,
    "a.safetensors": read_checkpoint,
    "classes.txt": lambda path: read_class_names([str(path)]),
    "list.txt": lambda path: find_photos([], lists=[path]),
    "@list.txt": lambda path: find_photos([f"@{path.with_name('list.txt')}"]),
    "instances.json": load,
    "detections.jsonl": read_lines,
    "a.xml": parse,
    "a.mat": read_foreign,
    "a.pkl": read_foreign,
    "a.json": read_foreign,
    "a.jpg": file_key,
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("name", READERS)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    os.mkfifo(tmp_path / name.removeprefix("@"))
    with pytest.raises((ValueError, OSError), match="not a regular file"):
        READERS[name](path)


def test_files_and_links_to_them_are_regular_and_folders_are_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    (tmp_path / "link").symlink_to("a")
    assert regular_file(tmp_path / "link").read_text() == "content"
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        regular_file(tmp_path)
    with pytest.raises(FileNotFoundError, match="gone"):
        regular_file(tmp_path / "gone")
