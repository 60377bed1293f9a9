"""The record of options that tests give to commands: what was named is noted, and what is missing is found."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from detect.cli import build
from detect.commands.weights import app as weights_commands
from tests.given_options import FOLDER, missing, options


def test_options_that_were_named_are_noted_for_their_command(rcnn: Callable[..., int], tmp_path: Path) -> None:
    folder = Path(os.environ[FOLDER])
    before = _noted(folder)
    assert rcnn("draw", tmp_path / "nothing here", "--score", 0.25) == 2
    new = _noted(folder)[len(before) :]
    assert sorted(new) == ["draw --score", "draw out"]


def test_a_command_is_known_in_its_group_alone(tmp_path: Path) -> None:
    folder = Path(os.environ[FOLDER])
    before = _noted(folder)
    CliRunner().invoke(weights_commands, ["show", str(tmp_path / "nothing here"), "--json"])
    assert sorted(_noted(folder)[len(before) :]) == ["weights show --json", "weights show weights"]


def _noted(folder: Path) -> list[str]:
    file = folder / str(os.getpid())
    return file.read_text().splitlines() if file.exists() else []


def test_what_is_missing_is_every_option_that_was_not_noted() -> None:
    group: Any = typer.main.get_command(build())
    known = list(options(group))
    assert {"draw --score", "eval detections --ground-truth", "train regions --out"} <= set(known)
    assert missing(known, known) == []
    assert missing(["draw --score", "draw out"], ["draw out"]) == ["draw --score"]
