"""Pipes, and files too large for what they should be, are refused at once by the readers of files that users name."""

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
from eval.layout import read_list
from eval.results import read_lines
from eval.voc_xml import parse
from eval.yolo import YoloDataset
from proposals.stored.foreign import read_foreign
from proposals.stored.reader import file_key
from structures.class_lists import read_class_names
from structures.errors import InputError
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


@pytest.mark.parametrize(
    ("name", "too_large", "read"),
    [
        ("a.xml", 2**25 + 1, parse),
        ("classes.txt", 2**24 + 1, lambda path: read_class_names([str(path)])),
        ("data.yaml", 2**20 + 1, YoloDataset),
        ("val.txt", 2**27 + 1, lambda path: read_list(path, InputError)),
        ("a.caffemodel", 2**31, read_caffe),
    ],
)
def test_files_that_are_too_large_are_refused_before_they_are_read(
    tmp_path: Path, name: str, too_large: int, read: Callable[[Path], Any]
) -> None:
    path = tmp_path / name
    path.touch()
    os.truncate(path, too_large)  # takes no room on the disk
    with pytest.raises(InputError, match=rf"{name}: {too_large} bytes, expected .* of at most"):
        read(path)


def test_files_and_links_to_them_are_regular_and_folders_are_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    (tmp_path / "link").symlink_to("a")
    assert regular_file(tmp_path / "link").read_text() == "content"
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        regular_file(tmp_path)
    with pytest.raises(FileNotFoundError, match="gone"):
        regular_file(tmp_path / "gone")
