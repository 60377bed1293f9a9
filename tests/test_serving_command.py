"""The words of `rcnn serve`: what is refused before anything is loaded, each on one line."""

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detect.commands.serve import AddressOptions
from detect.serving.jobs import Limits
from structures.errors import InputError


def test_without_the_extra_one_line_says_how_to_install_it(
    rcnn: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert rcnn("serve") == 2
    assert capsys.readouterr().err == "rcnn: uvicorn is not installed: pip install 'googlenet-rcnn[serve]'\n"


def test_a_port_in_use_is_named(rcnn: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert rcnn("serve", "--port", port) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"rcnn: --host 127.0.0.1, --port {port}: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("content", ["", " \n", "two\nlines", "käse", "a\x00b"])
def test_a_file_without_a_token_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token.txt"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="printable ASCII"):
        _ = AddressOptions(token_file=file).token


def test_the_token_is_of_the_file_or_else_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token.txt"
    file.write_text("of-the-file\n")
    assert AddressOptions().token == ""
    monkeypatch.setenv("RCNN_TOKEN", "of-the-environment")
    assert AddressOptions().token == "of-the-environment"
    assert AddressOptions(token_file=file).token == "of-the-file"
    monkeypatch.setenv("RCNN_TOKEN", "")
    with pytest.raises(InputError, match="RCNN_TOKEN"):
        _ = AddressOptions().token


@pytest.mark.parametrize(
    ("options", "hosts"),
    [
        ({}, {"localhost", "127.0.0.1", "[::1]"}),
        ({"host": "0.0.0.0"}, set()),
        ({"allow_host": ["Photos.example"]}, {"photos.example"}),
    ],
)
def test_which_names_the_server_goes_by(options: dict[str, object], hosts: set[str]) -> None:
    assert set(AddressOptions(**options).hosts()) == hosts  # type: ignore[arg-type]


def test_every_option_reaches_the_detector_or_the_server(
    rcnn: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr("detect.commands.serve._serve", lambda *arguments: given.extend(arguments))
    words = {
        "--proposals": "grid", "--features": "both", "--exact": 3, "--weights": "default", "--score": 0.2, "--nms": 0.4,
        "--classes": "cat,dog", "--max-boxes": 9, "--vote-power": 2, "--device": "cpu", "--engine": "torch",
        "--dtype": "float32", "--host": "::1", "--port": 81, "--allow-host": "a.example", "--token-file": "t.txt",
        "--max-bytes": 2000, "--max-pixels": 3000, "--seconds": 4, "--waiting": 5, "--together": 6,
        "--offer": "multibox", "--exif": "ignore",
    }  # fmt: skip
    options = [word for pair in words.items() for word in pair]
    assert rcnn("serve", *options, "--class-agnostic", "--mirrored", "--vote") == 0
    detector, others, address, limits = given
    assert (others, limits) == (("multibox",), Limits(2000, 3000, 4, 5, 6))
    assert (address.host, address.port, address.hosts(), str(address.token_file)) == (
        "::1", 81, ("a.example",), "t.txt"
    )  # fmt: skip
    expected = {
        "proposals": "grid",
        "features": "both",
        "exact": 3,
        "weights": ["default"],
        "score_floor": 0.2,
        "exif": "ignore",
    }
    expected |= {"max_boxes": 9, "mirrored": True, "class_agnostic": True, "device": "cpu", "dtype": "float32"}
    assert {name: detector[name] for name in expected} == expected
